"""Sync of whole file systems in one call, where the kernel reports its errors."""

from __future__ import annotations

import ctypes
import os
import re
import sys
from pathlib import Path
from typing import Self

from tablevault.system.mounts import file_system_of

_TRUSTED = frozenset({"ext4", "xfs", "btrfs"})
"""File systems that report a failed write-back in the next `syncfs`, too."""
_REPORTS_ERRORS = (5, 8)
"""First Linux version in which `syncfs` returns write-back errors, according to its man page."""


class FileSystem:
    """The file system of a folder, made durable by `syncfs`.

    A descriptor reports the errors since it was opened: create the object before writing files.

    Parameters
    ----------
    descriptor
        The open folder, closed when the object is deleted.
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
