"""Scheduling of calls, and decisions on retries, limits and the end of a run."""

from __future__ import annotations

import heapq
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import count
from typing import NamedTuple

from tablevault.builders.policies import Policies, Share
from tablevault.rows.error_names import ErrorRules, RowError, has_timed_out, is_throttled, stops_run, told_wait
from tablevault.values.progress import BuilderCounter

MINIMUM_FOR_SHARE = 20
"""Minimum number of tried rows before a share of failures is checked."""


class Task(NamedTuple):
    """A call to make; a plain tuple, since creation per row must be fast."""

    positions: Sequence[int]
    attempt: int = 1
    """Number of the call within the current try of its rows."""
    retries: int = 0
    """Retries used so far; throttled calls use none."""
    first_call: float | None = None
    """Start of the first call of the try, on the monotonic clock."""
    seconds: float = 0.0
    """Total duration of the earlier calls of the try."""
    last_error: str | None = None
    """Error text of the previous call."""
    joins: bool = False
    """Whether it may be combined with others that failed in the same way."""


class Schedule:
    """The tasks of one builder that have not started yet.

    Parameters
    ----------
    size
        Rows per call.
    """

    def __init__(self, size: int = 1) -> None:
        self._size = size
        self._new: Sequence[int] = ()
        """Rows that were never tried."""
        self._taken = 0
        """Number of new rows taken so far."""
        self._waiting: list[tuple[float, int, Task]] = []
        self._numbers = count()

    def add(self, positions: Sequence[int]) -> None:
        """Add rows that were never tried, in the order of execution."""
        rest = self._new[self._taken :]
        self._new, self._taken = [*rest, *positions] if rest else positions, 0

    def take(self, now: float) -> Task | None:
        """Return the next task that may start now, if any."""
        if self._is_due(now):
            task = heapq.heappop(self._waiting)[2]
            return self._joined(task, now) if task.joins else task
        positions = self._take_new(self._size)
        return Task(positions) if positions else None

    def take_new(self, most: int, now: float) -> Sequence[int]:
        """Return untried rows that may start now, unless a retry is due, which comes first.

        Parameters
        ----------
        most
            Maximum number of rows.
        now
            The monotonic clock.
        """
        return () if self._is_due(now) else self._take_new(most)

    def _take_new(self, most: int) -> Sequence[int]:
        positions = self._new[self._taken : self._taken + most]
        self._taken += len(positions)
        return positions

    def _is_due(self, now: float) -> bool:
        return bool(self._waiting) and self._waiting[0][0] <= now

    def _joined(self, task: Task, now: float) -> Task:
        """Extend a task by the rows of those that it may be combined with."""
        positions = list(task.positions)
        while self._is_due(now) and len(positions) < self._size:
            other = self._waiting[0][2]
            if not other.joins or (other.attempt, other.last_error) != (task.attempt, task.last_error):
                break
            heapq.heappop(self._waiting)
            positions += other.positions
        return task._replace(positions=positions)

    def is_ready(self, now: float) -> bool:
        """Return whether `take` would return a task now."""
        return self._taken < len(self._new) or self._is_due(now)

    def put(self, task: Task, not_before: float = 0.0) -> None:
        """Queue a task again, not before a time on the monotonic clock."""
        heapq.heappush(self._waiting, (not_before, next(self._numbers), task))

    @property
    def next_time(self) -> float | None:
        """Earliest start of the next waiting task; `None` if none waits."""
        return self._waiting[0][0] if self._waiting else None

    @property
    def waiting_positions(self) -> frozenset[int]:
        """Rows of the tasks that wait for a retry."""
        return frozenset(position for _, _, task in self._waiting for position in task.positions)

    @property
    def waiting(self) -> int:
        """Number of tasks that wait for a retry."""
        return len(self._waiting)


class Verdict(Enum):
    """The kinds of decision on the error of a call."""

    RETRY = "retry"
    """The call is retried."""
    SPLIT = "split"
    """The rows of a batch are retried in halves, to find the failing ones."""
    COLLECT = "collect"
    """The error is recorded, and other rows continue."""
    RAISE = "raise"
    """The run ends."""


@dataclass(frozen=True, slots=True)
class ErrorDecision:
    """The decision on the error of a call, with the time of the next call."""

    verdict: Verdict
    not_before: float = 0.0
    """Earliest time of the next call, on the monotonic clock."""
    task: Task | None = None
    """The call to retry."""

    def repeats_call(self, failed: Task, error: RowError) -> bool:
        """Return whether the next call keeps the id, after an unknown outcome or throttling.

        Parameters
        ----------
        failed, error
            The call and its error.
        """
        return error.has_died or (self.task is not None and self.task.retries == failed.retries)


@dataclass
class FailurePolicy:
    """Applies a builder's policies to errors, and counts them."""

    policies: Policies
    stop_on: ErrorRules
    retry_on: ErrorRules
    builder: str
    counter: BuilderCounter = field(default_factory=lambda: BuilderCounter(0))
    """Counts the rows of this builder with a result or an error, in all attempts of this process."""
    process_id: str = ""
    """Id of the process in notes on errors."""
    failed_before: Collection[int] = ()
    """Rows that failed in an earlier attempt. They are tried last, in order, so that a repeated failure does not
    indicate an outage: they do not count as consecutive failures."""
    consecutive: int = field(default=0, init=False)
    """Failures in order of completion without a success in between."""
    last: tuple[Task, RowError] | None = field(default=None, init=False)
    """The last failed row of this attempt."""

    def succeed(self, rows: int) -> str | None:
        """Count rows with a result; return a note if a failure limit is exceeded.

        Earlier failures may exceed the share once it is checked for the first time.
        """
        if not rows:
            return None
        self.consecutive = 0
        if self.counter.failed and self._tried - rows < MINIMUM_FOR_SHARE <= self._tried:
            return self._exceeded(MINIMUM_FOR_SHARE)
        return None

    @property
    def _tried(self) -> int:
        return self.counter.computed + self.counter.failed

    def decide(self, task: Task, error: RowError, text: str, now: float) -> ErrorDecision:
        """Return the decision on the error of a call.

        Parameters
        ----------
        task
            The call; `seconds` and `first_call` are those after it.
        error
            Its error.
        text
            Text of the error, for the next call.
        now
            The monotonic clock.
        """
        if self.is_of_run(error):
            return ErrorDecision(Verdict.RAISE)
        again = self._retry(task, error, text, now)
        if again is not None:
            return again
        if not self.policies.collects:
            return ErrorDecision(Verdict.RAISE)
        return ErrorDecision(Verdict.SPLIT if len(task.positions) > 1 else Verdict.COLLECT)

    def is_of_run(self, error: RowError) -> bool:
        """Return whether an error ends the run in every failure mode: it is neither collected nor retried."""
        is_remote = self.policies.runs_elsewhere and not error.is_local
        return stops_run(error.error, is_remote) or self.stop_on.match(error)

    def reverts(self, error: RowError) -> bool:
        """Return whether an error that ends the run reverts the process even if its id is the user's."""
        return self.policies.reverts and not self.is_of_run(error)

    def _retry(self, task: Task, error: RowError, text: str, now: float) -> ErrorDecision | None:
        retry = self.policies.retry
        # `has_died`: two calls for these rows have already killed their workers.
        if not retry.max_retries or error.has_died or not self.retry_on.match(error):
            return None
        throttled = _is_throttled(error)
        if not throttled and task.retries >= retry.max_retries:
            return None
        wait = backoff(retry.wait, retry.max_wait, task.attempt if throttled else task.retries + 1)
        if throttled:
            wait = max(wait, told_wait(error.error) or 0.0)
        first_call = now if task.first_call is None else task.first_call
        if now + wait - first_call > retry.max_seconds:
            return None
        retries = task.retries + (not throttled)
        following = task._replace(attempt=task.attempt + 1, retries=retries, first_call=first_call, last_error=text)
        return ErrorDecision(Verdict.RETRY, now + wait, following)

    def wait_of_service(self, task: Task, error: RowError, decision: ErrorDecision, now: float) -> float | None:
        """Return how many seconds a service asked to pause all calls.

        Returns `None` if it did not.

        Parameters
        ----------
        task, error, decision
            The call, its error, and the decision on it.
        now
            The monotonic clock.
        """
        if not _is_throttled(error) or stops_run(error.error) or self.stop_on.match(error):
            return None
        if decision.verdict is Verdict.RETRY:
            return decision.not_before - now
        return max(backoff(self.policies.retry.wait, self.policies.retry.max_wait, 1), told_wait(error.error) or 0.0)

    def collect(self, task: Task, error: RowError) -> str | None:
        """Count a recorded failure; return a note if a limit is exceeded, else `None`."""
        self.last = task, error
        new = sum(position not in self.failed_before for position in task.positions)
        self.consecutive += new
        most = self.policies.max_consecutive_failures
        if new and most is not None and self.consecutive >= most:
            return self._note(f"{ordinal(self.consecutive)} consecutive failure in builder '{self.builder}'")
        return self._exceeded(self._tried)

    def _exceeded(self, tried: int) -> str | None:
        """Return the note about `max_failures` if it is exceeded."""
        limit, failed = self.policies.max_failures, self.counter.failed
        if isinstance(limit, Share):
            too_many = tried >= MINIMUM_FOR_SHARE and failed * 100 > limit.percent * tried
            allowed = f"{limit.percent} %"
        else:
            too_many, allowed = failed > limit, f"{limit:,}"
        if not too_many:
            return None
        return self._note(
            f"{failed:,} of {tried:,} tried rows failed in builder '{self.builder}', "
            f"whose max_failures allows {allowed}"
        )

    def _note(self, exceeded: str) -> str:
        kinds = sum(count > 0 for count in self.counter.errors.values())
        return (
            f"{exceeded}; {_counted(self.counter.computed, 'row')} {'is' if self.counter.computed == 1 else 'are'} "
            f"kept; get_errors(process_id='{self.process_id}') lists {_counted(self.counter.failed, 'error')} of "
            f"{_counted(kinds, 'kind')}"
        )


def _is_throttled(error: RowError) -> bool:
    return not error.is_invalid and not has_timed_out(error.error) and is_throttled(error.error)


def backoff(wait: float, max_wait: float, attempt: int) -> float:
    """Return the seconds of exponential back-off, bounded, with a random factor in [½, 1]."""
    # Larger exponents exceed any bound and would overflow.
    doubled = wait * 2.0 ** min(attempt - 1, 64)
    return min(max_wait, doubled) * random.uniform(0.5, 1.0)


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def ordinal(number: int) -> str:
    """Return a number as 1st, 2nd, 3rd, …"""
    if number % 100 in (11, 12, 13):
        return f"{number:,}th"
    return f"{number:,}{ {1: 'st', 2: 'nd', 3: 'rd'}.get(number % 10, 'th') }"
