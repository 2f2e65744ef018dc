"""Whole file systems made durable by one call, where the system reports its errors."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Self

from tablevault.system.mounts import file_system_of

_TRUSTED = frozenset({"ext4", "xfs", "btrfs"})
"""File systems on which a failed write-back is an error of the next `syncfs`, too."""
_REPORTS_ERRORS = (5, 8)
"""Version of Linux from which on `syncfs` returns errors of write-back: its man page says so."""


class FileSystem:
    """The file system of a folder, as `syncfs` makes it durable.

    Each open descriptor reports the errors that occurred since it was opened: make the object before the files.

    Parameters
    ----------
    descriptor
        The open folder, which the object closes when it goes.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def of(cls, folder: Path) -> Self | None:
        """Return the file system of a folder; `None` where `syncfs` is missing, or might hide errors."""
        if not _is_known_to_report_errors() or file_system_of(folder) not in _TRUSTED:
            return None
        try:
            return cls(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        except OSError:
            return None

    def sync(self) -> None:
        """Wait until everything on the file system is on its disk.

        Raises
        ------
        OSError
            If any write, of any process, has failed since the object was made.
        """
        if _syncfs(self._descriptor) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))

    def __del__(self) -> None:
        os.close(self._descriptor)


def _syncfs(descriptor: int) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syncfs(descriptor))


def _is_known_to_report_errors() -> bool:
    if sys.platform != "linux":
        return False
    version = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return version is not None and (int(version[1]), int(version[2])) >= _REPORTS_ERRORS
