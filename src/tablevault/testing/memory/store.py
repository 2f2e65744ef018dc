"""Transactions on a state in memory."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from tablevault.errors import TVFileError
from tablevault.testing.memory.state import State

URL = "memory:"

_PATIENCE = 60.0
"""Seconds to wait for another writer, which may also be the waiting thread itself."""


class Store:
    """The newest state, which each write replaces by a changed copy.

    A published state never changes, so readers need no locks and a snapshot is a reference.
    """

    def __init__(self) -> None:
        self._newest: State | None = None
        self._writing = threading.Lock()
        self._pinned = threading.local()

    @property
    def newest(self) -> State:
        """The state after the last write."""
        if self._newest is None:
            raise TVFileError(f"The catalog {URL} is missing: it was not created.")
        return self._newest

    @property
    def state(self) -> State:
        """The state to read: that of this thread's snapshot, or else the newest."""
        pinned: State | None = getattr(self._pinned, "state", None)
        return self.newest if pinned is None else pinned

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """Pin the reads of this thread in the block to the present state."""
        former: State | None = getattr(self._pinned, "state", None)
        self._pinned.state = self.state
        try:
            yield
        finally:
            self._pinned.state = former

    def create(self, empty: State) -> State:
        """Publish the first state, unless there is one; return the newest."""
        with self._alone():
            if self._newest is None:
                self._newest = empty
            return self._newest

    @contextmanager
    def write(self) -> Iterator[State]:
        """Yield a copy of the newest state, and publish it unless the block raises."""
        with self._alone():
            changed = self.newest.copy()
            yield changed
            self._newest = changed

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._writing.acquire(timeout=_PATIENCE):
            raise OSError(errno.EBUSY, "The catalog cannot be used (another write goes on)", URL)
        try:
            yield
        finally:
            self._writing.release()
