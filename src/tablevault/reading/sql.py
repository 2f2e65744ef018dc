"""SQL over the instances of a vault."""

from __future__ import annotations

import decimal
import os
import threading
import weakref
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from tablevault import names
from tablevault.errors import TVArgumentError, TVTableError
from tablevault.reading.described_instances import DescribedInstances
from tablevault.sql_engine.engine import Engine, MemoryTable, Result, Tables, show
from tablevault.sql_engine.frame_views import FrameFile
from tablevault.sql_engine.gate import TableName, read_names
from tablevault.sql_engine.relations import connection
from tablevault.state.context import VaultContext
from tablevault.storage import files
from tablevault.storage.frames import FrameData, table_from_frame
from tablevault.storage.plain import is_missing, unwrapped
from tablevault.storage.sql_frames import frame_file, frame_of, memory_table, warn_of_differences
from tablevault.values.addresses import parse_address
from tablevault.values.contents import Page

if TYPE_CHECKING:
    from tablevault.reading.queries import Queries
    from tablevault.reading.requests import Reading
    from tablevault.sql_engine.relations import DuckDBPyConnection

_SCHEMAS = ("artifacts", "errors", "provenance", "vault")
_MAXIMUM_DIGITS = 38
"""Maximum number of digits of an SQL decimal."""
_FAR_TIME = "Could not convert Timestamp("
"""Part of DuckDB's message about a time whose microseconds do not fit 64 bits."""
_MAXIMUM_ENGINES = 4
"""Maximum number of engines kept per open vault."""
_MAXIMUM_TABLES = 1_000
"""Maximum number of tables for which `connect` creates views by default."""


@dataclass
class _Resolved:
    """Tables of a statement, resolved in one snapshot of the catalog."""

    files: dict[str, FrameFile]
    """Frame files by view name."""
    frames: dict[str, MemoryTable]
    in_schemas: dict[tuple[str, str], MemoryTable]
    instances: dict[str, str]
    """Address as written -> instance id."""

    def tables(self) -> Tables:
        """Return the tables in the form that engines take."""
        return Tables({name: file.query() for name, file in self.files.items()}, self.frames, self.in_schemas)

    def coarse_times(self) -> list[str]:
        """Return the columns, as parts of a sentence, with times that may be too far away for SQL."""
        columns = [(name, file.frame) for name, file in self.files.items()]
        columns += [(name, frame.columns) for name, frame in self.frames.items()]
        return [f"column {column!r} of '{name}'" for name, frame in columns for column in frame.coarse_times()]

    def warn_of_differences(self) -> None:
        """Warn of columns whose SQL type differs from the type in their frame."""
        for name, file in self.files.items():
            warn_of_differences(name, file.frame)
        for name, frame in self.frames.items():
            warn_of_differences(name, frame.columns)


class Sql:
    """Runs SQL over the instances of one open vault.

    Parameters
    ----------
    context
        The open vault.
    queries
        Finds and checks the instances.
    """

    def __init__(self, context: VaultContext, queries: Queries) -> None:
        self._context = context
        self._queries = queries
        self._described = DescribedInstances(context)
        self._engines: OrderedDict[tuple[int, frozenset[str], str], Engine] = OrderedDict()
        self._lock = threading.Lock()

    def query(
        self,
        statement: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None,
        frames: Mapping[str, Any],
        reading: Reading,
        rows: int | None,
        timeout: float | None,
        memory_limit: str,
        explain: bool = False,
    ) -> tuple[FrameData, dict[str, str]]:
        """Return the rows of a statement, and the instances named by its addresses.

        Parameters
        ----------
        statement, parameters
            The statement and its parameters.
        frames
            Further tables, by name.
        reading
            How instances are read.
        rows, timeout, memory_limit
            Limits; `None` or an empty string for no limit.
        explain
            Whether to return the query plan instead.
        """
        wanted = read_names(statement, _SCHEMAS)
        given = self._given(frames)
        parameters = _plain_parameters(parameters)

        def run() -> tuple[Result, dict[str, str]]:
            resolved = self._resolved(wanted, given, replace(reading, content=False))
            resolved.warn_of_differences()
            paths = frozenset(file.path for file in resolved.files.values())
            # Tables in schemas would be visible to other statements of a shared engine.
            engine = self._engine(paths, memory_limit, is_shared=not resolved.in_schemas)
            tables = resolved.tables()
            if reading.content and self._has_unchecked(resolved):
                self._check(resolved, engine.positions_read(statement, tables, parameters, timeout))
            text = f"EXPLAIN {statement}" if explain else statement
            try:
                return engine.run(text, tables, parameters, rows, timeout), resolved.instances
            except TVTableError as error:
                columns = resolved.coarse_times() if _FAR_TIME in str(error) else []
                if not columns:
                    raise
                raise TVTableError(
                    f"The statement failed: a time in {' or '.join(columns)} is outside the range of a TIMESTAMP. Read "
                    "the table with get_dataframe, or with scan and format 'arrow'."
                ) from error

        result, instances = self._queries.again_if_moved(", ".join(name.name for name in wanted), run)
        return frame_of(result), instances

    def connect(self, addresses: Sequence[str] | None, reading: Reading) -> DuckDBPyConnection:
        """Return an unrestricted connection with views of instances, and of facts about them."""
        if addresses is None:
            addresses = self._all_tables(reading)
        wanted = [TableName(schema, address) for address in addresses for schema in _schemas_of(address)]
        wanted += [TableName("vault", name) for name in self._described.names()]

        def opened() -> DuckDBPyConnection:
            resolved = self._resolved(wanted, {}, reading)
            resolved.warn_of_differences()
            made = connection()
            show(made, resolved.tables(), is_temporary=False)
            return made

        return self._queries.again_if_moved(", ".join(addresses), opened)

    # --- content checks -------------------------------------------------------------------------------------------

    def _has_unchecked(self, resolved: _Resolved) -> bool:
        """Return whether any file has a column that is not yet verified."""
        checks = self._context.frame_checks
        return any(checks.unchecked(Path(file.path), file.columns) for file in resolved.files.values())

    def _check(self, resolved: _Resolved, positions: frozenset[int] | None) -> None:
        """Verify the columns at some or all positions of each file against their checksums."""
        for file in resolved.files.values():
            columns = [name for position, name in enumerate(file.columns) if positions is None or position in positions]
            self._context.frame_checks.check(Path(file.path), columns)

    # --- names ----------------------------------------------------------------------------------------------------

    def _resolved(self, wanted: Iterable[TableName], given: Mapping[str, MemoryTable], reading: Reading) -> _Resolved:
        """Resolve the tables of a statement in one snapshot of the catalog."""
        found = _Resolved({}, {}, {}, {})
        with self._context.catalog.snapshot():
            for name in wanted:
                schema = name.schema.lower()
                if schema == "vault":
                    found.in_schemas[schema, name.name] = self._described.table(name.name)
                elif schema:
                    self._describe(name, found, reading)
                elif names.fold(name.name) in given:
                    found.frames[name.name] = given[names.fold(name.name)]
                else:
                    self._read(name.name, found, reading)
        return found

    def _read(self, address: str, found: _Resolved, reading: Reading) -> None:
        """Resolve an address to its frame."""
        selection = self._queries.selection_at(parse_address(address), reading.as_of)
        table, instance = self._queries.select(selection)
        found.instances[address] = instance.instance_id
        if instance.temporary:
            data = self._queries.read(table, instance, None, Page(), reading.full_paths)
            found.frames[address] = memory_table(data)
        else:
            path, artifacts = self._queries.checked_file(table, instance, None, reading.full_paths, reading.content)
            found.files[address] = frame_file(path, artifacts)

    def _describe(self, name: TableName, found: _Resolved, reading: Reading) -> None:
        """Resolve an address in a schema to the facts about its instance."""
        selection = self._queries.selection_at(parse_address(name.name), reading.as_of)
        table, instance = self._queries.select(selection)
        found.instances[name.name] = instance.instance_id
        described = self._described.of_instance(name.schema.lower(), table, instance)
        found.in_schemas[name.schema.lower(), name.name] = described

    def _given(self, frames: Mapping[str, Any]) -> dict[str, MemoryTable]:
        """Return the frames of a call, by folded name.

        Raises `TVArgumentError` for one that shadows a table.
        """
        given = {}
        for name, frame in frames.items():
            table = self._context.catalog.contents.table(name)
            if table is not None:
                raise TVArgumentError(
                    f"frames contains '{table.name}', which is a table of the vault. Choose another name."
                )
            given[names.fold(name)] = memory_table(table_from_frame(frame, {}))
        return given

    def _all_tables(self, reading: Reading) -> list[str]:
        """Return the names of the tables with a `base` instance as of the requested moment."""
        contents = self._context.catalog.contents
        with self._context.catalog.snapshot():
            found = [table.name for table in contents.tables() if self._has_base(table.table_id, reading)]
        if len(found) > _MAXIMUM_TABLES:
            raise TVArgumentError(
                f"The vault has {len(found):,} tables, but connect creates views of at most {_MAXIMUM_TABLES:,} by "
                "default. Name the tables."
            )
        return found

    def _has_base(self, table_id: int, reading: Reading) -> bool:
        contents = self._context.catalog.contents
        if reading.as_of is None:
            return contents.newest(table_id, names.DEFAULT_VERSION) is not None
        place = self._queries.place(reading.as_of)
        found = contents.newest_until(table_id, names.DEFAULT_VERSION, place)
        return found is not None and contents.instance(table_id, found.instance_id) is not None

    # --- engines --------------------------------------------------------------------------------------------------

    def _engine(self, paths: frozenset[str], memory_limit: str, is_shared: bool) -> Engine:
        """Return a cached or new engine for some files."""
        if not is_shared:
            return _new_engine(paths, memory_limit)
        # The threads of an engine do not survive a fork.
        key = os.getpid(), paths, memory_limit
        with self._lock:
            engine = self._engines.get(key)
            if engine is None:
                engine = self._engines[key] = _new_engine(paths, memory_limit)
            self._engines.move_to_end(key)
            if len(self._engines) > _MAXIMUM_ENGINES:
                # A running statement keeps its engine alive.
                self._engines.popitem(last=False)
        return engine


def tables_named_in(statement: str) -> list[tuple[str, str]]:
    """Return the tables of a statement, each with its schema, which is empty for frames."""
    return [(name.schema.lower(), name.name) for name in read_names(statement, _SCHEMAS)]


def _plain_parameters(
    parameters: Sequence[Any] | Mapping[str, Any] | None,
) -> Sequence[Any] | Mapping[str, Any] | None:
    """Return parameters with Python's values for those of NumPy and pandas."""
    if isinstance(parameters, Mapping):
        return {name: _plain_parameter(value) for name, value in parameters.items()}
    return None if parameters is None else [_plain_parameter(value) for value in parameters]


def _plain_parameter(value: Any) -> Any:
    if is_missing(value) and not isinstance(value, float | np.floating):  # NaN is a number in SQL.
        return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain_parameter(item) for item in value]
    if type(value) is dict:
        return {name: _plain_parameter(item) for name, item in value.items()}
    plain = unwrapped(value)
    # DuckDB would take these as microseconds and DOUBLE.
    if isinstance(plain, pd.Timestamp | pd.Timedelta):
        raise TVArgumentError(f"The parameter {plain} has nanoseconds. Pass it as text, and cast it in the statement.")
    if isinstance(plain, decimal.Decimal) and plain.is_finite() and _digits(plain) > _MAXIMUM_DIGITS:
        raise TVArgumentError(f"The parameter {plain:.10g} has more than {_MAXIMUM_DIGITS} digits. Pass it as text.")
    return plain


def _digits(number: decimal.Decimal) -> int:
    """Return the digits of an SQL decimal for a number."""
    _, digits, exponent = number.as_tuple()
    return max(len(digits) + max(int(exponent), 0), -int(exponent))


def _schemas_of(address: str) -> tuple[str, ...]:
    """Return the schemas in which an address has a table, empty for the frame itself."""
    is_temporary = names.is_temporary(parse_address(address).instance_id)
    return ("", "errors") if is_temporary else ("", "artifacts", "errors", "provenance")


def _new_engine(paths: frozenset[str], memory_limit: str) -> Engine:
    spill = files.scratch_folder()
    try:
        engine = Engine(sorted(paths), memory_limit, str(spill))
    except BaseException:
        files.remove_tree(spill)
        raise
    weakref.finalize(engine, _remove_spilled, spill, os.getpid())
    return engine


def _remove_spilled(folder: Path, owner: int) -> None:
    """Remove an engine's spill folder, except in a forked child, whose parent uses it."""
    if os.getpid() == owner:
        files.remove_tree(folder)
