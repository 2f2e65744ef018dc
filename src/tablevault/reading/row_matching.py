"""Matching of the rows of two frames by key columns or by position."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.errors import TVTableError
from tablevault.storage.canonical import canonical
from tablevault.storage.cell_comparison import aligned
from tablevault.storage.cell_texts import values_or_texts
from tablevault.storage.columns import plain_values
from tablevault.storage.dtypes import ColumnType, Kind
from tablevault.storage.plain import shown

Positions: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

_MAXIMUM_CODES = 2**62
"""Maximum range of combined key codes before they are renumbered."""


@dataclass(frozen=True)
class RowMatch:
    """Positions of the matched, added and removed rows of two frames."""

    before: Positions
    after: Positions
    """Paired with `before`; the rows of both frames, in the order of the second."""
    added: Positions
    removed: Positions

    @property
    def is_in_place(self) -> bool:
        """Whether every matched row has the same position in both frames, from the first row on."""
        count = len(self.after)
        return bool(np.array_equal(self.before, np.arange(count)) and np.array_equal(self.before, self.after))


@dataclass(frozen=True)
class KeyColumn:
    """A key column of both frames."""

    name: str
    before: pa.ChunkedArray
    before_type: ColumnType
    after: pa.ChunkedArray
    after_type: ColumnType


def match_positions(before_count: int, after_count: int) -> RowMatch:
    """Match rows by position."""
    common = min(before_count, after_count)
    both = np.arange(common)
    return RowMatch(both, both, np.arange(common, after_count), np.arange(common, before_count))


def match_keys(columns: Sequence[KeyColumn], is_unique: tuple[bool, bool]) -> RowMatch:
    """Match rows by key columns.

    Parameters
    ----------
    columns
        The columns of the key.
    is_unique
        Whether the key is known to be unique and not null, in the first and second frame.

    Raises
    ------
    TVTableError
        If a key is null or repeated; names the column and row.
    """
    pairs = [_comparable(column) for column in columns]
    for place, known in enumerate(is_unique):
        for column, pair in zip(columns, pairs, strict=True):
            if not known:
                _check_not_null(column.name, pair[place], place)
    if all(before.equals(after) for before, after in pairs):
        if not all(is_unique):
            _check_unique(columns, _codes(pairs)[1], 1)
        return match_positions(len(pairs[0][0]), len(pairs[0][1]))
    before, after = pairs[0] if len(pairs) == 1 else _codes(pairs)
    for place, (known, values) in enumerate(zip(is_unique, (before, after), strict=True)):
        if not known:
            _check_unique(columns, values, place)
    found = np.asarray(pc.fill_null(pc.index_in(after, value_set=before), -1)).astype(np.int64)
    matched = found >= 0
    is_left = np.ones(len(before), dtype=np.bool_)
    is_left[found[matched]] = False
    return RowMatch(found[matched], np.flatnonzero(matched), np.flatnonzero(~matched), np.flatnonzero(is_left))


_SIDES = ("before", "after")


def _check_not_null(name: str, values: pa.ChunkedArray, place: int) -> None:
    row = pc.index(pc.is_null(values, nan_is_null=True), True).as_py()
    if row >= 0:
        word = "NaN" if values[row].is_valid else "null"
        raise TVTableError(f"Key column '{name}' is {word} in row {row} of the instance {_SIDES[place]}.")


def _comparable(column: KeyColumn) -> tuple[pa.ChunkedArray, pa.ChunkedArray]:
    """Return both sides of a key column as values that Arrow can look up."""
    is_json = Kind.JSON in (column.before_type.kind, column.after_type.kind)
    pair = None if is_json else aligned(column.before, column.after)
    if pair is None and column.before_type != column.after_type:
        raise TVTableError(
            f"Key column '{column.name}' is {column.before_type.name} before and {column.after_type.name} after, which "
            "cannot be compared; choose other columns with on."
        )
    if pair is None or pair[0].type.num_fields:
        return _digested(column.before, column.before_type), _digested(column.after, column.after_type)
    if pa.types.is_floating(pair[0].type):
        # 0.0 and -0.0 are equal.
        return pc.add(pair[0], 0.0), pc.add(pair[1], 0.0)
    return pair


def _digested(column: pa.ChunkedArray, column_type: ColumnType) -> pa.ChunkedArray:
    texts = [None if value is None else canonical(value) for value in plain_values(column, column_type)]
    return pa.chunked_array([pa.array(texts, pa.large_binary())])


def _codes(pairs: Sequence[tuple[pa.ChunkedArray, pa.ChunkedArray]]) -> tuple[pa.Array, pa.Array]:
    """Return an integer code per row, equal for rows with equal keys."""
    count = len(pairs[0][0])
    codes: Positions = np.zeros(count + len(pairs[0][1]), dtype=np.int64)
    size = 1
    for before, after in pairs:
        both = pa.chunked_array([*before.chunks, *after.chunks], type=before.type)
        values = pc.unique(both)
        numbers = np.asarray(pc.fill_null(pc.index_in(both, value_set=values), len(values))).astype(np.int64)
        if size * (len(values) + 1) > _MAXIMUM_CODES:
            known, codes = np.unique(codes, return_inverse=True)
            size = len(known)
        codes, size = codes * (len(values) + 1) + numbers, size * (len(values) + 1)
    return pa.array(codes[:count]), pa.array(codes[count:])


def _check_unique(columns: Sequence[KeyColumn], values: pa.Array | pa.ChunkedArray, place: int) -> None:
    if pc.count_distinct(values).as_py() == len(values):
        return
    first: dict[int, int] = {}
    for row, number in enumerate(pc.index_in(values, value_set=pc.unique(values)).to_pylist()):
        earlier = first.setdefault(number, row)
        if earlier != row:
            sides = [
                ((column.before, column.before_type), (column.after, column.after_type))[place] for column in columns
            ]
            cells = [values_or_texts(cells.slice(row, 1), column_type)[0] for cells, column_type in sides]
            names = ", ".join(column.name for column in columns)
            raise TVTableError(
                f"Key ({names}) is not unique in the instance {_SIDES[place]}: rows {earlier} and {row} both have "
                f"{', '.join(map(shown, cells))}."
            )
