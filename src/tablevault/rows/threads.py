"""Runs rows side by side in threads of this interpreter."""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from queue import Empty, SimpleQueue
from typing import Generic, NoReturn, TypeVar

from tablevault import clock
from tablevault.ports import CAME_BACK_IN_CHILD, FunctionError, RowRun

Task = TypeVar("Task")
Result = TypeVar("Result")


class ThreadExecutor:
    """Runs up to `n_threads` tasks at a time.

    The threads are daemons: a function that never returns does not keep the interpreter alive. Each task runs in a
    copy of the context (`contextvars`) in which `map` was called.
    """

    def __init__(self, n_threads: int) -> None:
        if n_threads < 1:
            raise ValueError(f"n_threads must be at least 1, not {n_threads}")
        self._n_threads = n_threads

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> RowRun[Task, Result]:
        """Start running `function` over `tasks`."""
        return _ThreadRun(_Crew(function), iter(tasks), self._n_threads)


class _Crew(Generic[Task, Result]):
    """What the threads of a run share. It does not refer to the run, so that a run nobody wants any more can end it.

    Of the standard library's queues only `SimpleQueue` stays usable whatever place an interrupt hits.
    """

    def __init__(self, function: Callable[[Task], Result]) -> None:
        self.tasks: dict[int, tuple[Task]] = {}
        """Those that no thread has begun, by their numbers; wrapped, since a task may be anything."""
        self.orders: SimpleQueue[int | None] = SimpleQueue()
        """Numbers of tasks to begin, if nobody has; `None` ends one thread."""
        self.outcomes: deque[tuple[Task, Result | None, BaseException | None]] = deque()
        self.news: SimpleQueue[None] = SimpleQueue()
        """Wakes whoever waits for outcomes; one `None` per outcome, or fewer after an interrupt."""
        self.threads: list[threading.Thread] = []
        self._function = function
        self._context = contextvars.copy_context()
        self._made_by = os.getpid()

    def grow(self) -> None:
        """Add a thread."""
        thread = threading.Thread(target=self._work, name=f"tablevault-row-{len(self.threads)}", daemon=True)
        # Known before it runs: of a thread that an interrupt left out of the list nobody would know that it is to end.
        self.threads.append(thread)
        thread.start()

    def dismiss(self) -> None:
        """Let every thread end when it is free."""
        for _ in self.threads:
            self.orders.put(None)

    def _work(self) -> None:
        while (number := self.orders.get()) is not None:
            wrapped = self.tasks.pop(number, None)
            if wrapped is not None:
                outcome = self._outcome(*wrapped)
                if os.getpid() != self._made_by:
                    _end_child(outcome[2])
                self.outcomes.append(outcome)
                self.news.put(None)
            del wrapped  # Else an idle thread would keep its last task alive.

    def _outcome(self, task: Task) -> tuple[Task, Result | None, BaseException | None]:
        try:
            return task, self._context.copy().run(self._function, task), None
        except BaseException as error:  # noqa: BLE001  (whatever it is, it is the outcome)
            return task, None, error


def _end_child(error: BaseException | None) -> NoReturn:
    """End a child that a function forked in a thread, and that came back from it: its parent may wait for that.

    It has no other thread, so that nobody would ever give it another row.
    """
    status = 1
    error = error.original if isinstance(error, FunctionError) else error
    with contextlib.suppress(BaseException):
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        else:
            print(CAME_BACK_IN_CHILD, file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    os._exit(status & 0xFF)


class _ThreadRun(Generic[Task, Result]):
    def __init__(self, crew: _Crew[Task, Result], tasks: Iterator[Task], n_threads: int) -> None:
        self._crew = crew
        self._tasks: Iterator[Task] | None = tasks
        self._n_threads = n_threads
        self._started = 0
        """How many tasks have been given to the crew."""
        self._gone = 0
        """How many of them nobody waits for any more: handed over, or given up."""
        self._is_first_seen = False
        """Whether the first of the crew's outcomes has been handed over. It is removed one step later: so an interrupt
        on the way to the caller does not lose it."""
        self._dismiss = weakref.finalize(self, crew.dismiss)
        self._dismiss.atexit = False

    def __iter__(self) -> Iterator[tuple[Task, Result | None, BaseException | None]]:
        return self

    def __next__(self) -> tuple[Task, Result | None, BaseException | None]:
        self._forget_seen()
        self._start_tasks()
        if not self._awaited:
            if self._dismiss.alive:
                self._end()
            raise StopIteration
        while not self._crew.outcomes:
            self._crew.news.get()
        outcome = self._crew.outcomes[0]
        self._is_first_seen = True
        return outcome

    def drain(self, timeout: float | None) -> Iterator[tuple[Task, Result | None, BaseException | None]]:
        self._tasks = None
        self._order_again()
        deadline = None if timeout is None else clock.monotonic() + timeout
        self._forget_seen()
        while self._awaited:
            if self._crew.outcomes:
                self._is_first_seen = True
                yield self._crew.outcomes[0]
                self._forget_seen()
                continue
            try:
                self._crew.news.get(timeout=None if deadline is None else max(0.0, deadline - clock.monotonic()))
            except Empty:
                if not self._crew.outcomes:
                    # What is still at work is given up.
                    self._gone = self._started
                    self._dismiss()
        if self._dismiss.alive:
            self._end()

    @property
    def _awaited(self) -> int:
        """How many tasks were given to the crew whose outcomes have not been handed over."""
        return self._started - self._gone

    def _order_again(self) -> None:
        """Order what no thread has begun: an interrupt may have come before it was, and nobody would ever begin it."""
        for number in list(self._crew.tasks):
            if number < self._started:
                self._crew.orders.put(number)

    def _forget_seen(self) -> None:
        if self._is_first_seen:
            self._is_first_seen = False
            self._gone += 1
            self._crew.outcomes.popleft()

    def _start_tasks(self) -> None:
        """Start a task in every free thread, unless an error waits to be seen: the caller may want no more."""
        while self._tasks is not None and self._free_threads() and not self._error_waits():
            try:
                task = next(self._tasks)
            except StopIteration:
                self._tasks = None
                return
            if len(self._crew.threads) < self._n_threads and self._awaited >= len(self._crew.threads):
                self._crew.grow()
            number = self._started
            self._crew.tasks[number] = (task,)
            self._started = number + 1
            self._crew.orders.put(number)

    def _free_threads(self) -> int:
        return self._n_threads - (self._awaited - len(self._crew.outcomes))

    def _error_waits(self) -> bool:
        return any(error is not None for _, _, error in tuple(self._crew.outcomes))

    def _end(self) -> None:
        """Release the threads, all of which are idle."""
        self._tasks = None
        self._dismiss()
        for thread in self._crew.threads:
            if thread.is_alive():
                thread.join()
