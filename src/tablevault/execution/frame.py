"""The complete columns of the frame under construction, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path

from tablevault.execution.inputs import ContentFrame
from tablevault.ports import Frame
from tablevault.rows.artifacts import AdoptedArtifact, InstanceArtifacts
from tablevault.storage import files
from tablevault.storage.columns import Column, normal_cells
from tablevault.storage.decoded_windows import DecodedWindows, is_long
from tablevault.storage.dtypes import ColumnType, Kind, parse_dtype
from tablevault.storage.frames import FrameData, MemoryFrame, UnreadColumn, frame_of_columns
from tablevault.storage.storable import python_values

_TEXT = parse_dtype("string")


@dataclass
class BuiltColumn:
    """One complete column."""

    name: str
    column: Column
    type: ColumnType
    cells: Sequence[object] | None = None
    """The plain values that it was built from, if available."""

    @cached_property
    def values(self) -> Sequence[object]:
        """The cells as plain Python values, identical to those read back from the file."""
        cells, self.cells = self.cells, None
        if cells is not None:
            return normal_cells(cells, self.column, self.type)
        return python_values(self.name, self.column, self.type)

    def values_by_row(self) -> Sequence[object]:
        """Return the cells as plain values for reading them row by row."""
        if self.cells is not None or "values" in vars(self) or not is_long(len(self.column)):
            return self.values
        return DecodedWindows(self.name, self.column, self.type)

    def forget_values(self) -> None:
        """Release the plain values, which are made again if they are needed."""
        self.cells = None
        vars(self).pop("values", None)

    @property
    def holds_artifacts(self) -> bool:
        """Whether its cells name files."""
        return self.type.kind is Kind.ARTIFACT


@dataclass
class DraftFrame:
    """The columns completed so far, in the frame's order, and their artifacts."""

    artifacts: InstanceArtifacts
    row_count: int = 0
    columns: dict[str, BuiltColumn] = field(default_factory=dict)
    adopted: dict[str, dict[int, AdoptedArtifact]] = field(default_factory=dict)
    """Artifacts of reused cells: column -> position -> file."""
    failures: dict[str, Mapping[int, tuple[str, str]]] = field(default_factory=dict)
    """Failed and skipped cells: column -> position -> builder and column of the original failure."""

    def put(
        self,
        name: str,
        column: Column,
        column_type: ColumnType,
        cells: Sequence[object] | None = None,
        adopted: Mapping[int, AdoptedArtifact] | None = None,
    ) -> None:
        """Add or replace a complete column.

        Parameters
        ----------
        name, column, column_type
            The column.
        cells
            The plain values that it was built from, if available.
        adopted
            The files of reused cells, by position.
        """
        self.columns[name] = BuiltColumn(name, column, column_type, cells)
        self.failures.pop(name, None)
        self.adopted[name] = dict(adopted or {})

    def data(self) -> FrameData:
        """Return the whole frame as it will be stored."""
        return frame_of_columns({name: (built.column, built.type) for name, built in self.columns.items()})

    def full_paths(self, cells: Sequence[object], adopted: Mapping[int, AdoptedArtifact]) -> list[object]:
        """Return the cells of a column of artifacts as functions see them.

        Parameters
        ----------
        cells
            Names in the artifact folder.
        adopted
            Files still in the folder of an origin, by position.
        """
        return [
            None
            if cell is None
            else str((adopted[row].folder if row in adopted else self.artifacts.folder) / str(cell))
            for row, cell in enumerate(cells)
        ]

    def as_paths(self, unfinished: Mapping[str, Sequence[object]]) -> Frame:
        """Return the frame as functions see it, with artifacts as full paths.

        Parameters
        ----------
        unfinished
            The filled part of the running builder's columns.
        """
        complete = {
            name: UnreadColumn(
                len(built.column),
                partial(self._paths, built, self.adopted[name]),
                None if built.holds_artifacts else built.values_by_row,
            )
            for name, built in self.columns.items()
        }
        return MemoryFrame({**complete, **unfinished}, self._types())

    def as_contents(self, unfinished: Mapping[str, Sequence[object]]) -> Frame:
        """Return the frame as fingerprints see it, with artifacts as hashes of their contents."""
        artifacts = [name for name, built in self.columns.items() if built.holds_artifacts and name not in unfinished]
        contents = {name: self._contents_of(self.adopted[name].values()) for name in artifacts}
        return ContentFrame(self.as_paths(unfinished), contents)

    @property
    def has_artifacts(self) -> bool:
        """Whether any column so far names files."""
        return any(built.holds_artifacts for built in self.columns.values())

    def artifact_names(self) -> dict[str, tuple[str, int]]:
        """Return every file named by a cell, with its last column and row."""
        return {file: (name, row) for file, name, row in self._artifact_cells()}

    def computed_artifact_names(self) -> dict[str, tuple[str, int]]:
        """Return every file named by a computed cell, with its last column and row."""
        return {file: (name, row) for file, name, row in self._artifact_cells() if row not in self.adopted[name]}

    def _artifact_cells(self) -> Iterator[tuple[str, str, int]]:
        """Yield every file named by a cell, with the cell's column and row."""
        for name, built in self.columns.items():
            if built.holds_artifacts:
                yield from ((str(cell), name, row) for row, cell in enumerate(built.values) if cell is not None)

    def _types(self) -> dict[str, ColumnType | None]:
        return {name: _TEXT if built.holds_artifacts else built.type for name, built in self.columns.items()}

    def _paths(self, built: BuiltColumn, adopted: Mapping[int, AdoptedArtifact]) -> Sequence[object]:
        return self.full_paths(built.values, adopted) if built.holds_artifacts else built.values

    def _contents_of(self, adopted: Iterable[AdoptedArtifact]) -> Callable[[object], object]:
        """Return a function from paths to recorded hashes, or else current ones."""
        known = {str(self.artifacts.folder / name): record.sha256 for name, record in self.artifacts.computed.items()}
        known.update((str(file.folder / file.record.path), file.record.sha256) for file in adopted)

        def content(path: object) -> object:
            if path not in known:
                file = Path(str(path))
                known[str(path)] = files.sha256(file) if file.is_file() else str(path)
            return known[str(path)]

        return content
