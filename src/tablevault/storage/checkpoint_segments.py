"""A folder of checkpoint segments, each an append-only file of packed parts.

A segment `segment-<n>.log` belongs to one attempt, which appends to it; numbers begin at 1 and have no gaps. Each flush
is one *record*: a header, and the packed parts of all builders with new data. Headers and records have checksums, and a
record is synced before the next one is written. Closing the segment writes its size to `segment-<n>.end`. So only the
last record of a segment without that file may be incomplete, which a crash or a full disk leaves behind; anything else
that is invalid is damage. Segments of earlier versions (`segment-<n>.db`) are read as well.
"""

from __future__ import annotations

import contextlib
import os
import re
import struct
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import xxhash

from tablevault.errors import TVFileError
from tablevault.names import is_file_name
from tablevault.ports import StoredPart
from tablevault.storage import files
from tablevault.storage.packing import bytes_header, list_header
from tablevault.storage.sqlite_segments import damaged, read_sqlite_segment

SEGMENT_FORMAT = 8
_NAME = re.compile(r"segment-([1-9][0-9]*)\.(log|end|db)")
_MAGIC = b"TVpoints"
_FILE_HEADER = struct.Struct("<8sQ")
"""Magic text and format."""
_HEADER = struct.Struct("<4sIQ16s")
"""Mark, number of the record, size of its content, and digest of the content."""
_CHECK = struct.Struct("<Q")
"""Checksum of a header."""
_HEADER_BYTES = _HEADER.size + _CHECK.size
_RECORD, _END = b"\xf1TVr", b"\xf1TVe"
_END_HEADER = struct.Struct("<4sIQ")
"""Mark, number of records, and size of the file."""
_sync = getattr(os, "fdatasync", os.fsync)  # macOS has only the latter.
_MAXIMUM_PIECES = 512
"""Maximum number of pieces in one system call."""
_encode = msgspec.msgpack.Encoder().encode
_decode_record = msgspec.msgpack.Decoder(list[tuple[str, bytes]]).decode


class SegmentFolder:
    """The checkpoints of one process in a folder, as a `CheckpointLog`.

    Parameters
    ----------
    folder
        Belongs to one process, and to one owner at a time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._segment: _Segment | None = None

    def __str__(self) -> str:
        return str(self._folder)

    def create(self) -> None:
        """Create the folder; a no-op if it exists."""
        files.make_folder(self._folder)

    def prepare(self) -> None:
        """Create the next segment durably, so that no row has to wait for it."""
        if self._segment is None:
            self._segment = _Segment(self._folder, max(self._listed(), default=0) + 1)

    def append(self, parts: Sequence[tuple[str, bytes]]) -> None:
        """Append packed parts as one durable record; after an error, the next call begins a new segment."""
        self.prepare()
        segment, self._segment = self._segment, None
        assert segment is not None  # `prepare` has just made it.
        try:
            segment.append(parts)
        except BaseException:
            segment.abandon()
            raise
        self._segment = segment

    def save_frame(self, builder: str, write: Callable[[Path], object]) -> str:
        """Save a frame durably under a free name."""
        number = 1
        while (path := self._folder / f"{builder}-{number}.parquet").exists():
            number += 1
        write(path)
        files.sync_new_file(path)
        return path.name

    def frame(self, name: str) -> Path:
        """Return the path of a saved frame."""
        if not is_file_name(name):
            raise damaged(self._folder, f"{name!r:.100} is not the name of a frame")
        return self._folder / name

    def close(self) -> None:
        """Mark the end of the segment, if there is one."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.close()

    def abandon(self) -> None:
        """Leave the segment as a crash would."""
        segment, self._segment = self._segment, None
        if segment is not None:
            segment.abandon()

    def read(self, builder: str | None = None) -> Iterator[StoredPart]:
        """Yield the parts of one builder, or of all, in the order of appending."""
        for path, parts in self._contents():
            for owner, content in parts:
                if builder is None or owner == builder:
                    yield StoredPart(owner, content, str(path))

    def _contents(self) -> Iterator[tuple[Path, list[tuple[str, bytes]]]]:
        """Yield each segment with its parts."""
        for path, end in self._segments():
            yield path, read_sqlite_segment(path) if path.suffix == ".db" else _read_segment(path, end)

    def _segments(self) -> list[tuple[Path, Path | None]]:
        """Return the segments in their order, each with the file that says where it ends, if it was closed.

        Raises `TVFileError` if one is missing, or has two files.
        """
        files_of = self._listed()
        found = []
        for number in range(1, max(files_of, default=0) + 1):
            contents = [path for path in files_of.get(number, ()) if path.suffix != ".end"]
            if not contents:
                raise TVFileError(f"{self._folder}: segment-{number} of its checkpoints is missing; put it back.")
            if len(contents) > 1:
                names = " and ".join(path.name for path in contents)
                raise TVFileError(
                    f"{self._folder}: its checkpoints have {names}, but one segment is one file; remove the one that "
                    "does not belong there."
                )
            end = contents[0].with_suffix(".end")
            found.append((contents[0], end if end in files_of[number] else None))
        return found

    def _listed(self) -> dict[int, list[Path]]:
        """Return the files of segments by number."""
        try:
            entries = sorted(files.unlinked(self._folder).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return {}
        found: dict[int, list[Path]] = {}
        for path in entries:
            if match := _NAME.fullmatch(path.name):
                found.setdefault(int(match[1]), []).append(path)
        return found


class _Segment:
    """A new segment, open for appending by one thread.

    Parameters
    ----------
    folder
        The folder of segments.
    number
        Number of this one.
    """

    def __init__(self, folder: Path, number: int) -> None:
        self._path = folder / f"segment-{number}.log"
        self._records = 0
        self._size = _FILE_HEADER.size
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | getattr(os, "O_CLOEXEC", 0)
        with _named(self._path):
            self._file = os.open(self._path, flags, 0o666)
            try:
                _write_all(self._file, [_FILE_HEADER.pack(_MAGIC, SEGMENT_FORMAT)])
                os.fsync(self._file)
                files.fsync_folder(folder)
            except OSError:
                os.close(self._file)
                with contextlib.suppress(OSError):
                    self._path.unlink()
                raise

    def append(self, parts: Sequence[tuple[str, bytes]]) -> None:
        """Append one record, durably."""
        pieces = [list_header(len(parts))]
        for builder, content in parts:
            pieces += [list_header(2), _encode(builder), bytes_header(len(content)), content]
        size = sum(map(len, pieces))
        self._records += 1
        header = _HEADER.pack(_RECORD, self._records, size, _digest(pieces))
        with _named(self._path):
            _write_all(self._file, [_checked(header, self._size), *pieces])
            _sync(self._file)
        self._size += _HEADER_BYTES + size

    def close(self) -> None:
        """Record durably where the file ends."""
        self.abandon()
        end = _END_HEADER.pack(_END, self._records, self._size)
        with _named(self._path):
            files.write_bytes(self._path.with_suffix(".end"), _checked(end, 0))

    def abandon(self) -> None:
        """Close the file as a crash would."""
        with contextlib.suppress(OSError):  # Everything that counts is synced.
            os.close(self._file)


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Name the file in errors about the disk."""
    try:
        yield
    except OSError as error:
        if error.filename is not None:
            raise
        raise OSError(error.errno, f"Checkpoints cannot be written ({error.strerror})", str(path)) from error


def _write_all(file: int, pieces: list[bytes]) -> None:
    """Write pieces with as few system calls as possible."""
    rest: list[memoryview] = [memoryview(piece) for piece in pieces if piece]
    while rest:
        written = os.writev(file, rest[:_MAXIMUM_PIECES])
        while rest and written >= len(rest[0]):
            written -= len(rest.pop(0))
        if written:
            rest[0] = rest[0][written:]


def _digest(pieces: Sequence[Any]) -> bytes:
    digest = xxhash.xxh3_128()
    for piece in pieces:
        digest.update(piece)
    return bytes(digest.digest())


def _checked(header: bytes, place: int) -> bytes:
    """Return a header with its checksum.

    The checksum depends on the place, so that the same bytes elsewhere are not taken for a header.
    """
    return header + _CHECK.pack(xxhash.xxh64_intdigest(header, place))


# --- reading ------------------------------------------------------------------------------------------------------


def _read_segment(path: Path, end: Path | None) -> list[tuple[str, bytes]]:
    """Return the packed parts of a segment, each with its builder; raises `TVFileError` if it is damaged.

    Parameters
    ----------
    path
        The file.
    end
        The file that says where it ends, if it was closed.
    """
    with files.plain_file_expected(path), path.open("rb") as file:
        reader = _Reader(path, file, is_closed=end is not None)
        parts = list(reader.parts())
        found = reader.records, reader.size
    if end is not None and found != (closed := _read_end(end)):
        counts = f"{found[0]:,} records and {found[1]:,} bytes instead of {closed[0]:,} and {closed[1]:,}"
        raise damaged(path, f"it has {counts}")
    return parts


def _read_end(path: Path) -> tuple[int, int]:
    """Return the number of records and the size of a closed segment."""
    content = files.read_bytes(path)
    header = content[: _END_HEADER.size]
    if len(header) < _END_HEADER.size or content != _checked(header, 0) or not header.startswith(_END):
        raise damaged(path, "it has changed")
    _, records, size = _END_HEADER.unpack(header)
    return records, size


class _InvalidError(Exception):
    """Something that was read is invalid, or not complete yet."""


class _Reader:
    """Reads one segment.

    Parameters
    ----------
    path
        The file, for messages.
    file
        The same, opened.
    is_closed
        Whether it is complete.
    """

    def __init__(self, path: Path, file: BinaryIO, is_closed: bool) -> None:
        self.records = 0
        """Number of records read."""
        self.size = 0
        """Number of bytes read."""
        self._path = path
        self._file = file
        self._is_closed = is_closed

    def parts(self) -> Iterator[tuple[str, bytes]]:
        """Yield the packed parts, each with its builder."""
        if self._checked(self._read_start) is None:
            return
        while (content := self._checked(self._read_record)) is not None:
            yield from self._decoded(content)

    def _checked(self, read: Callable[[], bytes | None]) -> bytes | None:
        """Return what `read` reads from the current place on; `None` at the end, and for an incomplete tail.

        Another interpreter may be appending. It syncs each record before it begins the next one, so something that is
        invalid before a later record has become complete since it was read, or is damaged: it is read again.
        """
        for _ in range(2):
            try:
                return read()
            except _InvalidError as error:
                problem = str(error)
            if not self._is_closed and not self._is_followed():
                return None
            self._go_back()
        raise damaged(self._path, problem)

    def _read_start(self) -> bytes:
        start = self._file.read(_FILE_HEADER.size)
        if not self._is_file_header(start):
            raise _InvalidError("it is not marked as a checkpoint file")
        self.size = len(start)
        return start

    def _read_record(self) -> bytes | None:
        header = self._file.read(_HEADER_BYTES)
        if not header:
            return None
        record = _record_header(header, self.size)
        if record is None or record[0] != self.records + 1:
            raise _InvalidError(f"the header of record {self.records + 1} is invalid")
        _, size, digest = record
        # A header that claims more than there is must not take the memory for it.
        content = self._file.read(size) if size <= os.fstat(self._file.fileno()).st_size else b""
        if len(content) != size or _digest([content]) != digest:
            raise _InvalidError(f"record {self.records + 1} has changed")
        self.records += 1
        self.size += len(header) + size
        return content

    def _is_file_header(self, start: bytes) -> bool:
        if len(start) < _FILE_HEADER.size or not start.startswith(_MAGIC):
            return False
        _, version = _FILE_HEADER.unpack(start)
        if version > SEGMENT_FORMAT:
            raise TVFileError(
                f"{self._path}: written in format {version} by a newer TableVault; update TableVault to read it."
            )
        return bool(version == SEGMENT_FORMAT)

    def _is_followed(self) -> bool:
        """Return whether there is a record after the current place."""
        self._go_back()
        tail = self._file.read()
        later = 0
        while (later := tail.find(_RECORD, later + 1)) != -1:
            if _record_header(tail[later : later + _HEADER_BYTES], self.size + later) is not None:
                return True
        return False

    def _go_back(self) -> None:
        """Return to the current place, without what was read ahead of it."""
        self._file.seek(0, os.SEEK_END)
        self._file.seek(self.size)

    def _decoded(self, content: bytes) -> list[tuple[str, bytes]]:
        try:
            return _decode_record(content)
        except (msgspec.MsgspecError, RecursionError) as error:
            raise damaged(self._path, f"record {self.records} is invalid: {error}") from error


def _record_header(content: bytes, place: int) -> tuple[int, int, bytes] | None:
    """Return number, size and digest of the record at a place, or `None` for an invalid header."""
    header = content[: _HEADER.size]
    if content != _checked(header, place) or not header.startswith(_RECORD):
        return None
    _, number, size, digest = _HEADER.unpack(header)
    return number, size, digest
