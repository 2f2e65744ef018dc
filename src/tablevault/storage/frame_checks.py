"""Checksum verification of frame files before other libraries read them."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence
from pathlib import Path

_FileKey = tuple[int, int, int, int]
"""Device, inode, size and time of the last change."""


class FrameChecks:
    """Verifies columns of frame files against their checksums, once each."""

    def __init__(self) -> None:
        self._checked: dict[_FileKey, frozenset[str]] = {}
        self._lock = threading.Lock()

    def check(self, path: Path, columns: Sequence[str] | None = None, content: bool = True) -> None:
        """Check the seal and footer of a file, and its unchecked columns.

        Parameters
        ----------
        path
            The file.
        columns
            The columns that will be read; `None` for all.
        content
            Whether to check columns.

        Raises
        ------
        TVFileError
            If the file is damaged.
        """
        from tablevault.storage.frame_files import check_columns, read_schema  # Imports Arrow, which listings avoid.

        types, _ = read_schema(path)
        if not content:
            return
        unchecked = self.unchecked(path, list(types) if columns is None else columns)
        if unchecked:
            key = _key(path)
            check_columns(path, unchecked)
            with self._lock:
                self._checked[key] = self._checked.get(key, frozenset()).union(unchecked)

    def unchecked(self, path: Path, columns: Iterable[str]) -> list[str]:
        """Return the columns of a file that have not been compared with their checksums."""
        known = self._checked.get(_key(path), frozenset())
        return [name for name in columns if name not in known]


def _key(path: Path) -> _FileKey:
    facts = path.stat()
    return facts.st_dev, facts.st_ino, facts.st_size, facts.st_mtime_ns
