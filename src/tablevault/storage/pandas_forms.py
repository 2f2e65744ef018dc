"""Conversion of pandas columns to Arrow, and back with exactly the same dtype.

The *form* of a column is a text that names its dtype in pandas::

    form = "arrow"                                            pandas.ArrowDtype of the Arrow type
         | "Int8" … "Float64" | "boolean"                     pandas' masked types
         | ("string" | "str") [ "[python]" ]                  its string types, with NA or NaN for null
         | "bool" | "int8" … "float64" | ">i8" …              NumPy's types
         | "datetime64[" unit [ "," zone ] "]" | "timedelta64[" unit "]"
         | "category:" form                                   the form is that of the categories
         | "object" [ ":" null [ ":" cells ] ]                Python objects

where `null` is the object that represents null, and `cells` is `tuple` or `array[…]` if the lists of the column were
tuples or NumPy arrays. Forms are looked up only here, so that a file cannot run code.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tablevault.storage.arrow_layouts import readable_column
from tablevault.storage.arrow_names import arrow_name
from tablevault.storage.column_types import (
    ITEM_TYPES,
    CellError,
    ColumnType,
    Kind,
    tensor_column_type,
    type_of_arrow,
    vector_type,
)
from tablevault.storage.columns import Column, build_column, plain_values
from tablevault.storage.plain import NOT_THE_VALUES, is_missing, natural_value, refusal
from tablevault.storage.storable import unique_categories
from tablevault.storage.vectors import array_form, arrays_of_column, has_null_items, retyped
from tablevault.storage.zones import is_known_zone, zone_name

_MASKED: dict[str, Callable[[], Any]] = {
    **{name: getattr(pd, f"{name}Dtype") for name in ("Int8", "Int16", "Int32", "Int64")},
    **{name: getattr(pd, f"{name}Dtype") for name in ("UInt8", "UInt16", "UInt32", "UInt64")},
    **{name: getattr(pd, f"{name}Dtype") for name in ("Float32", "Float64")},
    "boolean": pd.BooleanDtype,
    "string": lambda: pd.StringDtype("pyarrow"),
    "string[python]": lambda: pd.StringDtype("python"),
    "str": lambda: pd.StringDtype("pyarrow", na_value=np.nan),
    "str[python]": lambda: pd.StringDtype("python", na_value=np.nan),
}
_NUMPY = re.compile(r"bool|u?int(?:8|16|32|64)|float(?:16|32|64)|>[iuf][248]")
_DATETIME = re.compile(r"datetime64\[(s|ms|us|ns)(?:, ([^\[\]]+))?\]")
_TIMEDELTA = re.compile(r"timedelta64\[(?:s|ms|us|ns)\]")
_ARRAY = re.compile(r"array\[([<>|]?[biufMmU]\d{1,4}(?:\[(?:s|ms|us|ns)\])?)\]")
_VECTORS = re.compile(r":array\[[<>|]?(?:(b)1|(f)[248]|i[1248]|u[124])\]$")
"""Arrays whose items always fit the item type of their list column."""
_NULLS: dict[str, Any] = {"None": None, "nan": np.nan, "NaT": pd.NaT, "NA": pd.NA}


def column_of_series(series: pd.Series[Any]) -> tuple[Column, ColumnType]:
    """Convert a pandas column to Arrow; return it with the type that restores it exactly.

    In columns of NumPy floats and of Python objects, NaN is null. Objects are restored equal, except that tuples inside
    cells (and cells that are arrays, unless all have the same type) become lists. Raises `CellError` if a value, and
    `TypeError` if the dtype, cannot be stored.
    """
    dtype: Any = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _column_of_categories(series.array)
    if isinstance(dtype, pd.ArrowDtype):
        return _column_of_arrow(series.array)
    if isinstance(dtype, pd.StringDtype):
        form = "str" if dtype.na_value is np.nan else "string"
        return _typed(_arrow_of(series.array), form if dtype.storage == "pyarrow" else f"{form}[python]")
    if str(dtype) in _MASKED:
        return _typed(_arrow_of(series.array), str(dtype))
    if isinstance(dtype, pd.DatetimeTZDtype):
        zoned = series.dt.tz_convert(zone_name(dtype.tz))
        return _typed(_arrow_of(zoned.array), f"datetime64[{dtype.unit}, {zone_name(dtype.tz)}]")
    if not isinstance(dtype, np.dtype):
        raise _unstorable(dtype)
    if dtype.kind == "O":
        return _column_of_objects(series.tolist())
    return _column_of_numpy(series.to_numpy(), dtype)


def pandas_array(column: Column, column_type: ColumnType) -> Any:
    """Convert an Arrow column to an array for pandas, which the caller may modify.

    Raises `ValueError` if the form of the type is unknown or does not fit the column.
    """
    form = column_type.pandas
    if form == "arrow":
        arrow_dtype: Any = pd.ArrowDtype(column.type)
        return arrow_dtype.__from_arrow__(column)
    if form in _MASKED:
        return _MASKED[form]().__from_arrow__(column)
    if form.startswith("category:"):
        return _categories(column, form.removeprefix("category:"))
    if form.partition(":")[0] == "object":
        return _objects(_cells(column, column_type, form), form)
    if zoned := _DATETIME.fullmatch(form):
        if zoned[2]:
            zoned_dtype: Any = pd.DatetimeTZDtype.construct_from_string(form)
            return zoned_dtype.__from_arrow__(column)
        return _numpy_array(column, form)
    if _NUMPY.fullmatch(form) or _TIMEDELTA.fullmatch(form):
        return _numpy_array(column, form)
    raise ValueError(f"unknown form {form!r}")


def _unstorable(dtype: object) -> TypeError:
    return TypeError(f"its dtype {dtype} cannot be stored; convert it, for example with {_conversion(dtype)}")


def _conversion(dtype: object) -> str:
    """Return the call that converts a column of a dtype that cannot be stored."""
    if isinstance(dtype, pd.SparseDtype):
        return "sparse.to_dense()"
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        return "astype('float64')"
    return "astype('string')"


def _typed(column: Column, form: str) -> tuple[Column, ColumnType]:
    plain = type_of_arrow(column.type)
    return column, ColumnType(plain.name, plain.arrow, plain.kind, form)


def _arrow_of(array: Any) -> Column:
    try:
        return pa.array(array)
    except UnicodeEncodeError as error:
        raise _text_error(array) or error from error
    except pa.ArrowException as error:
        raise _unstorable(array.dtype) from error


def _text_error(array: Any) -> CellError | None:
    for position, value in enumerate(array):
        try:
            natural_value(value)
        except (TypeError, ValueError) as error:
            return CellError(position, str(error))
    return None


def _column_of_arrow(array: Any) -> tuple[Column, ColumnType]:
    column = _arrow_of(array)
    try:
        column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise TypeError(f"it is damaged: {error}") from error
    tensors = tensor_column(column)
    if tensors is not None:
        return tensors
    if pa.types.is_timestamp(column.type) and column.type.tz and not is_known_zone(column.type.tz):
        column = column.cast(pa.timestamp(column.type.unit, "UTC"))
    column = readable_column(column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column]))
    if pa.types.is_dictionary(column.type) and any(chunk.dictionary.null_count for chunk in column.chunks[1:]):
        column = unique_categories(column)  # Arrow cannot combine the chunks of others.
    plain = type_of_arrow(column.type)
    name = plain.name if plain.kind is Kind.CATEGORY else f"{plain.name}[pyarrow]"
    return column, ColumnType(name, plain.arrow, plain.kind, "arrow")


def tensor_column(column: Column) -> tuple[pa.ChunkedArray, ColumnType] | None:
    """Return the stored form of a column of Arrow's fixed-shape tensors; `None` for other columns.

    Raises `CellError` for missing items, and `TypeError` for items or a layout that stored tensors cannot have.
    """
    if not isinstance(column.type, pa.FixedShapeTensorType):
        return None
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    item, shape = arrow_name(chunked.type.value_type), list(chunked.type.shape)
    permutation = chunked.type.permutation
    if item not in ITEM_TYPES or 0 in shape or (permutation and list(permutation) != sorted(permutation)):
        raise TypeError(f"its type {chunked.type} cannot be stored; make a NumPy array of each cell")
    stored = pa.chunked_array([chunk.storage for chunk in chunked.chunks], type=chunked.type.storage_type)
    if has_null_items(stored):
        row = next(at for at, cell in enumerate(stored.to_pylist()) if cell is not None and None in cell)
        raise CellError(row, "a tensor has a missing item; use NaN or leave the cell empty")
    column_type = vector_type(item, shape[0]) if len(shape) == 1 else tensor_column_type(item, shape)
    return retyped(stored, is_nullable=True), column_type


def _column_of_categories(array: Any) -> tuple[Column, ColumnType]:
    values, value_type = column_of_series(pd.Series(array.categories))
    if value_type.kind is Kind.JSON:
        raise TypeError("its categories are of several types, which cannot be stored; convert them to text")
    if isinstance(values, pa.ChunkedArray):
        values = values.combine_chunks()
    codes = pa.array(array.codes, mask=array.codes < 0)
    column = pa.DictionaryArray.from_arrays(codes, values, ordered=bool(array.ordered))
    if value_type.pandas.startswith("object") and not values.type.num_fields:
        # Objects that differ may be stored alike, such as a path and its text.
        column = unique_categories(pa.chunked_array([column]))
    return column, ColumnType("category", column.type, Kind.CATEGORY, f"category:{value_type.pandas}")


def _column_of_numpy(values: Any, dtype: np.dtype[Any]) -> tuple[Column, ColumnType]:
    form = dtype.name if dtype.isnative else dtype.str
    if not (_NUMPY.fullmatch(form) or _DATETIME.fullmatch(form) or _TIMEDELTA.fullmatch(form)):
        raise _unstorable(dtype)
    if not dtype.isnative:
        values = values.astype(dtype.newbyteorder("="))
    return _typed(pa.array(values, from_pandas=True), form)


def _column_of_objects(values: list[Any]) -> tuple[Column, ColumnType]:
    form = f"object:{_null_form(values)}{_cells_form(values)}"
    if item := _item_of_lists(values, form):
        arrays = [None if is_missing(value) else np.ascontiguousarray(value, item) for value in values]
        column, column_type = build_column(arrays, type_of_arrow(pa.list_(pa.from_numpy_dtype(item))))
        return column, ColumnType(column_type.name, column_type.arrow, column_type.kind, form)
    plain: list[Any] = []
    for position, value in enumerate(values):
        try:
            plain.append(natural_value(value))
        except NOT_THE_VALUES:
            raise
        except Exception as error:
            raise CellError(position, str(refusal(value, error))) from error
    column, column_type = build_column(plain, None)
    return column, ColumnType(column_type.name, column_type.arrow, column_type.kind, form)


def _null_form(values: Sequence[Any]) -> str:
    """Return the name of the object that represents null; `None` if there are several."""
    nulls = {"None" if value is None else _null_name(value) for value in values if is_missing(value)}
    return nulls.pop() if len(nulls) == 1 else "None"


def _null_name(value: object) -> str:
    if value is pd.NA:
        return "NA"
    return "nan" if isinstance(value, (float, np.floating)) else "NaT"


def _cells_form(values: Sequence[Any]) -> str:
    kinds = {type(value) for value in values if not is_missing(value)}
    if kinds == {tuple}:
        return ":tuple"
    if kinds != {np.ndarray}:
        return ""
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    dtypes = {array.dtype for array in arrays}
    flat_when_empty = all(array.size or array.ndim == 1 for array in arrays)
    form = f"array[{dtypes.pop().str}]" if len(dtypes) == 1 and flat_when_empty else ""
    return f":{form}" if _ARRAY.fullmatch(form) else ""


def _item_of_lists(values: Sequence[Any], form: str) -> np.dtype[Any] | None:
    """Return the item type for storing vectors without per-item checks.

    Returns `None` if that is impossible.
    """
    match = _VECTORS.search(form)
    if match is None:
        return None
    arrays = [value for value in values if isinstance(value, np.ndarray)]
    if any(array.ndim != 1 for array in arrays) or not any(array.size for array in arrays):
        return None
    return np.dtype("bool" if match[1] else "float64" if match[2] else "int64")


def _cells(column: Column, column_type: ColumnType, form: str) -> Sequence[Any]:
    """Return the plain values of a column of Python objects, or its arrays."""
    array = array_form(column_type) if _VECTORS.search(form) else None
    chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if array is None or has_null_items(chunked):
        return plain_values(column, column_type)
    return arrays_of_column(column, array)


def _categories(column: Column, values_form: str) -> Any:
    chunk = column
    if isinstance(column, pa.ChunkedArray):
        # Combining zero chunks would lose the categories.
        chunk = column.chunk(0) if column.num_chunks == 1 else column.unify_dictionaries().combine_chunks()
    if not pa.types.is_dictionary(chunk.type):
        raise ValueError(f"a category needs a dictionary, not {chunk.type}")
    values = type_of_arrow(chunk.type.value_type)
    array = pandas_array(chunk.dictionary, ColumnType(values.name, values.arrow, values.kind, values_form))
    categories = pd.Index(array, dtype=array.dtype, copy=False)
    codes = np.array(chunk.indices.cast(pa.int64()).fill_null(-1).to_numpy(zero_copy_only=False))
    return pd.Categorical.from_codes(codes, dtype=pd.CategoricalDtype(categories, ordered=chunk.type.ordered))


def _objects(values: Sequence[Any], form: str) -> Any:
    _, _, details = form.partition(":")
    null, _, cells = details.partition(":")
    if (null or "None") not in _NULLS:
        raise ValueError(f"unknown form {form!r}")
    missing = _NULLS[null or "None"]
    convert = _cell_converter(cells)
    array = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        array[position] = missing if value is None else convert(value)
    return pd.Series(array, dtype=object, copy=False)  # From a bare array, pandas would infer another dtype.


def _cell_converter(cells: str) -> Callable[[Any], Any]:
    if not cells:
        return lambda value: value
    if cells == "tuple":
        return tuple
    if array := _ARRAY.fullmatch(cells):
        dtype = np.dtype(array[1])
        if dtype.kind in "mM":
            return lambda value: np.array(_numpy_times(value), dtype=dtype)
        return lambda value: np.array(value, dtype=dtype)
    raise ValueError(f"unknown kind of cells {cells!r}")


def _numpy_times(value: Any) -> Any:
    # NumPy would treat a Timestamp as a datetime and lose its nanoseconds.
    if isinstance(value, list):
        return [_numpy_times(item) for item in value]
    if isinstance(value, (pd.Timestamp, pd.Timedelta)):
        return value.to_numpy()
    return "NaT" if value is None else value


def _numpy_array(column: Column, form: str) -> Any:
    array = column.to_numpy() if isinstance(column, pa.ChunkedArray) else column.to_numpy(zero_copy_only=False)
    if array.dtype != np.dtype(form):
        if column.null_count or array.dtype != np.dtype(form).newbyteorder("="):
            raise ValueError(f"a column of {column.type} with {column.null_count} nulls does not fit {form!r}")
        return array.astype(form)
    return array if array.flags.writeable else array.copy()
