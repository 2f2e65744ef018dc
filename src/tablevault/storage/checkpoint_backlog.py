"""The backlog: what has been appended to checkpoints and is not durable yet, and how it becomes so."""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tablevault.errors import TVImplementationError
from tablevault.storage.checkpoint_segments import Part, SegmentWriter
from tablevault.storage.checkpoint_states import Coverage, read_checkpoints
from tablevault.storage.packing import pack

if TYPE_CHECKING:
    from tablevault.interfaces import ArtifactStore
    from tablevault.model import ArtifactRecord

Row = tuple[int, tuple[object, ...], bytes, tuple[str, ...]]
"""Position, one value per column, fingerprint, names of artifacts."""

ITEMS_PER_ROW = 4

UNSTORABLE = (TypeError, ValueError, OverflowError, RecursionError)
"""What packing a value may raise."""

PackedArtifact = tuple[str, int, str]


class _Entry(NamedTuple):
    chapter: Chapter
    part: Part
    content: bytes


@dataclass(slots=True, eq=False)
class Chapter:
    """A run of one builder's rows that share everything but themselves."""

    builder: str
    columns: tuple[str, ...]
    code: str
    forgotten: tuple[int, ...] = ()
    finished: dict[str, Any] | None = None
    items: list[Any] = field(default_factory=list)
    """The rows not durable yet, in order: the four items of each, one after the other.

    Flat, because a tuple per row is work for the garbage collector, and columns are slices. Whoever computes appends,
    one row in one step; only the background thread takes away.
    """
    is_opened: bool = False
    """Whether everything but the rows is durable."""

    @property
    def row_count(self) -> int:
        """How many rows are not durable."""
        return len(self.items) // ITEMS_PER_ROW

    def part(self, items: list[Any], artifacts: dict[int, list[PackedArtifact]]) -> Part:
        """Return the first rows as a part of a segment; raises `ValueError` if one does not fit the columns."""
        part = Part(self.builder, self.columns, self.code, artifacts=artifacts)
        if not self.is_opened:
            part.forgotten, part.finished = self.forgotten, self.finished
        part.positions = items[0::ITEMS_PER_ROW]
        part.values = _transposed(items[1::ITEMS_PER_ROW], len(self.columns))
        part.fingerprints = items[2::ITEMS_PER_ROW]
        return part


class Backlog:
    """Chapters in the order in which they were added, and the segment that they are written to.

    `write` and what closes are for one background thread, everything else is for anybody.
    """

    def __init__(self, folder: Path, artifacts: ArtifactStore | None) -> None:
        self.folder = folder
        self.refusals: list[BaseException] = []
        """What became of rows that could not be stored and were dropped, for whoever computes to raise."""
        self.bytes_per_row = 0.0
        """As seen in the last write; 0 before the first."""
        self._artifacts = artifacts
        self._chapters: list[Chapter] = []
        self._segment: SegmentWriter | None = None
        self._refused = 0
        self._coverages: dict[str, Coverage] = {}
        self._reset_locks()
        _backlogs.add(self)

    @property
    def unflushed(self) -> int:
        """How many of the appended rows are not durable."""
        return self._refused + sum(chapter.row_count for chapter in self._chapters)

    def add(self, chapter: Chapter) -> None:
        """Add a chapter; its rows may follow."""
        with self._books:
            self._chapters.append(chapter)

    def count(self, builder: str) -> int:
        """Return how many different rows of a builder there are, durable or not."""
        with self._books:
            pending = [chapter for chapter in self._chapters if chapter.builder == builder]
            covered = self._coverage(builder).copy()
            for chapter in pending:
                if not chapter.is_opened:
                    covered.remove(chapter.forgotten)
                covered.add(chapter.items[0::ITEMS_PER_ROW])
        return len(covered)

    def record(self, name: str) -> ArtifactRecord | None:
        """Make an artifact durable and return its record; `None` if it does not exist yet."""
        if self._artifacts is None:
            raise TVImplementationError(f"artifact {name!r} is named where no builder makes artifacts")
        return self._artifacts.record(name)

    def prepare(self) -> None:
        """Create the segment ahead of the first row, so that no row has to wait for it."""
        with self._disk:
            if self._segment is None:
                self._segment = SegmentWriter.create(self.folder)

    def write(self) -> None:
        """Make everything that is there now durable, in one transaction.

        After an error nothing is lost, the segment is given up, and the next call tries again in a new one.
        """
        entries = [entry for chapter in list(self._chapters) if (entry := self._entry(chapter)) is not None]
        if not entries:
            return
        self._write_durably(entries)
        self._settle(entries)
        rows = sum(len(entry.part.positions) for entry in entries)
        if rows:
            self.bytes_per_row = sum(len(entry.content) for entry in entries) / rows

    def close(self) -> None:
        """Close the segment."""
        with self._disk:
            if self._segment is not None:
                self._segment.close()
                self._segment = None

    def abandon(self) -> None:
        """Close the segment without tidying it."""
        with self._disk:
            if self._segment is not None:
                self._segment.abandon()
                self._segment = None

    def _entry(self, chapter: Chapter) -> _Entry | None:
        """Return what there is to write of a chapter, without the rows that cannot be stored; `None` if nothing."""
        items = chapter.items[:]
        if not items and chapter.is_opened:
            return None
        artifacts: dict[int, list[PackedArtifact]] = {}
        if any(items[3::ITEMS_PER_ROW]):
            items = self._sift(chapter, items, lambda row: self._record_into(artifacts, row))
        try:
            part = chapter.part(items, artifacts)
            content = part.packed()
        except UNSTORABLE:
            items = self._sift(chapter, items, lambda row: _check_storable(chapter, row))
            part = chapter.part(items, artifacts)
            content = part.packed()
        return _Entry(chapter, part, content)

    def _sift(self, chapter: Chapter, items: list[Any], check: Callable[[Row], None]) -> list[Any]:
        """Drop the rows for which `check` raises; return the items of the others."""
        good: list[Any] = []
        for start in range(0, len(items), ITEMS_PER_ROW):
            row: Row = tuple(items[start : start + ITEMS_PER_ROW])
            try:
                check(row)
            except (OSError, *UNSTORABLE) as error:
                error.add_note(f"in builder {chapter.builder!r}, row {row[0]}, which is not kept")
                self.refusals.append(error)
            else:
                good.extend(row)
        with self._books:
            chapter.items[: len(items)] = good
            self._refused += (len(items) - len(good)) // ITEMS_PER_ROW
        return good

    def _record_into(self, artifacts: dict[int, list[PackedArtifact]], row: Row) -> None:
        # A file whose fsync failed must be written anew, not fsynced again: that is why an error costs the row.
        records = [record for record in map(self.record, row[3]) if record is not None]
        artifacts.pop(row[0], None)
        if records:
            artifacts[row[0]] = [(record.path, record.size, record.sha256) for record in records]

    def _write_durably(self, entries: list[_Entry]) -> None:
        with self._disk, contextlib.ExitStack() as giving_up:
            segment = self._segment or SegmentWriter.create(self.folder)
            self._segment = None
            giving_up.callback(segment.abandon)
            segment.write((entry.chapter.builder, entry.content) for entry in entries)
            giving_up.pop_all()
            self._segment = segment

    def _settle(self, entries: list[_Entry]) -> None:
        with self._books:
            for chapter, part, _ in entries:
                covered = self._coverages.get(chapter.builder)
                if covered is not None:
                    covered.remove(part.forgotten)
                    covered.add(part.positions)
                chapter.is_opened = True
                del chapter.items[: ITEMS_PER_ROW * len(part.positions)]

    def _coverage(self, builder: str) -> Coverage:
        """Return which rows of a builder are durable; kept from the first time that somebody asks."""
        if builder not in self._coverages:
            covered = Coverage()
            state = read_checkpoints(self.folder).load(builder)
            covered.add([] if state is None else state.positions)
            self._coverages[builder] = covered
        return self._coverages[builder]

    def _reset_locks(self) -> None:
        self._books = threading.Lock()
        self._disk = threading.Lock()

    def _hold_still(self) -> threading.Lock:
        """Wait until SQLite is at rest, and keep it so until the lock that is returned is released."""
        self._disk.acquire()
        return self._disk

    def _become_forked(self) -> None:
        self._reset_locks()
        if self._segment is not None:
            self._segment.leak()
            self._segment = None


def _check_storable(chapter: Chapter, row: Row) -> None:
    position, values, fingerprint, _ = row
    where = f"builder {chapter.builder!r}, row {position}"
    if len(values) != len(chapter.columns):
        raise ValueError(f"{where}: {len(values)} values for the {len(chapter.columns)} columns {chapter.columns}")
    for column, value in zip(chapter.columns, values, strict=True):
        try:
            pack(value)
        except UNSTORABLE as error:
            kind = TypeError if isinstance(error, TypeError) else ValueError
            raise kind(f"{where}, column {column!r}: the value cannot be stored ({error})") from error
    pack([position, fingerprint])


def _transposed(rows: list[tuple[object, ...]], width: int) -> list[list[object]]:
    if width == 1:
        return [[value for (value,) in rows]]
    if set(map(len, rows)) - {width}:
        raise ValueError(f"not every row has {width} values")
    return [[row[column] for row in rows] for column in range(width)]


_backlogs: weakref.WeakSet[Backlog] = weakref.WeakSet()
_held: list[threading.Lock] = []


def _before_fork() -> None:
    for backlog in list(_backlogs):
        _held.append(backlog._hold_still())


def _after_fork_in_parent() -> None:
    while _held:
        _held.pop().release()


def _after_fork_in_child() -> None:
    _held.clear()
    for backlog in list(_backlogs):
        backlog._become_forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
