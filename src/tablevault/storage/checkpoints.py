"""Checkpoints of an execution, which make computed rows durable in groups.

Durable rows are never computed again. Rows are appended to a list; every 50 ms a background thread writes the new ones
as one record to the log of the process. Rows count as durable only afterwards, so that after
any failure the other rows are still in memory, to be counted and written again.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Self

from tablevault.errors import TVImplementationError, TVProcessError
from tablevault.ports import CAME_BACK_IN_CHILD
from tablevault.storage.checkpoint_backlog import Backlog, Chapter, RowBatch
from tablevault.storage.checkpoint_states import BuilderState, Checkpoints, SavedFrame, read_checkpoints
from tablevault.storage.fingerprints import Fingerprints
from tablevault.storage.flusher import Flusher
from tablevault.values.processes import JobRecord, Usage

if TYPE_CHECKING:
    from tablevault.ports import ArtifactStore, CheckpointLog, FlushListener
    from tablevault.storage.frame_data import FrameData
    from tablevault.values.contents import ArtifactRecord

__all__ = ["BuilderState", "CheckpointStore", "Checkpoints", "RowBatch", "SavedFrame", "read_checkpoints"]

FLUSH_SECONDS = 0.05
_BACKLOG_BYTES = 64 * 2**20
_FIRST_BACKLOG_ROWS = 8_192  # Until the first flush has shown how large the rows are.
_FIRST_BACKLOG_FILES = 64  # Where rows may name artifacts, of any size.
_MINIMUM_BACKLOG_ROWS = 16
_MAXIMUM_BACKLOG_ROWS = 524_288
_MAXIMUM_BATCH_ROWS = 4_096
_NO_ROOM = -1  # Makes the compute thread call the method that raises pending errors, at no cost without errors.


class CheckpointStore:
    """The checkpoints of one process, open for one attempt; made by `CheckpointStore.open`.

    Calls for one builder must come from one thread at a time. A forked child must not use the store.
    """

    def __init__(self, log: CheckpointLog, artifacts: ArtifactStore | None, on_interval: FlushListener | None) -> None:
        self._log = log
        self._backlog = Backlog(log, artifacts)
        self._on_interval = on_interval
        self._current: dict[str, Chapter] = {}
        self._first_room = _FIRST_BACKLOG_ROWS if artifacts is None else _FIRST_BACKLOG_FILES
        self.room = self._first_room
        """Number of rows that may wait for the disk; negative if an error is pending, which `batch` raises."""
        self._failure: BaseException | None = None
        self._noted: list[BaseException] = []
        self._is_open = True
        self._opened_by = os.getpid()
        self._flusher = Flusher(self._at_interval, FLUSH_SECONDS)

    @classmethod
    def open(cls, log: CheckpointLog, artifacts: ArtifactStore | None, on_interval: FlushListener | None) -> Self:
        """Open checkpoints for appending.

        Parameters
        ----------
        log
            The log of one process, which has one owner at a time.
        artifacts
            Makes artifact files durable; `None` if rows name no files.
        on_interval
            Called on the background thread at every interval while the store is open. Its exceptions are raised by the
            next `append`, `flush` or `close`.
        """
        log.create()
        return cls(log, artifacts, on_interval)

    def begin(self, builder: str, columns: tuple[str, ...], code: str, is_nested: bool = False) -> None:
        """Set the columns and code version of the following rows of a builder."""
        current = self._current.get(builder)
        if current is not None and current.columns != columns:
            raise TVImplementationError(f"builder {builder!r} began with the columns {current.columns}, now {columns}")
        self._add(Chapter(builder, columns, code, is_nested=is_nested))
        self._flusher.tell(self._prepare)

    def append(
        self,
        builder: str,
        position: int,
        values: tuple[object, ...],
        fingerprint: bytes,
        artifacts: tuple[str, ...] = (),
    ) -> None:
        """Append a finished row, durable after the next flush; call `begin` first.

        Blocks only while the backlog is full. After a failed flush, raises its error until a `flush` succeeds; the row
        is appended nevertheless.
        """
        chapter = self._current[builder]
        is_wide = len(chapter.columns) > 1 or len(values) != 1
        cells: list[Any] = [values if is_wide else values[0]]
        chapter.batches.append(RowBatch((position,), fingerprint, is_wide, artifacts, cells, is_closed=True))
        chapter.most_waiting += 1
        if len(chapter.batches) > self.room:
            self._catch_up()

    def append_failure(self, builder: str, position: int, record: bytes) -> None:
        """Append the record of a failed or skipped row, with the durability and errors of `append`."""
        chapter = self._current[builder]
        failures = chapter.notes.failures
        failures.append((position, record))
        chapter.most_waiting += 1
        if len(failures) + len(chapter.batches) > self.room:
            self._catch_up()

    def count_calls(self, builder: str, position: int, number: int) -> None:
        """Record the number of calls without a result for a row, durable with the next flush."""
        self._current[builder].notes.calls.append((position, number))

    def add_usage(self, builder: str, position: int, usage: Usage) -> None:
        """Record the usage of the calls for a row so far, durable with the next flush."""
        self._current[builder].notes.usage.append((position, usage))

    def note_job(self, builder: str, record: JobRecord) -> None:
        """Record the state of a job.

        It becomes durable with the next flush, together with the rows appended before.
        """
        self._current[builder].notes.jobs.append(record)

    def batch(self, builder: str, positions: Sequence[int], fingerprints: Fingerprints | bytes) -> RowBatch:
        """Return a batch whose `cells` take finished rows in the order of `positions`.

        Rows are durable after the next flush, as with `append`. Set `is_closed` after the last row; if `room` falls
        below zero, stop early and request a new batch. Blocks while the backlog is full; raises pending errors. Call
        `begin` first.

        Parameters
        ----------
        builder
            Name of the builder.
        positions
            Positions of the rows, at most `batch_rows`; the last ones may remain unused.
        fingerprints
            One per position, or one that all rows share.
        """
        chapter = self._current[builder]
        if not chapter.has_room(len(positions), self.room):
            self._catch_up()
        batch = RowBatch(positions, fingerprints, is_wide=len(chapter.columns) > 1)
        chapter.batches.append(batch)
        return batch

    @property
    def batch_rows(self) -> int:
        """Maximum number of rows in a batch, which bounds the rows that wait."""
        return min(_MAXIMUM_BATCH_ROWS, max(self.room, _MINIMUM_BACKLOG_ROWS))

    def finish(self, builder: str, total: int) -> None:
        """Mark a builder as complete with `total` rows, durable with the next flush."""
        self._add(replace(self._chapter_after(builder), finished={"total": total}))

    def forget(self, builder: str, positions: Iterable[int]) -> None:
        """Invalidate these rows as appended so far, durable with the next flush.

        A complete builder becomes incomplete. Call `begin` first.
        """
        forgotten = tuple(positions)
        if forgotten:
            self._add(replace(self._chapter_after(builder), forgotten=forgotten))

    def save_frame(self, builder: str, data: FrameData, fingerprint: bytes, artifacts: Collection[str] = ()) -> None:
        """Save the whole frame of a `dataframe` builder and complete it; durable on return.

        Call `begin` first. `artifacts` are the files that its cells name.
        """
        name = self._save(builder, data)
        records = _without_errors(self._backlog.record(artifacts)) if artifacts else []
        finished = {
            "total": len(data),
            "frame": name,
            "fingerprint": fingerprint,
            "artifacts": _packed(records),
        }
        self._add(replace(self._chapter_after(builder), finished=finished))
        self.flush()

    def save_rows(self, builder: str, data: FrameData, adopted: Iterable[ArtifactRecord] = ()) -> None:
        """Save all rows of a complete IndexBuilder; durable before any row that is appended later.

        Call `begin` first. `adopted` are the files of an origin that its cells name.
        """
        finished = {"total": len(data), "rows": self._save(builder, data), "artifacts": _packed(adopted)}
        self._add(replace(self._chapter_after(builder), finished=finished))

    def load(self, builder: str, rows: int | None = None) -> BuilderState | None:
        """Return the durable rows of a builder, from all attempts; as `Checkpoints.load`.

        Flush first to include all appended ones.
        """
        return Checkpoints(self._log).load(builder, rows)

    @property
    def unflushed(self) -> int:
        """Number of appended rows that are not durable and would be computed again."""
        return self._backlog.unflushed

    def flush(self, timeout: float | None = None) -> None:
        """Wait until everything appended before is durable.

        After a failed flush, retries once in a new segment. Raises the error of writing; the `TypeError`, `ValueError`
        or `OSError` of an unstorable row, which is dropped; or `TimeoutError`.
        """
        self._check_open()
        self._flusher.do(self._write, timeout)
        self._raise_noted()

    def close(self) -> None:
        """Flush, and close even if that fails.

        Raises the errors of `flush`. Closing again is a no-op.
        """
        self._flusher.stop_after(self._write_and_close)
        self._raise_noted()

    def close_unmarked(self) -> None:
        """Flush, and close without marking the end of the segment; raises the errors of `flush`."""
        self._flusher.stop_after(self._write_and_abandon)
        self._raise_noted()

    def abandon(self) -> None:
        """Close without flushing.

        Rows that are not durable yet are lost.
        """
        self._flusher.stop_after(self._give_up)

    # On the compute thread:

    def _save(self, builder: str, data: FrameData) -> str:
        from tablevault.storage.frame_files import write_frame

        return self._log.save_frame(builder, lambda path: write_frame(path, data, plain=data.types))

    def _chapter_after(self, builder: str) -> Chapter:
        current = self._current[builder]
        return Chapter(builder, current.columns, current.code, is_nested=current.is_nested)

    def _add(self, chapter: Chapter) -> None:
        self._check_open()
        self._backlog.add(chapter)
        self._current[chapter.builder] = chapter

    def _catch_up(self) -> None:
        """Raise a pending error; otherwise wait until the disk has caught up."""
        self._check_open()
        if self._failure is not None:
            raise self._failure
        self._raise_noted()
        self._flusher.do(self._write)
        self._raise_noted()

    def _raise_noted(self) -> None:
        if self._noted:
            error = self._noted.pop(0)
            self._flusher.tell(self._measure_room)
            raise error

    def _check_open(self) -> None:
        if self._opened_by != os.getpid():
            raise TVProcessError(CAME_BACK_IN_CHILD)
        if not (self._is_open and self._flusher.is_running):
            raise TVImplementationError(f"{self._log}: these checkpoints are closed")

    # On the background thread:

    def _at_interval(self) -> None:
        if self._failure is None:
            self._try_to_write()
        if self._on_interval is not None:
            try:
                self._on_interval()
            except BaseException as error:  # noqa: BLE001  (it is raised in the compute thread)
                self._noted.append(error)
        self._measure_room()

    def _try_to_write(self) -> None:
        try:
            self._backlog.write()
            self._failure = None
        except BaseException as error:  # noqa: BLE001  (it is raised in the compute thread)
            self._failure = error
        self._noted += self._backlog.refusals
        self._backlog.refusals.clear()

    def _prepare(self) -> None:
        if self._failure is None:
            try:
                self._backlog.prepare()
            except BaseException as error:  # noqa: BLE001  (it is raised in the compute thread)
                self._failure = error
            self._measure_room()

    def _write(self) -> None:
        self._try_to_write()
        self._measure_room()
        if self._failure is not None:
            raise self._failure

    def _write_and_close(self) -> None:
        self._is_open = False
        try:
            self._write()
        finally:
            self._backlog.close()

    def _write_and_abandon(self) -> None:
        self._is_open = False
        try:
            self._write()
        finally:
            self._backlog.abandon()

    def _give_up(self) -> None:
        self._is_open = False
        self._measure_room()
        self._backlog.abandon()

    def _measure_room(self) -> None:
        if self._failure is not None or self._noted or not self._is_open:
            self.room = _NO_ROOM
        elif self._backlog.bytes_per_row:
            rows = int(_BACKLOG_BYTES / self._backlog.bytes_per_row)
            self.room = min(max(rows, _MINIMUM_BACKLOG_ROWS), _MAXIMUM_BACKLOG_ROWS)
        else:
            self.room = self._first_room


def _packed(records: Iterable[ArtifactRecord]) -> list[list[object]]:
    return [[record.path, record.size, record.sha256] for record in records]


def _without_errors(outcomes: Mapping[str, ArtifactRecord | OSError | ValueError]) -> list[ArtifactRecord]:
    """Return the records of artifacts; raise the first error among them."""
    records = []
    for outcome in outcomes.values():
        if isinstance(outcome, Exception):
            raise outcome
        records.append(outcome)
    return records
