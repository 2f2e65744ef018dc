"""SQL statements for display, with their rows and the instances that they read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tablevault.errors import TableVaultError
from tablevault.presentation.cells import ShownFrame, shown_frame

if TYPE_CHECKING:
    from tablevault.vault import TableVault

MAXIMUM_LENGTH = 8_000
"""Maximum number of characters of a statement."""
_MAXIMUM_ROWS = 1_000
_SECONDS = 10.0
_MEMORY = "1GiB"


@dataclass(frozen=True)
class QueryResult:
    """A statement with its result."""

    statement: str
    is_possible: bool
    """Whether DuckDB is installed."""
    frame: ShownFrame | None = None
    """Its rows; `None` if it was not run or failed."""
    is_cut: bool = False
    """Whether there are more rows."""
    instances: Mapping[str, str] = field(default_factory=dict)
    """The instances that it read, by their addresses as written."""
    problem: str = ""
    """Why it failed."""


def has_sql() -> bool:
    """Return whether statements can run, which needs DuckDB."""
    return find_spec("duckdb") is not None


def unrun(statement: str) -> QueryResult:
    """Return a statement that is not run."""
    return QueryResult(statement, has_sql())


def run_statement(vault: TableVault, statement: str) -> QueryResult:
    """Run one statement, in bounded time and memory."""
    draft = unrun(statement)
    if len(statement) > MAXIMUM_LENGTH:
        problem = f"A statement here has at most {MAXIMUM_LENGTH:,} characters, and this one {len(statement):,}."
        return QueryResult(statement[:MAXIMUM_LENGTH], draft.is_possible, problem=problem)
    try:
        # One extra row tells whether rows are omitted.
        table, instances = vault.query(
            statement, rows=_MAXIMUM_ROWS + 1, timeout=_SECONDS, memory_limit=_MEMORY, format="arrow"
        )
    except TableVaultError as error:
        return QueryResult(statement, draft.is_possible, problem=str(error))
    except TimeoutError:
        problem = f"The statement took longer than {_SECONDS:.0f} seconds."
        return QueryResult(statement, draft.is_possible, problem=problem)
    shown = shown_frame(table.slice(0, _MAXIMUM_ROWS), {})
    return QueryResult(statement, draft.is_possible, shown, table.num_rows > _MAXIMUM_ROWS, instances)
