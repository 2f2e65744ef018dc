"""Conversion of batch results into one result per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np
import pandas as pd
import pyarrow as pa

from tablevault.storage.frames import (
    cells_of_column,
    cells_of_frame,
    cells_of_series,
    check_row_index,
    in_order_of_positions,
    is_polars,
)


def rows_of_batch(value: object, expected: int, columns: Sequence[str]) -> Sequence[object]:
    """Return the results of the rows of a batch.

    Parameters
    ----------
    value
        A sequence, array, Series or frame. Row labels that are a permutation of the positions give the order.
    expected
        Number of rows passed to the function.
    columns
        Columns of the builder. If there is only one, the rows of a frame with one column are its cells.

    Raises
    ------
    TypeError
        If it has another type.
    ValueError
        If its length differs from `expected`.
    TVTableError
        If its row labels hold data, or a column cannot be stored.
    """
    rows: Sequence[object]
    if type(value) is list or type(value) is tuple:
        rows = value
    elif isinstance(value, pd.DataFrame):
        frame = in_order_of_positions(value, expected)
        check_row_index(frame.index)
        rows = _rows_of_columns(cells_of_frame(frame), len(columns))
    elif isinstance(value, pd.Series):
        series = in_order_of_positions(value, expected)
        check_row_index(series.index)
        rows = cells_of_series(columns[0], series)
    elif isinstance(value, np.ndarray):
        if value.ndim == 0:
            raise TypeError("a batch function returned a single value; return a list with one item per row")
        rows = list(value)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        rows = list(value)  # Not every sequence can be sliced.
    elif isinstance(value, Mapping):
        raise TypeError("a batch function returned a mapping, which has no order; return a list with one item per row")
    elif hasattr(value, "__arrow_c_stream__"):
        rows = _rows_of_arrow(value, columns)
    else:
        raise TypeError(
            f"a batch function returned a {type(value).__name__}; return a list, array, Series or frame with one item "
            "per row"
        )
    if len(rows) != expected:
        raise ValueError(f"a batch function returned {len(rows):,} rows for the {expected:,} rows given")
    return rows


def _rows_of_arrow(value: object, columns: Sequence[str]) -> Sequence[object]:
    """Return the rows of an Arrow-compatible frame or column, such as those of polars."""
    if isinstance(value, pa.ChunkedArray) or is_polars(value, "Series"):
        return cells_of_column(columns[0], value)
    if not is_polars(value, "DataFrame"):
        try:
            value = pa.table(value)
        except (pa.ArrowException, TypeError, ValueError):
            return cells_of_column(columns[0], value)
    return _rows_of_columns(cells_of_frame(value), len(columns))


def _rows_of_columns(cells: Mapping[str, Sequence[object]], width: int) -> Sequence[object]:
    if width == len(cells) == 1:
        return next(iter(cells.values()))
    rows: list[dict[str, object]] = [{} for _ in next(iter(cells.values()), ())]
    for name, column in cells.items():  # Several times faster than making each row at once.
        for row, cell in zip(rows, column, strict=True):
            row[name] = cell
    return rows


def is_exception(result: object) -> TypeGuard[BaseException]:
    """Return whether a result is an exception object, ignoring a spoofed `__class__`."""
    return issubclass(type(result), BaseException)
