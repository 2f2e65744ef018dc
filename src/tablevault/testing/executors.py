"""Conformance checks of executors.

The called functions are defined at module level, since an executor may run them in another interpreter.
"""

from __future__ import annotations

import contextvars
import threading
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from tablevault.ports import CallGroup, Ended, OpenedFunction, OpenFunction, RowExecutor

MakeExecutor = Callable[[OpenFunction], RowExecutor]
ExecutorCheck = Callable[[MakeExecutor, Path], None]
"""A check; it receives an empty folder for its own use."""

_PATIENCE_SECONDS = 60.0
_SHORT_CALLS = 500
"""Number of short calls after which an executor prefetches calls, if it supports that."""
_RAISED = (ValueError, KeyError, OSError, RecursionError)
_variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@dataclass(frozen=True)
class _Opening:
    """Opens a function of this module, and records each open and close in a folder."""

    function: Callable[..., object]
    folder: Path

    def __call__(self) -> OpenedFunction:
        _note(self.folder, "opened")
        return _Opened(self.function, self.folder)


@dataclass(frozen=True)
class _Opened:
    call: Callable[..., object]
    folder: Path

    def close(self) -> None:
        """Record that the worker has closed its function."""
        _note(self.folder, "closed")


@dataclass(frozen=True)
class Awaited:
    """Opens a plain function as an async one, for executors of async functions."""

    open_function: OpenFunction

    def __call__(self) -> OpenedFunction:
        """Open the function."""
        return _OpenedAwaited(self.open_function())


@dataclass(frozen=True)
class _OpenedAwaited:
    opened: OpenedFunction

    async def call(self, **arguments: object) -> object:
        """Call the plain function."""
        return self.opened.call(**arguments)

    def close(self) -> object:
        """Close the plain function."""
        return self.opened.close()


def _note(folder: Path, what: str) -> None:
    (folder / f"{what}.{uuid.uuid4().hex}").touch()


def _noted(folder: Path) -> list[str]:
    """Return the records in a folder."""
    return sorted(path.stem for path in folder.iterdir())


def _double(task: int) -> int:
    return 2 * task


def _fail(task: int) -> int:
    if task < len(_RAISED):
        raise _RAISED[task](f"task {task}")
    return task


def _grow(task: int, seen: list[int]) -> list[int]:
    seen.append(task)
    return seen


def _read_variable() -> str:
    return _variable.get()


def _fail_or_wait(seen: threading.Event | None) -> None:
    if seen is None:
        raise KeyError("the first call")
    seen.wait(_PATIENCE_SECONDS)


def _note_task(task: int, folder: str) -> None:
    _note(Path(folder), f"task{task}")


def _run(
    make: MakeExecutor, opening: _Opening, tasks: Mapping[int, Mapping[str, object]], together: int = 1
) -> dict[int, Ended]:
    """Run calls like an executor's owner, and return their outcomes by number.

    Consecutive calls are started in groups of up to `together`.
    """
    executor = make(opening)
    ended: dict[int, Ended] = {}
    waiting = list(tasks.items())
    in_flight: set[int] = set()
    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < executor.workers and not executor.ended:
                given = waiting[: min(together, executor.workers - len(in_flight))]
                del waiting[: len(given)]
                in_flight.update(number for number, _ in given)
                if together == 1:
                    executor.start(*given[0])
                else:
                    executor.start_together(_grouped(given))
            executor.wait(_PATIENCE_SECONDS)
            while executor.ended:
                item = executor.ended.popleft()
                assert item.number not in ended, f"call {item.number} ended twice"
                ended[item.number] = item
                in_flight.discard(item.number)
    finally:
        executor.close()
    return ended


def _grouped(calls: Sequence[tuple[int, Mapping[str, object]]]) -> CallGroup:
    numbers = range(calls[0][0], calls[-1][0] + 1)
    names = tuple(calls[0][1])
    return CallGroup(numbers, names, tuple([arguments[name] for _, arguments in calls] for name in names))


def every_call_ends_once(make: MakeExecutor, folder: Path) -> None:
    """Each call appears in `ended` exactly once, with its value.

    This holds for single and grouped starts. Calls have no error.
    """
    for together in (1, 7):
        ended = _run(make, _Opening(_double, folder), {task: {"task": task} for task in range(100)}, together)
        assert {number: (item.value, item.error) for number, item in ended.items()} == {
            task: (2 * task, None) for task in range(100)
        }


def calls_share_no_arguments(make: MakeExecutor, folder: Path) -> None:
    """Calls of a group have separate arguments of any type, or no arguments."""
    tasks = {task: {"task": task, "seen": [task, "ä\udc80"]} for task in range(60)}
    ended = _run(make, _Opening(_grow, folder), tasks, together=20)
    assert {number: item.value for number, item in ended.items()} == {
        task: [task, "ä\udc80", task] for task in range(60)
    }
    ended = _run(make, _Opening(_read_variable, folder), {task: {} for task in range(30)}, together=20)
    assert {number: item.error for number, item in ended.items()} == dict.fromkeys(range(30))


def errors_are_outcomes(make: MakeExecutor, folder: Path) -> None:
    """An exception becomes the outcome of its call, with traceback, and does not affect other calls."""
    for together in (1, 8):
        ended = _run(make, _Opening(_fail, folder), {task: {"task": task} for task in range(8)}, together)
        for task, kind in enumerate(_RAISED):
            item = ended[task]
            assert item.value is None
            assert type(item.error) is kind
            assert f"task {task}" in str(item.error)
            assert _deepest_function(item.error) == "_fail"
        assert all((ended[task].value, ended[task].error) == (task, None) for task in range(len(_RAISED), 8))


def waiting_ends_with_the_time(make: MakeExecutor, folder: Path) -> None:
    """`wait` returns after its timeout if no call has ended."""
    executor = make(_Opening(_double, folder))
    executor.wait(0.01)
    assert not executor.ended
    executor.close()


def context_is_that_of_the_owner(make: MakeExecutor, folder: Path) -> None:
    """Functions see the context variables at the executor's creation."""

    def run() -> None:
        _variable.set("set")
        ended = _run(make, _Opening(_read_variable, folder), {task: {} for task in range(20)})
        assert {item.value for item in ended.values()} == {"set"}

    contextvars.copy_context().run(run)


def each_worker_closes_its_function(make: MakeExecutor, folder: Path) -> None:
    """Each worker closes the function that it opened; an unused executor opens none."""
    executor = make(_Opening(_double, folder))
    executor.close()
    assert _noted(folder) == []
    executor = make(_Opening(_double, folder))
    calls = executor.workers
    for number in range(calls):
        executor.start(number, {"task": number})
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(executor.ended) < calls and time.monotonic() < deadline:
        executor.wait(0.05)
    executor.close()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while (noted := _noted(folder)).count("closed") < noted.count("opened") and time.monotonic() < deadline:
        time.sleep(0.01)
    assert noted.count("closed") == noted.count("opened") > 0


def cancelled_calls_never_run(make: MakeExecutor, folder: Path) -> None:
    """A cancelled call is no longer in flight, and never runs."""
    tasks = folder / "tasks"
    tasks.mkdir()
    executor = make(_Opening(_note_task, folder))
    calls = range(executor.workers)
    for number in calls:
        executor.start(number, {"task": number, "folder": str(tasks)})
    cancelled = executor.cancel_waiting()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(executor.ended) < len(calls) - len(cancelled) and time.monotonic() < deadline:
        executor.wait(0.05)
    ended = {item.number for item in executor.ended}
    executor.close()
    assert ended == set(calls) - cancelled
    assert _noted(tasks) == [f"task{number}" for number in sorted(ended)]


def no_call_begins_after_a_failure(make: MakeExecutor, folder: Path) -> None:
    """After a failed call, prefetched calls begin only if the owner handles it and continues."""
    executor, seen = make(_Opening(_fail_or_wait, folder)), threading.Event()
    places, first_number = executor.workers, 0
    deadline = time.monotonic() + _PATIENCE_SECONDS
    seen.set()
    while executor.workers <= 2 * places and first_number < _SHORT_CALLS:
        executor.start(first_number, {"seen": seen})
        first_number += 1
        while not executor.ended:
            executor.wait(0.05)
        executor.ended.clear()
    seen.clear()
    calls = range(first_number, first_number + executor.workers)
    for number in calls:
        executor.start(number, {"seen": None if number == first_number else seen})
    while not executor.ended and time.monotonic() < deadline:
        executor.wait(0.05)
    assert [item.number for item in executor.ended] == [first_number]
    seen.set()
    while any(number in executor.begun for number in calls) and time.monotonic() < deadline:
        executor.wait(0.05)
    assert len(executor.ended) <= places
    executor.ended.clear()
    begun = len(calls) - sum(map(executor.knows, calls))
    assert begun <= places
    ended = 0
    while ended < len(calls) - begun and time.monotonic() < deadline:
        executor.wait(0.05)
        while executor.ended:
            assert executor.ended.popleft().error is None
            ended += 1
    executor.close()
    assert ended == len(calls) - begun


def calls_are_known_until_they_are_taken_over(make: MakeExecutor, folder: Path) -> None:
    """A call is known from its start until it is cancelled or removed from `ended`."""
    executor = make(_Opening(_double, folder))
    assert not executor.knows(0)
    executor.start(0, {"task": 0})
    assert executor.knows(0)
    assert not executor.knows(1)
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not executor.ended and time.monotonic() < deadline:
        assert executor.knows(0)
        executor.wait(0.05)
    assert executor.knows(0)
    executor.ended.popleft()
    while executor.knows(0) and time.monotonic() < deadline:
        time.sleep(0.005)
    assert not executor.knows(0)
    executor.start(1, {"task": 1})
    for number in executor.cancel_waiting():
        assert not executor.knows(number)
    executor.close()


def nothing_outlives_its_executor(make: MakeExecutor, folder: Path) -> None:
    """A closed or garbage-collected executor leaves no threads or processes behind."""
    before = _threads_and_processes()
    _run(make, _Opening(_double, folder), {task: {"task": task} for task in range(50)})
    _wait_for_threads_and_processes(before)
    dropped = make(_Opening(_double, folder))
    dropped.start(0, {"task": 1})
    dropped.wait(_PATIENCE_SECONDS)
    del dropped
    _wait_for_threads_and_processes(before)


def _threads_and_processes() -> int:
    return threading.active_count() + len(psutil.Process().children())


def _wait_for_threads_and_processes(count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while _threads_and_processes() > count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert _threads_and_processes() <= count


def _deepest_function(error: BaseException | None) -> str | None:
    traceback = error.__traceback__ if error is not None else None
    name = None
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_name
        traceback = traceback.tb_next
    return name


EXECUTOR_CHECKS: tuple[ExecutorCheck, ...] = (
    every_call_ends_once,
    calls_share_no_arguments,
    errors_are_outcomes,
    waiting_ends_with_the_time,
    each_worker_closes_its_function,
    cancelled_calls_never_run,
    calls_are_known_until_they_are_taken_over,
    nothing_outlives_its_executor,
)
"""Checks of the `tablevault.ports.RowExecutor` contract that apply to all executors."""

LOCAL_EXECUTOR_CHECKS: tuple[ExecutorCheck, ...] = (
    *EXECUTOR_CHECKS,
    context_is_that_of_the_owner,
    no_call_begins_after_a_failure,
)
"""`EXECUTOR_CHECKS`, and checks for executors that run calls in the owner's interpreter."""
