"""A small file of counters shared by interpreters, changed in transactions under a kernel lock.

The state is stored twice. A change overwrites the older copy and takes effect once its checksum is valid, so that a
process killed at any moment leaves the previous state. The kernel releases the lock of a dead process. Nothing is
synced: the counters need not survive a power cut. A missing or damaged file means new counters.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import struct
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import msgspec
import xxhash

from tablevault.storage.files import TEMPORARY_SUFFIX
from tablevault.system import clock
from tablevault.system.forks import ForkHooks, around_forks

State = TypeVar("State")

_MAGIC = b"TVLIMIT1"
_HEADER = struct.Struct("=8sQ")
"""Magic bytes, and the capacity of each copy in bytes."""
_COPY = struct.Struct("=QQQ")
"""Header of each copy: its number, length and checksum."""
_MINIMUM_SIZE = 8 * 1024
_PATIENCE = 30.0
"""Seconds to wait for the lock, which is normally held for microseconds."""
_MAXIMUM_PAUSE = 0.002
_OPEN = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


class CounterFile(Generic[State]):
    """Counters in a file.

    Parameters
    ----------
    path
        The file, created on first use.
    kind
        A msgspec class; its instance without arguments is the state of a new file.
    """

    def __init__(self, path: Path, kind: type[State]) -> None:
        self._path = path
        self._new = kind
        self._decode = msgspec.msgpack.Decoder(kind).decode
        self._encode = msgspec.msgpack.Encoder().encode
        self._descriptor: int | None = None
        _open_files.add(self)

    @contextmanager
    def change(self) -> Iterator[State]:
        """Yield the state, and write it after the block; an exception leaves it unchanged.

        Raises
        ------
        OSError
            If the file cannot be written.
        """
        descriptor = self._lock()
        try:
            number, capacity, state = self._read(descriptor)
            yield state
            self._write(descriptor, number, capacity, self._encode(state))
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_UN)

    def close(self) -> None:
        """Close the file."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _lock(self) -> int:
        """Lock the file that is now at the path, and return its descriptor."""
        deadline = clock.monotonic() + _PATIENCE
        pause = 0.00005
        while True:
            if self._descriptor is None:
                self._descriptor = self._open()
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if clock.monotonic() >= deadline:
                    raise OSError(errno.EBUSY, "The counters of services remain locked", str(self._path)) from None
                clock.sleep(pause)
                pause = min(pause * 2, _MAXIMUM_PAUSE)
                continue
            if self._is_current(self._descriptor):
                return self._descriptor
            self.close()

    def _is_current(self, descriptor: int) -> bool:
        """Return whether the file that was opened is still the one at its path."""
        try:
            return os.path.samestat(os.fstat(descriptor), os.lstat(self._path))
        except FileNotFoundError:
            return False

    def _open(self) -> int:
        for _ in range(2):
            with contextlib.suppress(FileNotFoundError):
                if not stat.S_ISREG(os.lstat(self._path).st_mode):
                    # An untrusted vault may have anything under this name.
                    self._path.unlink()
            with contextlib.suppress(FileExistsError):
                return os.open(self._path, _OPEN | os.O_CREAT | os.O_EXCL, 0o666)
            with contextlib.suppress(FileNotFoundError):
                return os.open(self._path, _OPEN)
        raise OSError(errno.EBUSY, "The counters of services cannot be opened", str(self._path))

    def _read(self, descriptor: int) -> tuple[int, int, State]:
        """Return the number of the newest valid copy, the capacity of each copy, and the state."""
        content = os.pread(descriptor, os.fstat(descriptor).st_size, 0)
        if len(content) < _HEADER.size:
            return 0, 0, self._new()
        magic, capacity = _HEADER.unpack_from(content)
        if magic != _MAGIC or len(content) < _HEADER.size + 2 * capacity or capacity < _MINIMUM_SIZE:
            return 0, 0, self._new()
        starts = (_HEADER.size, _HEADER.size + capacity)
        copies = [(*_COPY.unpack_from(content, start), start + _COPY.size) for start in starts]
        # The newer one first; the older one counts only if the newer one is incomplete.
        for number, length, digest, start in sorted(copies, reverse=True):
            packed = content[start : start + length]
            if length <= capacity - _COPY.size and digest == _digest(number, packed):
                with contextlib.suppress(msgspec.DecodeError, ValueError):
                    return number, capacity, self._decode(packed)
        return 0, capacity, self._new()

    def _write(self, descriptor: int, number: int, capacity: int, packed: bytes) -> None:
        if _COPY.size + len(packed) > capacity:
            capacity = max(_MINIMUM_SIZE, 2 * (_COPY.size + len(packed)))
            self._replace(capacity, number + 1, packed)
            return
        number += 1
        copy = _COPY.pack(number, len(packed), _digest(number, packed)) + packed
        _write_whole(descriptor, copy, _HEADER.size + (number % 2) * capacity)

    def _replace(self, capacity: int, number: int, packed: bytes) -> None:
        """Replace this file, whose lock is held, with a larger one."""
        unfinished = self._path.with_name(f"{self._path.name}.{os.getpid()}{TEMPORARY_SUFFIX}")
        unfinished.unlink(missing_ok=True)
        descriptor = os.open(unfinished, _OPEN | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            # Reserve the whole size at once, so that a full disk leaves the counters unchanged.
            _write_whole(descriptor, _HEADER.pack(_MAGIC, capacity) + bytes(2 * capacity), 0)
            copy = _COPY.pack(number, len(packed), _digest(number, packed)) + packed
            _write_whole(descriptor, copy, _HEADER.size + (number % 2) * capacity)
            unfinished.replace(self._path)
        except OSError:
            with contextlib.suppress(OSError):
                unfinished.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)


def _write_whole(descriptor: int, content: bytes, start: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(descriptor, view, start)
        view, start = view[written:], start + written


def _digest(number: int, packed: bytes) -> int:
    return xxhash.xxh3_64_intdigest(packed, seed=number)


_open_files: weakref.WeakSet[CounterFile[Any]] = weakref.WeakSet()


def _close_in_child() -> None:
    """Close the file in a forked child.

    The child would otherwise keep the lock of a dead parent.
    """
    for file in list(_open_files):
        file.close()


around_forks(ForkHooks(in_child=_close_in_child))
