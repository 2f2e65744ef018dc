"""Owner lock files, one per attempt.

The kernel releases the lock of an owner that dies.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import uuid
from pathlib import Path

from tablevault.errors import TVFileError
from tablevault.system.kernel_locks import KernelLock

WORKER = "worker"
"""Owner kind of a background worker, which the vault started and may therefore kill."""

RECOVERY = "recovery"
"""Owner kind of a short-lived recovery, which ends or pauses an orphaned process and runs no functions."""

_NAME = re.compile(rf"(?:owner|{WORKER}|{RECOVERY})-([0-9]+)-[0-9a-f]{{32}}")
"""Pattern of owner lock file names. Other files hold no claim and are left alone."""

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})

_NO_FILE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENXIO})
"""Error numbers of opening a path that has become something else since it was a regular file."""

_LOOKING = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

_MAXIMUM_LOOK_SECONDS = 10.0
"""Seconds to wait while other processes test a lock file."""


def kind_of(name: str | None) -> str:
    """Return the owner kind in a lock file's name; empty without an owner."""
    return (name or "").partition("-")[0]


class OwnerLock:
    """Held claim on an attempt of a process, which forked children do not inherit."""

    def __init__(self, name: str, lock: KernelLock) -> None:
        self.name = name
        self._lock = lock
        self._pid = os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether this interpreter is a forked child, which does not own the claim."""
        return os.getpid() != self._pid

    @property
    def descriptor(self) -> int:
        """File descriptor of the lock; a subprocess that inherits it shares the claim."""
        return self._lock.descriptor

    def release(self) -> None:
        """Release the claim; every process then sees this attempt as dead."""
        # An unlocked file is equivalent to a missing one; the next recovery removes it.
        with contextlib.suppress(OSError):
            self._lock.path.unlink()
        self._lock.release()


class OwnerFiles:
    """Owner lock files of a vault, as `Owners`.

    Parameters
    ----------
    folder
        `metadata/owners/` of the vault.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.host = socket.gethostname()

    def claim(self, kind: str = "owner") -> OwnerLock:
        """Create and lock the lock file of a new attempt.

        Raises
        ------
        TVFileError
            If the vault was moved or deleted, or the file system has no kernel locks; there is no fallback.
        """
        if not self._folder.parent.is_dir():
            raise TVFileError(f"{self._folder.parent} is missing: the vault was moved or deleted.")
        name = f"{kind}-{os.getpid()}-{uuid.uuid4().hex}"
        try:
            self._folder.mkdir(exist_ok=True)
        except FileExistsError as error:
            raise TVFileError(f"{self._folder} is not a folder; move it elsewhere.") from error
        try:
            # The name is unique, but another process may be testing the lock at this moment.
            lock = KernelLock.take(self._folder / name, _MAXIMUM_LOOK_SECONDS)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            raise TVFileError(
                f"The file system of {self._folder} has no kernel locks, so TableVault cannot write there safely; "
                "move the vault to a local disk."
            ) from error
        return OwnerLock(name, lock)

    def is_alive(self, name: str | None) -> bool:
        """Return whether the lock file `name` exists and is held."""
        if name is None or _NAME.fullmatch(name) is None:
            return False
        try:
            descriptor = _opened(self._folder / name)
        except PermissionError:
            # Another user's lock file: assume that its owner is alive rather than take it over.
            return True
        if descriptor is None:
            return False
        try:
            # A shared lock, so that concurrent tests do not mistake each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    @staticmethod
    def process_number(name: str) -> int:
        """Return the PID in the name of a lock file; 0 for a foreign file."""
        found = _NAME.fullmatch(name)
        return int(found[1]) if found else 0

    def forget(self, name: str | None) -> None:
        """Remove the lock file of a dead attempt; anything else in its place is left alone."""
        if name is not None and _NAME.fullmatch(name):
            with contextlib.suppress(PermissionError):
                if _is_file(self._folder / name):
                    (self._folder / name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of all lock files, held or not."""
        found = self._folder.iterdir() if self._folder.is_dir() else ()
        return sorted(path.name for path in found if _NAME.fullmatch(path.name) and _is_file(path))

    def forget_dead(self) -> None:
        """Remove stale lock files, which are equivalent to missing ones."""
        for name in self.names():
            _remove_unless_held(self._folder / name)


def _is_file(path: Path) -> bool:
    """Return whether a path is a regular file; in an untrusted vault, it may be anything else."""
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _opened(path: Path) -> int | None:
    """Open a lock file for testing its lock.

    Returns `None` if it is missing or not a regular file, which proves nothing.
    """
    if not _is_file(path):
        return None
    try:
        return os.open(path, _LOOKING)
    except OSError as error:
        if error.errno not in _NO_FILE:
            raise
        return None


def _remove_unless_held(path: Path) -> None:
    """Remove a stale lock file.

    It is removed under its own lock: a process that has it open notices, and creates a new one.
    """
    try:
        descriptor = _opened(path)
    except OSError:
        return
    if descriptor is None:
        return
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(descriptor), path.stat()):
            # Otherwise another process has removed the opened file, and this is a newer one.
            path.unlink(missing_ok=True)
    except (BlockingIOError, FileNotFoundError, PermissionError):
        return
    finally:
        os.close(descriptor)
