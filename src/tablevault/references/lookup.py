"""Indexes of frames, which locate values in columns without a scan."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, TypeAlias

import pyarrow as pa

from tablevault.ports import Frame
from tablevault.references.coerce import json_key
from tablevault.references.parser import INDEX

HashIndex: TypeAlias = dict[object, int | list[int]]
"""Position of each value, or its positions if it occurs repeatedly; tuples for several columns."""


@dataclass(frozen=True, slots=True)
class SortedIndex:
    """Sorted values of a column with their positions, without nulls and NaN."""

    values: list[Any]
    positions: list[int]

    def between(self, start: object, end: object) -> list[int]:
        """Return the positions of the values with start <= value < end, in frame order."""
        return sorted(self.positions[bisect_left(self.values, start) : bisect_left(self.values, end)])


class Lookups:
    """Columns of one frame as Python values, with indexes built on first use.

    Parameters
    ----------
    frame
        The frame, which is immutable.
    """

    def __init__(self, frame: Frame) -> None:
        self.frame = frame
        self._by_row: dict[str, Sequence[Any]] = {}
        self._keys: dict[str, Sequence[Any]] = {}
        self._hashed: dict[tuple[str, ...], HashIndex] = {}
        self._sorted: dict[str, SortedIndex] = {}
        # Rows may run in several threads; the first one builds an index while the others wait.
        self._building = threading.RLock()

    def column(self, name: str) -> Sequence[Any]:
        """Return a column as plain Python values; `index` is the column of positions."""
        return range(len(self.frame)) if name == INDEX else self.frame.values(name)

    def column_by_row(self, name: str) -> Sequence[Any]:
        """Return a column as `column`, for reading it row by row."""
        if name == INDEX:
            return range(len(self.frame))
        with self._building:
            if name not in self._by_row:
                self._by_row[name] = self.frame.values_by_row(name)
            return self._by_row[name]

    def keys(self, name: str) -> Sequence[Any]:
        """Return the search keys of a column."""
        known = self._keys.get(name)
        if known is None:
            values = self.column(name)
            is_json = name != INDEX and isinstance(self.frame.arrow_type(name), pa.JsonType)
            known = self._keys[name] = list(map(json_key, values)) if is_json else values
        return known

    def hashed(self, columns: tuple[str, ...]) -> HashIndex:
        """Return the hash index of one or several columns.

        Raises
        ------
        TypeError
            If a column holds lists or dicts.
        """
        with self._building:
            if columns not in self._hashed:
                values = (
                    self.keys(columns[0]) if len(columns) == 1 else list(zip(*map(self.keys, columns), strict=True))
                )
                self._hashed[columns] = _hash(values)
            return self._hashed[columns]

    def sorted(self, column: str) -> SortedIndex:
        """Return the sorted index of a column.

        Raises
        ------
        TypeError
            If the column holds values that have no order.
        """
        with self._building:
            if column not in self._sorted:
                self._sorted[column] = _sort(self.column(column))
            return self._sorted[column]


def _hash(values: Sequence[object]) -> HashIndex:
    index: HashIndex = dict(zip(values, range(len(values)), strict=True))
    if len(index) == len(values):
        return index
    index = {}
    for position, value in enumerate(values):
        found = index.setdefault(value, position)
        if found == position:
            continue
        if isinstance(found, list):
            found.append(position)
        else:
            index[value] = [found, position]
    return index


def _sort(values: Sequence[Any]) -> SortedIndex:
    # NaN differs from itself and cannot be ordered.
    pairs = [(value, position) for position, value in enumerate(values) if value is not None and value == value]
    pairs.sort(key=itemgetter(0))
    return SortedIndex([value for value, _ in pairs], [position for _, position in pairs])
