"""Conversion of batch results into one result per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeGuard


def rows_of_batch(value: object, expected: int, width: int) -> Sequence[object]:
    """Return the results of the rows of a batch.

    Parameters
    ----------
    value
        A sequence, array, Series or frame.
    expected
        Number of rows passed to the function.
    width
        Number of columns of the builder. The rows of a frame with one column are its cells.

    Raises
    ------
    TypeError
        If it has another type.
    ValueError
        If its length differs from `expected`.
    """
    import numpy as np
    import pandas as pd

    rows: Sequence[object]
    if isinstance(value, pd.DataFrame):
        if width == len(value.columns) == 1:
            rows = value.iloc[:, 0].tolist()
        else:
            rows = [dict(zip(value.columns, row, strict=True)) for row in value.itertuples(index=False, name=None)]
    elif isinstance(value, pd.Series):
        rows = value.tolist()
    elif isinstance(value, np.ndarray):
        if value.ndim == 0:
            raise TypeError("a batch function returned a single value; return a list with one item per row")
        rows = list(value)
    elif isinstance(value, Sequence) and not isinstance(value, str | bytes | bytearray):
        rows = value
    elif isinstance(value, Mapping):
        raise TypeError("a batch function returned a mapping, which has no order; return a list with one item per row")
    elif hasattr(value, "__arrow_c_stream__"):
        rows = _rows_of_arrow(value, width)
    else:
        raise TypeError(
            f"a batch function returned a {type(value).__name__}; return a list, array, Series or frame with one item "
            "per row"
        )
    if len(rows) != expected:
        raise ValueError(f"a batch function returned {len(rows):,} rows for the {expected:,} rows given")
    return rows


def _rows_of_arrow(value: object, width: int) -> Sequence[object]:
    """Return the rows of an Arrow-compatible frame or column, such as those of polars."""
    import pyarrow as pa

    try:
        table = pa.table(value)
    except (pa.ArrowException, TypeError, ValueError):
        cells: list[object] = pa.chunked_array(value).to_pylist()
        return cells
    if width == table.num_columns == 1:
        only: list[object] = table.column(0).to_pylist()
        return only
    rows: list[object] = table.to_pylist()
    return rows


def is_exception(result: object) -> TypeGuard[BaseException]:
    """Return whether a result is an exception object, ignoring a spoofed `__class__`."""
    return issubclass(type(result), BaseException)
