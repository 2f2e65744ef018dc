"""Checked arguments of reading methods."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from numbers import Integral

from tablevault import names
from tablevault.errors import TVArgumentError
from tablevault.values.contents import Page, Selection

_MAXIMUM_ROWS = 2**61
"""More rows than any frame has, yet within Arrow's integer range."""


@dataclass(frozen=True)
class Reading:
    """Options for reading the instances named in a statement."""

    as_of: datetime | str | None
    full_paths: bool
    """Whether artifacts are read as full paths."""
    content: bool
    """Whether columns are verified against their checksums."""


def selection_of(
    table_name: str, instance_id: str, version: str, active_only: bool = True, successful_only: bool = False
) -> Selection:
    """Return the requested selection; raise `TVArgumentError` for an invalid version."""
    checked = version if instance_id else names.check_version(version)
    return Selection(table_name, instance_id, checked, active_only, successful_only)


def page(offset: int, rows: int | None) -> Page:
    """Return the requested page; raise `TVArgumentError` if it is invalid."""
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, Integral) or rows < 0):
        raise TVArgumentError(f"rows must be a non-negative integer or None, not {rows!r:.100}.")
    if isinstance(offset, bool) or not isinstance(offset, Integral) or offset < 0:
        raise TVArgumentError(f"offset must be a non-negative integer, not {offset!r:.100}.")
    return Page(min(offset, _MAXIMUM_ROWS), rows if rows is None else min(rows, _MAXIMUM_ROWS))
