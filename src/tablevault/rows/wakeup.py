"""Waking the owner of an executor when a call has ended."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue


class Wakeup:
    """Lets one thread wait until another has something for it.

    Of the standard library's queues, only `SimpleQueue` stays usable after an interrupt at any point.
    """

    def __init__(self) -> None:
        self._pending: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Let the current `wait`, or the next one, return."""
        # One is enough, however many calls have ended: the owner looks at all of them.
        if self._pending.empty():
            self._pending.put(None)

    def wait(self, seconds: float) -> None:
        """Return when `set` was called since the last `wait`, at the latest after `seconds`."""
        with contextlib.suppress(Empty):
            self._pending.get(timeout=seconds)
