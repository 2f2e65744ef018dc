"""Instances opened for comparison, with their columns and row records."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from tablevault.builders.document import BuilderDocument, read_document
from tablevault.errors import TableVaultError
from tablevault.execution.input_rows import read_row_records as read_records_of_input_rows
from tablevault.execution.partial import declared_types, read_partial
from tablevault.execution.provenance import (
    BuilderFacts,
    InputFacts,
    in_catalog,
    read_artifact_records,
    read_provenance,
    read_row_records,
)
from tablevault.execution.unfinished import UnfinishedRows
from tablevault.layout import builder_file
from tablevault.names import index_builder_name
from tablevault.reading.failures import FailureReader, declared_primary_key
from tablevault.reading.queries import Queries, UnfinishedFiles
from tablevault.reading.row_matching import Positions
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.cell_comparison import Mask
from tablevault.storage.checkpoints import BuilderState, read_checkpoints
from tablevault.storage.dtypes import ColumnType, Kind, named_type
from tablevault.storage.fingerprints import RowFingerprints
from tablevault.storage.frames import StoredColumn, read_frame, read_schema, stored_columns
from tablevault.storage.manifest import check_listed
from tablevault.values.contents import ArtifactRecord, InstanceRecord, TableRecord

_ALL_COLUMNS = "*"
_TEXT = named_type("string")


@dataclass(frozen=True)
class ComparedInstance:
    """One side of a comparison of two instances."""

    table: TableRecord
    instance: InstanceRecord
    row_count: int
    types: Mapping[str, ColumnType]
    """Column types, where known."""
    primary_key: tuple[str, ...]
    builders: tuple[BuilderFacts, ...]
    """Builders in run order."""
    origin: InputFacts | None
    """The instance whose cells were reused."""
    inputs: Mapping[str, str]
    """Ids of the input instances, by table."""
    failures: Mapping[str, Positions]
    """Rows that failed or were skipped, by builder."""
    artifacts: Mapping[str, ArtifactRecord]
    builder_files: Mapping[str, Path]
    code: Path | None
    """Folder of the executed modules; `None` if they were not kept."""
    stored: Mapping[str, StoredColumn]
    """Stored form of its columns; empty for an incomplete instance."""
    missing: Mask
    """Rows with cells that are not computed yet."""
    has_all_rows: bool
    """Whether its IndexBuilder has finished."""
    read: Callable[[str], pa.ChunkedArray]
    """Returns a column as stored."""
    records: Callable[[str], RowFingerprints | None]
    """Returns the row versions and fingerprints of a builder; `None` if not recorded by row."""

    @property
    def has_unique_key(self) -> bool:
        """Whether its primary key is verified to be unique and not null."""
        return not self.instance.temporary

    def producer(self, column: str) -> BuilderFacts | None:
        """Return the last builder of a column; `None` for an externally written column."""
        return next((facts for facts in reversed(self.builders) if column in facts.columns), None)

    def failed_rows(self, column: str) -> Mask:
        """Return the mask of rows whose cell in a column failed or was skipped."""
        mask = np.zeros(self.row_count, dtype=np.bool_)
        facts = self.producer(column)
        positions = self.failures.get(facts.name) if facts is not None else None
        if positions is not None:
            mask[positions[positions < self.row_count]] = True
        return mask

    def compared(self, column: str) -> tuple[pa.ChunkedArray, ColumnType]:
        """Return a column for comparison, with content hashes in place of artifacts."""
        cells, column_type = self.read(column), self.types[column]
        if column_type.kind is not Kind.ARTIFACT:
            return cells, column_type
        contents = [self._content(name) for name in cells.to_pylist()]
        return pa.chunked_array([pa.array(contents, _TEXT.arrow)]), _TEXT

    def own_inputs(self, facts: BuilderFacts) -> tuple[str, ...]:
        """Return the columns of the same row that a builder may have read, in frame order."""
        if facts.is_index:
            return ()
        own = set(facts.columns)
        if _ALL_COLUMNS in facts.own_columns:
            place = self.builders.index(facts)
            read = {column for other in self.builders[:place] for column in other.columns} - own
        else:
            read = set(facts.own_columns) - own
        return tuple(column for column in self.types if column in read)

    def _content(self, name: str | None) -> str | None:
        record = self.artifacts.get(name) if name is not None else None
        return f"sha256:{record.sha256}" if record is not None else name


class ComparedInstances:
    """Opens instances for comparison.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._lookup = Lookup(context)
        self._queries = Queries(context)
        self._failures = FailureReader(context)

    def open(self, table: TableRecord, instance: InstanceRecord) -> ComparedInstance:
        """Open an instance, temporary or materialized; errors as of `get_dataframe`."""
        return self._unfinished(table, instance) if instance.temporary else self._materialized(table, instance)

    def _materialized(self, table: TableRecord, instance: InstanceRecord) -> ComparedInstance:
        folder = self._lookup.folder(table, instance)
        check_listed(folder.manifest, instance.manifest, folder.provenance)
        provenance = in_catalog(read_provenance(folder.provenance), self._lookup.contents)
        types, count = read_schema(folder.frame)
        facts = {item.name: item for item in provenance.builders}

        def records(builder: str) -> RowFingerprints | None:
            if facts[builder].is_index and folder.input_rows.is_file():
                return read_records_of_input_rows(folder.input_rows, facts[builder].versions, count)
            return read_row_records(folder.fingerprints, builder, facts[builder].versions)

        return ComparedInstance(
            table,
            instance,
            count,
            types,
            provenance.primary_key,
            provenance.builders,
            provenance.origin,
            _by_table(provenance.inputs or provenance.dependencies),
            self._failed_rows(table, instance),
            read_artifact_records(folder.artifact_hashes),
            self._lookup.builder_files(table, instance),
            folder.code,
            stored_columns(folder.frame),
            np.zeros(count, dtype=np.bool_),
            has_all_rows=True,
            read=lambda column: read_frame(folder.frame, [column]).table.column(0),
            records=records,
        )

    def _failed_rows(self, table: TableRecord, instance: InstanceRecord) -> dict[str, Positions]:
        """Return the failed and skipped rows by builder."""
        found: dict[str, list[int]] = {}
        for row in self._failures.of_instance(table, instance).own_rows:
            found.setdefault(row.builder, []).append(row.index)
        return {builder: np.array(positions) for builder, positions in found.items()}

    def _unfinished(self, table: TableRecord, instance: InstanceRecord) -> ComparedInstance:
        place = self._queries.unfinished_files(table, instance)
        rows = UnfinishedRows.read(read_checkpoints(place.checkpoints))
        states = rows.states
        data = read_partial(rows, place.artifacts, declared_types(place.builders)).data()
        index = index_builder_name(table.name)
        documents = _documents(place, index)
        builders = tuple(_drafted_facts(name, document, states.get(name)) for name, document in documents.items())
        # A column whose builder has not begun has no cells.
        columns = dict(zip(data.types, data.table.columns, strict=True))
        count = len(data)
        missing = np.zeros(count, dtype=np.bool_)
        for facts in builders:
            missing |= ~_computed_rows(rows, facts.name)
        return ComparedInstance(
            table,
            instance,
            count,
            data.types,
            declared_primary_key(builder_file(place.folder, index)),
            builders,
            None,
            {self._named(row_id): instance_id for row_id, instance_id in self._pinned(place)},
            {
                name: np.array(sorted(state.failures))
                for name, state in states.items()
                if state.failures and not state.is_nested
            },
            {record.path: record for state in states.values() for record in state.all_artifacts()},
            {path.stem: path for path in place.builders},
            place.code,
            {},
            missing,
            has_all_rows=index in states and states[index].done,
            read=lambda column: columns[column],
            records=lambda builder: _records_of_state(states.get(builder), count),
        )

    def _pinned(self, place: UnfinishedFiles) -> list[tuple[int, str]]:
        found = (self._context.catalog.contents.instance_by_row(row_id) for row_id in place.inputs)
        return [(item.table_id, item.instance_id) for item in found if item is not None]

    def _named(self, table_id: int) -> str:
        return self._lookup.table_by_id(table_id).name


def _by_table(inputs: Sequence[InputFacts]) -> dict[str, str]:
    return {item.table: item.instance_id for item in inputs}


def _documents(place: UnfinishedFiles, index: str) -> dict[str, BuilderDocument]:
    """Return the readable builders of an unfinished execution, the IndexBuilder first."""
    found: dict[str, BuilderDocument] = {}
    for path in sorted(place.builders, key=lambda path: path.stem != index):
        try:
            found[path.stem] = read_document(files.read_text(path), path.name)
        except (TableVaultError, OSError, UnicodeDecodeError):
            continue
    return found


def _drafted_facts(name: str, document: BuilderDocument, state: BuilderState | None) -> BuilderFacts:
    """Return the known facts about a builder that has not finished."""
    fields = document.fields
    arguments = fields.get("arguments")
    untracked = fields.get("untracked")
    known = dict(arguments) if isinstance(arguments, dict) else {}
    for argument in untracked if isinstance(untracked, list) else ():
        known.pop(argument, None)
    try:
        reads = document.reads
        own = (_ALL_COLUMNS,) if reads.reads_whole_self else tuple(sorted(set(reads.own_columns) - {"index"}))
    except TableVaultError:
        own = (_ALL_COLUMNS,)
    columns = state.columns if state is not None else fields.get("changed_columns")
    frame = state.frame if state is not None else None
    return BuilderFacts(
        name=name,
        is_index=fields.get("builder_type") == "IndexBuilder",
        columns=tuple(map(str, columns)) if isinstance(columns, list | tuple) else (),
        function=str(fields.get("python_function", "")),
        module=str(fields.get("code_module", "")),
        is_custom=fields.get("is_custom") is True,
        return_type=str(fields.get("return_type", "dataframe")),
        arguments=known,
        own_columns=own,
        inputs=(),
        versions=(frame.code,) if frame is not None else state.code_versions if state is not None else (),
        code_parts={},
        computed=0,
        reused=-1,
        whole_fingerprint=frame.fingerprint.hex() if frame is not None else None,
    )


def _computed_rows(rows: UnfinishedRows, builder: str) -> Mask:
    """Return whether each row was computed, or failed or was skipped."""
    mask = np.zeros(rows.row_count, dtype=np.bool_)
    if builder in rows.states:
        state = rows.states[builder]
        failures = () if state.is_nested else state.failures
        positions = np.array([*rows.positions(builder), *failures], dtype=np.int64)
        mask[positions[positions < rows.row_count]] = True
    return mask


def _records_of_state(state: BuilderState | None, count: int) -> RowFingerprints | None:
    if state is None or state.frame is not None or state.is_nested:
        return None
    fingerprints: list[bytes | None] = [None] * count
    codes = np.zeros(count, dtype=np.int64)
    for position, fingerprint, code in zip(state.positions, state.fingerprints, state.codes, strict=True):
        if position < count:
            fingerprints[position], codes[position] = fingerprint, code
    return RowFingerprints(pa.chunked_array([pa.array(fingerprints, pa.binary())]), codes, state.code_versions)
