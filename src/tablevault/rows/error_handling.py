"""Error handling of calls by retrying, recording, or ending the run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from dataclasses import replace

from tablevault.notes import add_note
from tablevault.ports import FunctionError, Interruptible
from tablevault.rows.calls import FunctionCall
from tablevault.rows.error_names import RowError, has_timed_out, is_a, raised_message
from tablevault.rows.failures import describe_failure
from tablevault.rows.gate import CallGate
from tablevault.rows.schedule import FailurePolicy, Schedule, Task, Verdict
from tablevault.rows.table import RowTable
from tablevault.system import clock
from tablevault.texts.plain import Secrets


class ErrorHandler:
    """Applies a builder's error policies to its calls.

    Parameters
    ----------
    table
        Takes the records of failed rows.
    call
        The arguments of the function, which errors may quote.
    policy
        Decides on each error.
    schedule
        Queues the calls to retry.
    owner
        Registers secrets, which errors must not quote.
    gate
        Applies back-pressure from services; `None` if neither services nor budgets limit calls.
    joins_retries
        Whether rows that failed in the same way are retried together.
    """

    def __init__(
        self,
        table: RowTable,
        call: FunctionCall,
        policy: FailurePolicy,
        schedule: Schedule,
        owner: Interruptible,
        gate: CallGate | None,
        joins_retries: bool,
    ) -> None:
        self.failure: BaseException | None = None
        """The error that ends the run; `None` while it may continue."""
        self._table = table
        self._call = call
        self._policy = policy
        self._schedule = schedule
        self._owner = owner
        self._gate = gate
        self._joins_retries = joins_retries
        self._join_at: float | None = None
        """Time at which all failed rows of the current job are retried together."""
        self._told: list[tuple[str, str]] = []
        """Values of environment variables, as reported by workers."""

    def learn(self, values: Iterable[tuple[str, str]]) -> None:
        """Register secrets, each with its mark."""
        found = list(values)
        self._told.extend(found)
        self._owner.secrets.add(found)

    def expect_failures(self, rows: Iterable[int]) -> None:
        """Register rows that failed earlier, whose failures do not indicate an outage."""
        self._policy.failed_before = frozenset(rows)

    def begin_job(self) -> None:
        """Retry rows that fail from now on separately from earlier ones."""
        self._join_at = None

    def succeed(self, rows: int) -> None:
        """Count rows with a result; an exceeded failure limit ends the run."""
        exceeded = self._policy.succeed(rows)
        if exceeded is not None and self._policy.last is not None:
            task, error = self._policy.last
            add_note(error.error, exceeded)
            self.end(task, error)

    def fail(
        self,
        task: Task,
        error: RowError,
        given: Sequence[int] | None = None,
        is_setup: bool = False,
        was_called: bool = True,
    ) -> None:
        """Handle the error of a call as the policies decide.

        Parameters
        ----------
        task, error
            The failed rows with their call, and its error.
        given
            All rows of the call, which the error may quote; `None` for those of the task.
        is_setup
            Whether the function could not be opened.
        was_called
            Whether the function was called.
        """
        now = clock.monotonic()
        self._doubt_files(task, error, now)
        given = task.positions if given is None else given
        hide = Secrets()
        hide.add(self._secrets(given))
        text = hide(raised_message(error.error))
        decision = self._policy.decide(task, error, text, now)
        if self._gate is not None and not is_setup:
            wait = self._policy.wait_of_service(task, error, decision, now)
            if wait is not None:
                self._gate.hold_back(wait)
        if is_setup:
            decision = replace(decision, verdict=Verdict.RAISE)
        elif was_called and self._call.has_call_ids and not decision.repeats_call(task, error):
            for position in task.positions:
                self._table.count_call(position)
        match decision.verdict:
            case Verdict.COLLECT:
                if not collect_failure(self._table, self._policy, task, error, hide):
                    self.end(task, error, given)
            case Verdict.RAISE:
                self.end(task, error, given, is_of_run=is_setup or not was_called)
            case _ if self.failure is not None:
                # The run is ending; no further calls.
                pass
            case Verdict.RETRY if decision.task is not None:
                self._table.counter.retried += 1
                self._retry(decision.task, decision.not_before, is_alone=len(given) == len(task.positions))
            case _:
                middle = len(task.positions) // 2
                for half in (task.positions[:middle], task.positions[middle:]):
                    self._schedule.put(task._replace(positions=half, attempt=task.attempt + 1, last_error=text))

    def _retry(self, task: Task, not_before: float, is_alone: bool) -> None:
        """Queue a retry; `is_alone` if it has all rows of the failed call."""
        if self._joins_retries and not is_alone:
            # One job for all rows that failed in the same way, instead of one each.
            self._join_at = self._join_at or not_before
            task, not_before = task._replace(joins=True), self._join_at
        self._schedule.put(task, not_before)

    def _doubt_files(self, task: Task, error: RowError, now: float) -> None:
        """Record the interval of a failed try, which may have left orphaned files."""
        seconds = task.seconds if task.first_call is None else now - task.first_call
        self._table.artifacts.doubt_call(seconds, was_cancelled=has_timed_out(error.error))

    def end(self, task: Task, error: RowError, given: Sequence[int] | None = None, is_of_run: bool = False) -> None:
        """End the run with an error after the rows in flight; the first error wins.

        Parameters
        ----------
        task, error, given
            As for `fail`.
        is_of_run
            Whether the error is known not to be one of a row.
        """
        own_note = self.note(task.positions, given)
        note = own_note if error.note is None else error.note
        if not self._policy.policies.collects:
            self._table.counter.raised += is_a(error.error, Exception)
        if self.failure is not None:
            return
        if note:
            add_note(error.error, note)
        self.failure = FunctionError(error.error, reverts=not is_of_run and self._policy.reverts(error))
        self.failure.__cause__ = error.error

    def end_with(self, error: Exception) -> None:
        """End the run with an error of the run itself, after the rows in flight."""
        self.failure = FunctionError(error)
        self.failure.__cause__ = error

    def note(self, positions: Sequence[int], given: Sequence[int] | None = None) -> str:
        """Register the secrets that an error may quote, and return its note."""
        self._owner.secrets.add(self._secrets(positions if given is None else given))
        return f"raised by {self._table.spec.function_text} for {rows_text(positions)}"

    def _secrets(self, positions: Sequence[int]) -> list[tuple[str, str]]:
        """Return the secrets among the arguments of rows, each with its mark."""
        found = self._told.copy()
        if not self._call.has_secrets:
            return found
        for position in positions if self._table.spec.untracked else positions[:1]:
            with contextlib.suppress(Exception):
                found.extend(self._call.secrets(position))
        return found


def collect_failure(table: RowTable, policy: FailurePolicy, task: Task, error: RowError, hide: Secrets) -> bool:
    """Record the error of a call for its rows; return whether the run may continue.

    Parameters
    ----------
    table
        Takes the records.
    policy
        Counts the failed rows. An exceeded limit is noted on the error.
    task, error
        The call, and its error.
    hide
        Replaces secrets in the recorded texts.
    """
    failure = describe_failure(error, table.version, task.attempt, task.seconds, clock.time(), hide)
    for position in task.positions:
        table.fail(position, failure)
    if all(position in table.spared for position in task.positions):
        return True
    exceeded = policy.collect(task, error)
    if exceeded is None:
        return True
    add_note(error.error, exceeded)
    return False


def rows_text(positions: Sequence[int]) -> str:
    """Return the message text for rows, by their first and last position."""
    first, last = positions[0], positions[-1]
    return f"row {first}" if first == last else f"rows {first} to {last}"
