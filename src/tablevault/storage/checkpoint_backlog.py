"""The backlog of checkpoint rows that are not durable yet, and the code that writes them."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

from tablevault.errors import TVImplementationError
from tablevault.storage.checkpoint_parts import Part
from tablevault.storage.fingerprints import FINGERPRINT_BYTES, Fingerprints
from tablevault.storage.packing import checked_size, pack
from tablevault.system import clock
from tablevault.system.forks import ForkHooks, around_forks

if TYPE_CHECKING:
    from tablevault.ports import ArtifactStore, CheckpointLog
    from tablevault.values.contents import ArtifactRecord
    from tablevault.values.processes import JobRecord, Usage

UNSTORABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""Exceptions that packing a value may raise."""

_ROW_BYTES = 2**16
"""More than a row's part needs besides its values, so that each row that is kept can be written."""

PackedArtifact = tuple[str, int, str]


@dataclass(slots=True)
class Notes:
    """Facts about rows besides their cells, in order of arrival; later ones replace earlier ones.

    The compute thread appends; only the flusher removes.
    """

    jobs: list[JobRecord] = field(default_factory=list)
    failures: list[tuple[int, bytes]] = field(default_factory=list)
    """Positions with the packed records of failed and skipped rows."""
    calls: list[tuple[int, int]] = field(default_factory=list)
    """Positions with their numbers of ended calls."""
    usage: list[tuple[int, Usage]] = field(default_factory=list)
    """Positions with the usage of their calls so far."""

    def __bool__(self) -> bool:
        return bool(self.failures or self.calls or self.usage or self.jobs)

    def copy(self) -> Notes:
        """Return the current facts; a finished job is included only with everything noted before it."""
        return Notes(self.jobs.copy(), self.failures.copy(), self.calls.copy(), self.usage.copy())

    def drop(self, written: Notes) -> None:
        """Remove durable entries."""
        del self.jobs[: len(written.jobs)]
        del self.failures[: len(written.failures)]
        del self.calls[: len(written.calls)]
        del self.usage[: len(written.usage)]


class _Entry(NamedTuple):
    chapter: Chapter
    stretches: list[Stretch]
    notes: Notes
    rows: int
    contents: list[bytes]
    """The packed parts, usually one."""
    artifact_bytes: int

    @property
    def bytes(self) -> int:
        """Number of bytes that had to become durable, of rows and of their artifacts."""
        return self.artifact_bytes + sum(map(len, self.contents))


@dataclass(slots=True, eq=False)
class RowBatch:
    """Rows of one builder, in the order in which they are computed.

    The compute thread appends to `cells`, which is the whole cost of a row; the flusher reads it concurrently.
    """

    positions: Sequence[int]
    """At least as many as there will be rows."""
    fingerprints: Fingerprints | bytes
    """One per position, or one that all rows share."""
    is_wide: bool
    """Whether there are several columns, in which case `cells` holds tuples."""
    artifacts: tuple[str, ...] = ()
    """The files that the rows name, for a batch of one row."""
    cells: list[Any] = field(default_factory=list)
    durable: int = 0
    """Number of rows that are durable or were refused."""
    refused: set[int] = field(default_factory=set)
    """Indices of rows that could not be stored."""
    is_closed: bool = False
    """Whether the batch has all its rows."""
    are_atoms: bool = False
    """Whether all cells are known to have classes in `packing.ATOMS`."""
    seen: float | None = None
    """Time on the monotonic clock at which the flusher last found new rows."""

    @property
    def waiting(self) -> int:
        """Number of rows that are not durable."""
        return len(self.cells) - self.durable

    @property
    def fingerprint(self) -> bytes:
        """The fingerprint of the first row."""
        return self.fingerprints if isinstance(self.fingerprints, bytes) else self.fingerprints.rows(0, 1).content

    def fingerprints_until(self, count: int) -> Fingerprints:
        """Return the fingerprints of the first rows."""
        if isinstance(self.fingerprints, bytes):
            return Fingerprints(self.fingerprints * count)
        return self.fingerprints.rows(0, count)


class Stretch(NamedTuple):
    """The range of a batch's rows in one write."""

    batch: RowBatch
    start: int
    stop: int

    @property
    def is_whole(self) -> bool:
        """Whether no row in it has been refused."""
        return not self.batch.refused

    def rows(self) -> list[int]:
        """Return the indices of the rows in the batch."""
        rows = range(self.start, self.stop)
        return [row for row in rows if row not in self.batch.refused] if self.batch.refused else list(rows)

    def positions(self) -> Sequence[int]:
        """Return the rows' positions."""
        if self.is_whole:
            return self.batch.positions[self.start : self.stop]
        return [self.batch.positions[row] for row in self.rows()]

    def cells(self) -> list[Any]:
        """Return the contents of the rows."""
        if self.is_whole:
            return self.batch.cells[self.start : self.stop]
        return [self.batch.cells[row] for row in self.rows()]

    def fingerprints(self) -> bytes:
        """Return the rows' fingerprints, one after the other."""
        fingerprints = self.batch.fingerprints
        if isinstance(fingerprints, bytes):
            return fingerprints * len(self.rows())
        if self.is_whole:
            return fingerprints.rows(self.start, self.stop).content
        return b"".join([fingerprints.rows(row, row + 1).content for row in self.rows()])


@dataclass(slots=True, eq=False)
class Chapter:
    """Consecutive rows of one builder with the same columns and code version."""

    builder: str
    columns: tuple[str, ...]
    code: str
    forgotten: tuple[int, ...] = ()
    finished: dict[str, Any] | None = None
    batches: deque[RowBatch] = field(default_factory=deque)
    """Batches that may not be durable yet. The compute thread appends; only the flusher removes."""
    notes: Notes = field(default_factory=Notes)
    """Facts about rows besides their cells that are not durable yet."""
    is_nested: bool = False
    is_opened: bool = False
    """Whether everything but the rows is durable."""
    most_waiting: int = 0
    """Upper bound of `waiting`, which is slow to compute."""

    def has_room(self, rows: int, room: int) -> bool:
        """Count further rows as waiting; return whether at most `room` rows wait."""
        if self.most_waiting + rows > room:
            self.most_waiting = self.waiting
        self.most_waiting += rows
        return self.most_waiting <= room

    @property
    def waiting(self) -> int:
        """Number of rows that are not durable."""
        return sum(batch.waiting for batch in tuple(self.batches)) + len(self.notes.failures)

    def stretches(self) -> list[Stretch]:
        """Return the rows appended so far that are not durable."""
        found = []
        for batch in tuple(self.batches):
            count = len(batch.cells)
            if count > batch.durable:
                found.append(Stretch(batch, batch.durable, count))
                batch.seen = clock.monotonic()
        return found

    def part(self, stretches: list[Stretch], artifacts: dict[int, list[PackedArtifact]], notes: Notes) -> Part:
        """Return rows as a part of a segment.

        Raises `ValueError` if one does not fit the columns.
        """
        part = Part(self.builder, self.columns, self.code, artifacts=artifacts, is_nested=self.is_nested)
        part.failures, part.calls, part.usage = dict(notes.failures), dict(notes.calls), dict(notes.usage)
        part.jobs = {record.token: record for record in notes.jobs}
        if not self.is_opened:
            part.forgotten, part.finished = self.forgotten, self.finished
        part.positions = _joined_positions(stretches)
        part.values = _values(stretches, len(self.columns))
        part.are_atoms = all(stretch.batch.are_atoms for stretch in stretches)
        part.fingerprints = _joined_fingerprints(stretches)
        return part


class Backlog:
    """Chapters in order of addition, and the log that they are written to.

    Only the flusher may call `write` and the methods that close; all others are safe on any thread.
    """

    def __init__(self, log: CheckpointLog, artifacts: ArtifactStore | None) -> None:
        self._log = log
        self.refusals: list[BaseException] = []
        """Errors of rows that could not be stored and were dropped, for the compute thread to raise."""
        self.bytes_per_row = 0.0
        """Mean of the last write; 0 before the first."""
        self._artifacts = artifacts
        self._chapters: list[Chapter] = []
        self._refused = 0
        self._short_of_rows: set[str] = set()
        """Builders with refused rows, which are incomplete."""
        self._disk = threading.Lock()
        _backlogs.add(self)

    @property
    def unflushed(self) -> int:
        """Number of appended rows that are not durable."""
        return self._refused + sum(chapter.waiting for chapter in self._chapters)

    def add(self, chapter: Chapter) -> None:
        """Add a chapter, to which rows may be appended later."""
        self._chapters.append(chapter)

    def record(self, names: Iterable[str]) -> Mapping[str, ArtifactRecord | OSError | ValueError]:
        """Make artifacts durable; return their records or errors, without missing files."""
        if self._artifacts is None:
            raise TVImplementationError(f"rows name artifacts, but no builder makes artifacts: {sorted(names)[:3]}")
        return self._artifacts.record(names)

    def prepare(self) -> None:
        """Prepare the log before the first row."""
        with self._disk:
            self._log.prepare()

    def write(self) -> None:
        """Make all current entries durable, as one record of the log.

        After an error nothing is lost: the next call writes everything again, elsewhere.
        """
        entries = [entry for chapter in list(self._chapters) if (entry := self._entry(chapter)) is not None]
        if not entries:
            return
        self._write_durably(entries)
        _mark_durable(entries)
        rows = sum(entry.rows for entry in entries)
        if rows:
            self.bytes_per_row = sum(entry.bytes for entry in entries) / rows

    def close(self) -> None:
        """Close the log."""
        with self._disk:
            self._log.close()

    def abandon(self) -> None:
        """Leave the log without marking its end."""
        with self._disk:
            self._log.abandon()

    def _entry(self, chapter: Chapter) -> _Entry | None:
        """Return the parts of a chapter to write, without rows that cannot be stored.

        Returns `None` if it is empty.
        """
        # Notes first, so that a finished job is written together with its rows.
        notes = chapter.notes.copy()
        stretches = chapter.stretches()
        if not (stretches or notes) and chapter.is_opened:
            return None
        artifacts: dict[int, list[PackedArtifact]] = {}
        if any(stretch.batch.artifacts for stretch in stretches):
            recorded = self.record(name for stretch in stretches for name in stretch.batch.artifacts)
            self._sift(chapter, stretches, lambda stretch, row: _take_records(artifacts, recorded, stretch.batch, row))
        try:
            part = self._part(chapter, stretches, artifacts, notes)
            contents = part.packed_in_parts()
        except UNSTORABLE:
            self._sift(chapter, stretches, lambda stretch, row: _check_storable(chapter, stretch.batch, row))
            part = self._part(chapter, stretches, artifacts, notes)
            contents = part.packed_in_parts()
        artifact_bytes = sum(size for records in artifacts.values() for _, size, _ in records)
        return _Entry(chapter, stretches, notes, len(part.positions), contents, artifact_bytes)

    def _part(
        self,
        chapter: Chapter,
        stretches: list[Stretch],
        artifacts: dict[int, list[PackedArtifact]],
        notes: Notes,
    ) -> Part:
        part = chapter.part(stretches, artifacts, notes)
        if chapter.builder in self._short_of_rows:
            # The compute thread may have marked it as finished before it saw the refusal.
            part.finished = None
        return part

    def _sift(self, chapter: Chapter, stretches: list[Stretch], check: Callable[[Stretch, int], None]) -> None:
        """Refuse the rows for which `check` raises."""
        for stretch in stretches:
            for row in stretch.rows():
                try:
                    check(stretch, row)
                except (OSError, *UNSTORABLE) as error:
                    position = stretch.batch.positions[row]
                    error.add_note(f"in builder {chapter.builder!r}, row {position}, which is not kept")
                    self.refusals.append(error)
                    self._short_of_rows.add(chapter.builder)
                    stretch.batch.refused.add(row)
                    self._refused += 1

    def _write_durably(self, entries: list[_Entry]) -> None:
        with self._disk:
            self._log.append([(entry.chapter.builder, content) for entry in entries for content in entry.contents])

    def _become_forked(self) -> None:
        self._disk = threading.Lock()
        self._log.abandon()


def _mark_durable(entries: list[_Entry]) -> None:
    for chapter, stretches, notes, *_ in entries:
        chapter.is_opened = True
        chapter.notes.drop(notes)
        for stretch in stretches:
            # Refused rows are counted by the backlog and no longer wait.
            stretch.batch.durable = stretch.stop
        while chapter.batches and chapter.batches[0].is_closed and not chapter.batches[0].waiting:
            chapter.batches.popleft()


def _take_records(
    artifacts: dict[int, list[PackedArtifact]],
    recorded: Mapping[str, ArtifactRecord | OSError | ValueError],
    batch: RowBatch,
    row: int,
) -> None:
    """Collect the records of a row's files.

    Raises the error of a file that could not be made durable.
    """
    position = batch.positions[row]
    artifacts.pop(position, None)
    records = []
    for name in batch.artifacts:
        outcome = recorded.get(name)
        if isinstance(outcome, Exception):
            raise outcome
        if outcome is not None:
            records.append((outcome.path, outcome.size, outcome.sha256))
    if records:
        artifacts[position] = records


def _check_storable(chapter: Chapter, batch: RowBatch, row: int) -> None:
    where = f"builder {chapter.builder!r}, row {batch.positions[row]}"
    values = batch.cells[row] if batch.is_wide else (batch.cells[row],)
    if len(values) != len(chapter.columns):
        raise ValueError(f"{where}: {len(values)} values for the {len(chapter.columns)} columns {chapter.columns}")
    size = _ROW_BYTES
    for column, value in zip(chapter.columns, values, strict=True):
        try:
            size += checked_size(len(pack(value)))
        except UNSTORABLE as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{where}, column {column!r}: the value cannot be stored ({error})") from error
    try:
        checked_size(size)
    except UNSTORABLE as error:
        raise ValueError(f"{where}: its values cannot be stored together ({error})") from error


def _joined_positions(stretches: list[Stretch]) -> Sequence[int]:
    """Return the positions of all rows.

    They are a range if they are consecutive, as in nearly every loop.
    """
    pieces = [stretch.positions() for stretch in stretches]
    are_ranges = all(isinstance(piece, range) and piece.step == 1 for piece in pieces)
    if pieces and are_ranges and all(before[-1] + 1 == after[0] for before, after in pairwise(pieces)):
        return range(pieces[0][0], pieces[-1][-1] + 1)
    return list(chain.from_iterable(pieces))


def _joined_fingerprints(stretches: list[Stretch]) -> list[bytes] | bytes:
    """Return the fingerprints of all rows in the shortest form that a `Part` accepts."""
    single = [stretch.batch.fingerprints for stretch in stretches if isinstance(stretch.batch.fingerprints, bytes)]
    if len(single) == len(stretches) and len(set(single)) == 1:
        return single[:1]
    if set(map(len, single)) <= {FINGERPRINT_BYTES}:
        return b"".join([stretch.fingerprints() for stretch in stretches])
    return [stretch.batch.fingerprint for stretch in stretches for _ in stretch.rows()]


def _values(stretches: list[Stretch], width: int) -> list[list[object]]:
    pieces = [stretch.cells() for stretch in stretches]
    if not any(stretch.batch.is_wide for stretch in stretches):
        if width != 1 and pieces:
            raise ValueError(f"not every row has {width} values")
        return [list(chain.from_iterable(pieces))] * width
    rows = [
        row if stretch.batch.is_wide else (row,)
        for stretch, piece in zip(stretches, pieces, strict=True)
        for row in piece
    ]
    if set(map(len, rows)) - {width}:
        raise ValueError(f"not every row has {width} values")
    return [[row[column] for row in rows] for column in range(width)]


_backlogs: weakref.WeakSet[Backlog] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for backlog in list(_backlogs):
        backlog._become_forked()


around_forks(ForkHooks(in_child=_after_fork_in_child))
