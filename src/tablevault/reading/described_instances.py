"""In-memory SQL tables of facts about a vault and its instances."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from tablevault import names
from tablevault.errors import TVArgumentError
from tablevault.execution.provenance import (
    BuilderFacts,
    read_artifact_records,
    read_fingerprints,
    read_provenance,
)
from tablevault.reading.failures import FailureReader
from tablevault.sql_engine.engine import MemoryTable
from tablevault.sql_engine.frame_views import FrameColumns
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup
from tablevault.storage.sql_frames import memory_table
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.processes import ProcessRecord

_MAXIMUM_PROCESSES = 2**31
_TEXT, _INTEGER, _BOOLEAN = pa.string(), pa.int64(), pa.bool_()
_TIME = pa.timestamp("us", "UTC")
_COLUMNS: Mapping[str, Mapping[str, pa.DataType]] = {
    "tables": {
        "name": _TEXT,
        "description": _TEXT,
        "author": _TEXT,
        "created_at": _TIME,
        "allow_multiple_artifacts": _BOOLEAN,
        "has_side_effects": _BOOLEAN,
    },
    "instances": {
        "table_name": _TEXT,
        "instance_id": _TEXT,
        "version": _TEXT,
        "active": _BOOLEAN,
        "success": _BOOLEAN,
        "rows": _INTEGER,
        "failed_cells": _INTEGER,
        "skipped_cells": _INTEGER,
        "origin_id": _TEXT,
        "process_id": _TEXT,
        "author": _TEXT,
        "created_at": _TIME,
        "description": _TEXT,
    },
    "columns": {
        "table_name": _TEXT,
        "instance_id": _TEXT,
        "position": _INTEGER,
        "name": _TEXT,
        "dtype": _TEXT,
        "builder": _TEXT,
    },
    "tags": {
        "tag": _TEXT,
        "table_name": _TEXT,
        "instance_id": _TEXT,
        "description": _TEXT,
        "author": _TEXT,
        "created_at": _TIME,
        "process_id": _TEXT,
    },
    "processes": {
        "process_id": _TEXT,
        "operation": _TEXT,
        "table_name": _TEXT,
        "instance_id": _TEXT,
        "author": _TEXT,
        "status": _TEXT,
        "parent_id": _TEXT,
        "started_at": _TIME,
        "ended_at": _TIME,
        "error": _TEXT,
    },
    "reads": {
        "table_name": _TEXT,
        "instance_id": _TEXT,
        "column": _TEXT,
        "builder": _TEXT,
        "input_table": _TEXT,
        "input_instance_id": _TEXT,
        "input_column": _TEXT,
    },
}
_ARTIFACTS = {"path": _TEXT, "size": _INTEGER, "sha256": _TEXT}
_PROVENANCE = {"index": _INTEGER, "builder": _TEXT, "version": _TEXT, "fingerprint": _TEXT, "state": _TEXT}


class DescribedInstances:
    """Builds the tables of the schemas `vault`, `artifacts`, `provenance` and `errors`.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._lookup = Lookup(context)
        self._contents = context.catalog.contents
        self._processes = context.catalog.processes
        self._liveness = Liveness(context)
        self._failures = FailureReader(context)
        self._rows: dict[str, Callable[[], Iterable[tuple[Any, ...]]]] = {
            "tables": self._tables,
            "instances": self._instances,
            "columns": self._columns,
            "tags": self._tags,
            "processes": self._all_processes,
            "reads": self._reads,
        }

    def names(self) -> list[str]:
        """Return the names of the tables of the schema `vault`."""
        return list(_COLUMNS)

    def table(self, name: str) -> MemoryTable:
        """Return a table of the schema `vault`; raise `TVArgumentError` if it does not exist."""
        key = names.fold(name)
        if key not in _COLUMNS:
            raise TVArgumentError(f"There is no table 'vault.{name}'{names.nearest(name, _COLUMNS)}")
        return _table(_COLUMNS[key], self._rows[key]())

    def of_instance(self, schema: str, table: TableRecord, instance: InstanceRecord) -> MemoryTable:
        """Return the table of an instance in the schema `artifacts`, `provenance` or `errors`."""
        if schema == "errors":
            return memory_table(self._failures.of_instance(table, instance).frame())
        if instance.temporary:
            raise TVArgumentError(
                f"Instance '{instance.instance_id}' of table '{table.name}' is temporary and has no {schema} yet; "
                f'errors."{table.name}({instance.instance_id})" lists its failed rows.'
            )
        if schema == "artifacts":
            records = read_artifact_records(self._lookup.folder(table, instance).artifact_hashes)
            return _table(_ARTIFACTS, ((item.path, item.size, item.sha256) for item in records.values()))
        return _table(_PROVENANCE, self._provenance(table, instance))

    # --- the schema vault -----------------------------------------------------------------------------------------

    def _tables(self) -> Iterator[tuple[Any, ...]]:
        for item in self._contents.tables():
            yield (
                item.name,
                item.description,
                item.author,
                item.created_at,
                item.allow_multiple_artifacts,
                item.has_side_effects,
            )

    def _materialized(self) -> Iterator[tuple[TableRecord, InstanceRecord]]:
        for table in self._contents.tables():
            for instance in self._contents.instances(table.table_id, temporary=False):
                yield table, instance

    def _instances(self) -> Iterator[tuple[Any, ...]]:
        ids: dict[int, str] = {}
        counts = self._contents.failure_counts()
        for table, item in self._materialized():
            ids[item.row_id] = item.instance_id
            origin = None if item.origin is None else ids.get(item.origin) or self._id_of(item.origin)
            failed, skipped = counts.get(item.row_id, (0, 0))
            yield (
                table.name,
                item.instance_id,
                item.version,
                item.active,
                item.success,
                item.row_count,
                failed,
                skipped,
                origin,
                item.process_id,
                item.author,
                item.created_at,
                item.description,
            )

    def _columns(self) -> Iterator[tuple[Any, ...]]:
        for table, instance in self._materialized():
            made_by = {column: facts.name for facts in self._builders(table, instance) for column in facts.columns}
            for position, column in enumerate(instance.columns):
                builder = made_by.get(column.name)
                yield table.name, instance.instance_id, position, column.name, column.type_name, builder

    def _tags(self) -> Iterator[tuple[Any, ...]]:
        for item in self._contents.tags():
            yield (
                item.tag,
                item.table_name,
                item.instance_id,
                item.description,
                item.author,
                item.created_at,
                item.process_id,
            )

    def _all_processes(self) -> Iterator[tuple[Any, ...]]:
        records = self._processes.history({}, _MAXIMUM_PROCESSES)
        ids = {record.serial: record.process_id for record in records}
        for record in records:
            yield (
                record.process_id,
                record.operation,
                record.table_name,
                record.instance_id,
                record.author,
                str(self._status(record)),
                None if record.parent_serial is None else ids.get(record.parent_serial),
                record.started_at,
                record.ended_at if record.finished else None,
                None if record.error is None else f"{record.error.type}: {record.error.message}",
            )

    def _status(self, record: ProcessRecord) -> str:
        return str(record.status if record.finished else self._liveness.status(record))

    def _reads(self) -> Iterator[tuple[Any, ...]]:
        tables: dict[int, str | None] = {table.table_id: table.name for table in self._contents.tables()}
        inputs: dict[int, tuple[str | None, str | None]] = {}
        for table, instance in self._materialized():
            for read in self._contents.reads_of(instance.row_id):
                if read.input_row_id not in inputs:
                    inputs[read.input_row_id] = self._named(read.input_row_id, tables)
                yield (
                    table.name,
                    instance.instance_id,
                    read.column,
                    read.builder,
                    *inputs[read.input_row_id],
                    read.input_column,
                )

    def _named(self, row_id: int, tables: dict[int, str | None]) -> tuple[str | None, str | None]:
        """Return the table and id of an instance; add a deleted table to the known names of tables."""
        found = self._contents.instance_by_row(row_id)
        if found is None:
            return None, None
        if found.table_id not in tables:
            table = self._contents.table_by_id(found.table_id)
            tables[found.table_id] = None if table is None else table.name
        return tables[found.table_id], found.instance_id

    def _id_of(self, row_id: int) -> str | None:
        found = self._contents.instance_by_row(row_id)
        return None if found is None else found.instance_id

    # --- instances ------------------------------------------------------------------------------------------------

    def _builders(self, table: TableRecord, instance: InstanceRecord) -> tuple[BuilderFacts, ...]:
        return read_provenance(self._lookup.folder(table, instance).provenance).builders

    def _provenance(self, table: TableRecord, instance: InstanceRecord) -> Iterator[tuple[Any, ...]]:
        """Yield one row per row of a builder, or one per builder recorded as a whole."""
        by_row = read_fingerprints(self._lookup.folder(table, instance).fingerprints)
        states = {
            (row.builder, row.index): row.failure.kind for row in self._failures.of_instance(table, instance).rows
        }
        for facts in self._builders(table, instance):
            if facts.name not in by_row:
                newest = facts.versions[-1] if facts.versions else None
                yield None, facts.name, newest, facts.whole_fingerprint, "computed"
                continue
            fingerprints, codes = by_row[facts.name]
            for index, (fingerprint, code) in enumerate(zip(fingerprints.to_pylist(), codes.tolist(), strict=True)):
                state = states.get((facts.name, index))
                if fingerprint is None:
                    yield index, facts.name, None, None, state or "not computed"
                else:
                    yield index, facts.name, facts.versions[code], fingerprint.hex(), state or "computed"


def _table(columns: Mapping[str, pa.DataType], rows: Iterable[tuple[Any, ...]]) -> MemoryTable:
    cells = list(zip(*rows, strict=True)) or [()] * len(columns)
    arrays = [pa.array(values, kind) for values, kind in zip(cells, columns.values(), strict=True)]
    return MemoryTable(pa.table(arrays, names=list(columns)), FrameColumns(columns))
