"""Origins of reused cells, which are instances and reverted executions."""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import ClassVar, Protocol

import numpy as np
import pyarrow as pa

from tablevault.errors import TVFileError
from tablevault.execution.input_rows import InputRows, read_input_rows
from tablevault.execution.inputs import ContentFrame
from tablevault.execution.primary_keys import KeyColumn, row_keys
from tablevault.execution.provenance import BuilderFacts, Codes, Provenance, read_fingerprints
from tablevault.execution.unfinished import UnfinishedRows
from tablevault.execution.usage import mean_usage, read_usage
from tablevault.layout import INPUT_ROWS, USAGE
from tablevault.ports import Frame
from tablevault.rows.artifacts import AdoptedArtifact, names_artifacts
from tablevault.storage.canonical import typed_digest
from tablevault.storage.checkpoints import read_checkpoints
from tablevault.storage.columns import Column
from tablevault.storage.dtypes import ColumnType
from tablevault.storage.fingerprints import Fingerprints, Mask
from tablevault.storage.frames import FrameData, StoredFrame, frame_of_columns, read_frame
from tablevault.values.contents import ArtifactRecord

_EXECUTE = "execute_instance"
_MANY_ROWS = 100_000
"""Number of rows from which on it pays to read them in a thread."""


class ReusableColumn:
    """A column of an origin's cells, with plain values only if they are needed.

    Parameters
    ----------
    read
        Returns the plain values.
    read_stored
        Returns the column in stored form, with its type, or `None` if it is not stored.
    """

    def __init__(
        self,
        read: Callable[[], Sequence[object]],
        read_stored: Callable[[], tuple[Column, ColumnType] | None] = lambda: None,
    ) -> None:
        self._read = read
        self._read_stored = read_stored

    @cached_property
    def stored(self) -> tuple[Column, ColumnType] | None:
        """The column in stored form, with its type; `None` if it is not stored."""
        return self._read_stored()

    @cached_property
    def values(self) -> Sequence[object]:
        """The cells as plain values."""
        return self._read()


@dataclass(frozen=True)
class ReusableRows:
    """The cells of one builder of an origin, by position."""

    columns: tuple[ReusableColumn, ...]
    """The columns of the builder."""
    fingerprints: Fingerprints
    codes: Codes
    """Index into `versions`, for each row."""
    versions: tuple[str, ...]
    """Versions of the builder that computed rows."""
    whole: bytes | None
    """Fingerprint of a builder that is reused as a whole."""

    @property
    def values(self) -> tuple[Sequence[object], ...]:
        """The columns as plain values."""
        return tuple(column.values for column in self.columns)

    @cached_property
    def used_versions(self) -> frozenset[str]:
        """The versions that computed at least one row; without rows, those that were called."""
        if not len(self.codes):
            return frozenset(self.versions)
        if not self.codes.any():
            return frozenset(self.versions[:1])
        return frozenset(self.versions[code] for code in np.flatnonzero(np.bincount(self.codes)).tolist())

    def version_of(self, place: int) -> str:
        """Return the version that computed a row."""
        return self.versions[int(self.codes[place])]

    def computed_by(self, version: str) -> Mask:
        """Return whether each row was computed by a version, and has a fingerprint."""
        known = self.fingerprints.known
        if self.used_versions == {version}:
            return known
        codes = [code for code, name in enumerate(self.versions) if name == version]
        return known & np.isin(self.codes, codes)


class Origin(Protocol):
    """An instance or reverted execution whose cells may be reused."""

    is_committed: ClassVar[bool]
    """Whether it is a committed instance rather than a reverted execution."""

    @property
    def row_count(self) -> int:
        """Number of rows."""
        ...

    def keys(self, primary_key: Sequence[str]) -> list[object] | None:
        """Return the key of each row; `None` if any of the columns is missing."""
        ...

    def key_columns(self, primary_key: Sequence[str]) -> Sequence[KeyColumn]:
        """Return the columns of the key in stored form; empty if they are not stored."""
        ...

    def column(self, name: str) -> Sequence[object] | None:
        """Return a column of the finished frame, made by any builder.

        Returns `None` if it does not exist.
        """
        ...

    def rows(self, spec_columns: tuple[str, ...], is_index: bool) -> ReusableRows | None:
        """Return the rows computed by a builder of these columns; `None` without one."""
        ...

    def input_rows(self, spec_columns: tuple[str, ...]) -> InputRows | None:
        """Return the input rows of the IndexBuilder of these columns; `None` without any."""
        ...

    def adopted(self, name: str) -> AdoptedArtifact | None:
        """Return the artifact file of this name."""
        ...

    def facts(self, columns: tuple[str, ...], is_index: bool) -> BuilderFacts | None:
        """Return the recorded facts about the builder of these columns, if any.

        If another builder overwrote the same columns of an IndexBuilder, `is_index` selects one of the two.
        """
        ...

    def failures(self, columns: tuple[str, ...], is_index: bool) -> Mapping[int, str | None]:
        """Return the error class of each failed row of the builder of these columns, and `None` for a skipped row."""
        ...


class MaterializedOrigin:
    """A committed instance as an origin.

    Parameters
    ----------
    frame_path
        File of its frame.
    fingerprint_path
        File of its fingerprints; missing for a directly written instance.
    error_path
        File of its failed rows; missing without any.
    artifact_folder
        Folder of its artifacts.
    provenance
        Provenance with its builders.
    artifacts
        The records of its artifacts, by name.
    """

    is_committed: ClassVar[bool] = True

    def __init__(
        self,
        frame_path: Path,
        fingerprint_path: Path,
        error_path: Path,
        artifact_folder: Path,
        provenance: Provenance,
        artifacts: Mapping[str, ArtifactRecord],
    ) -> None:
        self._frame_path = frame_path
        self._frame = StoredFrame(frame_path)
        self._fingerprint_path = fingerprint_path
        self._error_path = error_path
        self._artifact_folder = artifact_folder
        self._provenance = provenance
        self._artifacts = artifacts
        self._recorded: dict[str, ReusableRows] = {}
        self._read_fingerprints: dict[str, tuple[pa.ChunkedArray, Codes]] | None = None
        self._reading = threading.Lock()

    def mean_usage(self) -> dict[str, dict[str, float]]:
        """Return the mean usage per called row, by builder and amount."""
        return mean_usage(read_usage(self._frame_path.with_name(USAGE)))

    @property
    def row_count(self) -> int:
        """Number of rows."""
        return len(self._frame)

    def as_paths(self) -> Frame:
        """Return its frame as functions see it, with artifacts as full paths."""
        return StoredFrame(self._frame_path, self._artifact_folder)

    def as_contents(self) -> Frame:
        """Return its frame as fingerprints see it, with artifacts as hashes of their contents."""
        return ContentFrame.of_stored(self._frame_path, self._artifacts)

    def column(self, name: str) -> Sequence[object] | None:
        """Return a column of its frame."""
        return self._frame.values(name) if name in self._frame.column_names else None

    def stored(self, columns: Sequence[str]) -> FrameData:
        """Return columns of its frame in stored form."""
        return self._frame.stored(columns)

    def has_column(self, name: str, column: Column, column_type: ColumnType) -> bool:
        """Return whether its frame has a column with this name, type and cells, in this order."""
        if name not in self._frame.column_names:
            return False
        stored = self.stored([name])
        chunked = frame_of_columns({name: (column, column_type)}).table.column(0)
        return stored.types[name] == column_type and typed_digest(stored.table.column(0), column_type) == typed_digest(
            chunked, column_type
        )

    def keys(self, primary_key: Sequence[str]) -> list[object] | None:
        """Return the key of each row."""
        if not set(primary_key) <= set(self._frame.column_names):
            return None
        return row_keys([self._frame.values(column) for column in primary_key])

    def key_columns(self, primary_key: Sequence[str]) -> Sequence[KeyColumn]:
        """Return the columns of the key in stored form."""
        if not set(primary_key) <= set(self._frame.column_names):
            return ()
        return [self.stored_column(name) for name in primary_key]

    def stored_column(self, name: str) -> KeyColumn:
        """Return a column of its frame in stored form."""
        return self._frame.stored_column(name)

    def rows(self, spec_columns: tuple[str, ...], is_index: bool) -> ReusableRows | None:
        """Return the rows computed by a builder of these columns."""
        facts = self.facts(spec_columns, is_index)
        if facts is None or facts.is_index != is_index or self._is_overwritten(facts):
            return None
        return self.recorded_rows(facts)

    def recorded_rows(self, facts: BuilderFacts) -> ReusableRows:
        """Return a builder's rows from the frame, even if another builder overwrote them."""
        if facts.name not in self._recorded:
            self._recorded[facts.name] = self._read_rows(facts)
        return self._recorded[facts.name]

    def _read_rows(self, facts: BuilderFacts) -> ReusableRows:
        fingerprints, codes = self._row_records(facts)
        count = self.row_count
        is_known = len(codes) == count and (not count or 0 <= codes.min() <= codes.max() < len(facts.versions))
        if not is_known or len(fingerprints) != count:
            raise TVFileError(f"{self._fingerprint_path} is damaged: its rows are not those of the instance.")
        # Columns with failed cells are not reused as a whole.
        whole = None if facts.failed or facts.skipped else facts.whole
        columns = tuple(self._reusable_column(name) for name in facts.columns)
        return ReusableRows(columns, fingerprints, codes, facts.versions, whole)

    def _reusable_column(self, name: str) -> ReusableColumn:
        return ReusableColumn(partial(self._frame.values, name), partial(self.stored_column, name))

    def _row_records(self, facts: BuilderFacts) -> tuple[Fingerprints, Codes]:
        """Return the fingerprint and version index of each row of a builder."""
        stored = self._fingerprints.get(facts.name)
        if stored is None:
            fingerprints = Fingerprints()
            fingerprints.resize(self.row_count)
            return fingerprints, np.zeros(self.row_count, np.int64)
        try:
            return Fingerprints.of_column(stored[0]), stored[1]
        except ValueError as error:
            raise TVFileError(f"The fingerprints in {self._fingerprint_path} are damaged: {error}.") from error

    def input_rows(self, spec_columns: tuple[str, ...]) -> InputRows | None:
        """Return the input rows of the IndexBuilder of these columns."""
        facts = self.facts(spec_columns, is_index=True)
        if facts is None or not facts.is_index or self._is_overwritten(facts):
            return None
        columns = [self._frame.values(column) for column in spec_columns]
        return read_input_rows(self._frame_path.with_name(INPUT_ROWS), facts.versions, columns)

    def adopted(self, name: str) -> AdoptedArtifact | None:
        """Return the artifact file of this name, if it still exists."""
        return _adopted(self._artifact_folder, self._artifacts.get(name))

    def facts(self, columns: tuple[str, ...], is_index: bool) -> BuilderFacts | None:
        """Return the recorded facts about the builder of these columns, preferably of this kind."""
        found = [facts for facts in self._provenance.builders if facts.columns == columns]
        return next((facts for facts in found if facts.is_index == is_index), found[0] if found else None)

    def keeps_read_cells(self, name: str) -> bool:
        """Return whether a column certainly holds the cells that other builders' recorded fingerprints are made of.

        It does not if it was overwritten afterwards, if rows of its builder may have been computed again because files
        of theirs were gone, or if `retry_failed` may have given it another type.
        """
        if self._provenance.operation != _EXECUTE:
            return False
        makers = [facts for facts in self._provenance.builders if name in facts.columns]
        types = self._frame.column_types
        return len(makers) == 1 and not any(names_artifacts(types.get(column)) for column in makers[0].columns)

    def inputs_of(self, facts: BuilderFacts) -> list[str]:
        """Return the ids of the instances read by a builder, in order of creation."""
        numbers = {number for number, _ in facts.inputs}
        read = (item for item in self._provenance.inputs if item.row_id in numbers)
        return [item.instance_id for item in sorted(read, key=lambda item: item.row_id)]

    @property
    def index_facts(self) -> BuilderFacts | None:
        """The recorded facts about its IndexBuilder, if any."""
        return next((facts for facts in self._provenance.builders if facts.is_index), None)

    def facts_of_column(self, name: str) -> BuilderFacts | None:
        """Return the recorded facts about the last builder of a column, if any."""
        return next((facts for facts in reversed(self._provenance.builders) if name in facts.columns), None)

    def failures(self, columns: tuple[str, ...], is_index: bool) -> Mapping[int, str | None]:
        """Return the error class of each failed row of the builder of these columns, and `None` for a skipped row."""
        facts = self.facts(columns, is_index)
        return self._failures.get(facts.name, {}) if facts is not None else {}

    def failures_of_column(self, name: str) -> Mapping[int, str | None]:
        """Return the failures, as `failures` does, of the last builder of a column."""
        facts = self.facts_of_column(name)
        return self._failures.get(facts.name, {}) if facts is not None and not facts.is_index else {}

    @cached_property
    def _failures(self) -> dict[str, dict[int, str | None]]:
        """The failures of each builder."""
        found: dict[str, dict[int, str | None]] = {}
        if self._error_path.is_file():
            data = read_frame(self._error_path)
            try:
                columns = [data.table.column(name).to_pylist() for name in ("builder", "row_index", "error")]
                for builder, position, name in zip(*columns, strict=True):
                    found.setdefault(builder, {})[position] = None if name is None else name.rpartition(".")[2]
            except (KeyError, TypeError, AttributeError) as error:
                raise TVFileError(f"The failed rows in {self._error_path} are damaged ({error}).") from error
        return found

    def _is_overwritten(self, facts: BuilderFacts) -> bool:
        """Return whether another builder overwrote a column of this one."""
        others = [other for other in self._provenance.builders if other.name != facts.name and not other.is_index]
        return facts.is_index and any(set(other.columns) & set(facts.columns) for other in others)

    def read_ahead(self, columns: Iterable[str]) -> None:
        """Begin to read columns and fingerprints in a thread, if there are many rows."""
        if self.row_count >= _MANY_ROWS:
            names = [name for name in dict.fromkeys(columns) if name in self._frame.column_names]
            # The interpreter waits for it at exit, since Arrow must not be interrupted.
            threading.Thread(target=self._read_ahead, args=(names,), name="tablevault-origin", daemon=False).start()

    def _read_ahead(self, columns: Sequence[str]) -> None:
        # An error is raised again when the cells are needed.
        with suppress(Exception):
            self._fingerprints  # noqa: B018  (reading the property reads the file)
            self._frame.read_together(columns)

    @property
    def _fingerprints(self) -> dict[str, tuple[pa.ChunkedArray, Codes]]:
        with self._reading:
            if self._read_fingerprints is None:
                self._read_fingerprints = read_fingerprints(self._fingerprint_path)
            return self._read_fingerprints


class PartialOrigin:
    """The rows computed by an execution before it was reverted.

    Parameters
    ----------
    checkpoint_folder
        Folder of its checkpoints.
    artifact_folder
        Folder of its artifacts.
    """

    is_committed: ClassVar[bool] = False

    def __init__(self, checkpoint_folder: Path, artifact_folder: Path) -> None:
        self._rows = UnfinishedRows.read(read_checkpoints(checkpoint_folder))
        self._artifact_folder = artifact_folder
        states = self._rows.states
        self._records = {record.path: record for state in states.values() for record in state.all_artifacts()}
        self._index = next(iter(states), None)
        self._others = {state.columns: name for name, state in states.items() if name != self._index}
        self._read: dict[str, ReusableRows] = {}

    @property
    def row_count(self) -> int:
        """Number of rows produced by its IndexBuilder."""
        return self._rows.row_count

    def column(self, name: str) -> Sequence[object] | None:
        """Return a column of its IndexBuilder; other columns may be incomplete."""
        if self._index is None or name not in self._index_columns:
            return None
        return self._reusable(self._index).columns[self._index_columns.index(name)].values

    def keys(self, primary_key: Sequence[str]) -> list[object] | None:
        """Return the key of each row."""
        columns = [column for name in primary_key if (column := self.column(name)) is not None]
        return row_keys(columns) if len(columns) == len(primary_key) else None

    def key_columns(self, primary_key: Sequence[str]) -> Sequence[KeyColumn]:
        """Return an empty list, since rows are recorded one by one."""
        return ()

    def rows(self, spec_columns: tuple[str, ...], is_index: bool) -> ReusableRows | None:
        """Return the rows computed by a builder of these columns."""
        if is_index:
            builder = self._index if spec_columns == self._index_columns else None
        else:
            builder = self._others.get(spec_columns)
        return self._reusable(builder) if builder is not None else None

    def input_rows(self, spec_columns: tuple[str, ...]) -> InputRows | None:
        """Return the finished input rows of the IndexBuilder of these columns."""
        state = self._rows.states[self._index] if self._index is not None else None
        is_there = state is not None and state.is_nested and state.columns == spec_columns
        return InputRows.of_state(state) if state is not None and is_there else None

    def adopted(self, name: str) -> AdoptedArtifact | None:
        """Return the artifact file of this name, if it was recorded and still exists."""
        return _adopted(self._artifact_folder, self._records.get(name))

    def facts(self, columns: tuple[str, ...], is_index: bool) -> BuilderFacts | None:
        """Return `None`, since a reverted execution has no provenance."""
        return None

    def failures(self, columns: tuple[str, ...], is_index: bool) -> Mapping[int, str | None]:
        """Return an empty mapping, since failed and skipped rows are not distinguished."""
        return {}

    @property
    def _index_columns(self) -> tuple[str, ...]:
        return self._rows.states[self._index].columns if self._index is not None else ()

    def _reusable(self, builder: str) -> ReusableRows:
        if builder not in self._read:
            self._read[builder] = _reusable_rows(self._rows, builder)
        return self._read[builder]


def _adopted(folder: Path, record: ArtifactRecord | None) -> AdoptedArtifact | None:
    """Return a file of an origin, unless it is missing or its size has changed."""
    if record is None:
        return None
    try:
        status = (folder / record.path).stat()
    except OSError:
        return None
    is_there = stat.S_ISREG(status.st_mode) and status.st_size == record.size
    return AdoptedArtifact(folder, record) if is_there else None


def _reusable_rows(rows: UnfinishedRows, builder: str) -> ReusableRows:
    """Return the cells of a builder; rows made from input rows are without fingerprints, as is a whole frame."""
    state, count = rows.states[builder], rows.row_count
    columns = tuple(
        ReusableColumn(partial(rows.values, builder, place), partial(rows.stored, builder, place))
        for place in range(len(state.columns))
    )
    fingerprints = Fingerprints()
    fingerprints.resize(count)
    codes = np.zeros(count, np.int64)
    if state.frame is not None:
        return ReusableRows(columns, fingerprints, codes, (state.frame.code,), state.frame.fingerprint)
    # The version of rows that were not computed is empty.
    versions = ("", *state.code_versions)
    if state.is_nested:
        return ReusableRows(columns, fingerprints, codes, versions, None)
    for position, fingerprint, code in zip(state.positions, state.fingerprints, state.codes, strict=True):
        fingerprints[position] = fingerprint
        codes[position] = code + 1
    whole = state.fingerprints[0] if state.done and state.fingerprints and not state.failures else None
    return ReusableRows(columns, fingerprints, codes, versions, whole)
