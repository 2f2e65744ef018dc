"""Lock files of owners: one per attempt; the kernel releases its lock when the owner dies."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import uuid
from pathlib import Path

from tablevault.errors import TVFileError
from tablevault.system.kernel_locks import KernelLock

WORKER = "worker"
"""Kind of owner that the vault itself started in the background, and may therefore kill."""

RECOVERY = "recovery"
"""Kind of owner that only ends or pauses the process of a dead one: short-lived, and runs no function."""

_NAME = re.compile(rf"(?:owner|{WORKER}|{RECOVERY})-([0-9]+)-[0-9a-f]{{32}}")
"""Names of TableVault's own lock files. A file of any other name claims nothing and is left alone."""

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})

# An untrusted vault may have anything under the name of a lock file, such as a link or a pipe without a writer.
_LOOKING = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_LONGEST_LOOK = 10.0
"""Seconds that others may take to look whether a lock file is held."""


def kind_of(name: str | None) -> str:
    """Return the kind of owner in a lock file's name; empty if there was no owner."""
    return (name or "").partition("-")[0]


class OwnerLock:
    """A held claim on one attempt of a process. Forked children do not inherit it."""

    def __init__(self, name: str, lock: KernelLock) -> None:
        self.name = name
        self._lock = lock
        self._pid = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether this is a forked child, to which the claim does not belong."""
        return os.getpid() != self._pid

    @property
    def descriptor(self) -> int:
        """The open lock file: a process that is started with it holds the claim, too."""
        return self._lock.descriptor

    def release(self) -> None:
        """Give up the claim. From now on every process sees this attempt as dead."""
        # A file that is not locked means the same as a missing one; the next recovery removes it.
        with contextlib.suppress(OSError):
            self._lock.path.unlink()
        self._lock.release()


class Owners:
    """The lock files of a vault's attempts.

    Parameters
    ----------
    folder
        `metadata/owners/` of the vault.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.host = socket.gethostname()

    def claim(self, kind: str = "owner") -> OwnerLock:
        """Make and hold the lock file of a new attempt.

        Raises
        ------
        TVFileError
            If the vault is not where it was, or the file system has no kernel locks: there is no soft fallback.
        """
        if not self._folder.parent.is_dir():
            raise TVFileError(f"{self._folder.parent} is gone: the vault was moved or deleted.")
        name = f"{kind}-{os.getpid()}-{uuid.uuid4().hex}"
        self._folder.mkdir(exist_ok=True)
        try:
            # The name is unique, but another process may be testing the lock at this moment.
            lock = KernelLock.take(self._folder / name, _LONGEST_LOOK)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise TVFileError(
                f"The file system of {self._folder} has no kernel locks, so TableVault cannot write there safely; "
                "move the vault to a local disk."
            ) from error
        return OwnerLock(name, lock)

    def is_alive(self, name: str | None) -> bool:
        """Return whether a process holds the lock file `name`; a missing file is not held."""
        if name is None or _NAME.fullmatch(name) is None:
            return False
        path = self._folder / name
        try:
            descriptor = os.open(path, _LOOKING)
        except (FileNotFoundError, IsADirectoryError):
            return False
        except PermissionError:
            # Another user's file that cannot be opened: an owner that may be alive is not taken over.
            return True
        try:
            # A shared lock: two processes that test at the same moment do not take each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @staticmethod
    def process_number(name: str) -> int:
        """Return the number of the operating system's process that made the lock file `name`; 0 if it is not ours."""
        found = _NAME.fullmatch(name)
        return int(found[1]) if found else 0

    def forget(self, name: str | None) -> None:
        """Remove the lock file of an attempt that is known to be dead."""
        if name is not None and _NAME.fullmatch(name):
            with contextlib.suppress(PermissionError):
                (self._folder / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of all lock files, held or not."""
        return sorted(path.name for path in self._folder.iterdir()) if self._folder.is_dir() else []

    def forget_dead(self) -> None:
        """Remove the lock files that are not held: a missing file means the same."""
        for name in self.names():
            _remove_unless_held(self._folder / name)


def _remove_unless_held(path: Path) -> None:
    """Remove a lock file while holding it: a process that has opened it by then notices, and makes a new one."""
    try:
        descriptor = os.open(path, _LOOKING)
    except OSError:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            # Otherwise it is a newer file, made after another process removed the opened one.
            path.unlink(missing_ok=True)
    except (BlockingIOError, FileNotFoundError, PermissionError):
        return
    finally:
        os.close(descriptor)
