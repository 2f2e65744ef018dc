"""Text and JSON forms of cells, for formats without a matching type."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.storage.arrow_layouts import with_texts_of_fine_times
from tablevault.storage.column_types import CellError, ColumnType, Kind, holds_arrays
from tablevault.storage.columns import Column, plain_values
from tablevault.texts.json_forms import array_json

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_DAY = 86_400
"""In seconds."""
_FIRST_DAY, _END_OF_DAYS = -12_687_428, 11_248_738
"""Days since 1970 on which the years -32767 to 32767 begin and end, of which Arrow writes dates."""


def text_column(column: Column, column_type: ColumnType) -> Column:
    """Return a column as text; null stays null.

    Numbers have the fewest digits that round-trip, or are `NaN`, `Infinity` or `-Infinity`; booleans are `true` or
    `false`; times are in ISO 8601, with the offset if the column has a time zone; durations are in ISO 8601 as seconds
    (`PT1.5S`), bytes in Base64, and lists, structs and maps in JSON.

    Raises `CellError` for a value without such a form.
    """
    arrow = column.type
    if pa.types.is_dictionary(arrow):
        return text_column(column.cast(arrow.value_type), column_type)
    if pa.types.is_large_string(arrow) or pa.types.is_string(arrow):
        return column
    if pa.types.is_floating(arrow):
        return _float_texts(column)
    if pa.types.is_timestamp(arrow) or pa.types.is_date(arrow):
        check_times(column)
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        return _zoned_texts(column)
    if is_written_by_arrow(arrow):
        return column.cast(pa.string())
    texts = [None if value is None else _as_text(value) for value in json_values(column, column_type)]
    return pa.chunked_array([pa.array(texts, pa.large_string())])


def is_written_by_arrow(arrow: pa.DataType) -> bool:
    """Return whether Arrow's text form of a type is exact and understood by other programs."""
    if pa.types.is_timestamp(arrow):
        return arrow.tz is None
    plain = (pa.types.is_integer, pa.types.is_boolean, pa.types.is_decimal, pa.types.is_date, pa.types.is_time)
    return any(is_one(arrow) for is_one in (*plain, pa.types.is_null))


def check_times(column: Column) -> None:
    """Raise `CellError` for the first time that has no text.

    Arrow writes a message instead of dates and times that are too far away.
    """
    arrow = column.type
    if pa.types.is_timestamp(arrow):
        per_day = _PER_SECOND[arrow.unit] * _DAY
    elif pa.types.is_date(arrow):
        per_day = 1 if pa.types.is_date32(arrow) else _DAY * 1000
    else:
        return
    first, last = _FIRST_DAY * per_day, _END_OF_DAYS * per_day - 1
    limits = np.iinfo(np.int32 if pa.types.is_date32(arrow) else np.int64)
    first, last = max(first, int(limits.min)), min(last, int(limits.max))
    if pa.types.is_timestamp(arrow) and arrow.tz not in (None, "UTC"):
        first, last = first + per_day, last - per_day  # Local times are up to a day away.
    counts = column.cast(pa.int64()) if per_day > 1 else column.cast(pa.int32())
    extremes = pc.min_max(counts).as_py()
    if extremes["min"] is None or (first <= extremes["min"] and extremes["max"] <= last):
        return
    is_far = pc.fill_null(pc.or_(pc.less(counts, first), pc.greater(counts, last)), False)
    position = pc.index(is_far, True).as_py()
    raise CellError(position, f"the {arrow} {counts[position]} is outside the range that can be written as text")


def _zoned_texts(column: Column) -> Column:
    # Arrow writes +0200; many readers expect +02:00.
    texts = pc.replace_substring_regex(column.cast(pa.string()), r"([+-]\d\d)(\d\d)$", r"\1:\2")
    local = pc.local_timestamp(column)
    offsets = pc.subtract(local.cast(pa.int64()), column.cast(pa.int64()))
    per_minute = 60 * _PER_SECOND[column.type.unit]
    distinct = pc.unique(offsets).drop_null().to_pylist()
    if not any(offset % per_minute for offset in distinct):
        return texts
    # Arrow omits the seconds of an offset, such as those of a city's mean time.
    for offset in distinct:
        if offset % per_minute:
            written = pc.binary_join_element_wise(local.cast(pa.string()), _offset(offset * 60 // per_minute), "")
            texts = pc.if_else(pc.fill_null(pc.equal(offsets, offset), False), written, texts)
    return texts


def _offset(seconds: int) -> str:
    """Return an offset in seconds as `+hh:mm:ss`."""
    minutes, rest = divmod(abs(seconds), 60)
    return f"{'-' if seconds < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}:{rest:02}"


def json_values(column: Column, column_type: ColumnType) -> list[Any]:
    """Return the cells of a column as values that `json.dumps` writes exactly.

    Values without a JSON type become text, as in `text_column`. Decimals are text, since most JSON parsers read every
    fraction as a float. Times have a `T` between date and time. Maps are lists of pairs. Raises `CellError` for a value
    without such a form.
    """
    try:
        return _json_values(column, column_type)
    except CellError:
        raise
    except (TypeError, ValueError, OverflowError) as error:
        raise CellError(_first_refused(column, column_type), str(error)) from error


def shown_values(column: Column, column_type: ColumnType) -> list[Any]:
    """Return the cells of a column for display.

    Cells have the form of `json_values`; those without such a form are text.
    """
    try:
        return json_values(column, column_type)
    except CellError:
        if len(column) > 1:
            return [cell for at in range(len(column)) for cell in shown_values(column.slice(at, 1), column_type)]
        arrow = column.type
        plain = column.cast(arrow.value_type) if pa.types.is_dictionary(arrow) else column
        return [" ".join(str(plain).split()).strip("[] ")]


def values_or_texts(column: Column, column_type: ColumnType) -> list[Any]:
    """Return the plain values of a column, with the text of `shown_values` for times beyond those of Python."""
    try:
        return plain_values(column, column_type)
    except OverflowError:
        if len(column) > 1:
            return [cell for at in range(len(column)) for cell in values_or_texts(column.slice(at, 1), column_type)]
        return shown_values(column, column_type)


def _first_refused(column: Column, column_type: ColumnType) -> int:
    """Return the first position without a form in JSON."""
    for position in range(len(column)):
        try:
            _json_values(column.slice(position, 1), column_type)
        except (TypeError, ValueError, OverflowError):
            return position
    return 0


def _json_values(column: Column, column_type: ColumnType) -> list[Any]:
    arrow = column.type
    if holds_arrays(column_type):
        return [None if cell is None else array_json(cell) for cell in plain_values(column, column_type)]
    if column_type.kind is Kind.JSON:
        return [json_cell(value) for value in plain_values(column, column_type)]
    if pa.types.is_dictionary(arrow):
        return _json_values(column.cast(arrow.value_type), column_type)
    if pa.types.is_timestamp(arrow):
        texts: list[Any] = pc.replace_substring(text_column(column, column_type), " ", "T").to_pylist()
        return texts
    if pa.types.is_duration(arrow):
        per_second = _PER_SECOND[arrow.unit]
        counts = column.cast(pa.int64()).to_pylist()
        return [None if count is None else _duration(count, per_second) for count in counts]
    if pa.types.is_decimal(arrow) or pa.types.is_temporal(arrow):
        listed: list[Any] = text_column(column, column_type).to_pylist()
        return listed
    return [json_cell(value) for value in column.cast(with_texts_of_fine_times(arrow)).to_pylist()]


def _float_texts(column: Column) -> Column:
    # Arrow cannot write float16 as text; float32 holds the same numbers.
    texts = (column.cast(pa.float32()) if pa.types.is_float16(column.type) else column).cast(pa.string())
    for arrows, word in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
        texts = pc.if_else(pc.equal(texts, arrows), word, texts)
    return texts


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


def json_cell(value: Any) -> Any:
    """Return a plain value as one that `json.dumps` writes exactly, in the form of `json_values`."""
    form = _FORMS.get(type(value))
    if form is not None:
        return form(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()  # Also pandas' timestamps, with their nanoseconds.
    if isinstance(value, datetime.timedelta):
        nanoseconds = getattr(value, "nanoseconds", 0)
        microseconds = (value.days * 86_400 + value.seconds) * 10**6 + value.microseconds
        return _duration(microseconds * 1000 + nanoseconds, 10**9)
    raise TypeError(f"a value of the type {type(value).__name__} has no form in JSON")


def _float(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _object(value: dict[str, Any]) -> dict[str, Any]:
    return {name: json_cell(item) for name, item in value.items()}


def _duration(count: int, per_second: int) -> str:
    seconds, rest = divmod(abs(count), per_second)
    fraction = f".{rest:0{len(str(per_second)) - 1}d}".rstrip("0") if rest else ""
    return f"{'-' if count < 0 else ''}PT{seconds}{fraction}S"


_FORMS: dict[type, Callable[[Any], Any]] = {
    type(None): lambda value: value,
    bool: bool,
    int: int,
    str: str,
    float: _float,
    bytes: lambda value: base64.b64encode(value).decode("ascii"),
    decimal.Decimal: str,
    dict: _object,
    list: lambda value: [json_cell(item) for item in value],
    tuple: lambda value: [json_cell(item) for item in value],
}
