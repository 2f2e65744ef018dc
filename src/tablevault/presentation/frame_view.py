"""A page of a frame with its artifacts, for notebooks and terminals."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tablevault.display.frames import frame_html, frame_text
from tablevault.display.html import Cell, Embedded, Muted, Number
from tablevault.errors import TVTableError
from tablevault.presentation.cells import ShownCell, ShownFrame
from tablevault.presentation.content_types import content_type
from tablevault.presentation.instances import read_page
from tablevault.values.addresses import Address

if TYPE_CHECKING:
    from tablevault.vault import TableVault

_MAXIMUM_BYTES = {"picture": 256 * 1024, "sound": 1024 * 1024}
"""Maximum bytes of files embedded in the page."""
_MAXIMUM_ROWS = 2**62 - 1
"""Maximum number of rows, and of rows before them, that Arrow counts."""


@dataclass(frozen=True, repr=False)
class FrameView:
    """A page of a frame with its artifacts."""

    table_name: str
    """The table."""
    instance_id: str
    """The instance."""
    offset: int
    """Position of the first row."""
    total: int | None
    """Number of rows of the frame; `None` while it is being built."""
    problem: str
    """Reason for missing rows; empty otherwise."""
    frame: ShownFrame = field(repr=False)
    files: Mapping[str, Embedded] = field(repr=False)
    """The artifacts embedded in the page, by name."""

    def __repr__(self) -> str:
        return frame_text(f"{self.table_name}({self.instance_id})", self._note, self._headers, self._rows)

    def _repr_html_(self) -> str:
        return frame_html(f"{self.table_name}({self.instance_id})", self._note, self._headers, self._rows)

    @property
    def _note(self) -> str:
        if self.problem:
            return self.problem
        count = len(self.frame.rows)
        of_all = "" if self.total is None else f" of {self.total:,}"
        return f"rows {self.offset:,} to {self.offset + count - 1:,}{of_all}" if count else f"no rows{of_all}"

    @property
    def _headers(self) -> list[str]:
        return ["", *(column.name for column in self.frame.columns)]

    @property
    def _rows(self) -> list[list[Cell]]:
        return [[Muted(f"{row.position:,}"), *map(self._displayed, row.cells)] for row in self.frame.rows]

    def _displayed(self, cell: ShownCell) -> Cell:
        match cell.state:
            case "null":
                return Muted("null")
            case "number":
                return Number(cell.text)
            case "failed" | "skipped" if cell.failure is not None:
                failure = cell.failure
                why = f"{failure.error}: {failure.message}" if failure.error else failure.cause
                return Muted(f"{cell.state} ({why})")
            case "not computed":
                return Muted("not computed")
            case "artifact":
                return self.files.get(cell.text, cell.text)
        return cell.text if cell.length is None else f"{cell.text}… ({cell.length:,})"


def read_view(vault: TableVault, address: Address, rows: int, offset: int, columns: Sequence[str] | None) -> FrameView:
    """Return a page of the frame of an instance.

    Parameters
    ----------
    vault
        The vault.
    address
        The instance; it may be running.
    rows, offset
        Maximum number of rows, and the position of the first.
    columns
        The columns; `None` for all.

    Raises
    ------
    TVTableError
        If a materialized instance lacks one of the columns.
    """
    rows, offset = min(rows, _MAXIMUM_ROWS), min(offset, _MAXIMUM_ROWS)
    details = vault._instance_details()
    facts = details.facts(address)
    frame, problem, _ = read_page(vault, facts, offset, rows, columns)
    if problem and columns is not None and not facts.line.temporary:
        raise TVTableError(problem)
    links = [cell.artifact for row in frame.rows for cell in row.cells if cell.artifact is not None]
    small = {link.name: link.shown_as for link in links if link.shown_as in _MAXIMUM_BYTES}
    exact = Address(facts.table_name, facts.line.instance_id)
    paths = details.artifacts(exact, small) if small else {}
    files = {name: found for name, path in paths.items() if (found := _embedded(name, path, small[name])) is not None}
    return FrameView(facts.table_name, facts.line.instance_id, offset, facts.line.rows, problem, frame, files)


def _embedded(name: str, path: Path, kind: str) -> Embedded | None:
    """Return a file for embedding in a page, if it is small enough."""
    if path.stat().st_size > _MAXIMUM_BYTES[kind]:
        return None
    content = base64.b64encode(path.read_bytes()).decode()
    return Embedded(kind, name, f"data:{content_type(path)};base64,{content}")
