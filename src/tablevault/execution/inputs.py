"""Frames read by references, which are pinned instances and the frame under construction."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Self

from tablevault.builders.document import BuilderDocument, dependency_error
from tablevault.builders.fields import FieldPath
from tablevault.errors import TVArgumentError, TVFileError
from tablevault.execution.provenance import InputFacts, read_artifact_records, read_provenance
from tablevault.layout import InstanceFolder
from tablevault.names import fold, nearest, tag_in
from tablevault.ports import Frame, FrameSource
from tablevault.references import Dependency
from tablevault.state.lookup import Lookup
from tablevault.storage.dtypes import Kind, artifact_type
from tablevault.storage.frames import StoredFrame, read_schema
from tablevault.values.contents import ArtifactRecord, ArtifactState, InstanceRecord, TableRecord
from tablevault.values.plans import PinnedInput

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SELF = "self"
ARTIFACT_COLUMN = artifact_type().name


@dataclass(frozen=True)
class PinnedKey:
    """A builder's reference to another instance."""

    table: str
    """Folded name of the table."""
    instance: str | None
    """Instance id, version or `@tag` as written; `None` for the newest instance of any version."""


class PinnedFrames:
    """Finds the frames pinned at the start of an execution; nothing else can be read.

    Parameters
    ----------
    frames
        Opens each pinned frame on first use.
    """

    def __init__(self, frames: Mapping[PinnedKey, Callable[[], Frame]]) -> None:
        self._openers = dict(frames)
        self._opened: dict[PinnedKey, Frame] = {}

    def frame(self, table: str, instance: str | None) -> Frame:
        """Return a pinned frame; raises `LookupError` for anything else."""
        key = PinnedKey(fold(table), instance)
        if key not in self._openers:
            known = sorted({pinned.table for pinned in self._openers})
            if key.table in known:
                raise LookupError(
                    f"instance '{instance}' of table '{table}' was not pinned when the process started; "
                    f"name it in the builder, or leave the instance out and declare 'dependencies: [{table}.*]'"
                )
            raise LookupError(
                f"table '{table}' is not a known input of this builder{nearest(table, known)}; "
                f"declare 'dependencies: [{table}.*]'"
            )
        if key not in self._opened:
            self._opened[key] = self._openers[key]()
        return self._opened[key]

    def forget(self) -> None:
        """Drop the opened frames and their cached columns."""
        self._opened.clear()


class WithSelf:
    """Adds the instance being built to the pinned inputs.

    Parameters
    ----------
    inputs
        Finds the frames of other tables.
    own
        Returns the current frame of the instance being built.
    """

    def __init__(self, inputs: FrameSource, own: Callable[[], Frame]) -> None:
        self._inputs = inputs
        self._own = own

    def frame(self, table: str, instance: str | None) -> Frame:
        """Return the frame of `table(instance)`."""
        if table != SELF:
            return self._inputs.frame(table, instance)
        if instance is not None:
            raise LookupError("'self' is the instance being built; it has no other instances")
        return self._own()


class ContentFrame:
    """A frame as fingerprints see it, with file contents in place of artifact paths.

    Parameters
    ----------
    frame
        The frame with its stored artifact columns.
    contents
        Returns the hash of an artifact by its stored path, for each artifact column.
    """

    def __init__(self, frame: Frame, contents: Mapping[str, Callable[[object], object]]) -> None:
        self._frame = frame
        self._contents = contents
        self._values: dict[str, Sequence[object]] = {}

    @classmethod
    def of_stored(cls, path: Path, records: Mapping[str, ArtifactRecord]) -> Self:
        """Return a committed frame with the recorded contents of its artifacts.

        Parameters
        ----------
        path
            The frame's file.
        records
            The instance's artifacts, by name.
        """
        types, _ = read_schema(path)
        artifacts = [name for name, column_type in types.items() if column_type.kind is Kind.ARTIFACT]

        def content(name: object) -> object:
            record = records.get(str(name))
            return record.sha256 if record is not None else name

        return cls(StoredFrame(path), dict.fromkeys(artifacts, content))

    @property
    def column_names(self) -> Sequence[str]:
        """Names in the frame's order."""
        return self._frame.column_names

    def __len__(self) -> int:
        return len(self._frame)

    def values(self, column: str) -> Sequence[object]:
        """Return a column, with contents in place of artifact paths."""
        if column not in self._contents:
            return self._frame.values(column)
        if column not in self._values:
            content = self._contents[column]
            self._values[column] = [None if value is None else content(value) for value in self._frame.values(column)]
        return self._values[column]

    def values_by_row(self, column: str) -> Sequence[object]:
        """Return a column for reading it row by row, with contents in place of artifact paths."""
        return self.values(column) if column in self._contents else self._frame.values_by_row(column)

    def arrow_type(self, column: str) -> pa.DataType:
        """Return the column's Arrow type."""
        return self._frame.arrow_type(column)

    def kinds(self, column: str) -> frozenset[type] | None:
        """Return the classes of the column's values, if its type determines them.

        Contents of artifacts are texts.
        """
        return None if column in self._contents else self._frame.kinds(column)

    def data_frame(self, columns: Sequence[str] | None, positions: Sequence[int] | None) -> pd.DataFrame:
        """Return columns at positions, with contents in place of artifact paths."""
        import pandas as pd

        frame = self._frame.data_frame(columns, positions)
        for column in frame.columns.intersection(list(self._contents)):
            values = self.values(column)
            chosen = values if positions is None else [values[position] for position in positions]
            frame[column] = pd.Series(list(chosen), dtype="string", index=frame.index)
        return frame


# --- pinned instances ------------------------------------------------------------------------------------------------


def pin_inputs(
    lookup: Lookup,
    documents: Mapping[str, BuilderDocument],
    lock: Callable[[TableRecord, InstanceRecord], None],
    foreseen: Container[PinnedKey] = (),
) -> tuple[PinnedInput, ...]:
    """Resolve every table read by builders to a materialized instance.

    Parameters
    ----------
    lookup
        Finds tables and instances.
    documents
        The builder files.
    lock
        Requests a shared lock on an instance.
    foreseen
        Inputs to skip, which have no instance yet or will get another one.

    Raises
    ------
    TableReferenceError, TVBuilderError
        If a table or instance does not exist; names file, line and field.
    """
    pins: dict[PinnedKey, int] = {}
    for document in documents.values():
        for dependency, path in document.reads.places.items():
            key = PinnedKey(fold(dependency.table), dependency.instance)
            if key not in pins and key not in foreseen:
                table, instance = _resolve(lookup, document, path, dependency)
                lock(table, instance)
                pins[key] = instance.row_id
    return tuple(PinnedInput(key.table, key.instance, row_id) for key, row_id in pins.items())


def _resolve(
    lookup: Lookup, document: BuilderDocument, path: FieldPath, dependency: Dependency
) -> tuple[TableRecord, InstanceRecord]:
    marked = None
    try:
        table = lookup.table(dependency.table)
        if dependency.instance is None:
            return table, lookup.newest(table, None)
        marked = dependency.instance
        if tag_in(dependency.instance) is not None:
            return table, lookup.instance(table, dependency.instance)
        found = lookup.contents.instance(table.table_id, dependency.instance)
        if found is not None and not found.temporary:
            return table, found
        return table, lookup.newest(table, dependency.instance)
    except TVArgumentError as error:
        raise dependency_error(document, path, dependency, str(error), marked) from error


class PinnedInputs:
    """The pinned instances of one execution, opened as frames on first use.

    Parameters
    ----------
    lookup
        Finds instances and their files.
    pins
        The pinned instances.
    foreseen
        Columns of inputs that will have another instance when they are read; their frames are not opened.
    """

    def __init__(
        self,
        lookup: Lookup,
        pins: Iterable[PinnedInput],
        foreseen: Mapping[PinnedKey, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._lookup = lookup
        self._foreseen = foreseen
        self._instances = {PinnedKey(pin.table, pin.instance): self._instance(pin) for pin in pins}
        self.paths = PinnedFrames({key: self._opener(item) for key, item in self._instances.items()})
        self.contents = PinnedFrames({key: self._content_opener(item) for key, item in self._instances.items()})

    def forget_frames(self) -> None:
        """Drop the cached cells; they are read again when needed."""
        self.paths.forget()
        self.contents.forget()

    @property
    def have_artifacts(self) -> bool:
        """Whether any input has a column of artifacts."""
        return any(column.type_name == ARTIFACT_COLUMN for item in self._instances.values() for column in item.columns)

    def facts(self) -> dict[PinnedKey, InputFacts]:
        """Return the facts about each input for provenance."""
        found = {}
        for key, instance in self._instances.items():
            table = self._lookup.table_by_id(instance.table_id)
            found[key] = InputFacts(table.name, instance.instance_id, instance.row_id)
        return found

    def failed_cells(self) -> dict[int, dict[str, int]]:
        """Return the number of failed and skipped cells in each column with any, by row id of the input."""
        instances = {item.row_id: item for item in self._instances.values()}
        failing = self._lookup.contents.failure_counts(list(instances)) if instances else {}
        return {row_id: _failed_cells(self._lookup.folder_of(instances[row_id])) for row_id in failing}

    def primary_key(self, key: PinnedKey) -> tuple[str, ...]:
        """Return the primary key of a pinned instance; empty without one."""
        return read_provenance(self._lookup.folder_of(self._instances[key]).provenance).primary_key

    def columns(self, key: PinnedKey) -> list[str]:
        """Return the names of the columns of a pinned instance."""
        if key in self._foreseen:
            return list(self._foreseen[key])
        return [column.name for column in self._instances[key].columns]

    def lost_artifacts(self, key: PinnedKey) -> list[str]:
        """Return a pinned instance's artifact columns whose files were replaced by a newer instance."""
        if key in self._foreseen:
            return []
        instance = self._instances[key]
        if instance.artifact_state is not ArtifactState.DROPPED:
            return []
        return [column.name for column in instance.columns if column.type_name == ARTIFACT_COLUMN]

    def _instance(self, pin: PinnedInput) -> InstanceRecord:
        instance = self._lookup.contents.instance_by_row(pin.row_id)
        if instance is None:
            raise TVFileError(f"The pinned input {pin.table} (number {pin.row_id}) is missing from the catalog.")
        return instance

    def _opener(self, instance: InstanceRecord) -> Callable[[], Frame]:
        folder = self._lookup.folder_of(instance)
        return lambda: StoredFrame(folder.frame, folder.artifacts)

    def _content_opener(self, instance: InstanceRecord) -> Callable[[], Frame]:
        folder = self._lookup.folder_of(instance)

        def open_contents() -> Frame:
            return ContentFrame.of_stored(folder.frame, read_artifact_records(folder.artifact_hashes))

        return open_contents


def _failed_cells(folder: InstanceFolder) -> dict[str, int]:
    """Return the number of failed and skipped cells in each column of an instance that has any."""
    # The rows of an IndexBuilder that failed are not in the frame.
    made = {
        facts.name: (facts.columns, facts.failed + facts.skipped)
        for facts in read_provenance(folder.provenance).builders
        if not facts.is_index
    }
    return {column: count for columns, count in made.values() if count for column in columns}


def origin_facts(lookup: Lookup, row_id: int | None) -> InputFacts | None:
    """Return the facts about an origin for provenance."""
    instance = lookup.contents.instance_by_row(row_id) if row_id is not None else None
    table = lookup.contents.table_by_id(instance.table_id) if instance is not None else None
    if instance is None or table is None:
        return None
    return InputFacts(table.name, instance.instance_id, instance.row_id)
