"""Columns of frames as NumPy arrays, without a Python loop over rows."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from tablevault.errors import TVArgumentError
from tablevault.surface import public

if TYPE_CHECKING:
    import numpy as np


@public
def to_numpy(column: Any, *, copy: bool = False) -> np.ndarray[Any, Any]:
    """Stack a column of equally shaped arrays or numeric lists into one array.

    Parameters
    ----------
    column
        A column of a frame of pandas, Arrow or polars, such as `get_dataframe` returns.
    copy
        Always return a writable copy. By default, the array is a read-only view if the column is one chunk without
        nulls, and a copy otherwise.

    Returns
    -------
    numpy.ndarray
        Array of shape (rows, n), or (rows, a, b, …) for tensors. Null rows of floating-point items become NaN.

    Raises
    ------
    TVArgumentError
        If `column` is not a column of arrays or numeric lists.
    ValueError
        If the rows differ in length, or a row of items without NaN is null; names the first such row.

    Examples
    --------
    >>> import pyarrow as pa
    >>> to_numpy(pa.array([[1.5, 2.5], [3.5, 4.5]])).shape
    (2, 2)
    """
    from tablevault.storage.vectors import stacked_column

    return stacked_column(_arrow_column(column), copy)


def _arrow_column(column: Any) -> Any:
    import pyarrow as pa

    polars, pandas = sys.modules.get("polars"), sys.modules.get("pandas")
    if isinstance(column, pa.Array | pa.ChunkedArray):
        found = column
    elif polars is not None and isinstance(column, polars.Series):
        found = column.to_arrow()
    elif pandas is not None and isinstance(column, pandas.Series):
        found = pa.array(column.array) if isinstance(column.dtype, pandas.ArrowDtype) else pa.array(column)
    else:
        raise TVArgumentError(
            f"to_numpy() needs a column of pandas, Arrow or polars, not a {type(column).__name__}; take one out of the "
            "frame, as in frame['embedding']."
        )
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found], type=found.type)
