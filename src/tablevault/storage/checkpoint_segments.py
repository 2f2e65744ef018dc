"""Checkpoint segments and the parts stored in them.

A segment `segment-<n>.db` is an SQLite file in WAL mode that one attempt appends to; numbers begin at 1 and have no
gaps. Each flush is one transaction that inserts one *part* per builder with new data, nearly always a single one. A
part is packed columns, guarded by a digest, since SQLite itself does not notice a flipped bit in a row. A segment is
created under another name and renamed when it is complete, so that readers never see a partial one.
"""

from __future__ import annotations

import contextlib
import errno
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote

import msgspec
import xxhash

from tablevault.errors import TVFileError
from tablevault.names import is_file_name
from tablevault.storage import files
from tablevault.storage.fingerprints import FINGERPRINT_BYTES
from tablevault.storage.packing import bytes_header, list_header, pack_columns, size_of, unpack
from tablevault.system.sqlite_files import create_empty, harden_connection, may_open_live, read_snapshot
from tablevault.values.processes import WHOLE_BUILDER, JobRecord, Usage

SEGMENT_FORMAT = 7
_READABLE_FORMATS = (2, 3, 4, 5, 6, SEGMENT_FORMAT)
"""Format 2 has no records of failed rows, 3 does not count their calls, 4 has no arrays, 5 no usage, and 6 no jobs."""
_APPLICATION_ID = 0x54566370
_SEGMENT_NAME = re.compile(r"segment-([1-9][0-9]*)\.db")
_UNFINISHED_SEGMENT = ".segment.db.unfinished"
_BUSY_SECONDS = 30.0
_PAGE_BYTES = 2**14  # Large parts cost less in large pages.
_WAL_BYTES = 2**26  # Copying the WAL costs two more fsyncs, so it happens once per 64 MiB instead of 4.
_LARGE_PART, _LARGE_WAL_BYTES = 2**22, 2**30
"""While parts are this large, the WAL is copied at this size, so that vectors are written once rather than twice."""
_PACKED_FIELDS = (9, 11, 12, 13, 14)
"""Fields of a part in formats 2, 3, 4 and 5, 6, and now."""
_MAXIMUM_EMPTY_ROWS = 2**20  # Per part: rows without columns take no space, so a file could claim any number.
_encode = msgspec.msgpack.Encoder().encode
_decode_fields = msgspec.msgpack.Decoder().decode


@dataclass(slots=True, eq=False)
class Part:
    """The rows of one builder in one flush.

    They are parallel lists, in the order of appending.
    """

    builder: str
    columns: tuple[str, ...]
    code: str
    """The code version under which the rows of this part were computed."""
    forgotten: tuple[int, ...] = ()
    """Positions whose earlier rows are void."""
    finished: dict[str, Any] | None = None
    """Set if the builder is complete: its row count and, for a whole frame, the facts about that frame."""
    positions: Sequence[int] = field(default_factory=list)
    values: list[list[object]] = field(default_factory=list)
    """One list per column."""
    fingerprints: list[bytes] | bytes = field(default_factory=list)
    """16 bytes per row, joined; or a list with one per row; or a list with one that all rows share."""
    artifacts: dict[int, list[tuple[str, int, str]]] = field(default_factory=dict)
    """Path, size and SHA-256 of recorded files, by position."""
    failures: dict[int, bytes] = field(default_factory=dict)
    """Packed records of rows that failed or were skipped, by position."""
    is_nested: bool = False
    """Whether a cell is a list with the cells of several rows."""
    calls: dict[int, int] = field(default_factory=dict)
    """Number of calls of this process that have ended without a result, by position, where that is counted."""
    usage: dict[int, Usage] = field(default_factory=dict)
    """Usage of calls so far in this process, by position, where it is counted."""
    jobs: dict[str, JobRecord] = field(default_factory=dict)
    """Jobs at a provider, by their tokens."""
    are_atoms: bool = False
    """Whether all values are known to have classes in `packing.ATOMS`; not stored."""

    def each_fingerprint(self) -> list[bytes]:
        """Return one fingerprint per row."""
        if isinstance(self.fingerprints, bytes):
            starts = range(0, len(self.fingerprints), FINGERPRINT_BYTES)
            return [self.fingerprints[start : start + FINGERPRINT_BYTES] for start in starts]
        return self.fingerprints * len(self.positions) if len(self.fingerprints) == 1 else self.fingerprints

    def packed(self) -> bytes:
        """Return the part as bytes; raises `TypeError` or `ValueError` if a value cannot be stored."""
        artifacts = [[position, *map(list, records)] for position, records in self.artifacts.items()]
        # Everything but the values consists of MessagePack types, so items need no individual check.
        before = [
            self.builder,
            self.columns,
            self.code,
            self.forgotten,
            self.finished,
            _packed_positions(self.positions),
        ]
        after = [
            self.fingerprints,
            artifacts,
            list(self.failures.items()),
            self.is_nested,
            list(self.calls.items()),
            list(self.usage.items()),
            list(self.jobs.values()),
        ]
        values = pack_columns(self.values, self.are_atoms)
        if len(values) == 1:
            return _encode([*before, values[0], *after])
        # Copy the bytes of arrays, which may be large, only once.
        header = list_header(len(before) + 1 + len(after))
        size = bytes_header(size_of(values))
        return b"".join([header, *map(_encode, before), size, *values, *map(_encode, after)])

    @classmethod
    def unpacked(cls, content: bytes) -> Self:
        """Decode and check a part from the bytes that `packed` returned."""
        fields: Any = _decode_fields(content)
        if len(fields) not in _PACKED_FIELDS:
            raise ValueError(f"a part has {_PACKED_FIELDS[-1]} fields, this one {len(fields)}")
        builder, columns, code, forgotten, finished, positions, values, fingerprints, artifacts, *rest = fields
        part = cls(
            builder,
            tuple(columns),
            code,
            tuple(forgotten),
            finished,
            range(positions["start"], positions["stop"]) if isinstance(positions, dict) else positions,
            unpack(values),
            fingerprints,
            {position: [tuple(record) for record in records] for position, *records in artifacts},
            dict(rest[0]) if rest else {},
            bool(rest and rest[1]),
            dict(rest[2]) if len(rest) > 2 else {},
            msgspec.convert(dict(rest[3]), type=dict[int, Usage]) if len(rest) > 3 else {},
            {job.token: job for job in msgspec.convert(rest[4], type=list[JobRecord])} if len(rest) > 4 else {},
        )
        part.check()
        return part

    def check(self) -> None:
        """Raise `ValueError` or `TypeError` if the fields are inconsistent; a digest guards only against accidents."""
        if not all(isinstance(name, str) for name in (self.builder, self.code, *self.columns)):
            raise ValueError("a name is not text")
        rows = len(self.positions)
        widths = [len(column) for column in self.values]
        if widths != [rows] * len(self.columns) or (not widths and rows > _MAXIMUM_EMPTY_ROWS):
            raise ValueError("its columns differ in length")
        if len(self.each_fingerprint()) != rows:
            raise ValueError("the number of fingerprints differs from the number of rows")
        listed = [
            self.forgotten,
            self.artifacts,
            self.failures,
            self.calls,
            self.calls.values(),
            self.positions if not isinstance(self.positions, range) else (),
        ]
        if not all(type(number) is int and number >= 0 for numbers in listed for number in numbers):
            raise ValueError("invalid row position or number of calls")
        if not all(isinstance(record, bytes) for record in self.failures.values()):
            raise ValueError("invalid record of a failed row")
        if any(position < WHOLE_BUILDER for position in self.usage):
            raise ValueError("invalid row position of usage")
        if any(position < 0 for job in self.jobs.values() for position in job.positions):
            raise ValueError("invalid row position of a job")
        if self.finished is not None:
            _check_finished(self.finished)


def _check_finished(finished: dict[str, Any]) -> None:
    total, frame = finished["total"], finished.get("frame")
    if type(total) is not int or total < 0:
        raise ValueError("invalid row count")
    if frame is not None and not (is_file_name(frame) and isinstance(finished["fingerprint"], bytes)):
        raise ValueError("invalid facts about its frame")
    for path, size, digest in finished.get("artifacts", ()):
        if not (isinstance(path, str) and isinstance(size, int) and isinstance(digest, str)):
            raise ValueError("invalid record of an artifact")  # noqa: TRY004 - as everything else that is wrong


def _packed_positions(positions: Sequence[int]) -> object:
    return {"start": positions.start, "stop": positions.stop} if isinstance(positions, range) else positions


class SegmentWriter:
    """A new segment, open for appending by one thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._number = self._wal_bytes = 0
        with _translated(path):
            self._connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None)
            self._connection.execute("PRAGMA synchronous=FULL")
            self._limit_wal(_WAL_BYTES)

    @classmethod
    def create(cls, folder: Path) -> Self:
        """Create the next segment of a folder, durably.

        There must be no other writer in this folder.
        """
        numbers = [number for number, _ in _segments(folder)]
        path = folder / f"segment-{max(numbers, default=0) + 1}.db"
        unfinished = folder / _UNFINISHED_SEGMENT
        _remove_database(unfinished)
        with _translated(unfinished):
            _write_empty_segment(unfinished)
        files.fsync_file(unfinished)
        unfinished.rename(path)
        files.fsync_folder(folder)
        return cls(path)

    def write(self, contents: Iterable[tuple[str, bytes]]) -> None:
        """Append packed parts (with their builders) in one durable transaction."""
        rows = []
        number = self._number
        for builder, content in contents:
            number += 1
            rows.append((number, builder, content, _digest(number, builder, content)))
        insertion = "INSERT INTO part (number, builder, content, digest) VALUES (?, ?, ?, ?)"
        with _translated(self.path):
            large = any(len(content) >= _LARGE_PART for _, _, content, _ in rows)
            self._limit_wal(_LARGE_WAL_BYTES if large else _WAL_BYTES)
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(insertion, rows)
            self._connection.execute("COMMIT")
        self._number = number

    def _limit_wal(self, size: int) -> None:
        if size != self._wal_bytes:
            self._connection.execute(f"PRAGMA wal_autocheckpoint={size // _PAGE_BYTES}")
            self._wal_bytes = size

    def close(self) -> None:
        """Close the segment; its content becomes one file."""
        with _translated(self.path):
            self._connection.close()

    def abandon(self) -> None:
        """Close the segment without copying its WAL into it.

        Used after errors, or if it will not be read again.
        """
        with contextlib.ExitStack() as closed_last:
            with contextlib.suppress(sqlite3.Error):
                # SQLite copies the WAL when the last connection closes, which a read-only one cannot do.
                reader = closed_last.enter_context(contextlib.closing(_connect_for_reading(self.path)))
                reader.execute("SELECT number FROM part LIMIT 1").fetchall()
            self._connection.close()

    def leak(self) -> None:
        """Keep the connection from ever being closed, since a forked child would close its parent's files."""
        import ctypes

        ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._connection))


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    """Translate SQLite's errors while a segment is written into the disk errors that caused them."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_FULL
        number = errno.ENOSPC if full else errno.EIO
        raise OSError(number, f"Checkpoints cannot be written ({error})", str(path)) from error


def read_parts(folder: Path, builder: str | None) -> Iterator[Part]:
    """Yield the parts of one builder, or of all (`None`), in writing order.

    May be used while another thread or interpreter appends. Raises `TVFileError` if a segment is damaged.
    """
    for expected, (number, path) in enumerate(_segments(folder), start=1):
        if number != expected:
            raise TVFileError(f"{folder}: segment-{expected}.db of its checkpoints is missing; put it back.")
        for owner, content in _read_segment(path):
            if builder is None or owner == builder:
                yield _decode(path, content)


def read_builders(folder: Path) -> tuple[str, ...]:
    """Return the names of the builders with parts, in order of their first part."""
    return tuple(dict.fromkeys(owner for _, path in _segments(folder) for owner, _ in _read_segment(path)))


def _segments(folder: Path) -> list[tuple[int, Path]]:
    try:
        entries = list(files.unlinked(folder).iterdir())
    except FileNotFoundError:
        return []
    matches = ((_SEGMENT_NAME.fullmatch(path.name), path) for path in entries)
    return sorted((int(match[1]), path) for match, path in matches if match)


_empty_segment: bytes | None = None
"""The content of an empty segment, once known."""


def _write_empty_segment(path: Path) -> None:
    """Write an empty segment.

    SQLite makes only the first one of an interpreter, because it writes it in many steps.
    """
    global _empty_segment
    create_empty(path)
    if _empty_segment is not None:
        path.write_bytes(_empty_segment)
        return
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA page_size={_PAGE_BYTES}")
        connection.execute("PRAGMA synchronous=OFF")  # It is fsynced as a whole before it is renamed.
        connection.execute(f"PRAGMA application_id={_APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version={SEGMENT_FORMAT}")
        connection.execute(
            "CREATE TABLE part (number INTEGER PRIMARY KEY, builder TEXT NOT NULL, content BLOB NOT NULL,"
            " digest BLOB NOT NULL)"
        )
        connection.execute("PRAGMA journal_mode=WAL")
    _empty_segment = path.read_bytes()


def _remove_database(path: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)


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


def _read_segment(path: Path) -> list[tuple[str, bytes]]:
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
            raise _damaged(path, f"part {expected} is missing or has changed")
    return [(builder, content) for _, builder, content, _ in rows]


def _connect_for_reading(path: Path) -> sqlite3.Connection:
    if path.exists() and not may_open_live(path):
        return read_snapshot(path)
    return sqlite3.connect(f"file:{quote(str(path.absolute()))}?mode=ro", uri=True, timeout=_BUSY_SECONDS)


def _check_format(path: Path, connection: sqlite3.Connection) -> None:
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != _APPLICATION_ID:
        raise _damaged(path, "it is not marked as a checkpoint file")
    if version > SEGMENT_FORMAT:
        raise TVFileError(f"{path}: written in format {version} by a newer TableVault; update TableVault to read it.")
    if version not in _READABLE_FORMATS:
        raise _damaged(path, f"it claims to be of format {version}, which no release has written")


def _decode(path: Path, content: bytes) -> Part:
    try:
        return Part.unpacked(content)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, detail: str) -> TVFileError:
    return TVFileError(
        f"{path}: this checkpoint file is damaged ({detail}). "
        "Restore it from a backup, or stop the process and run again."
    )


def _digest(number: int, builder: object, content: object) -> bytes:
    digest = xxhash.xxh3_128(f"{number}:{builder}:".encode())
    digest.update(content if isinstance(content, bytes) else b"")
    return bytes(digest.digest())
