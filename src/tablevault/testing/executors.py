"""What every way of running rows side by side must do."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator

from tablevault.ports import Executor

MakeExecutor = Callable[[], Executor]
ExecutorCheck = Callable[[MakeExecutor], None]

_PATIENCE_SECONDS = 10.0


def _double(task: int) -> int:
    return 2 * task


def every_task_has_one_outcome(make: MakeExecutor) -> None:
    """Each task is handed back once, with its result and no error."""
    outcomes = list(make().map(_double, range(100)))
    assert sorted(outcomes, key=lambda outcome: outcome[0]) == [(task, 2 * task, None) for task in range(100)]


def no_tasks_end_at_once(make: MakeExecutor) -> None:
    """A run without tasks is exhausted from the start, and stays so."""
    tasks: list[int] = []
    run = make().map(_double, tasks)
    assert next(run, None) is None
    assert next(run, None) is None
    assert list(run.drain(0.0)) == []


def errors_are_outcomes(make: MakeExecutor) -> None:
    """Whatever a function raises is its task's error, with its traceback; the other tasks are not touched."""
    raised = (ValueError, KeyboardInterrupt, SystemExit, StopIteration, GeneratorExit)

    def fail(task: int) -> int:
        if task < len(raised):
            raise raised[task](f"task {task}")
        return task

    outcomes = {task: (result, error) for task, result, error in make().map(fail, range(8))}
    assert sorted(outcomes) == list(range(8))
    for task, kind in enumerate(raised):
        result, error = outcomes[task]
        assert result is None
        assert type(error) is kind
        assert str(error) == f"task {task}"
        assert _deepest_function(error) == "fail"
    assert all(outcomes[task] == (task, None) for task in range(len(raised), 8))


def tasks_are_taken_only_when_they_start(make: MakeExecutor) -> None:
    """While every place is taken by a task that runs, no further task is taken from the iterator."""
    taken: list[int] = []
    running = threading.Semaphore(0)
    gate = threading.Event()

    def tasks() -> Iterator[int]:
        for task in range(100):
            taken.append(task)
            yield task
            assert running.acquire(timeout=_PATIENCE_SECONDS), f"task {task} was taken, but does not start"

    def wait(task: int) -> int:
        running.release()
        assert gate.wait(_PATIENCE_SECONDS)
        return task

    outcomes: list[tuple[int, int | None, BaseException | None]] = []
    caller = threading.Thread(target=lambda: outcomes.extend(make().map(wait, tasks())))
    caller.start()
    time.sleep(0.1)  # Nothing tells that something does not happen but time.
    early = len(taken)
    time.sleep(0.1)
    assert len(taken) == early < 100, "tasks are taken although none has ended"
    gate.set()
    caller.join()
    assert sorted(outcomes) == [(task, task, None) for task in range(100)]


def tasks_are_not_taken_before_they_are_asked_for(make: MakeExecutor) -> None:
    """What the caller learns from an outcome decides whether there is another task: nothing starts after an error."""
    executor = make()
    seen_error = False
    started_late: list[int] = []

    def tasks() -> Iterator[int]:
        task = 0
        while not seen_error:
            yield task
            task += 1

    def fail_third(task: int) -> int:
        if seen_error:
            started_late.append(task)
        if task == 3:
            raise ValueError("third")
        return task

    for _, _, error in executor.map(fail_third, tasks()):
        seen_error = seen_error or error is not None
    assert seen_error
    assert not started_late


def errors_of_the_task_iterator_escape(make: MakeExecutor) -> None:
    """An error of the iterator that the tasks come from is the caller's; what had started is still handed over."""

    def tasks() -> Iterator[int]:
        yield 1
        raise LookupError("no more")

    run = make().map(_double, tasks())
    outcomes: list[tuple[int, int | None, BaseException | None]] = []
    error: LookupError | None = None
    try:
        outcomes.extend(run)
    except LookupError as raised:
        error = raised
    outcomes.extend(run.drain(_PATIENCE_SECONDS))
    assert str(error) == "no more"
    assert outcomes == [(1, 2, None)]


def a_drained_run_is_exhausted(make: MakeExecutor) -> None:
    """Draining starts nothing, hands over what is in flight, and leaves nothing to iterate over."""
    taken: list[int] = []

    def tasks() -> Iterator[int]:
        for task in range(1000):
            taken.append(task)
            yield task

    run = make().map(_double, tasks())
    outcomes = [next(run)]
    count = len(taken)
    outcomes += run.drain(_PATIENCE_SECONDS)
    assert len(taken) == count
    assert sorted(task for task, _, _ in outcomes) == taken
    assert next(run, None) is None
    assert list(run.drain(_PATIENCE_SECONDS)) == []


def context_is_that_of_the_caller(make: MakeExecutor) -> None:
    """A function sees the context variables that were set when the run was started."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    def read(_: int) -> str:
        return variable.get()

    def run() -> None:
        variable.set("set")
        assert {result for _, result, _ in make().map(read, range(20))} == {"set"}

    contextvars.copy_context().run(run)


def no_thread_outlives_its_run(make: MakeExecutor) -> None:
    """An exhausted run, and one that was given up, leave no threads behind."""
    before = threading.active_count()
    assert sum(1 for _ in make().map(_double, range(50))) == 50
    assert threading.active_count() == before
    given_up = make().map(_double, range(50))
    next(given_up)
    del given_up
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while threading.active_count() > before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert threading.active_count() == before


def _deepest_function(error: BaseException | None) -> str | None:
    traceback = error.__traceback__ if error is not None else None
    name = None
    while traceback is not None:
        name = traceback.tb_frame.f_code.co_name
        traceback = traceback.tb_next
    return name


EXECUTOR_CHECKS: tuple[ExecutorCheck, ...] = (
    every_task_has_one_outcome,
    no_tasks_end_at_once,
    errors_are_outcomes,
    tasks_are_taken_only_when_they_start,
    tasks_are_not_taken_before_they_are_asked_for,
    errors_of_the_task_iterator_escape,
    a_drained_run_is_exhausted,
    context_is_that_of_the_caller,
    no_thread_outlives_its_run,
)
"""Every promise of `tablevault.ports.Executor` and `RowRun` that holds whatever runs the rows."""
