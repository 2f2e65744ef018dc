"""Checksums inside Parquet files.

They turn a flipped bit into an error instead of a wrong frame.

Parquet has checksums for pages, but not for their headers or the footer, and readers check different parts.
So a *seal* stands between the last page and the footer, where every Parquet reader skips it::

    PAR1, pages, seal, footer, length of the footer (4), PAR1

    seal = MessagePack of [digest of the footer, [[[start, length, digest] of each column] of each row group]],
           length of that (4), digest of that, TVSEAL01

Digests are 128 bits of XXH3. They guard against accidents, not tampering. The footer also locates the columns, but
Arrow crashes the interpreter when it reads a forged footer.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import BinaryIO, Self

import msgspec
import xxhash

from tablevault.system.cores import usable_cores

_MAGIC = b"PAR1"
_SEAL_MAGIC = b"TVSEAL01"
_LENGTH_BYTES = 4
_DIGEST_BYTES = 16
_SEAL_END = _LENGTH_BYTES + _DIGEST_BYTES + len(_SEAL_MAGIC)
_FILE_END = _LENGTH_BYTES + len(_MAGIC)
_PIECE_BYTES = 1 << 20
_MAXIMUM_THREADS = 4
_LARGE_BYTES = 1 << 25
"""Size in bytes from which several threads read faster than one."""

Span = tuple[int, int]
"""Start and length in bytes of the pages of one column in one row group."""


class _Column(msgspec.Struct, frozen=True, array_like=True):
    start: int
    length: int
    digest: bytes


class DamagedFileError(ValueError):
    """A file has changed since it was written; the message names the difference."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The digests of one file."""

    footer: bytes
    columns: list[list[_Column]]
    """For each row group, each of its columns."""

    @classmethod
    def read(cls, file: BinaryIO) -> Self:
        """Read the seal of a file and check the footer against it; raises `DamagedFileError`."""
        footer_start, footer = _footer(file)
        file.seek(max(footer_start - _SEAL_END, 0))
        end = file.read(_SEAL_END)
        if len(end) != _SEAL_END or not end.endswith(_SEAL_MAGIC):
            raise DamagedFileError("its checksums are missing")
        length = int.from_bytes(end[:_LENGTH_BYTES], "little")
        file.seek(max(footer_start - _SEAL_END - length, 0))
        content = file.read(length)
        if _digest([content]) != end[_LENGTH_BYTES : _LENGTH_BYTES + _DIGEST_BYTES]:
            raise DamagedFileError("its checksums are damaged")
        footer_digest, columns = msgspec.msgpack.decode(content, type=tuple[bytes, list[list[_Column]]])
        if _digest([footer]) != footer_digest:
            raise DamagedFileError("its footer does not match its checksum")
        if any(
            not 0 <= column.start <= column.start + column.length <= footer_start
            for group in columns
            for column in group
        ):
            raise DamagedFileError("its checksums refer to bytes beyond its end")
        return cls(footer_digest, columns)

    def place(self, row_group: int, column: int) -> Span:
        """Return the byte span of one column in one row group."""
        guarded = self.columns[row_group][column]
        return guarded.start, guarded.length

    def check(self, file: BinaryIO, parts: Sequence[tuple[int, int]]) -> None:
        """Compare columns of row groups with their digests; raises `DamagedFileError` if one differs.

        Parameters
        ----------
        file
            The file.
        parts
            The row group and column of each.
        """
        size = sum(self.columns[row_group][column].length for row_group, column in parts)
        if size < _LARGE_BYTES or not hasattr(os, "pread"):
            for part in parts:
                self._compare(partial(_pieces, file), part)
            return
        with ThreadPoolExecutor(min(_MAXIMUM_THREADS, usable_cores()), "tablevault-checksums") as pool:
            try:
                for _ in pool.map(partial(self._compare, partial(_pieces_at, file.fileno())), parts):
                    pass
            except BaseException:
                # An interrupt must not wait for the rest of the file.
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _compare(self, pieces: Callable[[Span], Iterable[bytes]], part: tuple[int, int]) -> None:
        row_group, column = part
        if _digest(pieces(self.place(row_group, column))) != self.columns[row_group][column].digest:
            raise DamagedFileError(f"column {column} of row group {row_group} does not match its checksum")


def seal(file: BinaryIO, row_groups: Sequence[Sequence[Span]]) -> None:
    """Write the seal into a complete Parquet file, given the spans of its columns."""
    columns = [[_Column(*span, _digest(_pieces(file, span))) for span in spans] for spans in row_groups]
    footer_start, footer = _footer(file)
    content = msgspec.msgpack.encode((_digest([footer]), columns))
    file.seek(footer_start)
    file.write(content)
    file.write(len(content).to_bytes(_LENGTH_BYTES, "little") + _digest([content]) + _SEAL_MAGIC)
    file.write(footer + len(footer).to_bytes(_LENGTH_BYTES, "little") + _MAGIC)


def _footer(file: BinaryIO) -> tuple[int, bytes]:
    """Return the offset and content of the footer."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(size - _FILE_END, 0))
    end = file.read(_FILE_END)
    length = int.from_bytes(end[:_LENGTH_BYTES], "little")
    start = size - _FILE_END - length
    if not end.endswith(_MAGIC) or start < len(_MAGIC):
        raise DamagedFileError("missing Parquet footer; the file may be truncated")
    file.seek(start)
    footer = file.read(length)
    if len(footer) != length:
        raise DamagedFileError("it is truncated")
    return start, footer


def _pieces(file: BinaryIO, span: Span) -> Iterator[bytes]:
    start, length = span
    file.seek(start)
    for offset in itertools.count(0, _PIECE_BYTES):
        piece = file.read(max(min(_PIECE_BYTES, length - offset), 0))
        if not piece:
            return
        yield piece


def _pieces_at(descriptor: int, span: Span) -> Iterator[bytes]:
    """Yield pieces like `_pieces`, but without seeking, so that threads can share the file."""
    start, length = span
    end = start + length
    while start < end and (piece := os.pread(descriptor, min(_PIECE_BYTES, end - start), start)):
        start += len(piece)
        yield piece


def _digest(pieces: Iterable[bytes]) -> bytes:
    state = xxhash.xxh3_128()
    for piece in pieces:
        state.update(piece)
    digest: bytes = state.digest()
    return digest
