"""Failed and skipped rows for display, with counts by kind of error."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from tablevault.errors import TVArgumentError
from tablevault.values.addresses import Address

if TYPE_CHECKING:
    from tablevault.reading.instance_details import InstanceFacts
    from tablevault.vault import TableVault


@dataclass(frozen=True)
class ErrorKind:
    """Rows of one builder that failed in the same way, or were skipped."""

    builder: str
    kind: str
    """`failed` or `skipped`."""
    error: str
    """Qualified name of the exception's class; for skipped rows, the builder and column that they need."""
    rows: int


@dataclass(frozen=True)
class ErrorRow:
    """One failed or skipped row."""

    builder: str
    index: int
    key: str | None
    """Its primary key, as JSON."""
    kind: str
    error: str | None
    status: int | None
    message: str | None
    traceback: str | None
    result: str | None
    """The refused result, as JSON."""
    calls: int | None
    seconds: float | None
    failed_at: datetime | None
    code: str | None
    cause: str | None


@dataclass(frozen=True)
class ErrorList:
    """The failed and skipped rows of an instance, by page."""

    facts: InstanceFacts
    kinds: tuple[ErrorKind, ...]
    """The most frequent first."""
    rows: tuple[ErrorRow, ...]
    after: str
    """Builder and position of the last row of this page, if more follow."""
    total: int


def read_errors(vault: TableVault, address: Address, after: str, most: int) -> ErrorList:
    """Return a page of the failed and skipped rows of an instance.

    Parameters
    ----------
    vault
        The vault.
    address
        The instance.
    after
        Builder and position of the last row of the previous page, as `builder:17`; empty for the first page.
    most
        Maximum number of rows.
    """
    facts = vault._instance_details().facts(address)
    table = vault.get_errors(facts.table_name, facts.line.instance_id, format="arrow")
    start = _place_after(table, after) if after else 0
    page = table.slice(start, most)
    rows = tuple(ErrorRow(**row) for row in page.to_pylist())
    has_more = start + most < table.num_rows
    return ErrorList(
        facts, _kinds(table), rows, f"{rows[-1].builder}:{rows[-1].index}" if has_more else "", table.num_rows
    )


def _kinds(table: pa.Table) -> tuple[ErrorKind, ...]:
    named = pa.table(
        {
            "builder": table.column("builder"),
            "kind": table.column("kind"),
            "error": pc.coalesce(table.column("error"), table.column("cause"), pa.scalar("")),
        }
    )
    counted = named.group_by(["builder", "kind", "error"]).aggregate([([], "count_all")]).to_pylist()
    kinds = (ErrorKind(row["builder"], row["kind"], row["error"], row["count_all"]) for row in counted)
    return tuple(sorted(kinds, key=lambda kind: (kind.kind, -kind.rows, kind.builder, kind.error)))


def _place_after(table: pa.Table, after: str) -> int:
    """Return the position after a row in a table."""
    builder, _, index = after.rpartition(":")
    if builder and index.isascii() and index.isdigit() and len(index) <= 18:
        is_it = pc.and_(pc.equal(table.column("builder"), builder), pc.equal(table.column("index"), int(index)))
        place = int(pc.index(is_it, pa.scalar(True)).as_py())
        if place >= 0:
            return place + 1
    raise TVArgumentError(f"There is no failed row '{after}'; write the builder and the row, as in 'answer:17'.")
