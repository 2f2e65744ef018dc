"""An in-memory SQL engine with access to given files only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from contextlib import contextmanager, nullcontext, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from tablevault.errors import TVArgumentError, TVTableError
from tablevault.sql_engine.frame_views import FrameColumns, quoted, text
from tablevault.sql_engine.read_columns import positions_read
from tablevault.sql_engine.relations import connection
from tablevault.sql_engine.result_columns import rewritten, with_durations
from tablevault.system.extras import imported

_OFF = (
    "autoinstall_known_extensions",
    "autoload_known_extensions",
    "allow_community_extensions",
    "allow_persistent_secrets",
    "python_enable_replacements",
    "enable_external_access",
)
_ROWS_PER_BATCH = 65_536
_SECONDS_BETWEEN_INTERRUPTS = 0.02

_Found = TypeVar("_Found")


@dataclass(frozen=True)
class MemoryTable:
    """An in-memory table."""

    table: pa.Table
    """Durations are counts, as in frame files."""
    columns: FrameColumns

    def query(self, source: str) -> str:
        """Return the query that reads the table under its registered name."""
        return self.columns.query(source)


@dataclass(frozen=True)
class Tables:
    """The tables visible to a statement, by name."""

    views: Mapping[str, str] = field(default_factory=dict)
    """Queries over the engine's files."""
    frames: Mapping[str, MemoryTable] = field(default_factory=dict)
    in_schemas: Mapping[tuple[str, str], MemoryTable] = field(default_factory=dict)
    """In-memory tables, by schema and name."""


@dataclass(frozen=True)
class Result:
    """The result rows of a statement."""

    table: pa.Table
    json: frozenset[int]
    """Positions of text columns with JSON."""


class Interruption:
    """Cancels current and future statements of a block from another thread."""

    def __init__(self) -> None:
        self._waiting: list[Future[Any]] = []
        self._lock = threading.Lock()
        self._has_come = False

    def interrupt(self) -> None:
        """Make the statements raise `CancelledError`."""
        with self._lock:
            self._has_come = True
            waiting = list(self._waiting)
        for outcome in waiting:
            outcome.cancel()

    @contextmanager
    def awaiting(self, outcome: Future[Any]) -> Iterator[None]:
        """Cancel an outcome on an interruption during or before the block."""
        with self._lock:
            self._waiting.append(outcome)
            has_come = self._has_come
        if has_come:
            outcome.cancel()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.remove(outcome)


_interruption: ContextVar[Interruption | None] = ContextVar("interruption", default=None)


@contextmanager
def interruptible(interruption: Interruption) -> Iterator[None]:
    """Make statements in the block, and in threads with its context, interruptible."""
    token = _interruption.set(interruption)
    try:
        yield
    finally:
        _interruption.reset(token)


class Engine:
    """Runs statements over some files.

    Parameters
    ----------
    files
        The only files that statements can read.
    memory_limit
        Memory limit in DuckDB's notation; empty for DuckDB's default.
    spill
        Folder for data that exceeds the memory limit.
    """

    def __init__(self, files: Sequence[str], memory_limit: str, spill: str) -> None:
        self.files = tuple(files)
        self._database = connection()
        self._database.execute(f"SET temp_directory = {text(spill)}")
        if memory_limit:
            self._set_memory_limit(memory_limit)
        self._database.execute(f"SET allowed_paths = [{', '.join(map(text, files))}]")
        for setting in _OFF:
            self._database.execute(f"SET {setting} = false")
        self._database.execute("SET lock_configuration = true")

    def run(
        self,
        statement: str,
        tables: Tables,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        rows: int | None = None,
        timeout: float | None = None,
    ) -> Result:
        """Run a statement on a new connection; return up to `rows` rows.

        Raises
        ------
        TimeoutError
            If the statement has not ended after `timeout` seconds.
        CancelledError
            If the statement is interrupted.
        FileNotFoundError
            If one of the files no longer exists.
        TVTableError
            If the statement fails for any other reason.
        """
        return self._run(lambda cursor: self._result(cursor, statement, tables, parameters, rows), timeout)

    def positions_read(
        self,
        statement: str,
        tables: Tables,
        parameters: Sequence[Any] | Mapping[str, Any] | None = None,
        timeout: float | None = None,
    ) -> frozenset[int] | None:
        """Return the positions of the file columns that a statement would read; `None` for all.

        Raises
        ------
        TimeoutError, CancelledError
            As in `run`.
        """

        def planned(cursor: Any) -> frozenset[int] | None:
            duckdb = imported("duckdb", "SQL", "sql")
            try:
                show(cursor, tables)
                plan = cursor.execute(f"EXPLAIN (FORMAT JSON) {statement}", parameters).fetchall()
                return positions_read(plan[0][1])
            except (duckdb.Error, pa.ArrowException, RuntimeError, OSError, ValueError):
                return None  # The error surfaces when the statement runs.

        return self._run(planned, timeout)

    def _run(self, work: Callable[[Any], _Found], timeout: float | None) -> _Found:
        """Run work with a new connection in a thread, and return its result."""
        cursor = self._database.cursor()
        outcome: Future[_Found] = Future()
        is_over = threading.Event()

        def run() -> None:
            try:
                found = work(cursor)
                with suppress(InvalidStateError):
                    outcome.set_result(found)
            except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
                with suppress(InvalidStateError):
                    outcome.set_exception(error)
            finally:
                is_over.set()

        # A separate thread, so that signals reach the waiting caller: DuckDB handles none while it computes.
        thread = threading.Thread(target=run, name="tablevault-sql", daemon=True)
        thread.start()
        interruption = _interruption.get()
        try:
            with nullcontext() if interruption is None else interruption.awaiting(outcome):
                return outcome.result(None if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        except TimeoutError as error:
            raise TimeoutError(f"The statement has not ended after {timeout} s.") from error
        finally:
            while thread.is_alive():
                # Repeated, because an interrupt before the statement begins is lost.
                if not is_over.is_set():
                    cursor.interrupt()
                thread.join(_SECONDS_BETWEEN_INTERRUPTS)
            cursor.close()

    def _result(
        self,
        cursor: Any,
        statement: str,
        tables: Tables,
        parameters: Sequence[Any] | Mapping[str, Any] | None,
        rows: int | None,
    ) -> Result:
        duckdb = imported("duckdb", "SQL", "sql")
        try:
            show(cursor, tables)
            relation = cursor.sql(statement, params=parameters)
            fetched = _fetched(rewritten(relation), rows)
            return Result(with_durations(fetched, relation.types), _json_columns(relation))
        except (duckdb.Error, pa.ArrowException, RuntimeError, OSError) as error:
            for file in self.files:
                Path(file).stat()
            raise TVTableError(f"The statement failed: {error!s:.2000}") from error

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def _set_memory_limit(self, memory_limit: str) -> None:
        duckdb = imported("duckdb", "SQL", "sql")
        try:
            self._database.execute(f"SET memory_limit = {text(memory_limit)}")
        except duckdb.Error as error:
            self.close()
            raise TVArgumentError(
                f"memory_limit is a size such as '1GiB', not {memory_limit!r:.100} ({error!s:.200})."
            ) from error


def show(connection: Any, tables: Tables, is_temporary: bool = True) -> None:
    """Register tables with a connection.

    Parameters
    ----------
    connection
        The connection.
    tables
        The tables.
    is_temporary
        Whether file views are temporary, and thus local to this connection.
    """
    for name, query in tables.views.items():
        connection.execute(f"CREATE {'TEMP ' if is_temporary else ''}VIEW {quoted(name)} AS {query}")
    for number, (name, frame) in enumerate(tables.frames.items()):
        connection.register(f"given_{number}", frame.table)
        connection.execute(f"CREATE TEMP VIEW {quoted(name)} AS {frame.query(f'given_{number}')}")
    for number, ((schema, name), frame) in enumerate(tables.in_schemas.items()):
        connection.register(f"made_{number}", frame.table)
        connection.execute(f"CREATE SCHEMA IF NOT EXISTS {quoted(schema)}")
        made = frame.query(f"made_{number}")
        connection.execute(f"CREATE OR REPLACE TABLE {quoted(schema)}.{quoted(name)} AS {made}")
        connection.unregister(f"made_{number}")


def _fetched(relation: Any, rows: int | None) -> pa.Table:
    """Fetch up to a maximum number of rows."""
    reader = relation.to_arrow_reader(_ROWS_PER_BATCH)
    if rows is None:
        return reader.read_all()
    batches: list[pa.RecordBatch] = []
    missing = rows
    while missing > 0 and (batch := next(reader, None)) is not None:
        batches.append(batch.slice(0, missing))
        missing -= len(batches[-1])
    return pa.Table.from_batches(batches, schema=reader.schema)


def _json_columns(relation: Any) -> frozenset[int]:
    return frozenset(position for position, kind in enumerate(relation.types) if str(kind) == "JSON")
