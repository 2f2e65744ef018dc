"""Cells of frames and columns that functions return."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import pyarrow as pa

from tablevault.errors import TVTableError
from tablevault.storage.arrow_layouts import has_fine_times, readable_column, rows_of, with_python_times
from tablevault.storage.column_types import CellError, type_of_arrow
from tablevault.storage.columns import plain_values
from tablevault.storage.frame_data import arrow_table, check_distinct, column_of_polars, is_polars, is_polars_frame
from tablevault.storage.pandas_forms import tensor_column
from tablevault.storage.plain import UnreadableCell
from tablevault.storage.storable import check_field, check_type

Cells = Sequence[object]

_SIMPLE = frozenset(
    {
        pa.bool_(),
        *(getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)),
        *(pa.float32(), pa.float64(), pa.string(), pa.large_string(), pa.string_view()),
    }
)
"""Types all of whose values Python can express; invalid text raises `ValueError`."""
_UNREADABLE = (pa.ArrowException, OverflowError, ValueError, TypeError)


def cells_of_series(name: str, series: pd.Series[Any]) -> Cells:
    """Return the cells of a pandas column.

    Raises like `cells_of_column`.
    """
    if not isinstance(series.dtype, pd.ArrowDtype):
        return series.tolist()
    column = pa.array(series.array)
    return _cells(name, column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column]))


def cells_of_column(name: str, column: Any) -> Cells:
    """Return the cells of a column of polars or Arrow.

    The column may be of any library with Arrow's PyCapsule interface.

    A value that Python cannot express is an `UnreadableCell`. Raises `TVTableError` for damaged columns and types that
    cannot be stored, and `TypeError` for objects that are not columns.
    """
    if is_polars(column, "Series"):
        objects: list[object] | None = column.to_list() if column.dtype.is_object() else None
        return _cells(name, column_of_polars(name, column)) if objects is None else objects
    try:
        chunked = pa.chunked_array(column)
    except (pa.ArrowException, ValueError) as error:
        raise TypeError(f"it cannot be read as a column: {error}") from error
    return _cells(name, chunked)


def cells_of_frame(frame: Any) -> Mapping[str, Cells]:
    """Return the cells of each column of a frame.

    The frame is of pandas, polars, or any library with Arrow's PyCapsule interface.

    Raises `TVTableError` for objects that are not frames and for repeated names of columns, and like `cells_of_column`.
    """
    if isinstance(frame, pd.DataFrame):
        check_distinct(list(frame.columns))
        return {name: cells_of_series(name, frame.iloc[:, at]) for at, name in enumerate(frame.columns)}
    if is_polars_frame(frame):
        return {column.name: cells_of_column(column.name, column) for column in frame.get_columns()}
    table = arrow_table(frame)
    check_distinct(table.column_names)
    for field in table.schema:
        check_field(field.name, field)
    return {name: _cells(name, column) for name, column in zip(table.column_names, table.columns, strict=True)}


def _cells(name: str, column: pa.ChunkedArray) -> Cells:
    if column.type in _SIMPLE:
        return column.to_pylist()  # type: ignore[no-any-return]
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise TVTableError(f"column {name!r} is damaged: {error}") from error
    if pa.types.is_interval(column.type):
        check_type(name, column.type)
    try:
        tensors = tensor_column(column)
    except (CellError, TypeError) as error:
        raise TVTableError(f"column {name!r}: {error}") from error
    if tensors is not None:
        return plain_values(*tensors)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    column = readable_column(column)
    try:
        return _python_values(column)
    except _UNREADABLE:
        return [_cell(rows_of(column, row, 1)) for row in range(len(column))]


def _cell(column: pa.ChunkedArray) -> object:
    try:
        return _python_values(column)[0]
    except _UNREADABLE as error:
        return UnreadableCell(
            f"a value of the type {column.type} cannot be expressed in Python ({error}); convert it, or return it from "
            "a 'dataframe' function"
        )


def _python_values(column: pa.ChunkedArray) -> list[Any]:
    if has_fine_times(column.type):
        column = column.cast(with_python_times(column.type))
    return plain_values(column, type_of_arrow(column.type))
