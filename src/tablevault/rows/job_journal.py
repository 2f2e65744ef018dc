"""Durable journal of the rows in jobs, from before submission to completion."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC

import msgspec

from tablevault.storage.checkpoints import CheckpointStore
from tablevault.system import clock
from tablevault.values.processes import JobRecord


class JobJournal:
    """Records the jobs of one builder, for the compute thread.

    Parameters
    ----------
    builder
        Name of the builder.
    code
        Version of the builder and its code, recorded with new jobs.
    checkpoints
        Must have begun the builder before a job is recorded.
    saved
        The jobs of earlier attempts, by their tokens.
    """

    def __init__(self, builder: str, code: str, checkpoints: CheckpointStore, saved: Mapping[str, JobRecord]) -> None:
        self.next_look: float | None = None
        """Time of the next poll, on the monotonic clock."""
        self._builder = builder
        self._code = code
        self._checkpoints = checkpoints
        self._records = dict(saved)
        self._expected = 0
        self._tokens: dict[int, str] = {}
        """Tokens of the jobs tracked by this attempt, by call number."""
        self._uncertain = {token for token, record in saved.items() if record.job_id is None and not record.is_over}
        self._looked_at: dict[str, float] = {}
        """Times of the last polls in this attempt, on the monotonic clock, by token."""

    @property
    def open(self) -> list[JobRecord]:
        """The unfinished jobs, in order of creation."""
        return open_jobs(self._records)

    def expect(self, count: int) -> None:
        """Set the number of jobs still to be created."""
        self._expected = len(self._records) + count

    def assign(self, number: int, positions: Sequence[int]) -> None:
        """Find or create the job for the rows of a call, durably."""
        rows = list(positions)
        known = next((record for record in self.open if record.positions == rows), None)
        if known is None:
            mine = set(rows)
            for record in self.open:
                if not mine.isdisjoint(record.positions):
                    # Its rows are regrouped into other jobs.
                    self._put(_over(record))
            known = JobRecord(str(uuid.uuid4()), rows, self._code, clock.time())
            self._put(known)
            self._checkpoints.flush()
        self._tokens[number] = known.token

    def of(self, number: int) -> JobRecord:
        """Return the job of a call."""
        return self._records[self._tokens[number]]

    def is_uncertain(self, number: int) -> bool:
        """Return whether the submission of a job is uncertain."""
        return self._tokens[number] in self._uncertain

    def begin(self, number: int) -> None:
        """Mark the job as about to be submitted; from now on it may exist."""
        self._uncertain.add(self._tokens[number])

    def refused(self, number: int) -> None:
        """Mark the job as rejected by the provider."""
        self._uncertain.discard(self._tokens[number])

    def submitted(self, number: int, job_id: str) -> None:
        """Record the provider's id of a job, durably."""
        record = self.of(number)
        self._put(msgspec.structs.replace(record, job_id=job_id))
        self._uncertain.discard(record.token)
        self._checkpoints.flush()

    def finish(self, number: int) -> None:
        """Mark a job as finished; becomes durable together with its rows."""
        self._put(_over(self.of(number)))

    def is_out(self, number: int) -> bool:
        """Return whether a job is, or may be, at the provider."""
        return self.of(number).job_id is not None or self.is_uncertain(number)

    def look(self, number: int) -> None:
        """Record that a job was polled and is not done."""
        self._looked_at[self._tokens[number]] = clock.monotonic()

    def is_awaited(self, number: int) -> bool:
        """Return whether this attempt only has to wait for a job.

        It was submitted or polled in this attempt.
        """
        token = self._tokens[number]
        return self._records[token].job_id is not None and token in self._looked_at

    def is_late(self, number: int, deadline: float) -> bool:
        """Return whether a job missed a deadline on the monotonic clock.

        A submitted job may be done since the last poll; its rows are paid for, so it is late only if polled after the
        deadline.
        """
        token = self._tokens[number]
        return self._records[token].job_id is None or self._looked_at.get(token, deadline - 1.0) >= deadline

    @property
    def text(self) -> str:
        """Status text on the unfinished jobs."""
        over = sum(record.is_over for record in self._records.values())
        total = max(self._expected, len(self._records))
        verb = "is" if over == 1 else "are"
        at = ""
        if self.next_look is not None:
            when = clock.datetime.fromtimestamp(clock.time() + max(0.0, self.next_look - clock.monotonic()), UTC)
            at = f"; next look at {when:%H:%M} UTC"
        return f"{over:,} of {total:,} {'job' if total == 1 else 'jobs'} {verb} ready{at}"

    def _put(self, record: JobRecord) -> None:
        self._records[record.token] = record
        self._checkpoints.note_job(self._builder, record)


def open_jobs(records: Mapping[str, JobRecord]) -> list[JobRecord]:
    """Return the unfinished jobs."""
    return [record for record in records.values() if not record.is_over]


def _over(record: JobRecord) -> JobRecord:
    return msgspec.structs.replace(record, positions=[], is_over=True)
