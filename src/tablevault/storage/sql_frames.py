"""Conversion of frames to SQL tables, and of result rows to frames."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.errors import TVTableError
from tablevault.sql_engine.engine import MemoryTable, Result
from tablevault.sql_engine.frame_views import FrameFile
from tablevault.storage.column_types import ColumnType, Kind, json_type, type_of_arrow
from tablevault.storage.frame_data import FrameData
from tablevault.storage.frame_files import read_schema

_MAXIMUM_DIGITS = 38
_DAY = 86_400_000_000
"""In microseconds."""
_MAXIMUM_DAYS = 100_000_000
"""Maximum days of an interval, so that they fit a duration together with the largest time part."""
_INTERVAL = np.dtype([("months", "<i4"), ("days", "<i4"), ("nanoseconds", "<i8")])


def frame_file(path: Path, artifacts: Path | None) -> FrameFile:
    """Return a frame file for SQL.

    Parameters
    ----------
    path
        The file.
    artifacts
        Folder to prefix to artifact paths; `None` to leave them relative.
    """
    types, _ = read_schema(path)
    named = [name for name, column_type in types.items() if column_type.kind is Kind.ARTIFACT]
    return FrameFile(
        str(path),
        {name: column_type.arrow for name, column_type in types.items()},
        frozenset(name for name, column_type in types.items() if column_type.kind is Kind.JSON),
        dict.fromkeys(named, f"{artifacts}/") if artifacts is not None else None,
    )


def memory_table(data: FrameData) -> MemoryTable:
    """Return a frame as an in-memory table for SQL."""
    table = data.table
    for position, field in enumerate(table.schema):
        if pa.types.is_decimal256(field.type):
            is_long = field.type.precision > _MAXIMUM_DIGITS
            target = pa.float64() if is_long else pa.decimal128(field.type.precision, field.type.scale)
            table = table.set_column(position, field.name, table.column(position).cast(target))
    json = tuple(name for name, column_type in data.types.items() if column_type.kind is Kind.JSON)
    return MemoryTable(table, json)


def frame_of(result: Result) -> FrameData:
    """Return the rows of a statement as a frame with unique column names."""
    types: dict[str, ColumnType] = {}
    columns = []
    for position, field in enumerate(result.table.schema):
        name, number = field.name, 0
        while name in types:
            number += 1
            name = f"{field.name}_{number}"
        column = _normal(result.table.column(position), field.name)
        types[name] = json_type() if position in result.json else type_of_arrow(column.type)
        columns.append(column)
    return FrameData(pa.table(columns, names=list(types)), types)


def _normal(column: pa.ChunkedArray, name: str) -> pa.ChunkedArray:
    """Convert a column of a result to the types of frames.

    Examples are durations, and times in UTC.
    """
    if _holds(column.type, pa.types.is_union):
        raise TVTableError(f"Column {name!r} of the result has values of type UNION, which no frame has; cast it.")
    target = _normal_type(column.type)
    # Arrow's `==` ignores the names of list items.
    if str(target) == str(column.type):
        return column
    if pa.types.is_interval(column.type):
        return pa.chunked_array([_durations(chunk, name) for chunk in column.chunks], target)
    if _holds(column.type, pa.types.is_interval):
        return pa.chunked_array([pa.array([_plain(value, name) for value in column.to_pylist()], target)])
    return column.cast(target)


def _normal_type(arrow: pa.DataType) -> pa.DataType:
    if pa.types.is_interval(arrow):
        return pa.duration("us")
    if pa.types.is_timestamp(arrow) and arrow.tz:
        return pa.timestamp(arrow.unit, "UTC")
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(pa.field("item", _normal_type(arrow.value_type)), arrow.list_size)
    if pa.types.is_list(arrow):
        return pa.list_(pa.field("item", _normal_type(arrow.value_type)))
    if pa.types.is_struct(arrow):
        return pa.struct([field.with_type(_normal_type(field.type)) for field in arrow])
    return arrow


def _holds(arrow: pa.DataType, is_wanted: Callable[[pa.DataType], bool]) -> bool:
    if is_wanted(arrow):
        return True
    return any(_holds(arrow.field(position).type, is_wanted) for position in range(arrow.num_fields))


def _durations(chunk: pa.Array, name: str) -> pa.Array:
    """Return intervals as durations in microseconds; a day has 24 hours."""
    data = chunk.buffers()[1]
    parts = np.frombuffer(data, _INTERVAL, len(chunk), chunk.offset * _INTERVAL.itemsize)
    is_null = np.asarray(pc.is_null(chunk))
    if np.any((parts["months"] != 0) & ~is_null):
        raise _months(name)
    if np.any((np.abs(parts["days"].astype(np.int64)) > _MAXIMUM_DAYS) & ~is_null):
        raise _too_long(name)
    microseconds = parts["days"].astype(np.int64) * _DAY + parts["nanoseconds"] // 1_000
    return pa.array(microseconds, pa.int64(), mask=is_null).cast(pa.duration("us"))


def _plain(value: Any, name: str) -> Any:
    """Return a nested value with intervals replaced by durations."""
    if isinstance(value, pa.MonthDayNano):
        if value.months:
            raise _months(name)
        if abs(value.days) > _MAXIMUM_DAYS:
            raise _too_long(name)
        return datetime.timedelta(days=value.days, microseconds=value.nanoseconds // 1_000)
    if isinstance(value, list):
        return [_plain(item, name) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item, name) for key, item in value.items()}
    return value


def _months(name: str) -> TVTableError:
    return TVTableError(f"Column {name!r} of the result has an interval of months, which has no length; cast it.")


def _too_long(name: str) -> TVTableError:
    return TVTableError(f"Column {name!r} of the result has an interval that is too long for a duration; cast it.")
