"""Arrow types that every reader knows, and lossless conversion to them."""

from __future__ import annotations

from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc

from tablevault.storage.zones import is_known_zone

_FINE_TIME = pa.time64("ns")
_PYTHON_TIME = pa.time64("us")


def readable_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column in layouts that every reader knows.

    A list view, unknown to polars, becomes a list, and short decimals inside other types, unknown to pandas, become
    longer.
    """
    if is_list_view(column.type):
        column = pa.chunked_array([_list_array(chunk) for chunk in column.chunks], _list_type(column.type))
    return _cast(column, _readable(column.type))


def plain_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a readable column without the view layouts of polars.

    pandas cannot read them, and Arrow cannot compare them.

    Times in a zone unknown to some readers are converted to UTC.
    """
    readable = readable_column(column)
    return _cast(readable, _plain(readable.type))


def is_list_view(arrow: pa.DataType) -> bool:
    """Return whether a type is one of Arrow's list views."""
    return bool(pa.types.is_list_view(arrow) or pa.types.is_large_list_view(arrow))


def has_fine_times(arrow: pa.DataType) -> bool:
    """Return whether a type has times of day in nanoseconds."""
    if pa.types.is_dictionary(arrow):
        return has_fine_times(arrow.value_type)
    if arrow.num_fields:
        return any(has_fine_times(arrow.field(position).type) for position in range(arrow.num_fields))
    return bool(arrow == _FINE_TIME)


def with_python_times(arrow: pa.DataType) -> pa.DataType:
    """Return a type with Python's microseconds for times of day."""
    return _rebuilt(arrow, lambda leaf: _PYTHON_TIME if leaf == _FINE_TIME else leaf)


def with_texts_of_fine_times(arrow: pa.DataType) -> pa.DataType:
    """Return a type with text for times of day in nanoseconds."""
    return _rebuilt(arrow, lambda leaf: pa.string() if leaf == _FINE_TIME else leaf)


def with_counted_times(arrow: pa.DataType) -> pa.DataType:
    """Return a type with whole numbers for dates and times."""
    return _rebuilt(arrow, _counted)


def _counted(leaf: pa.DataType) -> pa.DataType:
    if pa.types.is_date32(leaf) or pa.types.is_time32(leaf):
        return pa.int32()
    return pa.int64() if pa.types.is_temporal(leaf) else leaf


def rows_of(column: pa.ChunkedArray, start: int, count: int) -> pa.ChunkedArray:
    """Return a copy of some rows.

    A cast of a mere slice also converts the items of lists outside of it.
    """
    return column.take(pa.array(range(start, start + count), pa.int64()))


def first_uncastable(column: pa.ChunkedArray, target: pa.DataType) -> int | None:
    """Return the first row that cannot be cast, if any.

    It is found by bisection.
    """
    start, count = 0, len(column)
    if _is_castable(column, target) or _is_castable(rows_of(column, 0, count), target):
        return None
    while count > 1:
        half = count // 2
        if _is_castable(rows_of(column, start, half), target):
            start, count = start + half, count - half
        else:
            count = half
    return start


def _is_castable(column: pa.ChunkedArray, target: pa.DataType) -> bool:
    try:
        column.cast(target)
    except pa.ArrowInvalid:
        return False
    return True


def unreadable_part(arrow: pa.DataType) -> str:
    """Return why some reader fails on a type, and the remedy.

    Parquet itself takes the type. The text is empty if no reader fails.
    """
    if pa.types.is_fixed_size_list(arrow) and not arrow.list_size:
        return "lists of the fixed size 0 cannot be read back; use lists of any length"
    if is_list_view(arrow):
        return "list views inside other types cannot be read by polars; use lists"
    if pa.types.is_struct(arrow):
        names = [field.name for field in arrow]
        twice = next((name for at, name in enumerate(names) if name in names[:at]), None)
        if twice is not None:
            return f"two fields of a struct are named {twice!r}; rename one of them"
        cut = next((name for name in names if "\0" in name), None)
        if cut is not None:
            return f"the name of the field {cut!r} contains a NUL character; rename it"
    parts = (unreadable_part(arrow.field(position).type) for position in range(arrow.num_fields))
    return next(filter(None, parts), "")


def with_milliseconds(arrow: pa.DataType) -> pa.DataType:
    """Return a type with milliseconds in place of seconds.

    They are the coarsest unit of Parquet and polars.
    """
    return _rebuilt(arrow, _in_milliseconds)


def _in_milliseconds(leaf: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(leaf) and leaf.unit == "s":
        return pa.timestamp("ms", leaf.tz)
    return pa.duration("ms") if leaf == pa.duration("s") else leaf


def _rebuilt(arrow: pa.DataType, convert: Callable[[pa.DataType], pa.DataType]) -> pa.DataType:
    """Return a type with its innermost types converted."""
    types = pa.types
    if types.is_dictionary(arrow):
        return pa.dictionary(arrow.index_type, _rebuilt(arrow.value_type, convert), arrow.ordered)
    if types.is_struct(arrow):
        return pa.struct([_rebuilt_field(field, convert) for field in arrow])
    if types.is_map(arrow):
        key, item = (_rebuilt_field(field, convert) for field in (arrow.key_field, arrow.item_field))
        return pa.map_(key, item, keys_sorted=arrow.keys_sorted)
    if types.is_fixed_size_list(arrow):
        return pa.list_(_rebuilt_field(arrow.value_field, convert), arrow.list_size)
    if types.is_list(arrow):
        return pa.list_(_rebuilt_field(arrow.value_field, convert))
    if types.is_large_list(arrow):
        return pa.large_list(_rebuilt_field(arrow.value_field, convert))
    return convert(arrow)


def _rebuilt_field(field: pa.Field, convert: Callable[[pa.DataType], pa.DataType]) -> pa.Field:
    return field.with_type(_rebuilt(field.type, convert))


def _list_type(arrow: pa.DataType) -> pa.DataType:
    field = arrow.value_field
    return pa.list_(field) if pa.types.is_list_view(arrow) else pa.large_list(field)


def _list_array(views: pa.Array) -> pa.Array:
    """Return a list view as lists.

    Arrow's cast confuses the items of views that are not in order.
    """
    lengths = pc.fill_null(pc.list_value_length(views), 0)
    offsets = pc.cumulative_sum(pa.concat_arrays([pa.array([0], lengths.type), lengths]))
    kind = pa.ListArray if pa.types.is_list_view(views.type) else pa.LargeListArray
    return kind.from_arrays(offsets, views.flatten(), type=_list_type(views.type), mask=pc.is_null(views))


def _readable(arrow: pa.DataType) -> pa.DataType:
    is_nested = arrow.num_fields > 0 or pa.types.is_dictionary(arrow)
    return _rebuilt(arrow, _wide_decimal) if is_nested else arrow


def _wide_decimal(leaf: pa.DataType) -> pa.DataType:
    is_short = pa.types.is_decimal32(leaf) or pa.types.is_decimal64(leaf)
    return pa.decimal128(leaf.precision, leaf.scale) if is_short else leaf


def _plain(arrow: pa.DataType) -> pa.DataType:
    if pa.types.is_string_view(arrow):
        return pa.large_string()
    if pa.types.is_binary_view(arrow):
        return pa.large_binary()
    if pa.types.is_timestamp(arrow) and arrow.tz and not is_known_zone(arrow.tz):
        return pa.timestamp(arrow.unit, "UTC")
    if pa.types.is_dictionary(arrow):
        return pa.dictionary(arrow.index_type, _plain(arrow.value_type), arrow.ordered)
    if pa.types.is_struct(arrow):
        return pa.struct([field.with_type(_plain(field.type)) for field in arrow])
    if pa.types.is_list(arrow):
        return pa.list_(arrow.value_field.with_type(_plain(arrow.value_type)))
    if pa.types.is_large_list(arrow):
        return pa.large_list(arrow.value_field.with_type(_plain(arrow.value_type)))
    return arrow


def _cast(column: pa.ChunkedArray, target: pa.DataType) -> pa.ChunkedArray:
    if target == column.type:
        return column
    if not pa.types.is_dictionary(target):
        return column.cast(target)
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices, chunk.dictionary.cast(target.value_type), ordered=target.ordered)
        for chunk in column.chunks
    ]
    return pa.chunked_array(chunks, type=target)
