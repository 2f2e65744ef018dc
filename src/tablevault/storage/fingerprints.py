"""Fingerprints of rows: 16-byte digests of their inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pyarrow as pa

FINGERPRINT_BYTES = 16
_NONE = bytes(FINGERPRINT_BYTES)
_MOST_IN_ONE_CHUNK = 2**31 // FINGERPRINT_BYTES - 1


@dataclass(frozen=True)
class RowFingerprints:
    """The fingerprint of each row of a builder, and the version of builder and code that computed it."""

    fingerprints: pa.ChunkedArray
    """Null for rows without a fingerprint."""
    codes: np.ndarray[Any, np.dtype[np.int64]]
    """Index into `versions`, for each row."""
    versions: tuple[str, ...]


class Fingerprints:
    """Fingerprints of consecutive rows from 0 in one buffer; a row may lack one.

    Parameters
    ----------
    content
        16 bytes per row, zeros for none.
    """

    __slots__ = ("_content",)

    def __init__(self, content: bytes | bytearray = b"") -> None:
        self._content: bytearray | memoryview = bytearray(content)

    @classmethod
    def of(cls, fingerprints: Iterable[bytes | None]) -> Self:
        """Return the fingerprints of rows."""
        return cls(b"".join([fingerprint or _NONE for fingerprint in fingerprints]))

    @property
    def content(self) -> bytes:
        """16 bytes per row, zeros for none."""
        return bytes(self._content)

    def __len__(self) -> int:
        return len(self._content) // FINGERPRINT_BYTES

    def __iter__(self) -> Iterator[bytes | None]:
        return map(self.__getitem__, range(len(self)))

    def __getitem__(self, row: int) -> bytes | None:
        start = row * FINGERPRINT_BYTES
        fingerprint = bytes(self._content[start : start + FINGERPRINT_BYTES])
        return None if fingerprint == _NONE else fingerprint

    def __setitem__(self, row: int, fingerprint: bytes | None) -> None:
        start = row * FINGERPRINT_BYTES
        self._content[start : start + FINGERPRINT_BYTES] = fingerprint or _NONE

    def rows(self, start: int, stop: int | None = None) -> Self:
        """Return the fingerprints of a range of rows."""
        end = None if stop is None else stop * FINGERPRINT_BYTES
        found = type(self)()
        found._content = self._content[start * FINGERPRINT_BYTES : end]
        return found

    def after(self, start: int) -> Self:
        """Return the fingerprints from a row on as a view, which must not be changed, as these must not meanwhile."""
        found = type(self)()
        found._content = memoryview(self._content)[start * FINGERPRINT_BYTES :]
        return found

    def put(self, start: int, others: Fingerprints) -> None:
        """Overwrite the fingerprints from `start` on with `others`, or append them."""
        first = start * FINGERPRINT_BYTES
        self._content[first : first + len(others._content)] = others._content

    def resize(self, count: int) -> None:
        """Drop the rows beyond `count`, or add rows without a fingerprint."""
        assert isinstance(self._content, bytearray)  # a view is not changed
        missing = count * FINGERPRINT_BYTES - len(self._content)
        if missing < 0:
            del self._content[missing:]
        elif self._content:
            self._content.extend(bytes(missing))
        else:
            self._content = bytearray(missing)

    def column(self) -> pa.ChunkedArray:
        """Return an Arrow column, with null for rows without a fingerprint."""
        starts = range(0, len(self), _MOST_IN_ONE_CHUNK)
        chunks = [
            (self.rows(start, start + _MOST_IN_ONE_CHUNK) if len(starts) > 1 else self)._array() for start in starts
        ]
        return pa.chunked_array(chunks, type=pa.binary())

    def _array(self) -> pa.Array:
        words = np.frombuffer(self._content, dtype=np.uint64)
        there = (words[::2] | words[1::2]) != 0
        ends = np.zeros(len(self) + 1, dtype=np.int32)
        np.cumsum(there, out=ends[1:])
        content = self._content if there.all() else words.reshape(-1, 2)[there].tobytes()
        validity = None if there.all() else pa.array(there).buffers()[1]
        buffers = [validity, pa.py_buffer(ends * FINGERPRINT_BYTES), pa.py_buffer(content)]
        return pa.Array.from_buffers(pa.binary(), len(self), buffers)
