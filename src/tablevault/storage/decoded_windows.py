"""Columns as plain Python values, decoded a window at a time."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock
from typing import Any, TypeAlias, overload

import pyarrow as pa

from tablevault.storage.column_types import ColumnType
from tablevault.storage.columns import plain_values
from tablevault.storage.storable import check_readable_times

Column: TypeAlias = pa.Array | pa.ChunkedArray

ROWS = 65_536
"""Rows of a window. Smaller columns are decoded whole."""
_KEPT = 4
"""Windows that are kept, for rows that are not computed in order."""


def is_long(rows: int) -> bool:
    """Return whether a column of this length is worth decoding in windows."""
    return rows > ROWS


class DecodedWindows(Sequence[Any]):
    """A column as plain values, for rows that are read mostly in ascending order.

    Only the last few windows exist as Python objects, which take several times the memory of the column.

    Parameters
    ----------
    name
        Name of the column, for errors.
    column, column_type
        The stored column.

    Raises
    ------
    TVTableError
        For a time of day that Python would cut to microseconds.
    """

    def __init__(self, name: str, column: Column, column_type: ColumnType) -> None:
        check_readable_times(name, column)
        self._column = column
        self._type = column_type
        self._windows: dict[int, list[Any]] = {}
        self._reading = Lock()

    def __len__(self) -> int:
        return len(self._column)

    @overload
    def __getitem__(self, place: int) -> Any: ...

    @overload
    def __getitem__(self, place: slice) -> list[Any]: ...

    def __getitem__(self, place: int | slice) -> Any:
        if isinstance(place, slice):
            return self._between(*place.indices(len(self)))
        if not 0 <= place < len(self):
            raise IndexError(place)
        number, at = divmod(place, ROWS)
        return self._window(number)[at]

    def _between(self, start: int, stop: int, step: int) -> list[Any]:
        if step != 1:
            return [self[place] for place in range(start, stop, step)]
        found: list[Any] = []
        while start < stop:
            number, at = divmod(start, ROWS)
            part = self._window(number)[at : at + stop - start]
            found += part
            start += len(part)
        return found

    def _window(self, number: int) -> list[Any]:
        known = self._windows.get(number)
        if known is not None:
            return known
        with self._reading:
            if number not in self._windows:
                values = plain_values(self._column.slice(number * ROWS, ROWS), self._type)
                kept = list(self._windows.items())[1 - _KEPT :]
                # Readers of other threads do not take the lock.
                self._windows = dict([*kept, (number, values)])
            return self._windows[number]
