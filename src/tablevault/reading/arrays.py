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
    """Return a column of arrays or numeric lists of one shape as one array, a row for each row of the column.

    Parameters
    ----------
    column
        A column of a frame of pandas, Arrow or polars, such as `get_dataframe` returns.
    copy
        Always return a copy, which may be written to. By default the array is a read-only view of a column in one
        chunk without nulls, and a copy of any other.

    Returns
    -------
    numpy.ndarray
        With the shape (rows, n), or (rows, a, b, …) for tensors. A null row is NaN, if the items are fractions.

    Raises
    ------
    TVArgumentError
        If it is not a column of arrays or numeric lists.
    ValueError
        If the rows differ in length, or a row is null and its items have no NaN; names the first row.

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
