"""Runs calls in the caller's thread, or side by side in threads of this interpreter."""

from __future__ import annotations

import contextlib
import contextvars
import os
import threading
import weakref
from collections import deque
from collections.abc import Iterable, Mapping
from queue import SimpleQueue

from tablevault.ports import CallGroup, Ended, OpenFunction
from tablevault.rows.call_measure import CallMeasure
from tablevault.rows.forked import end_child
from tablevault.rows.usage import CallMeter, Metered, meter_context
from tablevault.rows.wakeup import Wakeup
from tablevault.storage.vectors import copied_result
from tablevault.system import clock

_NOT_CALLED = float("inf")
"""Start of a call whose function is being opened."""


class InlineExecutor:
    """Runs one call at a time, in the thread that starts it."""

    workers = 1
    waiting = ""

    def __init__(self, open_function: OpenFunction) -> None:
        self.ended: deque[Ended] = deque()
        self._open = open_function
        self._close = contextlib.ExitStack()
        self._function: object = None

    @property
    def begun(self) -> Mapping[int, float]:
        """Empty, since every started call has ended."""
        return {}

    def start(self, number: int, arguments: Mapping[str, object]) -> None:
        """Run a call to completion."""
        began, meter = clock.monotonic(), CallMeter()
        value: object = None
        failure: BaseException | None = None
        try:
            if self._function is None:
                function = self._open()
                self._close.callback(function.close)
                self._function = function.call
            with Metered(meter):
                value = self._function(**arguments)  # type: ignore[operator]
        except BaseException as error:  # noqa: BLE001 - any exception is the outcome
            failure = error
        self.ended.append(Ended(number, value, failure, clock.monotonic() - began, usage=meter.amounts or None))

    def start_together(self, group: CallGroup) -> None:
        """Run calls one after the other."""
        for number, arguments in zip(group.numbers, group.arguments(), strict=True):
            self.start(number, arguments)

    def wait(self, seconds: float) -> None:
        """Sleep unless a call has ended, since none is in flight."""
        if not self.ended:
            clock.sleep(seconds)

    def cancel_waiting(self) -> frozenset[int]:
        """Return an empty set, since every started call has ended."""
        return frozenset()

    def knows(self, number: int) -> bool:
        """Return whether the call has ended and is still in `ended`."""
        return _has_ended(self.ended, number)

    def reported(self, number: int) -> Mapping[str, float]:
        """Return an empty mapping, since no call is in flight."""
        return {}

    def abandon(self, number: int) -> int:
        """Return 0, since no call is in flight."""
        return 0

    def close(self) -> None:
        """Close the function."""
        self._close.close()


class ThreadExecutor:
    """Runs calls in daemon threads, which do not keep the interpreter alive.

    Each call runs in a copy of the context (`contextvars`) in which the executor was created.

    Parameters
    ----------
    threads
        Maximum number of concurrent calls.
    open_function
        Returns the function; called once per thread, before its first call.
    copies
        Whether results are copied, which the function may change in another call.
    """

    waiting = ""

    def __init__(self, threads: int, open_function: OpenFunction, copies: bool = True) -> None:
        self._threads = threads
        self._pool = _ThreadPool(open_function, copies)
        self._dismiss = weakref.finalize(self, self._pool.dismiss)
        self._dismiss.atexit = False

    @property
    def workers(self) -> int:
        """Maximum number of calls in flight; exceeds the threads while calls are short."""
        return self._threads + self._pool.measure.calls_ahead(self._threads)

    @property
    def ended(self) -> deque[Ended]:
        """Calls that have ended; the caller removes them."""
        return self._pool.ended

    @property
    def begun(self) -> Mapping[int, float]:
        """Start times of the running calls."""
        running = self._pool.running.copy().items()
        return {number: began for number, (began, _) in running if began != _NOT_CALLED}

    def start(self, number: int, arguments: Mapping[str, object]) -> None:
        """Queue a call for the next free thread."""
        self._pool.waiting[number] = arguments
        self._enqueue((number,))

    def start_together(self, group: CallGroup) -> None:
        """Queue calls for free threads."""
        self._pool.waiting.update(zip(group.numbers, group.arguments(), strict=True))
        self._enqueue(group.numbers)

    def _enqueue(self, numbers: Iterable[int]) -> None:
        """Start missing threads and queue waiting calls."""
        pool = self._pool
        while len(pool.threads) < min(self._threads, len(pool.waiting) + len(pool.running)):
            pool.grow()
        for number in numbers:
            pool.queue.put(number)

    def wait(self, seconds: float) -> None:
        """Return when a call has ended, at the latest after `seconds`."""
        pool = self._pool
        for number in list(pool.failed):
            if not self.knows(number):
                pool.failed.discard(number)
        pool.release()
        if not pool.ended:
            pool.wakeup.wait(seconds)

    def cancel_waiting(self) -> frozenset[int]:
        """Take back calls that no thread has begun; return their numbers."""
        taken = [number for number in list(self._pool.waiting) if self._pool.waiting.pop(number, None) is not None]
        return frozenset(taken)

    def knows(self, number: int) -> bool:
        """Return whether the call is in flight or still in `ended`."""
        pool = self._pool
        # Checked in the order of a call's life cycle, so that none is missed in transition.
        return number in pool.waiting or number in pool.running or _has_ended(pool.ended, number)

    def reported(self, number: int) -> Mapping[str, float]:
        """Return the amounts that a call has reported so far."""
        meter = self._pool.meters.get(number)
        return {} if meter is None else meter.amounts.copy()

    def abandon(self, number: int) -> int:
        """Replace the thread of a call that has timed out, and drop its result."""
        pool = self._pool
        if pool.waiting.pop(number, None) is None:
            pool.abandoned.add(number)
            pool.grow()
        return sum(number in pool.running for number in list(pool.abandoned))

    def close(self) -> None:
        """End the threads, and wait for the idle ones."""
        self._dismiss()
        busy = {thread for _, thread in self._pool.running.copy().values()}
        for thread in list(self._pool.threads):
            # An interrupt may have come between listing a thread and starting it.
            if thread not in busy and thread.is_alive():
                thread.join()


class _ThreadPool:
    """The shared state of the threads.

    It does not refer to the executor, so that dropping the executor ends them.
    """

    def __init__(self, open_function: OpenFunction, copies: bool) -> None:
        self.waiting: dict[int, Mapping[str, object]] = {}
        """Arguments of calls that no thread has begun, by their numbers."""
        self.running: dict[int, tuple[float, threading.Thread]] = {}
        """Start times of the running calls, and their threads; `_NOT_CALLED` while one opens the function."""
        self.queue: SimpleQueue[int | None] = SimpleQueue()
        """Numbers of calls to begin; `None` ends a thread, which passes it on."""
        self.held: deque[int] = deque()
        """Numbers of calls that must not begin, because another one has failed."""
        self.ended: deque[Ended] = deque()
        self.wakeup = Wakeup()
        """Wakes the owner when a call has ended."""
        self.failed: set[int] = set()
        """Failed calls not yet handled by the owner; until then, no other call begins."""
        self.measure = CallMeasure()
        self.abandoned: set[int] = set()
        self.meters: dict[int, CallMeter] = {}
        """Meters of the running calls."""
        self.threads: list[threading.Thread] = []
        self._names = 0
        self._open = open_function
        self._copies = copies
        self._context = contextvars.copy_context()
        self._made_by = os.getpid()

    def grow(self) -> None:
        """Add a thread."""
        thread = threading.Thread(target=self._work, name=f"tablevault-row-{self._names}", daemon=True)
        self._names += 1
        # Listed before it starts, so that an interrupt cannot leak a thread.
        self.threads.append(thread)
        thread.start()

    def dismiss(self) -> None:
        """End every thread once its call is done."""
        self.queue.put(None)

    def release(self) -> None:
        """Let held calls begin once the owner has handled all that have failed."""
        with contextlib.suppress(IndexError):  # Another thread may take some as well.
            while self.held and not self.failed:
                self.queue.put(self.held.popleft())

    def _work(self) -> None:
        with contextlib.ExitStack() as closing:
            function = None
            while (number := self.queue.get()) is not None:
                if self.failed:
                    self.held.append(number)
                    # The owner may have handled the failure just before.
                    self.release()
                    continue
                began = clock.monotonic()
                self.running[number] = _NOT_CALLED if function is None else began, threading.current_thread()
                arguments = self.waiting.pop(number, None)
                if arguments is None:
                    del self.running[number]
                    continue
                value, failure = None, None
                meter = self.meters[number] = CallMeter()
                try:
                    if function is None:
                        opened = self._open()
                        closing.callback(opened.close)
                        function = opened.call
                        # Opening it must not count for the timeout of the call.
                        began = clock.monotonic()
                        self.running[number] = began, threading.current_thread()
                    context = self._context.copy()
                    context.run(meter_context, meter)
                    value = context.run(function, **arguments)
                    if self._copies:
                        value = copied_result(value)
                except BaseException as error:  # noqa: BLE001 - any exception is the outcome
                    failure = error
                del arguments  # Otherwise an idle thread would keep its last arguments alive.
                if os.getpid() != self._made_by:
                    end_child(failure)
                del self.meters[number]
                if number in self.abandoned:
                    # Another thread has taken its place.
                    self.threads.remove(threading.current_thread())
                    self.abandoned.discard(number)
                    del self.running[number]
                    return
                seconds, usage = clock.monotonic() - began, meter.amounts or None
                self.measure.add(seconds)
                if failure is not None:
                    self.failed.add(number)
                self.ended.append(Ended(number, value, failure, seconds, usage=usage))
                del self.running[number]
                self.wakeup.set()
                del value, failure
            self.queue.put(None)


def _has_ended(ended: deque[Ended], number: int) -> bool:
    # Copied in one step: other threads append meanwhile.
    return any(item.number == number for item in list(ended))
