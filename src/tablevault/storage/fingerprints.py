"""Fingerprints of rows, which are 16-byte digests of their inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import pyarrow as pa

FINGERPRINT_BYTES = 16
_NONE = bytes(FINGERPRINT_BYTES)
_FEW = 256
"""Number of rows up to which plain Python is faster."""
_ROW = np.dtype((np.void, FINGERPRINT_BYTES))
_MAXIMUM_IN_ONE_CHUNK = 2**31 // FINGERPRINT_BYTES - 1

Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]
Positions: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class RowFingerprints:
    """The fingerprint of each row, and the version that computed it.

    The version is that of builder and code.
    """

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

    def __init__(self, content: bytes | bytearray | memoryview = b"") -> None:
        self._content: bytearray | memoryview = bytearray(content)

    @classmethod
    def of(cls, fingerprints: Iterable[bytes | None]) -> Self:
        """Return the fingerprints of rows."""
        return cls(b"".join([fingerprint or _NONE for fingerprint in fingerprints]))

    @classmethod
    def of_column(cls, column: pa.ChunkedArray) -> Self:
        """Return the fingerprints of a column as returned by `column`.

        Raises `ValueError` if a cell has another size.
        """
        parts = [_bytes_of(chunk) for chunk in column.chunks]
        return cls(parts[0] if len(parts) == 1 else b"".join(parts))

    @property
    def content(self) -> bytes:
        """16 bytes per row, zeros for none."""
        return bytes(self._content)

    @property
    def known(self) -> Mask:
        """Whether each row has a fingerprint."""
        words = self._words()
        known: Mask = (words[:, 0] | words[:, 1]) != 0
        return known

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
        """Return the fingerprints from a row on as a view.

        Neither the view nor these fingerprints may be changed meanwhile.
        """
        found = type(self)()
        found._content = memoryview(self._content)[start * FINGERPRINT_BYTES :]
        return found

    def put(self, start: int, others: Fingerprints) -> None:
        """Overwrite the fingerprints from `start` on with `others`, or append them."""
        first = start * FINGERPRINT_BYTES
        self._content[first : first + len(others._content)] = others._content

    def taken(self, positions: Positions) -> Self:
        """Return the fingerprints of rows in any order."""
        found = type(self)()
        found._content = bytearray(self._rows()[positions].data)
        return found

    def put_at(self, positions: Positions, others: Fingerprints, places: Positions) -> None:
        """Overwrite the fingerprints of existing rows by those of as many others, both in any order."""
        mine, theirs = self._rows(), others._rows()
        if _is_consecutive(positions) and _is_consecutive(places):
            start, first = positions[0], places[0]
            mine[start : start + len(positions)] = theirs[first : first + len(positions)]
        else:
            mine[positions] = theirs[places]

    def equals(self, others: Fingerprints) -> Mask:
        """Return whether each row has the same fingerprint as in as many others; none equals none."""
        mine, theirs = self._words(), others._words()
        equal: Mask = (mine[:, 0] == theirs[:, 0]) & (mine[:, 1] == theirs[:, 1])
        return equal

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
        starts = range(0, len(self), _MAXIMUM_IN_ONE_CHUNK)
        chunks = [
            (self.rows(start, start + _MAXIMUM_IN_ONE_CHUNK) if len(starts) > 1 else self)._array() for start in starts
        ]
        return pa.chunked_array(chunks, type=pa.binary())

    def _rows(self) -> np.ndarray[Any, np.dtype[np.void]]:
        """Return a view of the buffer with one item per row; see `_words`."""
        return np.frombuffer(self._content, dtype=_ROW)

    def _words(self) -> np.ndarray[Any, np.dtype[np.uint64]]:
        """Return a view of the buffer, which must not outlive the next change of its size."""
        return np.frombuffer(self._content, dtype=np.uint64).reshape(-1, 2)

    def _array(self) -> pa.Array:
        there = self.known
        ends = np.zeros(len(self) + 1, dtype=np.int32)
        np.cumsum(there, out=ends[1:])
        content = self._content if there.all() else self._rows()[there].tobytes()
        validity = None if there.all() else pa.array(there).buffers()[1]
        buffers = [validity, pa.py_buffer(ends * FINGERPRINT_BYTES), pa.py_buffer(content)]
        return pa.Array.from_buffers(pa.binary(), len(self), buffers)


def _is_consecutive(rows: Positions) -> bool:
    return bool(len(rows)) and bool((rows[1:] - rows[:-1] == 1).all())


def _bytes_of(column: pa.Array) -> bytes | memoryview:
    """Return the fingerprints in a binary array, zeros for null."""
    if len(column) < _FEW:
        return _joined(column)
    _, offsets, data = column.buffers()
    if column.null_count == len(column) or data is None:
        return bytes(FINGERPRINT_BYTES * len(column))
    ends = np.frombuffer(offsets, np.int32, len(column) + 1, column.offset * 4)
    sizes = np.diff(ends)
    there = column.is_valid().to_numpy(zero_copy_only=False)
    if (sizes[there] != FINGERPRINT_BYTES).any():
        raise ValueError("wrong fingerprint size")
    if sizes[~there].any():
        return _joined(column)
    content = memoryview(data)[ends[0] : ends[-1]]
    if not column.null_count:
        return content
    rows = np.zeros(len(column), _ROW)
    rows[there] = np.frombuffer(content, _ROW)
    return rows.tobytes()


def _joined(column: pa.Array) -> bytes:
    cells = [_NONE if cell is None else cell for cell in column.to_pylist()]
    if set(map(len, cells)) - {FINGERPRINT_BYTES}:
        raise ValueError("wrong fingerprint size")
    return b"".join(cells)
