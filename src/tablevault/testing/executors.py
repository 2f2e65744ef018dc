"""What every way of running rows side by side must do."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tablevault.ports import Ended, OpenFunction, RowExecutor

MakeExecutor = Callable[[OpenFunction], RowExecutor]
ExecutorCheck = Callable[[MakeExecutor], None]

_PATIENCE_SECONDS = 10.0


@dataclass
class _Opened:
    call: Callable[..., object]
    closed: list[str]

    def close(self) -> None:
        """Note that the worker has closed its function."""
        self.closed.append(threading.current_thread().name)


def _run(
    make: MakeExecutor, function: Callable[..., object], tasks: Mapping[int, Mapping[str, object]]
) -> dict[int, Ended]:
    """Run calls through an executor as its owner does, and return how each ended."""
    executor = make(lambda: _Opened(function, []))
    ended: dict[int, Ended] = {}
    waiting = list(tasks.items())
    in_flight: set[int] = set()
    try:
        while waiting or in_flight:
            while waiting and len(in_flight) < executor.workers and not executor.ended:
                number, arguments = waiting.pop(0)
                in_flight.add(number)
                executor.start(number, arguments)
            executor.wait(_PATIENCE_SECONDS)
            while executor.ended:
                item = executor.ended.popleft()
                assert item.number not in ended, f"call {item.number} ended twice"
                ended[item.number] = item
                in_flight.discard(item.number)
    finally:
        executor.close()
    return ended


def _double(task: int) -> int:
    return 2 * task


def every_call_ends_once(make: MakeExecutor) -> None:
    """Each call appears in `ended` once, with its value and no error."""
    ended = _run(make, _double, {task: {"task": task} for task in range(100)})
    assert {number: (item.value, item.error) for number, item in ended.items()} == {
        task: (2 * task, None) for task in range(100)
    }


def errors_are_outcomes(make: MakeExecutor) -> None:
    """Whatever a function raises is its call's error, with its traceback; other calls are not touched."""
    raised = (ValueError, KeyError, OSError, RecursionError)

    def fail(task: int) -> int:
        if task < len(raised):
            raise raised[task](f"task {task}")
        return task

    ended = _run(make, fail, {task: {"task": task} for task in range(8)})
    for task, kind in enumerate(raised):
        item = ended[task]
        assert item.value is None
        assert type(item.error) is kind
        assert f"task {task}" in str(item.error)
        assert _deepest_function(item.error) == "fail"
    assert all((ended[task].value, ended[task].error) == (task, None) for task in range(len(raised), 8))


def waiting_ends_with_the_time(make: MakeExecutor) -> None:
    """`wait` returns after its seconds if no call has ended."""
    executor = make(lambda: _Opened(_double, []))
    executor.wait(0.01)
    assert not executor.ended
    executor.close()


def context_is_that_of_the_owner(make: MakeExecutor) -> None:
    """A function sees the context variables that were set when the executor was made."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def read() -> str:
        return variable.get()

    def run() -> None:
        variable.set("set")
        assert {item.value for item in _run(make, read, {task: {} for task in range(20)}).values()} == {"set"}

    contextvars.copy_context().run(run)


def each_worker_closes_its_function(make: MakeExecutor) -> None:
    """A function that was opened is closed by the worker that opened it; an unused executor opens none."""
    opened: list[str] = []
    closed: list[str] = []

    def open_function() -> _Opened:
        opened.append(threading.current_thread().name)
        return _Opened(_double, closed)

    executor = make(open_function)
    executor.close()
    assert opened == []
    executor = make(open_function)
    for number in range(executor.workers):
        executor.start(number, {"task": number})
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(executor.ended) < executor.workers and time.monotonic() < deadline:
        executor.wait(0.05)
    executor.close()
    while len(closed) < len(opened) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert sorted(closed) == sorted(opened) != []


def cancelled_calls_never_run(make: MakeExecutor) -> None:
    """A call that was taken back is not in flight any more, and does not run."""
    ran: list[int] = []
    executor = make(lambda: _Opened(ran.append, []))
    for number in range(executor.workers):
        executor.start(number, {})
    cancelled = executor.cancel_waiting()
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(executor.ended) < executor.workers - len(cancelled) and time.monotonic() < deadline:
        executor.wait(0.05)
    assert {item.number for item in executor.ended} == set(range(executor.workers)) - cancelled
    executor.close()


def no_thread_outlives_its_executor(make: MakeExecutor) -> None:
    """A closed executor, and one that was dropped, leave no threads behind."""
    before = threading.active_count()
    _run(make, _double, {task: {"task": task} for task in range(50)})
    _wait_for_threads(before)
    dropped = make(lambda: _Opened(_double, []))
    dropped.start(0, {"task": 1})
    dropped.wait(_PATIENCE_SECONDS)
    del dropped
    _wait_for_threads(before)


def _wait_for_threads(count: int) -> None:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while threading.active_count() > count and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() <= count


def _deepest_function(error: BaseException | None) -> str | None:
    traceback = error.__traceback__ if error is not None else None
    name = None
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_name
        traceback = traceback.tb_next
    return name


EXECUTOR_CHECKS: tuple[ExecutorCheck, ...] = (
    every_call_ends_once,
    errors_are_outcomes,
    waiting_ends_with_the_time,
    context_is_that_of_the_owner,
    each_worker_closes_its_function,
    cancelled_calls_never_run,
    no_thread_outlives_its_executor,
)
"""Every promise of `tablevault.ports.RowExecutor` that holds whatever runs the calls."""
