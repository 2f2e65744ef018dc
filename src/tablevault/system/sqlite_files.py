"""Access to untrusted or read-only SQLite files."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import sqlite3
import tempfile
from itertools import repeat
from pathlib import Path
from urllib.parse import quote

from tablevault.system import clock
from tablevault.system.permissions import may_write
from tablevault.system.waiting import poll

_PLAIN = re.compile(r"\s*CREATE\s+(?:TABLE|(?:UNIQUE\s+)?INDEX)\b", re.IGNORECASE)
_COMPUTED = re.compile(r"\bAS\b", re.IGNORECASE)
"""Keyword of generated columns, which no other table or index definition needs."""


class StrangeSchemaError(sqlite3.DatabaseError):
    """The schema has objects other than plain tables and indexes."""

    sqlite_errorcode = sqlite3.SQLITE_CORRUPT


def harden_connection(connection: sqlite3.Connection) -> None:
    """Prepare a new connection to a file that may be damaged or tampered with.

    The schema must not call any functions, and a table name must not refer to a malicious view, whose query may never
    end.

    Raises
    ------
    sqlite3.DatabaseError
        If the file is damaged, or its schema has anything but plain tables and indexes.
    """
    connection.execute("PRAGMA trusted_schema = OFF")
    connection.execute("PRAGMA cell_size_check = ON")
    try:
        for kind, name, text in connection.execute("SELECT type, name, sql FROM sqlite_master"):
            if kind not in ("table", "index") or not _is_plain(text):
                raise StrangeSchemaError(f"unexpected {kind!s:.40} {name!s:.100} in its schema")
    except UnicodeDecodeError as error:
        raise StrangeSchemaError(f"its schema is not text ({error})") from error


def _is_plain(text: object) -> bool:
    if text is None:  # An automatic index.
        return True
    return isinstance(text, str) and bool(_PLAIN.match(text)) and not _COMPUTED.search(text)


# --- modes and reading without writing ----------------------------------------------------------------------------

_WAL_HEADER_SIZE = 32
_TICK = 50_000_000
"""Nanoseconds within which two changes may have the same timestamp; exceeds the clock tick of any kernel."""
_MAXIMUM_COPY_SECONDS = 60.0
"""Seconds within which a copy must succeed between two checkpoints of a busy writer."""

State = tuple[object, ...]


class Snapshot(sqlite3.Connection):
    """An in-memory copy of a SQLite file's committed state."""

    state: State = ()
    """State of the copied files; equal to `state_of` until the next write."""


def create_empty(path: Path) -> None:
    """Create an empty SQLite file with a mode according to the umask; no-op if it exists.

    SQLite itself would create it readable by all and writable only by its owner. Its companions (`-wal`, `-shm`)
    inherit the mode of the file.
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666))


def may_open_live(path: Path) -> bool:
    """Return whether SQLite can open a file without creating companions that lock out the file's owner."""
    return may_write(path) and may_write(path.parent)


def state_of(path: Path) -> State:
    """Return a value that changes with every commit to a SQLite file in WAL mode."""
    return _stamp(path), _stamp(_wal(path))


def read_snapshot(path: Path) -> Snapshot:
    """Return an in-memory copy of a SQLite file's committed state, without touching companions.

    Used if the current user cannot write the file or its folder. A live connection would create companions owned by
    this user, which would prevent the file's owner from writing. SQLite itself reads the file, which preserves the
    locks of other connections of this interpreter. After a concurrent checkpoint, the copy is retried.

    Raises
    ------
    OSError
        If the file is written too often to be copied, or there is no folder for temporary files.
    """
    copied = poll(lambda: _try_to_copy(path), repeat(_TICK / 1e9), _MAXIMUM_COPY_SECONDS)
    if copied is None:
        raise OSError(errno.EBUSY, "The file is written too often to be copied", str(path))
    return copied


def _try_to_copy(path: Path) -> Snapshot | None:
    """Copy a file and the frames of its WAL.

    Returns `None` if a checkpoint may have interfered.
    """
    main, state, header = _stamp(path), state_of(path), _read_wal(path, _WAL_HEADER_SIZE)
    if _is_recent(main):
        return None
    copy = sqlite3.connect(":memory:", factory=Snapshot, check_same_thread=False)
    try:
        _copy_into(copy, path, header)
    except sqlite3.DatabaseError:
        copy.close()
        if _stamp(path) == main:
            raise
        return None
    if _stamp(path) != main or _read_wal(path, _WAL_HEADER_SIZE) != header:
        copy.close()
        return None
    # A change within the same clock tick would go unnoticed, so this copy is not reused.
    copy.state = (object(),) if _is_recent(_stamp(_wal(path))) else state
    return copy


def _copy_into(copy: sqlite3.Connection, path: Path, header: bytes) -> None:
    source = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
    with contextlib.closing(sqlite3.connect(source, uri=True)) as unchanging:
        if not header:
            unchanging.backup(copy)
            return
        with tempfile.TemporaryDirectory(prefix="tablevault-") as folder:
            private = Path(folder) / path.name
            with contextlib.closing(sqlite3.connect(private)) as target:
                unchanging.backup(target)
            # SQLite does not lock the WAL itself, so opening and closing it is safe. The checksums exclude a partially
            # appended commit.
            _wal(private).write_bytes(_read_wal(path))
            with contextlib.closing(sqlite3.connect(private)) as recovered:
                recovered.backup(copy)


def _wal(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def _read_wal(path: Path, size: int = -1) -> bytes:
    try:
        with _wal(path).open("rb") as file:
            return file.read(size)
    except FileNotFoundError:
        return b""


def _stamp(path: Path) -> tuple[int, int, int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _is_recent(stamp: tuple[int, int, int, int] | None) -> bool:
    return stamp is not None and 0 <= clock.file_time_ns() - stamp[3] < _TICK
