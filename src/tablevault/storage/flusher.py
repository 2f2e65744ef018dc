"""A background thread that runs a periodic action, and requests in between.

It is built on `queue.SimpleQueue` alone. `threading.Event` and `threading.Condition` take their inner lock in Python
code, where an interrupt in the main thread can leave it locked for ever; `SimpleQueue` has no such window.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from queue import Empty, SimpleQueue

from tablevault.errors import TVImplementationError
from tablevault.system import clock

_LOOK_SECONDS = 1.0

Reply = SimpleQueue[BaseException | None]


class Flusher:
    """A daemon thread that calls `every` once per interval until it is stopped.

    Parameters
    ----------
    every
        Called on the thread, once per interval; must not raise.
    interval
        Seconds from one call to the next (more if a call takes longer).
    """

    def __init__(self, every: Callable[[], None], interval: float) -> None:
        self._every = every
        self._interval = interval
        self._requests: SimpleQueue[tuple[Callable[[], None], Reply]] = SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="tablevault-checkpoints", daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the thread accepts requests."""
        return not self._stopping and self._thread.is_alive()

    def tell(self, action: Callable[[], None]) -> Reply:
        """Have the thread call `action` as soon as it is free.

        The reply will hold its exception, or `None`.
        """
        reply: Reply = SimpleQueue()
        self._requests.put((action, reply))
        return reply

    def do(self, action: Callable[[], None], timeout: float | None = None) -> None:
        """Have the thread call `action`, wait for it, and raise its exception.

        Raises `TimeoutError` if it has not ended in time; the action is not cancelled.
        """
        if threading.current_thread() is self._thread:
            action()
            return
        reply = self.tell(action)
        deadline = None if timeout is None else clock.monotonic() + timeout
        while True:
            left = _LOOK_SECONDS if deadline is None else min(_LOOK_SECONDS, max(0.0, deadline - clock.monotonic()))
            try:
                error = reply.get(timeout=left)
            except Empty:
                if not self._thread.is_alive() and reply.empty():
                    raise TVImplementationError("The thread that writes checkpoints has ended.") from None
                if deadline is not None and clock.monotonic() >= deadline:
                    raise TimeoutError(f"checkpoints were not written within {timeout} s") from None
            else:
                if error is not None:
                    raise error
                return

    def stop_after(self, action: Callable[[], None]) -> None:
        """Have the thread call `action` last, and wait for it to end.

        Raises the exception of `action`.

        If the thread is already stopping, only wait until it has ended.
        """

        def last() -> None:
            self._stopping = True
            action()

        if self.is_running:
            self.do(last)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _run(self) -> None:
        due = clock.monotonic() + self._interval
        while not self._stopping:
            with contextlib.suppress(Empty):
                _serve(*self._requests.get(timeout=max(0.0, due - clock.monotonic())))
            if not self._stopping and clock.monotonic() >= due:
                due = clock.monotonic() + self._interval
                self._every()


def _serve(action: Callable[[], None], reply: Reply) -> None:
    error: BaseException | None = None
    try:
        action()
    except BaseException as raised:  # noqa: BLE001  (it is raised in the waiting thread)
        error = raised
    reply.put(error)
