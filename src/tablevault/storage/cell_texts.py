"""Text and JSON forms of cells, for formats without a matching type."""

from __future__ import annotations

import base64
import datetime
import decimal
import json
import math
from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tablevault.storage.column_types import ColumnType, Kind, holds_arrays
from tablevault.storage.columns import Column, plain_values
from tablevault.texts.json_forms import array_json

_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


def text_column(column: Column, column_type: ColumnType) -> Column:
    """Return a column as text; null stays null.

    Numbers have the fewest digits that round-trip, or are `NaN`, `Infinity` or `-Infinity`; booleans are `true` or
    `false`; times are in ISO 8601, with the offset if the column has a time zone; durations are in ISO 8601 as seconds
    (`PT1.5S`), bytes in Base64, and lists, structs and maps in JSON.
    """
    arrow = column.type
    if pa.types.is_dictionary(arrow):
        return text_column(column.cast(arrow.value_type), column_type)
    if pa.types.is_large_string(arrow) or pa.types.is_string(arrow):
        return column
    if pa.types.is_floating(arrow):
        return _float_texts(column)
    if pa.types.is_timestamp(arrow) and arrow.tz is not None:
        # Arrow writes +0200; many readers expect +02:00.
        return pc.replace_substring_regex(column.cast(pa.string()), r"([+-]\d\d)(\d\d)$", r"\1:\2")
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


def json_values(column: Column, column_type: ColumnType) -> list[Any]:
    """Return the cells of a column as values that `json.dumps` writes exactly.

    Values without a JSON type become text, as in `text_column`. Decimals are text, since most JSON parsers read every
    fraction as a float. Times have a `T` between date and time. Maps are lists of pairs.
    """
    arrow = column.type
    if holds_arrays(column_type):
        return [None if cell is None else array_json(cell) for cell in plain_values(column, column_type)]
    if column_type.kind is Kind.JSON:
        return [_jsonable(value) for value in plain_values(column, column_type)]
    if pa.types.is_dictionary(arrow):
        return json_values(column.cast(arrow.value_type), column_type)
    if pa.types.is_timestamp(arrow):
        texts: list[Any] = pc.replace_substring(text_column(column, column_type), " ", "T").to_pylist()
        return texts
    if pa.types.is_duration(arrow):
        per_second = _PER_SECOND[arrow.unit]
        counts = column.cast(pa.int64()).to_pylist()
        return [None if count is None else _duration(count, per_second) for count in counts]
    if pa.types.is_decimal(arrow) or pa.types.is_temporal(arrow):
        listed: list[Any] = column.cast(pa.string()).to_pylist()
        return listed
    return [_jsonable(value) for value in column.to_pylist()]


def _float_texts(column: Column) -> Column:
    # Arrow cannot write float16 as text; float32 holds the same numbers.
    texts = (column.cast(pa.float32()) if pa.types.is_float16(column.type) else column).cast(pa.string())
    for arrows, word in (("nan", "NaN"), ("inf", "Infinity"), ("-inf", "-Infinity")):
        texts = pc.if_else(pc.equal(texts, arrows), word, texts)
    return texts


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, allow_nan=False)


def _jsonable(value: Any) -> Any:
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
    return {name: _jsonable(item) for name, item in value.items()}


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
    list: lambda value: [_jsonable(item) for item in value],
    tuple: lambda value: [_jsonable(item) for item in value],
}
