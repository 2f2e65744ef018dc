"""Runs calls of async functions concurrently, on an event loop in its own thread.

This works in scripts, in background workers, and in notebooks, whose main thread runs a loop already.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import threading
import weakref
from collections import deque
from collections.abc import Mapping
from typing import Any

from tablevault.ports import CallGroup, Ended, FunctionError, OpenedFunction, OpenFunction
from tablevault.rows.call_measure import CallMeasure
from tablevault.rows.usage import CallMeter, meter_context
from tablevault.rows.wakeup import Wakeup
from tablevault.storage.vectors import copied_result
from tablevault.system import clock
from tablevault.system.warnings import warn

_CANCEL_PATIENCE = 1.0
"""Seconds that cancelled coroutines have to clean up when the executor is closed."""
_DEAF_SECONDS = 5.0
"""Seconds after which a cancelled coroutine that still runs is considered stuck."""
_TICK = 0.25
_BLOCKED = 1.0
"""Seconds without a tick after which a loop counts as blocked."""


class AsyncExecutor:
    """Runs coroutines on its own event loop.

    Parameters
    ----------
    concurrency
        Maximum number of concurrent calls.
    open_function
        Returns the function; called once, in the thread of the loop.
    copies
        Whether results are copied, which the function may change in another call.
    """

    waiting = ""

    def __init__(self, concurrency: int, open_function: OpenFunction, copies: bool = True) -> None:
        self._concurrency = concurrency
        self._loop = _Loop(concurrency, open_function, copies)
        self._end = weakref.finalize(self, self._loop.end)
        self._end.atexit = False
        self._is_warned = False

    @property
    def workers(self) -> int:
        """Maximum number of calls in flight; exceeds the concurrency while calls are short."""
        return self._concurrency + self._loop.measure.calls_ahead(self._concurrency)

    @property
    def ended(self) -> deque[Ended]:
        """Calls that have ended; the caller removes them."""
        return self._loop.ended

    @property
    def begun(self) -> Mapping[int, float]:
        """Start times of the calls that the loop has begun."""
        return self._loop.begun.copy()

    def start(self, number: int, arguments: Mapping[str, object]) -> None:
        """Queue a call for the loop."""
        self._loop.waiting[number] = arguments
        self._loop.queue.append(number)
        self._loop.wake()

    def start_together(self, group: CallGroup) -> None:
        """Queue calls for the loop."""
        self._loop.waiting.update(zip(group.numbers, group.arguments(), strict=True))
        self._loop.queue.extend(group.numbers)
        self._loop.wake()

    def wait(self, seconds: float) -> None:
        """Return when a call has ended, at the latest after `seconds`."""
        if self._loop.failed:
            self._forget_failed()
        if not self._loop.ended:
            self._loop.wakeup.wait(seconds)
        if self._loop.is_blocked and not self._is_warned:
            self._is_warned = True
            warn(
                "An async function has blocked its event loop for more than a second, so no other row could continue; "
                "let it await, or call what blocks with asyncio.to_thread()."
            )

    def _forget_failed(self) -> None:
        """Resume starting calls once the owner has handled the failed ones."""
        for number in list(self._loop.failed):
            if not self.knows(number):
                self._loop.failed.discard(number)
        if not self._loop.failed:
            self._loop.wake()

    def cancel_waiting(self) -> frozenset[int]:
        """Take back calls that the loop has not begun; return their numbers."""
        waiting = self._loop.waiting
        return frozenset(number for number in list(waiting) if waiting.pop(number, None) is not None)

    def knows(self, number: int) -> bool:
        """Return whether the call is in flight or still in `ended`."""
        loop = self._loop
        return (
            number in loop.waiting or number in loop.running or any(item.number == number for item in list(loop.ended))
        )

    def reported(self, number: int) -> Mapping[str, float]:
        """Return the amounts that a call has reported so far."""
        meter = self._loop.meters.get(number)
        return {} if meter is None else meter.amounts.copy()

    def abandon(self, number: int) -> int:
        """Cancel a call; it will not appear in `ended`."""
        return self._loop.abandon(number)

    def close(self) -> None:
        """Cancel calls in flight, allow a second for cleanup, and end the loop."""
        self._end()
        self._loop.thread.join(_CANCEL_PATIENCE + _BLOCKED)


class _Loop:
    """The loop and its thread.

    It does not refer to the executor, so that dropping the executor ends it.
    """

    def __init__(self, concurrency: int, open_function: OpenFunction, copies: bool) -> None:
        self.waiting: dict[int, Mapping[str, object]] = {}
        """Arguments of calls that the loop has not begun, by their numbers."""
        self.queue: deque[int] = deque()
        """Numbers of calls to begin, in order; some may have been taken back."""
        self._held: deque[int] = deque()
        """Numbers of calls that were about to begin when another one failed; they come first."""
        self.begun: dict[int, float] = {}
        """Start times of the running calls."""
        self.ended: deque[Ended] = deque()
        self.wakeup = Wakeup()
        """Wakes the owner when a call has ended."""
        self.failed: set[int] = set()
        """Failed calls not yet handled by the owner; until then, no other call begins."""
        self.measure = CallMeasure()
        self._concurrency = concurrency
        self._open = open_function
        self._copies = copies
        self._opened: OpenedFunction | None = None
        self._opening_error: FunctionError | None = None
        self.running: set[int] = set()
        """Numbers of the calls in progress."""
        self.meters: dict[int, CallMeter] = {}
        """Meters of the running calls."""
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._abandoned: dict[int, float] = {}
        """Times at which still running calls were abandoned, by their numbers."""
        self._is_woken = False
        """Whether the loop has been woken to begin waiting calls."""
        self._context = contextvars.copy_context()
        self._ticked = clock.monotonic()
        self._loop = asyncio.new_event_loop()
        self._over: asyncio.Event | None = None
        self._is_over = False
        """Whether no further call begins."""
        self._started = threading.Event()
        self.thread = threading.Thread(target=self._run, name="tablevault-rows-async", daemon=True)
        self.thread.start()
        self._started.wait()

    @property
    def is_blocked(self) -> bool:
        """Whether the loop has not run for a second."""
        return bool(self._tasks) and clock.monotonic() - self._ticked > _BLOCKED

    def wake(self) -> None:
        """Wake the loop to begin calls."""
        if not self._is_woken:
            # Waking the loop costs more than beginning a call.
            self._is_woken = True
            self._loop.call_soon_threadsafe(self._begin)

    def abandon(self, number: int) -> int:
        """Cancel a call and drop its result; return the number of stuck calls."""
        now = clock.monotonic()
        self._abandoned[number] = now
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._cancel, number)
        return sum(now - since > _DEAF_SECONDS for since in self._abandoned.copy().values())

    def end(self) -> None:
        """Stop the loop."""
        # Raised if the loop is already closed.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._finish)

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._live())
        finally:
            with contextlib.suppress(BaseException):
                self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.close()

    async def _live(self) -> None:
        self._over = asyncio.Event()
        ticking = asyncio.ensure_future(self._tick())
        self._started.set()
        await self._over.wait()
        ticking.cancel()
        left = list(self._tasks.values())
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=_CANCEL_PATIENCE)
        if self._opened is not None:
            with contextlib.suppress(Exception):
                closed: object = self._opened.close()
                if inspect.isawaitable(closed):
                    await asyncio.wait_for(closed, _CANCEL_PATIENCE)
        await _end_other_tasks()
        # Tasks that ignored being cancelled are dropped with the loop.
        self._loop.set_exception_handler(_tell_exceptions_only)

    async def _tick(self) -> None:
        while True:
            self._ticked = clock.monotonic()
            await asyncio.sleep(_TICK)

    def _begin(self) -> None:
        """Begin waiting calls, up to the concurrency limit."""
        # Reset first, so that a call added from now on wakes the loop again.
        self._is_woken = False
        while (queue := self._held or self.queue) and not self.failed and not self._is_over and self._has_room:
            number = queue.popleft()
            # Always in `running` or `waiting`, so that `knows` finds it.
            self.running.add(number)
            arguments = self.waiting.pop(number, None)
            if arguments is None:  # It was taken back.
                self.running.discard(number)
                continue
            self._tasks[number] = self._loop.create_task(self._call(number, arguments), context=self._context.copy())

    @property
    def _has_room(self) -> bool:
        return len(self.running) < self._concurrency + self._stuck

    @property
    def _stuck(self) -> int:
        """Number of abandoned calls still running, whose slots other calls take."""
        return sum(number in self.running for number in list(self._abandoned)) if self._abandoned else 0

    def _forget(self, number: int) -> None:
        self._tasks.pop(number, None)
        self.running.discard(number)
        self.meters.pop(number, None)
        self._abandoned.pop(number, None)

    def _cancel(self, number: int) -> None:
        self.waiting.pop(number, None)
        task = self._tasks.get(number)
        if task is None:
            self._abandoned.pop(number, None)
        else:
            task.cancel()
            if number not in self.begun:
                # It will never run.
                self._forget(number)
        # Another call takes its slot even if it keeps running.
        self._begin()

    def _finish(self) -> None:
        self._is_over = True
        if self._over is not None:
            self._over.set()

    async def _call(self, number: int, arguments: Mapping[str, object]) -> None:
        if self.failed:
            # Another call has failed since the loop took this one up; the owner handles that first.
            self.waiting[number] = arguments
            self._held.append(number)
            self._forget(number)
            return
        began = clock.monotonic()
        value: object = None
        failure: BaseException | None = None
        meter = self.meters[number] = CallMeter()
        # Each call has its own context.
        meter_context(meter)
        try:
            function = self._function().call
            # The first call opens the function, which must not count for its timeout.
            self.begun[number] = began = clock.monotonic()
            coroutine: Any = function(**arguments)
            value = await coroutine
            if self._copies:
                value = copied_result(value)
        except BaseException as error:  # noqa: BLE001 - any exception is the outcome
            failure = error
        if number not in self._abandoned and not self._is_over:
            seconds = clock.monotonic() - began
            self.measure.add(seconds)
            if failure is not None:
                self.failed.add(number)
            self.ended.append(Ended(number, value, failure, seconds, usage=meter.amounts or None))
            self.wakeup.set()
        self.begun.pop(number, None)
        self._forget(number)
        self._begin()

    def _function(self) -> OpenedFunction:
        """Open the function on first use; if that fails, all calls raise the error."""
        if self._opening_error is not None:
            raise self._opening_error
        if self._opened is None:
            try:
                self._opened = self._open()
            except FunctionError as error:
                self._opening_error = error
                raise
        return self._opened


async def _end_other_tasks() -> None:
    """Cancel what still runs on the loop, such as tasks that functions have left behind, and wait for a moment."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others, timeout=_CANCEL_PATIENCE)


def _tell_exceptions_only(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report exceptions, but not that a task was pending."""
    if "exception" in context:
        loop.default_exception_handler(context)
