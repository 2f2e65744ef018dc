"""Reading of checkpoint segments that earlier versions wrote: SQLite files `segment-<n>.db`."""

from __future__ import annotations

import contextlib
import errno
import sqlite3
from pathlib import Path
from urllib.parse import quote

import xxhash

from tablevault.errors import TVFileError
from tablevault.storage import files
from tablevault.system.sqlite_files import harden_connection, may_open_live, read_snapshot

_READABLE_FORMATS = (2, 3, 4, 5, 6, 7)
"""Format 2 has no records of failed rows, 3 does not count their calls, 4 has no arrays, 5 no usage, and 6 no jobs."""
_APPLICATION_ID = 0x54566370
_BUSY_SECONDS = 30.0


def damaged(path: Path | str, detail: str) -> TVFileError:
    """Return the error about a damaged file of checkpoints."""
    return TVFileError(
        f"{path}: this checkpoint file is damaged ({detail}). "
        "Restore it from a backup, or stop the process and run again."
    )


def _trouble_of_disk(path: Path, error: Exception) -> int | None:
    """Return the errno behind an SQLite error; `None` if the file itself is at fault.

    SQLite also writes beside the file in order to read it; a full disk must not end a paused process.
    """
    code = getattr(error, "sqlite_errorcode", 0)
    match code & 0xFF:
        case sqlite3.SQLITE_FULL:
            return errno.ENOSPC
        case sqlite3.SQLITE_IOERR if code != sqlite3.SQLITE_IOERR_SHORT_READ:
            return errno.EIO
        case sqlite3.SQLITE_CANTOPEN | sqlite3.SQLITE_READONLY | sqlite3.SQLITE_PERM if path.is_file():
            return errno.EACCES
    return None


def read_sqlite_segment(path: Path) -> list[tuple[str, bytes]]:
    """Return the packed parts of a segment in their order, each with its builder.

    Raises `TVFileError` if the file is damaged.
    """
    if path.is_dir():
        raise damaged(path, "it is a folder")
    try:
        with files.plain_file_expected(path), contextlib.closing(_connect_for_reading(path)) as connection:
            harden_connection(connection)
            connection.execute("BEGIN")  # One snapshot for the whole read.
            _check_format(path, connection)
            rows = connection.execute("SELECT number, builder, content, digest FROM part ORDER BY number").fetchall()
    except (sqlite3.Error, UnicodeDecodeError) as error:  # The latter where SQLite quotes damaged text.
        if (trouble := _trouble_of_disk(path, error)) is not None:
            raise OSError(trouble, f"The checkpoints cannot be read ({error})", str(path)) from error
        raise TVFileError(f"{path}: this checkpoint file is damaged or cannot be read ({error}).") from error
    for expected, (number, builder, content, digest) in enumerate(rows, start=1):
        if number != expected or digest != _digest(number, builder, content):
            raise damaged(path, f"part {expected} is missing or has changed")
        if not (isinstance(builder, str) and isinstance(content, bytes)):
            raise damaged(path, f"part {expected} is invalid")
    return [(builder, content) for _, builder, content, _ in rows]


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    if path.exists() and not may_open_live(path):
        return read_snapshot(path)
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=_BUSY_SECONDS)


def _check_format(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise damaged(path, "it is not marked as a checkpoint file")
    if version not in _READABLE_FORMATS:
        raise damaged(path, f"it claims to be of format {version}, which no release has written")


def _digest(number: int, builder: object, content: object) -> bytes:
    digest = xxhash.xxh3_128(f"{number}:{builder}:".encode())
    digest.update(content if isinstance(content, bytes) else b"")
    return bytes(digest.digest())
