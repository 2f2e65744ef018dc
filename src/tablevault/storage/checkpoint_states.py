"""The checkpoints of a process, read from all segments and merged by builder."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, compress, pairwise, starmap
from operator import lt
from pathlib import Path
from typing import Any

from tablevault.errors import TVFileError
from tablevault.ports import CheckpointLog, StoredPart
from tablevault.storage.checkpoint_parts import Part
from tablevault.storage.checkpoint_segments import SegmentFolder
from tablevault.storage.sqlite_segments import damaged
from tablevault.values.contents import ArtifactRecord
from tablevault.values.processes import JobRecord, Usage


@dataclass(frozen=True, slots=True)
class SavedFrame:
    """The whole frame that a `dataframe` builder returned."""

    path: Path
    """A Parquet file in the folder of the checkpoints."""
    fingerprint: bytes
    artifacts: tuple[ArtifactRecord, ...]
    """The existing files that its cells name."""
    code: str
    """The code version that computed it."""


@dataclass(frozen=True, slots=True)
class SavedRows:
    """All rows of a complete IndexBuilder that took some of them over from an origin."""

    path: Path
    """A Parquet file in the folder of the checkpoints."""
    artifacts: tuple[ArtifactRecord, ...]
    """The files that cells from the origin name, which are in its folder."""


@dataclass(frozen=True, slots=True)
class BuilderState:
    """The durable rows of one builder.

    They are parallel lists, in the order of positions, without duplicates.
    """

    done: bool
    """Whether the builder is complete and must not run again."""
    total: int | None
    """Total number of rows; known once it is done."""
    columns: tuple[str, ...]
    positions: list[int]
    values: tuple[list[object], ...]
    """One list of cells per column."""
    fingerprints: list[bytes]
    codes: list[int]
    """Index into `code_versions` of the code that computed the row."""
    code_versions: tuple[str, ...]
    """Every code version that the builder began under, in order of first use, not of last use."""
    artifacts: dict[int, tuple[ArtifactRecord, ...]]
    """Records of the files that rows name, by position."""
    frame: SavedFrame | None
    """Set instead of rows for a builder that was saved as a whole."""
    finished_code: str | None = None
    """The code version under which the builder was finished; `None` while it is not done."""
    failures: Mapping[int, bytes] = field(default_factory=dict)
    """Packed records of rows that failed or were skipped, by position."""
    is_nested: bool = False
    """Whether a cell is a list with the cells of several rows."""
    calls: Mapping[int, int] = field(default_factory=dict)
    """Number of calls that have ended without a result, by position, where that is counted."""
    usage: Mapping[int, Usage] = field(default_factory=dict)
    """Usage of calls so far, by position, where it is counted."""
    jobs: Mapping[str, JobRecord] = field(default_factory=dict)
    """Jobs at a provider, including ended ones, by token."""
    rows: SavedRows | None = None
    """Set if rows of a complete IndexBuilder are not among these, because they come from an origin."""
    has_repeated_rows: bool = False
    """Whether finished rows were or will be computed again, so that other builders may have read other cells."""

    @property
    def path(self) -> Path | None:
        """A file with the cells of all rows, if there is one."""
        whole = self.rows or self.frame
        return whole.path if whole is not None else None

    def all_artifacts(self) -> Iterator[ArtifactRecord]:
        """Yield the records of all files that cells name."""
        whole = [each.artifacts for each in (self.frame, self.rows) if each is not None]
        return chain.from_iterable([*self.artifacts.values(), *whole])


@dataclass(frozen=True, slots=True)
class Checkpoints:
    """The checkpoints of a process, for reading; another thread or interpreter may be appending to them."""

    log: CheckpointLog

    def states(self) -> dict[str, BuilderState]:
        """Return the durable rows of all builders, in order of their first, as of one moment.

        Raises `TVFileError` if a file is damaged.
        """
        merges: dict[str, _Merge] = {}
        for stored in self.log.read():
            merges.setdefault(stored.builder, _Merge(self.log)).add(_decode(stored))
        return {builder: merge.state() for builder, merge in merges.items()}

    def load(self, builder: str, rows: int | None = None) -> BuilderState | None:
        """Return the durable rows of a builder, or `None`.

        Raises `TVFileError` if a file is damaged.

        Parameters
        ----------
        builder
            Name of the builder.
        rows
            Number of rows of the instance, which a ColumnBuilder does not change; `None` if the builder makes them.
        """
        merge = _Merge(self.log)
        for stored in self.log.read(builder):
            merge.add(_decode(stored))
        if merge.columns is None:
            return None
        state = merge.state()
        if rows is not None:
            found = state.total if state.total is not None else rows
            last = max(max(state.positions, default=-1), max(state.failures, default=-1))
            if found != rows or last >= rows:
                raise TVFileError(
                    f"{self.log}: its checkpoints of builder {builder!r} have {max(found, last + 1):,} rows, but the "
                    f"instance has {rows:,}. Restore them from a backup, or stop the process and run again."
                )
        return state


def read_checkpoints(folder: Path) -> Checkpoints:
    """Return the checkpoints in a folder, for reading."""
    return Checkpoints(SegmentFolder(folder))


def _decode(stored: StoredPart) -> Part:
    try:
        return Part.unpacked(stored.content)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise damaged(stored.place, str(error)) from error


@dataclass(slots=True)
class _Merge:
    """Merges the parts of one builder in order."""

    log: CheckpointLog
    columns: tuple[str, ...] | None = None
    done: bool = False
    total: int | None = None
    code_versions: dict[str, int] = field(default_factory=dict)
    positions: list[int] = field(default_factory=list)
    values: list[list[object]] = field(default_factory=list)
    fingerprints: list[bytes] = field(default_factory=list)
    codes: list[int] = field(default_factory=list)
    artifacts: dict[int, tuple[ArtifactRecord, ...]] = field(default_factory=dict)
    frame: SavedFrame | None = None
    finished_code: str | None = None
    failures: dict[int, bytes] = field(default_factory=dict)
    is_nested: bool = False
    calls: dict[int, int] = field(default_factory=dict)
    usage: dict[int, Usage] = field(default_factory=dict)
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    rows: SavedRows | None = None
    has_repeated_rows: bool = False

    def add(self, part: Part) -> None:
        """Apply the next part."""
        if self.columns is None:
            self.columns = part.columns
            self.values = [[] for _ in part.columns]
        elif self.columns != part.columns:
            raise TVFileError(
                f"{self.log}: the checkpoints of builder {part.builder!r} hold rows with the columns {self.columns} "
                f"and rows with {part.columns}; stop the process and run again."
            )
        self.is_nested = part.is_nested
        self.calls.update(part.calls)
        self.usage.update(part.usage)
        self.jobs.update(part.jobs)
        if part.forgotten:
            self._forget(part.forgotten)
        self._add_rows(part)
        if part.finished is not None:
            self._finish(part.finished, part.code)

    def state(self) -> BuilderState:
        """Return the merged state of all parts."""
        if not all(starmap(lt, pairwise(self.positions))):
            self._select(_last_of_each(self.positions))
        return BuilderState(
            self.done,
            self.total,
            self.columns or (),
            self.positions,
            tuple(self.values),
            self.fingerprints,
            self.codes,
            tuple(self.code_versions),
            self.artifacts,
            self.frame,
            self.finished_code,
            self.failures,
            self.is_nested,
            self.calls,
            self.usage,
            self.jobs,
            self.rows,
            self.has_repeated_rows,
        )

    def _add_rows(self, part: Part) -> None:
        if self.artifacts:
            self._drop_artifacts(part.positions)
        if self.failures:
            for position in self.failures.keys() & set(part.positions):
                del self.failures[position]
        self.failures.update(part.failures)
        self.positions += part.positions
        for column, new in zip(self.values, part.values, strict=True):
            column += new
        self.fingerprints += part.each_fingerprint()
        code = self.code_versions.setdefault(part.code, len(self.code_versions))
        self.codes += [code] * len(part.positions)
        for position, records in part.artifacts.items():
            self.artifacts[position] = _records(records)

    def _forget(self, positions: Collection[int]) -> None:
        forgotten = set(positions)
        self.has_repeated_rows = True
        self._keep([position not in forgotten for position in self.positions])
        self._drop_artifacts(forgotten)
        for position in self.failures.keys() & forgotten:
            del self.failures[position]
        self.done, self.total, self.frame = False, None, None

    def _finish(self, finished: dict[str, Any], code: str) -> None:
        self.done, self.total, self.finished_code = True, finished["total"], code
        if finished.get("frame") is not None:
            self.has_repeated_rows |= self.frame is not None
            path = self.log.frame(finished["frame"])
            self.frame = SavedFrame(path, finished["fingerprint"], _records(finished["artifacts"]), code)
        if finished.get("rows") is not None:
            # It still tells the position of each row while rows are computed again.
            self.rows = SavedRows(self.log.frame(finished["rows"]), _records(finished["artifacts"]))

    def _drop_artifacts(self, positions: Iterable[int]) -> None:
        for position in self.artifacts.keys() & set(positions):
            del self.artifacts[position]

    def _keep(self, kept: list[bool]) -> None:
        self.positions = list(compress(self.positions, kept))
        self.values = [list(compress(column, kept)) for column in self.values]
        self.fingerprints = list(compress(self.fingerprints, kept))
        self.codes = list(compress(self.codes, kept))

    def _select(self, chosen: list[int]) -> None:
        self.positions = [self.positions[i] for i in chosen]
        self.values = [[column[i] for i in chosen] for column in self.values]
        self.fingerprints = [self.fingerprints[i] for i in chosen]
        self.codes = [self.codes[i] for i in chosen]


def _last_of_each(positions: list[int]) -> list[int]:
    """Return the last index of each position, in the order of positions."""
    last = {position: i for i, position in enumerate(positions)}
    return [last[position] for position in sorted(last)]


def _records(records: Iterable[Sequence[Any]]) -> tuple[ArtifactRecord, ...]:
    return tuple(ArtifactRecord(path, size, digest) for path, size, digest in records)
