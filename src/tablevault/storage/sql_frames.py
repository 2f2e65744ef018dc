"""Conversion of frames to SQL tables, and of result rows to frames."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from tablevault.errors import TVTableError
from tablevault.sql_engine.engine import MemoryTable, Result
from tablevault.sql_engine.frame_views import FrameColumns, FrameFile, as_frame_file
from tablevault.storage.column_types import ColumnType, Kind, json_type, type_of_arrow
from tablevault.storage.frame_data import FrameData
from tablevault.storage.frame_files import read_schema
from tablevault.system.warnings import warn

_DAY = {"us": 86_400_000_000, "ns": 86_400_000_000_000}
"""In units of a time of day."""


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
    prefixes = dict.fromkeys(named, f"{artifacts}/") if artifacts is not None else None
    return FrameFile(str(path), _columns(types, prefixes))


def memory_table(data: FrameData) -> MemoryTable:
    """Return a frame as an in-memory table for SQL."""
    table = data.table
    for position, field in enumerate(table.schema):
        target = as_frame_file(field.type)
        if str(target) != str(field.type):
            column = table.column(position)
            plain = column.cast(field.type.value_type) if pa.types.is_dictionary(field.type) else column
            table = table.set_column(position, field.name, plain.cast(target))
    return MemoryTable(table, _columns(data.types))


def _columns(types: Mapping[str, ColumnType], prefixes: Mapping[str, str] | None = None) -> FrameColumns:
    return FrameColumns(
        {name: column_type.arrow for name, column_type in types.items()},
        frozenset(name for name, column_type in types.items() if column_type.kind is Kind.JSON),
        prefixes,
    )


def warn_of_differences(name: str, columns: FrameColumns) -> None:
    """Warn of columns that differ between SQL and frame.

    Columns differ in name or type.
    """
    for difference in columns.differences():
        warn(f"{name}: {difference}")


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

    An example are times in UTC.
    """
    if _holds(column.type, pa.types.is_union):
        raise TVTableError(
            f"Column {name!r} of the result has values of type UNION, which a frame cannot store; cast it."
        )
    _check_times(column, name)
    target = _normal_type(column.type)
    # Arrow's `==` ignores the names of list items.
    if str(target) == str(column.type):
        return column
    return column.cast(target)


def _check_times(column: pa.ChunkedArray, name: str) -> None:
    """Raise `TVTableError` for times that a frame cannot store.

    Infinite times and the time of day 24:00 are other values in Arrow.
    """
    arrow = column.type
    if pa.types.is_date32(arrow) or pa.types.is_timestamp(arrow):
        limit = (2**31 if pa.types.is_date32(arrow) else 2**63) - 1
        counts = column.cast(pa.int32() if pa.types.is_date32(arrow) else pa.int64())
        extremes = pc.min_max(counts).as_py()
        if extremes["max"] == limit or extremes["min"] == -limit:
            raise TVTableError(
                f"Column {name!r} of the result has an infinite time, which a frame cannot store; cast it."
            )
    elif pa.types.is_time64(arrow):
        last = pc.max(column.cast(pa.int64())).as_py()
        if last is not None and last >= _DAY[arrow.unit]:
            raise TVTableError(
                f"Column {name!r} of the result has the time 24:00:00, which a frame cannot store; cast it."
            )


def _normal_type(arrow: pa.DataType) -> pa.DataType:
    if pa.types.is_timestamp(arrow) and arrow.tz:
        return pa.timestamp(arrow.unit, "UTC")
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(pa.field("item", _normal_type(arrow.value_type)), arrow.list_size)
    if pa.types.is_list(arrow):
        return pa.list_(pa.field("item", _normal_type(arrow.value_type)))
    if pa.types.is_struct(arrow):
        return pa.struct([field.with_type(_normal_type(field.type)) for field in arrow])
    if pa.types.is_map(arrow):
        return pa.map_(_normal_type(arrow.key_type), _normal_type(arrow.item_type))
    return arrow


def _holds(arrow: pa.DataType, is_wanted: Callable[[pa.DataType], bool]) -> bool:
    if is_wanted(arrow):
        return True
    return any(_holds(arrow.field(position).type, is_wanted) for position in range(arrow.num_fields))
