"""Reads of rows deep inside a row group without decoding the rows before them.

Arrow decodes a column from its first page on. Here it reads an image of the file without the pages before the requested
rows: the dictionary of a column is followed directly by the page with the first requested row.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tablevault.storage.checksums import Span

_MAXIMUM_HEADER_BYTES = 16 * 1024
"""Maximum size of a page header with its statistics, in bytes."""
_DICTIONARY = 2
_TYPE, _COMPRESSED_SIZE, _DATA, _DATA_2 = 1, 3, 5, 8
"""Field numbers in a page header."""
_COUNT = 1
"""Field number of the value count in the data part of a page header."""
_MAXIMUM_DEPTH = 8


@dataclass(frozen=True, slots=True)
class _Page:
    start: int
    end: int
    values: int
    """0 for a dictionary."""


class UnknownPageError(ValueError):
    """The pages of a column are not laid out in a known way."""


def read_distant_rows(
    file: BinaryIO, metadata: pq.FileMetaData, group: int, spans: Mapping[str, Span], offset: int, rows: int
) -> dict[str, pa.ChunkedArray]:
    """Return rows of columns that are not nested; raises `UnknownPageError` for an unknown page layout.

    Parameters
    ----------
    file
        The file.
    metadata
        Its footer.
    group
        The row group.
    spans
        The byte span of each column.
    offset
        Position of the first row in the row group.
    rows
        Number of rows, all of them in the row group.
    """
    # Only the copied pages of a large file take up memory.
    image = np.zeros(max(map(sum, spans.values())), dtype=np.uint8)
    skipped = {name: _copy_pages(file, image, span, offset, rows) for name, span in spans.items()}
    with pq.ParquetFile(pa.BufferReader(pa.py_buffer(image)), metadata=metadata) as parquet:
        return {
            name: _first_rows(parquet, group, name, offset - passed_over + rows).slice(offset - passed_over)
            for name, passed_over in skipped.items()
        }


def _copy_pages(file: BinaryIO, image: np.ndarray[Any, np.dtype[np.uint8]], span: Span, offset: int, rows: int) -> int:
    """Copy a column's dictionary and its pages with the requested rows.

    Returns the number of skipped rows.
    """
    start, end = span[0], sum(span)
    target, position, passed_over = start, 0, 0
    for page in _pages(file, start, end):
        is_before = position + page.values <= offset and page.values > 0
        position += page.values
        if is_before:
            passed_over = position
            continue
        file.seek(page.start)
        content = file.read(page.end - page.start)
        image[target : target + page.end - page.start] = np.frombuffer(content, dtype=np.uint8)
        target += page.end - page.start
        if position >= offset + rows:
            return passed_over
    raise UnknownPageError("its pages have fewer rows than the row group")


def _first_rows(parquet: pq.ParquetFile, group: int, name: str, count: int) -> pa.ChunkedArray:
    # Given `a`, Arrow also selects a column named `a.b`.
    batch = next(parquet.iter_batches(batch_size=count, row_groups=[group], columns=[name]))
    found = pa.Table.from_batches([batch]).column(name)
    if len(found) != count:
        raise UnknownPageError("a page has fewer rows than its header states")
    return found


# --- headers of pages, in Thrift's compact protocol -----------------------------------------------------------------


def _pages(file: BinaryIO, start: int, end: int) -> Iterator[_Page]:
    while start < end:
        file.seek(start)
        header = _Header(file.read(min(_MAXIMUM_HEADER_BYTES, end - start)))
        try:
            fields = header.fields()
            is_dictionary = fields[_TYPE] == _DICTIONARY
            data = {} if is_dictionary else fields.get(_DATA) or fields[_DATA_2]
            size, values = fields[_COMPRESSED_SIZE], 0 if is_dictionary else data[_COUNT]
        except (IndexError, KeyError, TypeError) as error:
            raise UnknownPageError("a page header cannot be read") from error
        page = _Page(start, start + header.position + size, values)
        if not start < page.end <= end or values < 0 or (values == 0) != is_dictionary:
            raise UnknownPageError("a page header is inconsistent")
        yield page
        start = page.end


class _Header:
    """The header of a page at the beginning of some bytes.

    Parameters
    ----------
    data
        The bytes.
    """

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.position = 0
        """Offset of its end, once it has been read."""

    def fields(self, depth: int = 0) -> dict[int, Any]:
        """Return the fields of a struct by number; binary fields are skipped."""
        if depth > _MAXIMUM_DEPTH:
            raise UnknownPageError("the header of a page is nested too deeply")
        found: dict[int, Any] = {}
        number = 0
        while (first := self._byte()) != 0:
            distance, kind = first >> 4, first & 0x0F
            number = number + distance if distance else self._integer()
            found[number] = self._value(kind, depth)
        return found

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case 1 | 2:  # true and false, which have no bytes
                return kind == 1
            case 4 | 5 | 6:
                return self._integer()
            case 8:
                self._pass_over(self._size())
                return None
            case 12:
                return self.fields(depth + 1)
        raise UnknownPageError(f"the header of a page has a field of type {kind}")

    def _integer(self) -> int:
        coded = self._size()
        return (coded >> 1) ^ -(coded & 1)

    def _size(self) -> int:
        result = shift = 0
        while True:
            byte = self._byte()
            result |= (byte & 0x7F) << shift
            if byte < 0x80:
                return result
            shift += 7

    def _byte(self) -> int:
        byte = self._data[self.position]
        self.position += 1
        return byte

    def _pass_over(self, count: int) -> None:
        self.position += count
