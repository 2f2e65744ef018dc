"""Exact comparison of the cells of two columns.

NaN equals NaN, and JSON is compared by structure.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.storage.canonical import canonical
from tablevault.storage.column_types import ColumnType, Kind, json_type
from tablevault.storage.columns import plain_values

Mask: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

_MAXIMUM_DIGITS = 76
_UNITS = ("s", "ms", "us", "ns")


def different_cells(
    before: pa.ChunkedArray, before_type: ColumnType, after: pa.ChunkedArray, after_type: ColumnType
) -> Mask:
    """Return a mask of the differing cells of two columns of the same length.

    Columns of different types are compared by value if they are of one kind (numbers, texts, times) and fit a common
    type without loss; otherwise all pairs of cells differ except two nulls.

    Parameters
    ----------
    before, before_type, after, after_type
        The columns with their types; artifacts by their contents.
    """
    kinds = {before_type.kind, after_type.kind}
    if Kind.JSON in kinds:
        return _different_json(before, after) if kinds == {Kind.JSON} else _not_both_null(before, after)
    return _different(_one_chunk(before), _one_chunk(after))


def aligned(before: pa.ChunkedArray, after: pa.ChunkedArray) -> tuple[pa.ChunkedArray, pa.ChunkedArray] | None:
    """Cast two columns of simple values losslessly to a common type.

    Returns `None` if no such type exists.
    """
    first, second = _decoded(before), _decoded(after)
    for is_kind, common in _COMMON_TYPES:
        if is_kind(first.type) and is_kind(second.type):
            is_same = first.type == second.type and not pa.types.is_float16(first.type)
            target = first.type if is_same else common(first.type, second.type)
            if target is None:
                return None
            try:
                return _exact(first, target), _exact(second, target)
            except pa.ArrowInvalid:
                return None
    if pa.types.is_null(first.type) or pa.types.is_null(second.type):
        target = second.type if pa.types.is_null(first.type) else first.type
        return first.cast(target), second.cast(target)
    return (first, second) if first.type == second.type else None


def _exact(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    """Cast a column; raise `pa.ArrowInvalid` if a value has no equal one of the type."""
    try:
        return column.cast(target)
    except pa.ArrowInvalid:
        if not (pa.types.is_integer(column.type) and pa.types.is_floating(target)):
            raise
    # Arrow refuses all whole numbers from a bound on, also those that the type has.
    found = column.cast(target, safe=False)
    if not found.cast(column.type).equals(column):
        raise pa.ArrowInvalid(f"values of {column.type} that {target} does not have")
    return found


def _different(before: pa.Array, after: pa.Array) -> Mask:
    if _is_list(before.type) and _is_list(after.type):
        return _different_lists(before, after)
    if pa.types.is_struct(before.type) and pa.types.is_struct(after.type):
        return _different_structs(before, after)
    pair = aligned(before, after)
    if pair is None:
        return _not_both_null(before, after)
    return _different_values(*pair)


def _different_values(before: pa.Array, after: pa.Array) -> Mask:
    try:
        differ = _mask(pc.fill_null(pc.not_equal(before, after), False))
    except pa.ArrowNotImplementedError:
        pairs = zip(before.to_pylist(), after.to_pylist(), strict=True)
        return np.fromiter((one != other for one, other in pairs), np.bool_, len(before))
    if pa.types.is_floating(before.type):
        differ &= ~_mask(pc.fill_null(pc.and_(pc.is_nan(before), pc.is_nan(after)), False))
    return np.logical_or(differ, _differ_in_null(before, after))


def _different_lists(before: pa.Array, after: pa.Array) -> Mask:
    both = _mask(pc.and_(before.is_valid(), after.is_valid()))
    sizes = [np.asarray(pc.fill_null(pc.list_value_length(item), 0)) for item in (before, after)]
    differ: Mask = np.logical_or(_differ_in_null(before, after), both & (sizes[0] != sizes[1]))
    alike = np.flatnonzero(both & ~differ & (sizes[0] > 0))
    if len(alike):
        items = [_one_chunk(pc.list_flatten(item.take(pa.array(alike)))) for item in (before, after)]
        starts = np.concatenate([[0], np.cumsum(sizes[0][alike])[:-1]])
        differ[alike] = np.logical_or.reduceat(_different(*items), starts)
    return differ


def _different_structs(before: pa.Array, after: pa.Array) -> Mask:
    fields = [[item.type.field(place).name for place in range(item.type.num_fields)] for item in (before, after)]
    if fields[0] != fields[1]:
        return _not_both_null(before, after)
    differ = _differ_in_null(before, after)
    for place in range(len(fields[0])):
        differ |= _different(pc.struct_field(before, place), pc.struct_field(after, place))
    return differ


def _different_json(before: pa.ChunkedArray, after: pa.ChunkedArray) -> Mask:
    differ = _different_values(before, after)
    candidates = np.flatnonzero(differ & _mask(pc.and_(before.is_valid(), after.is_valid())))
    if len(candidates):
        values = [plain_values(column.take(pa.array(candidates)), json_type()) for column in (before, after)]
        differ[candidates] = [canonical(one) != canonical(other) for one, other in zip(*values, strict=True)]
    return differ


def _not_both_null(before: pa.ChunkedArray, after: pa.ChunkedArray) -> Mask:
    return _mask(pc.or_(before.is_valid(), after.is_valid()))


def _differ_in_null(before: pa.Array, after: pa.Array) -> Mask:
    return np.not_equal(_mask(before.is_valid()), _mask(after.is_valid()))


def _mask(values: pa.Array | pa.ChunkedArray) -> Mask:
    return np.array(values.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _one_chunk(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined


def _decoded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _is_list(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow))


# --- common types -------------------------------------------------------------------------------------------------


def _is_number(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_integer(arrow) or pa.types.is_floating(arrow) or pa.types.is_decimal(arrow))


def _common_number(before: pa.DataType, after: pa.DataType) -> pa.DataType | None:
    pair = (before, after)
    if any(map(pa.types.is_decimal, pair)):
        if any(map(pa.types.is_floating, pair)):
            return None
        return pa.decimal256(_MAXIMUM_DIGITS, max(getattr(arrow, "scale", 0) for arrow in pair))
    if any(map(pa.types.is_floating, pair)):
        return pa.float64()
    if all(map(pa.types.is_signed_integer, pair)):
        return pa.int64()
    if all(map(pa.types.is_unsigned_integer, pair)):
        return pa.uint64()
    return pa.decimal128(20, 0)


def _is_text(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow) or pa.types.is_string_view(arrow))


def _is_binary(arrow: pa.DataType) -> bool:
    plain = pa.types.is_binary(arrow) or pa.types.is_large_binary(arrow)
    return bool(plain or pa.types.is_fixed_size_binary(arrow))


def _finest(before: pa.DataType, after: pa.DataType) -> str:
    return _UNITS[max(map(_UNITS.index, (before.unit, after.unit)))]


def _common_timestamp(before: pa.DataType, after: pa.DataType) -> pa.DataType | None:
    if (before.tz is None) != (after.tz is None):
        return None
    return pa.timestamp(_finest(before, after), None if before.tz is None else "UTC")


def _common_time(before: pa.DataType, after: pa.DataType) -> pa.DataType | None:
    return pa.time64(max(_finest(before, after), "us", key=_UNITS.index))


_COMMON_TYPES: tuple[
    tuple[Callable[[pa.DataType], bool], Callable[[pa.DataType, pa.DataType], pa.DataType | None]], ...
] = (
    (pa.types.is_float16, lambda before, after: pa.float32()),
    (_is_number, _common_number),
    (_is_text, lambda before, after: pa.large_string()),
    (_is_binary, lambda before, after: pa.large_binary()),
    (pa.types.is_timestamp, _common_timestamp),
    (pa.types.is_duration, lambda before, after: pa.duration(_finest(before, after))),
    (pa.types.is_date, lambda before, after: pa.date64()),
    (pa.types.is_time, _common_time),
)
"""Predicates of simple types, each with a function that returns the common type of two."""
