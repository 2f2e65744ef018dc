"""Functions called once per builder, under its policies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from typing import TypeVar

from tablevault.builders.policies import Policies
from tablevault.errors import BudgetSpent
from tablevault.notes import add_note
from tablevault.ports import Ended, FunctionError, Interruptible, OpenFunction, Refused, RowExecutor
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.rows.calls import CallFacts
from tablevault.rows.coroutines import AsyncExecutor
from tablevault.rows.error_names import (
    RowError,
    TimedOut,
    error_of,
    has_timed_out,
    raised_message,
    stuck_text,
    timeout_text,
)
from tablevault.rows.functions import BuilderFunction
from tablevault.rows.gate import MAXIMUM_REFUSAL_SECONDS, CallGate
from tablevault.rows.opened import SnapshotFunction
from tablevault.rows.processes import ProcessExecutor
from tablevault.rows.pulled_rows import GeneratorOpener, RemoteRows
from tablevault.rows.schedule import FailurePolicy, Task, Verdict
from tablevault.rows.threads import InlineExecutor, ThreadExecutor
from tablevault.rows.usage_log import UsageLog
from tablevault.system import clock
from tablevault.values.processes import WHOLE_BUILDER

_MAXIMUM_WAIT = 0.1
"""Seconds between two checks for a stop request."""
_STOP_PATIENCE = 5.0
"""Seconds for a call in another thread to finish after a stop request."""

_WHOLE = (WHOLE_BUILDER,)
_ONLY_CALL = 1
"""The number shared by all calls that pull rows, so that the worker's files belong to one call."""

Arguments = Callable[[CallFacts], dict[str, object]]
"""Returns the arguments of a call; the function owns them."""

_Accepted = TypeVar("_Accepted")


class SinglePassage:
    """Passes the calls of one function through its gate, and counts their usage.

    Parameters
    ----------
    gate
        Admits calls; `None` if neither services nor budgets limit them.
    usage
        Accumulates their usage.
    owner
        Polled for stop requests.
    """

    def __init__(self, gate: CallGate | None, usage: UsageLog, owner: Interruptible) -> None:
        self._gate = gate
        self._usage = usage
        self._owner = owner

    def enter(self, number: int) -> None:
        """Wait until a call may begin.

        Raises
        ------
        FunctionError
            If a budget is spent.
        """
        if self._gate is None:
            return
        while True:
            admitted = self._gate.admit()
            if isinstance(admitted, BudgetSpent):
                raise FunctionError(admitted) from admitted
            if not isinstance(admitted, Refused):
                break
            until = clock.monotonic() + min(admitted.seconds, MAXIMUM_REFUSAL_SECONDS)
            while (left := until - clock.monotonic()) > 0:
                self._owner.raise_if_stopped()
                clock.sleep(min(left, _MAXIMUM_WAIT))
        self._gate.begin(number, admitted)
        self._usage.begin(_WHOLE)

    def leave(self, ended: Ended) -> None:
        """Add the usage of a call, if calls are counted or it reported any."""
        amounts = ended.usage or {}
        if self._gate is not None:
            self._gate.end(ended.number, amounts, ended.seconds)
            self._gate.look({})
        elif amounts:
            self._usage.begin(_WHOLE)
        else:
            return
        self._usage.end(_WHOLE, ended.seconds, amounts)

    def hold_back(self, seconds: float | None) -> None:
        """Block calls to the services in all processes for `seconds`; no-op for `None`."""
        if self._gate is not None and seconds is not None:
            self._gate.hold_back(seconds)
            self._gate.look({})

    def close(self) -> None:
        """Settle a call interrupted by an error."""
        if self._gate is not None:
            self._gate.close()


class SingleMeter:
    """Records the usage that a generator reports while its rows are read.

    Parameters
    ----------
    usage
        Accumulates the amounts.
    """

    def __init__(self, usage: UsageLog) -> None:
        self._usage = usage

    def add(self, amounts: dict[str, float]) -> None:
        """Add amounts to the usage of the builder."""
        if WHOLE_BUILDER not in self._usage.rows:
            self._usage.begin(_WHOLE)
        self._usage.end(_WHOLE, None, amounts)


def call_once(
    function: BuilderFunction,
    policies: Policies,
    open_function: OpenFunction,
    arguments: Arguments,
    owner: Interruptible,
    artifacts: InstanceArtifacts,
    count_failed: Callable[[], None],
    passage: SinglePassage,
    accept: Callable[[object], _Accepted],
) -> _Accepted:
    """Call a function until its result is accepted or its retries are exhausted.

    Parameters
    ----------
    function, policies
        The function of the builder, and its policies.
    open_function
        Returns the function for a worker.
    arguments
        Returns the arguments of each call.
    owner
        Polled for stop requests.
    artifacts
        Records the intervals of failed calls, which may have left files.
    count_failed
        Called for each call that ended without a result, unless it is retried under the same id.
    passage
        Admits the calls, and accumulates their usage.
    accept
        Converts the returned value; refuses it by raising `TypeError` or `ValueError`.

    Raises
    ------
    FunctionError
        For the exception of the last call, or the refusal of its result.
    """
    policy = FailurePolicy(policies, function.stop_on, function.retry_on, function.spec.name)
    executor = _executor(function, policies, open_function, owner, artifacts)
    note = f"raised by {function.spec.function_text}"
    task = Task((0,))
    try:
        while True:
            given = arguments(CallFacts(task.attempt, task.last_error))
            passage.enter(task.attempt)
            began = clock.monotonic()
            ended = _call(executor, task.attempt, given, function, policies.timeout, owner)
            passage.leave(ended)
            if type(ended.error) is FunctionError:
                raise ended.error
            try:
                if ended.error is None:
                    return accept(ended.value)
                error = error_of(ended, f"running {function.spec.function_text}")
            except (TypeError, ValueError) as refusal:
                error = RowError(refusal, is_invalid=True, result=ended.value, note="")
            except Exception:
                count_failed()
                raise
            first_call = began if task.first_call is None else task.first_call
            task = Task((0,), task.attempt, task.retries, first_call, task.seconds + ended.seconds)
            # Conversion of a refused result may have taken longer than the call.
            artifacts.doubt_call(clock.monotonic() - began, was_cancelled=has_timed_out(error.error))
            text = owner.secrets(raised_message(error.error))
            now = clock.monotonic()
            decision = policy.decide(task, error, text, now)
            passage.hold_back(policy.wait_of_service(task, error, decision, now))
            if not decision.repeats_call(task, error):
                count_failed()
            if decision.verdict is not Verdict.RETRY or decision.task is None:
                if error.note is None:
                    add_note(error.error, note)
                raise FunctionError(error.error, policy.reverts(error)) from error.error
            task = decision.task
            while (left := decision.not_before - clock.monotonic()) > 0:
                owner.raise_if_stopped()
                clock.sleep(min(left, _MAXIMUM_WAIT))
    finally:
        executor.close()
        passage.close()


def pull_rows(
    function: BuilderFunction,
    policies: Policies,
    open_function: SnapshotFunction,
    arguments: Mapping[str, object],
    owner: Interruptible,
    artifacts: InstanceArtifacts,
    passage: SinglePassage,
) -> RemoteRows:
    """Return an iterator over the rows of a generator in a Ray worker.

    Parameters
    ----------
    function, policies, owner, artifacts, passage
        As for `call_once`.
    open_function
        Returns the function for the worker.
    arguments
        Arguments of the generator.
    """
    executor = _executor(function, policies, GeneratorOpener(open_function), owner, artifacts)

    def pull(given: Mapping[str, object]) -> Ended:
        ended = _call(executor, _ONLY_CALL, dict(given), function, None, owner)
        passage.leave(ended)
        return ended

    return RemoteRows(pull, arguments, executor.close, function.spec.function_text)


def _executor(
    function: BuilderFunction,
    policies: Policies,
    open_function: OpenFunction,
    owner: Interruptible,
    artifacts: InstanceArtifacts,
) -> RowExecutor:
    if function.runs_on_ray:
        from tablevault.rows.on_ray import open_on_ray

        return open_on_ray(function, policies, open_function, owner, owner.secrets.add, artifacts, one_by_one=True)
    if function.runs_in_processes:
        return ProcessExecutor(1, open_function, owner.lock_descriptors, artifacts.doubt_call)
    if function.is_async:
        return AsyncExecutor(1, open_function, copies=False)
    return InlineExecutor(open_function) if policies.timeout is None else ThreadExecutor(1, open_function, copies=False)


def _call(
    executor: RowExecutor,
    number: int,
    arguments: dict[str, object],
    function: BuilderFunction,
    timeout: float | None,
    owner: Interruptible,
) -> Ended:
    """Make one call; abandon it if it times out."""
    stopped_at: float | None = None
    with contextlib.suppress(IndexError):
        executor.ended.popleft()
    executor.start(number, arguments)
    while not executor.ended:
        executor.wait(_MAXIMUM_WAIT)
        now = clock.monotonic()
        if timeout is not None and now - executor.begun.get(number, now) >= timeout and not executor.ended:
            usage = executor.reported(number)
            running = executor.abandon(number)
            error: Exception = TimedOut(timeout_text(function.spec, timeout))
            if running > 1:
                # More than the one that may run at a time: an error of the run, which is not retried.
                error.add_note(stuck_text(running))
                error = FunctionError(error)
            return Ended(number, None, error, timeout, usage=usage)
        if owner.stop_requested:
            stopped_at = now if stopped_at is None else stopped_at
            if now - stopped_at > _STOP_PATIENCE:
                owner.raise_if_stopped()
    return executor.ended.popleft()
