"""The rows of one builder as they fill up: restored, reused, computed."""

from __future__ import annotations

from array import array
from collections.abc import Collection, Iterator, Sequence

from tablevault.execution.building import AdoptedArtifact
from tablevault.execution.context import Execution, PreparedBuilder
from tablevault.execution.origins import Origin, ReusableRows, names_artifacts
from tablevault.progress import BuilderCounter
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.checkpoints import BuilderState, RowBatch
from tablevault.storage.fingerprints import Fingerprints


class RowTable:
    """The rows of one builder, as they fill up.

    Parameters
    ----------
    execution
        What all builders share.
    builder
        The builder that runs.
    counter
        Counts its rows.
    """

    def __init__(self, execution: Execution, builder: PreparedBuilder, counter: BuilderCounter) -> None:
        self.spec = builder.spec
        self.builder = builder
        self.execution = execution
        self.counter = counter
        self.columns: tuple[list[object], ...] = tuple([] for _ in self.spec.changed_columns)
        self.fingerprints = Fingerprints()
        self.codes = array("q")
        """Index into `versions`, for each row."""
        self.versions: list[str] = [builder.version]
        self.filled = bytearray()
        self.reused_version = builder.version
        """Version of builder and code under which rows of an origin are taken over."""
        self.adopted: dict[str, dict[int, AdoptedArtifact]] = {name: {} for name in self.spec.changed_columns}
        """Files of reused cells: column -> position -> file."""
        self._name = self.spec.name
        self._append = execution.checkpoints.append
        self.is_incomplete = False
        """Whether rows of a builder that may have been complete have to be computed again."""
        self.generator_fingerprint = b""
        """Of the arguments, for a function that is called once."""
        self._artifact_columns: tuple[int, ...] = tuple(
            place for place, name in enumerate(self.spec.changed_columns) if names_artifacts(self.spec.dtypes.get(name))
        )

    @property
    def names_artifacts(self) -> bool:
        """Whether cells name files."""
        return bool(self._artifact_columns)

    def resize(self, count: int) -> None:
        """Make room for this many rows; new ones are not filled."""
        missing = count - len(self.filled)
        for column in self.columns:
            column.extend([None] * missing)
        self.fingerprints.resize(count)
        self.codes.frombytes(bytes(missing * self.codes.itemsize))
        self.filled.extend(bytes(missing))

    def restore(self, state: BuilderState) -> None:
        """Take over what earlier attempts finished, but for rows whose files are not what they were."""
        stale = self._stale_rows(state)
        self.resize(max(state.positions, default=-1) + 1)
        known = [self._code_of(version) for version in state.code_versions]
        for place, position in enumerate(state.positions):
            if position not in stale:
                for column, cells in zip(self.columns, state.values, strict=True):
                    column[position] = cells[place]
                self.fingerprints[position] = state.fingerprints[place]
                self.codes[position] = known[state.codes[place]]
                self.filled[position] = 1
        self.counter.computed = len(state.positions) - len(stale)
        for position, records in state.artifacts.items():
            if position not in stale:
                self.execution.building.records.update((record.path, record) for record in records)
        self.forget(stale)
        for position in stale:
            # What is left of them would be in the way of the function that makes them again.
            for record in state.artifacts[position]:
                (self.execution.artifact_folder / record.path).unlink(missing_ok=True)

    def forget(self, positions: Collection[int]) -> None:
        """Let these rows be computed again."""
        if positions:
            self.is_incomplete = True
            self.execution.checkpoints.begin(self.spec.name, self.spec.changed_columns, self.builder.version)
            self.execution.checkpoints.forget(self.spec.name, sorted(positions))

    def cut_at_first_missing(self) -> None:
        """Drop the rows after the first that is missing: whoever continues can only append."""
        first = self.filled.find(0)
        if first >= 0:
            later = [position for position in range(first, len(self.filled)) if self.filled[position]]
            self.forget(later)
            self.counter.computed -= len(later)
            for column in self.columns:
                del column[first:]
            self.fingerprints.resize(first)
            del self.codes[first:], self.filled[first:]

    def keep(self, position: int, cells: tuple[object, ...], fingerprint: bytes) -> None:
        """Take a computed row over, into memory and on its way to the disk."""
        for column, cell in zip(self.columns, cells):  # noqa: B905 - the row reader made as many cells as columns
            column[position] = cell
        self.fingerprints[position] = fingerprint
        self.filled[position] = 1
        self.counter.computed += 1
        if self._artifact_columns:
            files = tuple(str(cells[place]) for place in self._artifact_columns if cells[place] is not None)
            self._append(self._name, position, cells, fingerprint, files)
        else:
            self._append(self._name, position, cells, fingerprint)

    def take(self, batch: RowBatch) -> None:
        """Take computed rows over that are on their way to the disk."""
        count = len(batch.cells)
        positions = batch.positions[:count]
        columns = list(zip(*batch.cells, strict=True)) if batch.is_wide else [batch.cells]
        fingerprints = batch.fingerprints_until(count)
        if isinstance(positions, range):
            here = slice(positions.start, positions.stop)
            for column, cells in zip(self.columns, columns, strict=False):
                column[here] = cells
            self.fingerprints.put(positions.start, fingerprints)
            self.filled[here] = b"\x01" * count
            self.codes.frombytes(bytes((len(self.filled) - len(self.codes)) * self.codes.itemsize))
            return
        for place, position in enumerate(positions):
            for column, cells in zip(self.columns, columns, strict=False):
                column[position] = cells[place]
            self.fingerprints[position] = fingerprints[place]
            self.filled[position] = 1

    def reuse(self, position: int, rows: ReusableRows, place: int, origin: Origin) -> bool:
        """Take a row over from an origin. Return whether it could be: its files have to be there."""
        cells = [column[place] for column in rows.values]
        adopted: dict[str, AdoptedArtifact] = {}
        for number in self._artifact_columns:
            if cells[number] is not None:
                file = origin.adopted(str(cells[number]))
                if file is None or not self._may_stand_beside(file):
                    return False
                adopted[self.spec.changed_columns[number]] = file
        for column, cell in zip(self.columns, cells, strict=True):
            column[position] = cell
        for name, file in adopted.items():
            self.adopted[name][position] = file
            self.execution.building.taken_over[file.record.path] = file.record
        self.fingerprints[position] = rows.fingerprints[place]
        if self.reused_version != self.builder.version:
            self.codes[position] = self._code_of(self.reused_version)
        self.filled[position] = 1
        self.counter.reused += 1
        return True

    def _may_stand_beside(self, file: AdoptedArtifact) -> bool:
        """Return whether no other cell, computed or taken over, names another file of the same name."""
        building, name = self.execution.building, file.record.path
        others = (building.records.get(name), building.taken_over.get(name))
        return all(other is None or other.sha256 == file.record.sha256 for other in others)

    def missing(self) -> Sequence[int]:
        """Return the positions of the rows that are not filled: as a range, where they follow each other."""
        if not any(self.filled):
            return range(len(self.filled))
        return consecutive([position for position, there in enumerate(self.filled) if not there])

    def _stale_rows(self, state: BuilderState) -> set[int]:
        folder = ArtifactFolder(self.execution.artifact_folder)
        return {
            position
            for position, records in state.artifacts.items()
            if not all(folder.matches(record) for record in records)
        }

    def _code_of(self, version: str) -> int:
        if version not in self.versions:
            self.versions.append(version)
        return self.versions.index(version)


def reuse_candidates(table: RowTable, rows: ReusableRows, matches: Sequence[int | None]) -> Iterator[tuple[int, int]]:
    """Yield the missing rows whose counterpart in an origin the same builder and code computed, each with it."""
    version = table.reused_version
    for position in table.missing():
        place = matches[position]
        if place is not None and rows.versions[place] == version and rows.fingerprints[place] is not None:
            yield position, place


def described(table: RowTable) -> str:
    """Return the function of a table's builder as messages name it."""
    return f"{table.spec.python_function}() of builder '{table.spec.name}'"


def consecutive(positions: Sequence[int]) -> Sequence[int]:
    """Return ascending positions as a range, if they follow each other."""
    if positions and positions[-1] - positions[0] + 1 == len(positions):
        return range(positions[0], positions[-1] + 1)
    return positions
