"""Export of frames to Excel workbooks with openpyxl."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tablevault.errors import TVArgumentError, TVTableError
from tablevault.storage.cell_texts import text_column
from tablevault.storage.column_types import CellError, ColumnType, Kind
from tablevault.storage.columns import Column
from tablevault.storage.frame_data import FrameData

if TYPE_CHECKING:
    from openpyxl.cell import WriteOnlyCell

# Limits of the format: "Excel specifications and limits" in Microsoft's documentation.
_MAXIMUM_ROWS, _MAXIMUM_COLUMNS, _MAXIMUM_TEXT_LENGTH = 1_048_576, 16_384, 32_767
_MAXIMUM_WHOLE_NUMBER = 2**53
"""Largest whole number up to which Excel, which stores doubles, is exact."""
_DIGITS = 15
"""Maximum number of digits with which a decimal survives the conversion to a double and back."""
_FIRST_DAY = datetime.date(1900, 3, 1)
"""Excel counts a nonexistent day before it, 29 February 1900."""
_UNSAFE_TEXT = re.compile(r"[\x00-\x08\x0b-\x1f\ufffe\uffff]|_x[0-9A-Fa-f]{4}_")
"""Characters that XML cannot hold or changes, and text that Excel reads as an escaped character."""


def write_sheet(data: FrameData, path: Path) -> None:
    """Write a frame as a workbook of one sheet with a header row.

    Columns of numbers, booleans, dates and naive times become native cells if every value of the column is exact in
    Excel: whole numbers up to 2**53, decimals of up to 15 digits, dates and times in whole milliseconds from 1 March
    1900 on. All other columns become text, as in `text_column`. Null is an empty cell.

    Raises
    ------
    TVArgumentError
        If openpyxl is not installed.
    TVTableError
        If a sheet cannot hold the frame: too many rows or columns, a text that is too long or has characters that Excel
        cannot keep; names column and row.
    """
    try:
        from openpyxl import Workbook
    except ImportError as error:
        raise TVArgumentError("Writing .xlsx needs openpyxl, which is not installed: pip install openpyxl.") from error
    if len(data) >= _MAXIMUM_ROWS or len(data.types) > _MAXIMUM_COLUMNS:
        raise TVTableError(
            f"A frame of {len(data):,} rows and {len(data.types):,} columns does not fit a sheet, which has "
            f"{_MAXIMUM_ROWS:,} and {_MAXIMUM_COLUMNS:,}. Write it as .csv or .parquet."
        )
    book = Workbook(write_only=True)
    sheet = book.create_sheet("frame")
    try:
        sheet.append([_text_cell(sheet, name, name, None) for name in data.types])
        columns = [
            _cells(sheet, data.table.column(at), name, kind) for at, (name, kind) in enumerate(data.types.items())
        ]
        for row in zip(*columns, strict=True):
            sheet.append(row)
    except BaseException:
        # A sheet that is left open complains when it is collected.
        sheet.close()
        raise
    book.save(path)


def _cells(sheet: Any, column: Column, name: str, column_type: ColumnType) -> Iterator[WriteOnlyCell | None]:
    make = _native(column) if column_type.kind is Kind.PLAIN else None
    try:
        values = column.to_pylist() if make is not None else text_column(column, column_type).to_pylist()
    except CellError as error:
        raise TVTableError(
            f"Column {name!r}, row {error.position}, cannot be written as text: {error}. Write the frame as .parquet, "
            "which has a type for it."
        ) from error
    for row, value in enumerate(values):
        if value is None:
            yield None
        elif make is not None:
            yield make(sheet, value)
        else:
            yield _text_cell(sheet, value, name, row)


def _native(column: Column) -> Callable[[Any, Any], WriteOnlyCell] | None:
    """Return the factory of native cells for a column.

    Returns `None` unless all values are exact in Excel.
    """
    arrow = column.type
    if pa.types.is_boolean(arrow):
        return _cell
    if pa.types.is_integer(arrow):
        return _number_cell if _all_within(column, -_MAXIMUM_WHOLE_NUMBER, _MAXIMUM_WHOLE_NUMBER) else None
    if pa.types.is_floating(arrow):
        return _number_cell
    if pa.types.is_decimal(arrow):
        return _number_cell if arrow.precision <= _DIGITS else None
    if pa.types.is_date(arrow):
        return _cell if _all_within(column, _FIRST_DAY, datetime.date.max) else None
    if pa.types.is_timestamp(arrow) and arrow.tz is None:
        first = datetime.datetime.combine(_FIRST_DAY, datetime.time())
        return _cell if _all_within(column, first, datetime.datetime.max) and _in_milliseconds(column) else None
    return None


def _all_within(column: Column, first: Any, last: Any) -> bool:
    """Return whether all values are within bounds, which may exceed the range of the column's type."""
    try:
        extremes = pc.min_max(column).as_py()
    except (OverflowError, ValueError):  # A time outside the range of Python's types.
        return False
    low, high = extremes["min"], extremes["max"]
    return low is None or bool(first <= low and high <= last)


def _in_milliseconds(column: Column) -> bool:
    whole = pc.floor_temporal(column, unit="millisecond")
    return bool(pc.all(pc.equal(whole, column)).as_py() in (True, None))


def _cell(sheet: Any, value: Any) -> WriteOnlyCell:
    from openpyxl.cell import WriteOnlyCell

    return WriteOnlyCell(sheet, value)


def _number_cell(sheet: Any, value: Any) -> WriteOnlyCell:
    text = str(value) if not isinstance(value, float) else repr(value)
    words = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}
    cell = _cell(sheet, words.get(text, text))
    # Given the number itself, openpyxl writes 16 digits of it; some numbers need 17.
    cell.data_type = "s" if text in words else "n"
    return cell


def _text_cell(sheet: Any, text: str, name: str, row: int | None) -> WriteOnlyCell:
    unsafe = _UNSAFE_TEXT.search(text)
    if unsafe is not None or len(text) > _MAXIMUM_TEXT_LENGTH:
        place = f"Column {name!r}, row {row}" if row is not None else f"The name of column {name!r}"
        what = (
            f"contains {unsafe[0]!r}" if unsafe else f"has {len(text):,} characters, more than {_MAXIMUM_TEXT_LENGTH:,}"
        )
        raise TVTableError(f"{place} {what}, which Excel cannot store. Write the frame as .csv or .parquet.")
    cell = _cell(sheet, text)
    cell.data_type = "s"  # Also text that looks like a formula or an error.
    return cell
