"""Locks on files, which the kernel releases when their holder dies. Forked children do not inherit them."""

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

# The folder may be another user's: nothing leads elsewhere, and a pipe does not block.
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_POLL = 0.001
"""Seconds between two looks at a lock that another holds: almost all are held for less."""


class KernelLock:
    """The one lock on a file: held until it is released, or its object or process is gone.

    Parameters
    ----------
    path
        The file.
    descriptor
        The open file, which `take` locks.
    """

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor: int | None = descriptor
        _held.add(self)

    @classmethod
    def take(cls, path: Path, longest: float | None = None) -> Self:
        """Lock a file, which is made if it is missing; wait while another holds it.

        Parameters
        ----------
        path
            The file; a process that removes it does so while it holds the lock.
        longest
            Seconds to wait at most; `None` for ever.

        Raises
        ------
        TimeoutError
            If another holds it for longer.
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
            # It was removed before it was locked.
            lock.release()

    @property
    def descriptor(self) -> int:
        """The open file: a process that is started with it holds the lock, too."""
        assert self._descriptor is not None
        return self._descriptor

    def release(self) -> None:
        """Unlock the file; no-op if it is unlocked."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                # Also for children that were forked just before.
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
        """Lock the file, and return `True`; `None` while another holds it."""
        try:
            fcntl.flock(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return None
        return True

    def close_in_child(self) -> None:
        """Close the file in a forked child, to which the lock does not belong; the parent keeps it."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)


_held: weakref.WeakSet[KernelLock] = weakref.WeakSet()
_opening = threading.RLock()
"""Held while a file is opened and noted, so that no child is forked in between."""


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
