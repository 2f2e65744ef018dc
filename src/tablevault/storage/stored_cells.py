"""Cells in stored form, passed unchanged from one frame to another."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.storage.column_types import CellError, ColumnType, Kind, type_of_arrow
from tablevault.storage.columns import Column, build_column, natural_type
from tablevault.storage.fingerprints import Mask, Positions

_NATURAL = frozenset({pa.bool_(), pa.string(), pa.binary(), pa.int64(), pa.float64(), pa.date32()})
"""Types whose values, in any selection with at least one value, have this natural type again."""
_ROWS_PER_SLICE = 256
"""Mean number of consecutive rows from which on slices are faster than copies of single rows."""
_MAXIMUM_COPY = 2**30
"""Bytes; larger columns may not fit into one Arrow array."""
_MAXIMUM_CHUNKS = 64


def keeps_its_form(column: Column, column_type: ColumnType, declared: ColumnType | None) -> bool:
    """Return whether rebuilding a column from its plain values preserves it.

    The plain values are taken as values of a declared type.

    Without a declared type, this holds for a selection of its cells with at least one value.
    """
    if declared is None:
        is_natural = column_type.kind is Kind.PLAIN and column.type in _NATURAL
        return is_natural and column.null_count < len(column)
    if declared.kind in (Kind.ARTIFACT, Kind.CATEGORY):
        return False
    return column_type == declared and column.type == declared.arrow


def selected(column: Column, rows: Positions) -> Column | None:
    """Return rows of a column in any order.

    Returns `None` if they do not fit into one array.

    Consecutive rows are not copied.
    """
    starts = _starts_of_runs(rows)
    if len(starts) <= 1:
        return column.slice(int(rows[0]) if len(rows) else 0, len(rows))
    if len(rows) >= _ROWS_PER_SLICE * len(starts):
        stops = [*starts[1:].tolist(), len(rows)]
        firsts = zip(rows[starts].tolist(), starts.tolist(), stops, strict=True)
        slices = (column.slice(first, stop - start) for first, start, stop in firsts)
        chunks = [chunk for part in slices for chunk in _chunks(part)]
        found = pa.chunked_array(chunks, type=column.type)
        is_short = len(chunks) > _MAXIMUM_CHUNKS and found.nbytes < _MAXIMUM_COPY
        return found.combine_chunks() if is_short else found
    if column.nbytes >= _MAXIMUM_COPY:
        return None
    return column.take(pa.array(rows))


def completed(
    count: int,
    kept: Sequence[tuple[Positions | range, Column]],
    column_type: ColumnType,
    values: Sequence[object],
    places: Positions,
    declared: ColumnType | None,
) -> tuple[Column, ColumnType] | None:
    """Return the column that `build_column` would build of stored cells and plain values.

    Returns `None` if the plain values call for another form, or do not fit.

    Parameters
    ----------
    count
        Number of rows.
    kept
        The stored cells, which keep their form, with their rows.
    column_type
        The type of the stored cells.
    values, places
        The plain values of all other rows, and these rows in order.
    declared
        The declared type of the column, if any.
    """
    arrow = column_type.arrow
    try:
        if declared is None:
            column_type = type_of_arrow(arrow)
            natural = natural_type(values) if len(values) else column_type
            if natural != column_type and not pa.types.is_null(natural.arrow):
                return None
        new = build_column(values, column_type)[0] if len(values) else pa.array([], arrow)
    except CellError:
        return None
    if new.type != arrow:
        return None
    chunks = [chunk for _, part in kept for chunk in _chunks(part)]
    if _are_first(rows for rows, _ in kept):
        return pa.chunked_array([*chunks, *_chunks(new)], type=arrow), column_type
    sources: np.ndarray[Any, np.dtype[np.int64]] = np.empty(count, np.int64)
    start = 0
    for rows, part in kept:
        sources[index_of(rows)] = np.arange(start, start + len(part))
        start += len(part)
    sources[places] = np.arange(start, start + len(new))
    found = selected(pa.chunked_array([*chunks, *_chunks(new)], type=arrow), sources)
    return None if found is None else (found, column_type)


def _are_first(ranges: Iterable[Positions | range]) -> bool:
    """Return whether rows are the first ones of a column, in order."""
    stop = 0
    for rows in ranges:
        if not isinstance(rows, range) or rows.start != stop:
            return False
        stop = rows.stop
    return True


def index_of(rows: Positions | range) -> Positions | slice:
    """Return rows as an index of an array."""
    return slice(rows.start, rows.stop, rows.step) if isinstance(rows, range) else rows


def equal_cells(mine: Column, theirs: Column) -> Mask | None:
    """Return whether each cell certainly equals that of another column.

    The columns have the same type and length; plain values are compared.

    Returns `None` for types that are not compared. -0.0 differs from 0.0.
    """
    arrow = mine.type
    if pa.types.is_dictionary(arrow):
        return equal_cells(mine.cast(arrow.value_type), theirs.cast(arrow.value_type))
    if arrow.num_fields or pa.types.is_null(arrow):
        return None
    if pa.types.is_floating(arrow):
        mine, theirs = _bits(mine), _bits(theirs)
    equal: Mask = _numpy(pc.fill_null(pc.equal(mine, theirs), False))
    if mine.null_count and theirs.null_count:
        equal = equal | (_numpy(pc.is_null(mine)) & _numpy(pc.is_null(theirs)))
    return equal


def _bits(column: Column) -> pa.ChunkedArray:
    """Return fractions as whole numbers of the same bits."""
    whole = {16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[column.type.bit_width]
    return pa.chunked_array([chunk.view(whole) for chunk in _chunks(column)], type=whole)


def _numpy(column: Column) -> np.ndarray[Any, np.dtype[Any]]:
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    values: np.ndarray[Any, np.dtype[Any]] = chunked.to_numpy()
    return values


def examples(column: Column) -> list[object]:
    """Return representative values of a column without a declared type.

    Whether a further value fits the column can be decided by these alone.
    """
    if pa.types.is_integer(column.type):
        limits = pc.min_max(column)
        return [value.as_py() for value in limits.values()]
    is_valid = pc.is_valid(column)
    groups = [is_valid]
    if pa.types.is_floating(column.type):
        is_finite = pc.fill_null(pc.is_finite(column), False)
        groups = [is_finite, pc.and_(is_valid, pc.invert(is_finite))]
    places = [pc.index(group, True).as_py() for group in groups]
    return [column[place].as_py() for place in places if place >= 0]


def _starts_of_runs(rows: Positions) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Return the indices at which rows are not consecutive, after 0."""
    breaks: np.ndarray[Any, np.dtype[np.int64]] = np.flatnonzero(rows[1:] != rows[:-1] + 1) + 1
    return np.concatenate([np.zeros(min(len(rows), 1), np.int64), breaks])


def _chunks(column: Column) -> list[pa.Array]:
    return column.chunks if isinstance(column, pa.ChunkedArray) else [column]
