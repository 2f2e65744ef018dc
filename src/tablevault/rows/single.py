"""Calling a function that is called once for its builder, under its policies."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NoReturn

from tablevault import clock
from tablevault.builders.policies import Policies
from tablevault.notes import add_note, message_of
from tablevault.ports import Ended, FunctionError, Interruptible, OpenFunction, RowExecutor
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.rows.calls import CallFacts
from tablevault.rows.coroutines import AsyncExecutor
from tablevault.rows.error_names import TimedOut, error_of, is_a, timeout_text
from tablevault.rows.functions import BuilderFunction
from tablevault.rows.processes import ProcessExecutor
from tablevault.rows.schedule import FailurePolicy, Task, Verdict
from tablevault.rows.threads import InlineExecutor, ThreadExecutor

_LONGEST_WAIT = 0.1
"""Seconds between two looks whether a stop was requested."""
_STOP_PATIENCE = 5.0
"""Seconds that a call in another thread has after a stop was requested."""

Arguments = Callable[[CallFacts], dict[str, object]]
"""Returns the arguments of a call; the function owns them."""


def call_once(
    function: BuilderFunction,
    policies: Policies,
    open_function: OpenFunction,
    arguments: Arguments,
    owner: Interruptible,
    artifacts: InstanceArtifacts,
    count_failed: Callable[[], None],
) -> object:
    """Call a function until it returns, or fails for good.

    Parameters
    ----------
    function, policies
        The function of the builder, and how it is run.
    open_function
        Returns the function for a worker.
    arguments
        Returns the arguments of each call.
    owner
        May be asked to stop.
    artifacts
        Is told when calls that failed may have left files.
    count_failed
        Is called for each call that ended without a result, unless it is going to be made again as the same call.

    Raises
    ------
    FunctionError
        For the exception of the last call.
    """
    policy = FailurePolicy(policies, function.stop_on, function.retry_on, function.spec.name)
    executor = _executor(function, policies, open_function, owner)
    note = f"raised by {function.spec.function_text}"
    task = Task((0,))
    try:
        while True:
            given = arguments(CallFacts(task.attempt, task.last_error))
            began = clock.monotonic()
            ended = _call(executor, task.attempt, given, function, policies.timeout, owner)
            if ended.error is None:
                return ended.value
            if type(ended.error) is FunctionError:
                raise ended.error
            first_call = began if task.first_call is None else task.first_call
            task = Task((0,), task.attempt, task.retries, first_call, task.seconds + ended.seconds)
            error = error_of(ended, f"running {function.spec.function_text}")
            artifacts.doubt_call(ended.seconds, was_cancelled=is_a(error.error, TimedOut))
            text = owner.secrets(message_of(error.error))
            decision = policy.decide(task, error, text, clock.monotonic())
            if not decision.repeats_call(task, error):
                count_failed()
            if decision.verdict is not Verdict.RETRY or decision.task is None:
                _raise(error.error, note, policies)
            task = decision.task
            while (left := decision.not_before - clock.monotonic()) > 0:
                owner.raise_if_stopped()
                clock.sleep(min(left, _LONGEST_WAIT))
    finally:
        executor.close()


def _raise(error: BaseException, note: str, policies: Policies) -> NoReturn:
    add_note(error, note)
    raise FunctionError(error, policies.on_error == "revert") from error


def _executor(
    function: BuilderFunction, policies: Policies, open_function: OpenFunction, owner: Interruptible
) -> RowExecutor:
    if function.runs_in_processes:
        return ProcessExecutor(1, open_function, owner.lock_descriptors)
    if function.is_async:
        return AsyncExecutor(1, open_function)
    return InlineExecutor(open_function) if policies.timeout is None else ThreadExecutor(1, open_function)


def _call(
    executor: RowExecutor,
    number: int,
    arguments: dict[str, object],
    function: BuilderFunction,
    timeout: float | None,
    owner: Interruptible,
) -> Ended:
    """Make one call; one that takes too long is given up."""
    stopped_at: float | None = None
    with contextlib.suppress(IndexError):
        executor.ended.popleft()
    executor.start(number, arguments)
    while not executor.ended:
        executor.wait(_LONGEST_WAIT)
        now = clock.monotonic()
        if timeout is not None and now - executor.begun.get(number, now) >= timeout and not executor.ended:
            executor.abandon(number)
            return Ended(number, None, TimedOut(timeout_text(function.spec, timeout)), timeout)
        if owner.stop_requested:
            stopped_at = now if stopped_at is None else stopped_at
            if now - stopped_at > _STOP_PATIENCE:
                owner.raise_if_stopped()
    return executor.ended.popleft()
