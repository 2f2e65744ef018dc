"""File locks that the kernel releases when their holder exits.

Forked children do not inherit them.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
import weakref
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Self

from tablevault.system.forks import ForkHooks, around_forks
from tablevault.system.waiting import poll

# The folder may belong to another user: do not follow links, and do not block on a pipe.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_POLL = 0.001
"""Seconds between two attempts to lock; almost all locks are held for less."""


class KernelLock:
    """An exclusive lock on a file.

    It is held until it is released or garbage-collected, or its process exits.

    Parameters
    ----------
    path
        The file.
    descriptor
        Descriptor of the open file, which `take` locks.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def take(cls, path: Path, longest: float | None = None) -> Self:
        """Lock a file, creating it if missing; wait while it is locked.

        Parameters
        ----------
        path
            The file; it may only be removed while the lock is held.
        longest
            Maximum wait in seconds; `None` for no limit.

        Raises
        ------
        TimeoutError
            If the file is still locked after `longest` seconds.
        """
        while True:
            with _opening:
                lock = cls(path, os.open(path, _FLAGS, 0o666))
            try:
                if not poll(lock._is_locked, repeat(_POLL), longest):
                    raise TimeoutError(f"'{path}' is locked by another process.")
                if os.fstat(lock.descriptor).st_nlink:
                    return lock
            except BaseException:
                lock.release()
                raise
            # The file was removed before it was locked.
            lock.release()

    @property
    def descriptor(self) -> int:
        """Descriptor of the open file; a process that inherits it also holds the lock."""
        assert self._descriptor is not None  # the lock has not been released
        return self._descriptor

    def release(self) -> None:
        """Unlock the file; no-op if already released."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                # Unlock explicitly: a child forked just before may still have the file open.
                fcntl.flock(descriptor, fcntl.LOCK_UN)
            finally:
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        self.release()

    def _is_locked(self) -> bool | None:
        """Try to lock the file; return `True`, or `None` if it is already locked."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return True

    def close_in_child(self) -> None:
        """Close the file in a forked child; the parent keeps the lock."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


_held: weakref.WeakSet[KernelLock] = weakref.WeakSet()
_opening = threading.RLock()
"""Prevents a fork between opening a file and registering it."""


def _before_fork() -> None:
    _opening.acquire()


def _after_fork_in_parent() -> None:
    _opening.release()


def _after_fork_in_child() -> None:
    global _opening
    _opening = threading.RLock()
    for lock in list(_held):
        lock.close_in_child()


around_forks(ForkHooks(before=_before_fork, in_parent=_after_fork_in_parent, in_child=_after_fork_in_child))
