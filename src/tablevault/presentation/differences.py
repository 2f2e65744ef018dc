"""Differences of two instances for display, with counts, causes of cells, and definitions side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from tablevault.presentation.cells import MAXIMUM_CHARACTERS, ShownCell
from tablevault.records import ColumnDiff, RowCounts
from tablevault.values.addresses import Address

if TYPE_CHECKING:
    from tablevault.vault import TableVault

_CELL_COLUMNS = ("column", "before", "after", "cause")


@dataclass(frozen=True)
class SideLine:
    """One line of two texts side by side; `None` if a text has no counterpart."""

    before: str | None
    after: str | None
    state: str
    """`same`, `changed`, or `place` for a line that locates the next ones in the text."""


@dataclass(frozen=True)
class ChangedText:
    """A builder, or a definition of code, before and after."""

    name: str
    reasons: tuple[str, ...]
    lines: tuple[SideLine, ...]


@dataclass(frozen=True)
class ChangedInput:
    """An input table of which different instances were read."""

    table_name: str
    before_id: str
    after_id: str


@dataclass(frozen=True)
class DifferingCell:
    """One cell that differs, or one of an added or removed row."""

    key: str
    column: str
    before: ShownCell
    after: ShownCell
    cause: str


@dataclass(frozen=True)
class Difference:
    """The differing rows and cells of two instances, with causes."""

    table_name: str
    after_table: str
    before_id: str
    after_id: str
    key: tuple[str, ...]
    rows: RowCounts
    columns: Mapping[str, ColumnDiff]
    cells: tuple[DifferingCell, ...]
    """The first ones."""
    has_more_cells: bool
    builders: tuple[ChangedText, ...]
    code: tuple[ChangedText, ...]
    inputs: tuple[ChangedInput, ...]

    @property
    def may_be_shifted(self) -> bool:
        """Whether rows were matched by position although their counts differ."""
        return not self.key and self.rows.added != self.rows.removed


def read_difference(vault: TableVault, before: Address | None, after: Address, most: int) -> Difference:
    """Return the difference of two instances.

    Parameters
    ----------
    vault
        The vault.
    before
        `None` for the origin of the other, or else the instance before it.
    after
        The other instance; it may be temporary.
    most
        Maximum number of cells.
    """
    table_name = after.table_name if before is None else before.table_name
    diff = vault.diff_instances(
        table_name, "" if before is None else _named(before), _named(after), after_table=after.table_name
    )
    rows = diff.frame("cells", rows=most + 1, format="arrow").to_pylist()
    definition = diff.definition
    return Difference(
        diff.table_name,
        diff.after_table,
        diff.before_id,
        diff.after_id,
        diff.key,
        diff.rows,
        diff.columns,
        tuple(_cell(row) for row in rows[:most]),
        len(rows) > most,
        tuple(
            ChangedText(name, item.reasons, tuple(side_by_side(item.text)))
            for name, item in definition.builders.items()
        ),
        tuple(ChangedText(name, (), tuple(side_by_side(text))) for name, text in definition.code.items()),
        tuple(ChangedInput(name, *pair) for name, pair in definition.inputs.items()),
    )


def side_by_side(unified: str) -> Iterator[SideLine]:
    """Yield the lines of a unified diff as pairs."""
    removed: list[str] = []
    added: list[str] = []
    for line in unified.splitlines():
        if line.startswith(("---", "+++")) and not (removed or added):
            continue
        if line.startswith("-"):
            removed.append(line[1:])
        elif line.startswith("+"):
            added.append(line[1:])
        else:
            yield from _changed(removed, added)
            removed, added = [], []
            if line.startswith("@@"):
                yield SideLine(line, line, "place")
            else:
                yield SideLine(line[1:], line[1:], "same")
    yield from _changed(removed, added)


def _changed(removed: list[str], added: list[str]) -> Iterator[SideLine]:
    return (SideLine(before, after, "changed") for before, after in zip_longest(removed, added))


def _named(address: Address) -> str:
    return address.instance_id or address.version


def _cell(row: Mapping[str, Any]) -> DifferingCell:
    key = ", ".join(f"{name}={value}" for name, value in row.items() if name not in _CELL_COLUMNS)
    cause = row["cause"]
    # The cause, never the value, tells which of them failed or was skipped.
    before = ShownCell("failed") if cause == "failed: before" else _value(row["before"])
    after = ShownCell("failed") if cause == "failed: after" else _value(row["after"])
    return DifferingCell(key, row["column"], before, after, cause)


def _value(text: str | None) -> ShownCell:
    """Return the cell for a value in JSON."""
    if text is None:
        return ShownCell("null")
    value = json.loads(text)
    if value is None:
        return ShownCell("null")
    if isinstance(value, str):
        return ShownCell("text", value[:MAXIMUM_CHARACTERS], len(value) if len(value) > MAXIMUM_CHARACTERS else None)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return ShownCell("number", text)
    if isinstance(value, list):
        return ShownCell("list", text[:MAXIMUM_CHARACTERS], len(value))
    return ShownCell("json", text[:MAXIMUM_CHARACTERS], len(text) if len(text) > MAXIMUM_CHARACTERS else None)
