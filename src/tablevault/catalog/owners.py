"""Who is alive: one lock file per attempt, whose lock the kernel releases when its owner dies."""

from __future__ import annotations

import errno
import os
import socket
import uuid
from pathlib import Path

from filelock import FileLock, Timeout

from tablevault.errors import TVFileError

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows
    fcntl = None  # type: ignore[assignment]

_NO_LOCKS = frozenset({errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL})


class OwnerLock:
    """A held claim on one attempt of a process. Forked children do not inherit it."""

    def __init__(self, name: str, lock: FileLock) -> None:
        self.name = name
        self._lock = lock

    def release(self) -> None:
        """Give the claim up. From here on everybody sees this attempt as dead."""
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release(force=True)


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

    def claim(self) -> OwnerLock:
        """Make and hold the lock file of a new attempt.

        Raises
        ------
        TVFileError
            If the file system has no kernel locks: there is no soft fallback.
        """
        name = f"{os.getpid()}-{uuid.uuid4().hex}"
        lock = FileLock(self._folder / name, fallback_to_soft=False, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except (NotImplementedError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            raise TVFileError(
                f"The file system of {self._folder} has no kernel locks, so TableVault cannot write there safely; "
                "move the vault to a local disk."
            ) from error
        return OwnerLock(name, lock)

    def is_alive(self, name: str | None) -> bool:
        """Tell whether somebody holds the lock file `name`; a missing file is held by nobody."""
        if name is None:
            return False
        path = self._folder / name
        if fcntl is None:  # pragma: no cover - Windows
            return path.exists() and _is_held_exclusively(path)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            # A shared lock: two that look at the same moment do not take each other for the owner.
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def forget(self, name: str | None) -> None:
        """Remove the lock file of an attempt that is known to be dead."""
        if name is not None:
            (self._folder / name).unlink(missing_ok=True)


    def forget_dead(self) -> None:
        """Remove the lock files that nobody holds: no file means the same."""
        for path in list(self._folder.iterdir()) if self._folder.is_dir() else []:
            if not self.is_alive(path.name):
                path.unlink(missing_ok=True)


def _is_held_exclusively(path: Path) -> bool:  # pragma: no cover - Windows
    probe = FileLock(path, fallback_to_soft=False, thread_local=False)
    try:
        probe.acquire(blocking=False)
    except Timeout:
        return True
    probe.release(force=True)
    return False
