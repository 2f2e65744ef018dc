"""Waking the owner of an executor when a call has ended."""

from __future__ import annotations

import contextlib
from queue import Empty, SimpleQueue


class Wakeup:
    """Wakes a waiting thread from another one.

    Of the standard library's queues, only `SimpleQueue` stays usable after an interrupt at any point.
    """

    def __init__(self) -> None:
        self._pending: SimpleQueue[None] = SimpleQueue()

    def set(self) -> None:
        """Make the current or next `wait` return."""
        # One entry is enough, since the owner handles all ended calls.
        if self._pending.empty():
            self._pending.put(None)

    def wait(self, seconds: float) -> None:
        """Return when `set` was called since the last `wait`, at the latest after `seconds`."""
        with contextlib.suppress(Empty):
            self._pending.get(timeout=seconds)
