"""Frames in memory, converted from and to pandas, polars and Arrow."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.errors import TVFileError, TVTableError
from tablevault.names import nearest
from tablevault.storage.arrow_layouts import plain_column
from tablevault.storage.cells import column_checker
from tablevault.storage.column_types import CellError, ColumnType, Kind, holds_arrays, type_of_arrow
from tablevault.storage.columns import Column, build_column, plain_values
from tablevault.storage.pandas_forms import column_of_series, pandas_array, tensor_column
from tablevault.storage.plain import NOT_THE_VALUES, checked_text, refusal, shown, type_name
from tablevault.storage.storable import (
    are_distinct,
    check_field,
    check_python_times,
    check_type,
    check_values,
    unique_categories,
)
from tablevault.storage.vectors import array_form, arrays_of_column, as_extension, has_null_items

if TYPE_CHECKING:
    import polars as pl

_LEADS_OUT = r"^/|(?:^|/)\.\.(?:/|$)"
"""Pattern of artifact paths that leave their folder."""

_Labelled = TypeVar("_Labelled", pd.DataFrame, "pd.Series[Any]")
_MAXIMUM_POLARS_DIGITS = 38

ROW_NUMBER = "index"
"""Pseudo-column of every frame; reserved, so it cannot name a column."""


@dataclass(frozen=True, slots=True)
class FrameData:
    """A frame, with an Arrow table and the types of its columns."""

    table: pa.Table
    types: Mapping[str, ColumnType]
    """One for every column of the table."""

    def __len__(self) -> int:
        return int(self.table.num_rows)


def table_from_frame(frame: object, dtypes: Mapping[str, ColumnType]) -> FrameData:
    """Convert a frame of pandas, polars, pyarrow or any library with Arrow's PyCapsule interface.

    Columns named in `dtypes` get that type if `cell_checker` accepts every value; the others keep their exact type. The
    frame itself is not modified. An unnamed integer row index is dropped.

    Raises
    ------
    TVTableError
        If it is not a frame; if a column's name is empty, not text, `index` or used twice; if the row index has a name
        or labels other than integers, since it then holds data; if a value does not fit its column. The message names
        column and row.
    """
    read = _columns_of_pandas if isinstance(frame, pd.DataFrame) else _columns_of_arrow
    named = read(frame, dtypes)
    _check_dtypes_known(dtypes, named)
    types = {name: column_type for name, (_, column_type) in named.items()}
    columns = [_chunked(column) for column, _ in named.values()]
    data = FrameData(pa.table(columns, schema=_schema(types)), types)
    _check_storable(data.table)
    return data


def frame_of_columns(columns: Mapping[str, tuple[Column, ColumnType]]) -> FrameData:
    """Return a frame of columns that `build_column` returned."""
    types = {name: column_type for name, (_, column_type) in columns.items()}
    return FrameData(pa.table([_chunked(column) for column, _ in columns.values()], schema=_schema(types)), types)


def with_nullable_types(data: FrameData) -> FrameData:
    """Return a frame whose columns convert to pandas' nullable types."""
    types = dict(data.types)
    for position, (name, column_type) in enumerate(data.types.items()):
        is_arrow_dictionary = pa.types.is_dictionary(column_type.arrow) and column_type.pandas == "arrow"
        if not is_arrow_dictionary or are_distinct(data.table.column(position)):
            types[name] = _nullable(column_type)
    return FrameData(data.table, types)


def with_artifact_folder(data: FrameData, folder: Path) -> FrameData:
    """Return a frame whose artifact paths, stored relative to `folder`, are full paths.

    Raises `TVFileError` if a path leaves the folder.
    """
    table = data.table
    for position, (name, column_type) in enumerate(data.types.items()):
        if column_type.kind is Kind.ARTIFACT:
            if pc.any(pc.match_substring_regex(table.column(position), _LEADS_OUT)).as_py():
                raise TVFileError(
                    f"Column {name!r} names files outside {folder}. The file may have been tampered with."
                )
            full = pc.binary_join_element_wise(f"{folder}/", table.column(position), "")
            table = table.set_column(position, name, full)
    return FrameData(table, data.types)


def to_pandas(data: FrameData) -> pd.DataFrame:
    """Convert to pandas, with exactly the dtypes as written; the caller owns the result.

    Raises `ValueError` if the types do not fit the columns.
    """
    if not data.types:
        return pd.DataFrame()
    arrays = {
        position: pandas_array(_presented(data.table.column(position), column_type), column_type)
        for position, column_type in enumerate(data.types.values())
    }
    frame = pd.DataFrame(arrays, copy=False)
    frame.columns = pd.Index(list(data.types))
    return frame


def to_arrow(data: FrameData) -> pa.Table:
    """Convert to Arrow in the stored types, so `json` is text; tensors are Arrow's extension type."""
    if not any(known.kind is Kind.TENSOR for known in data.types.values()):
        return data.table
    columns = [_presented(column, known) for column, known in zip(data.table.columns, data.types.values(), strict=True)]
    return pa.table(columns, names=data.table.column_names)


def _presented(column: pa.ChunkedArray, column_type: ColumnType) -> pa.ChunkedArray:
    """Return a column for callers, with tensors in Arrow's extension type."""
    form = array_form(column_type) if column_type.kind is Kind.TENSOR else None
    return column if form is None else as_extension(column, form)


def to_polars(data: FrameData) -> pl.DataFrame:
    """Convert to polars in the stored types, or in the nearest that polars has.

    For example, `json` becomes text.

    Times with an offset unknown to polars are in UTC; decimals of more than 38 digits are text.
    """
    import polars as pl

    columns = [_polars_column(column) for column in to_arrow(data).columns]
    return pl.DataFrame(pa.table(columns, names=data.table.column_names))


def _polars_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        return column
    target = _polars_type(column.type, pa.decimal128)
    if target == column.type:
        return column
    try:
        return column.cast(target)
    except pa.ArrowInvalid:  # Some decimal has too many digits.
        return column.cast(_polars_type(column.type, lambda *_: pa.string()))


def _polars_type(arrow: pa.DataType, decimal: Callable[[int, int], pa.DataType]) -> pa.DataType:
    """Return the type that polars accepts for a column; `decimal` creates the type of wide decimals."""
    types = pa.types
    if types.is_decimal256(arrow):
        return decimal(_MAXIMUM_POLARS_DIGITS, arrow.scale) if arrow.scale <= _MAXIMUM_POLARS_DIGITS else pa.string()
    if types.is_timestamp(arrow) and arrow.tz and _is_broken_offset(arrow.tz):
        return pa.timestamp(arrow.unit, "UTC")
    if types.is_date64(arrow):
        return pa.date32()
    if types.is_dictionary(arrow) and not (
        types.is_string(arrow.value_type) or types.is_large_string(arrow.value_type)
    ):
        return _polars_type(arrow.value_type, decimal)
    if types.is_struct(arrow):
        return pa.struct([field.with_type(_polars_type(field.type, decimal)) for field in arrow])
    if types.is_fixed_size_list(arrow):
        return pa.list_(arrow.value_field.with_type(_polars_type(arrow.value_type, decimal)), arrow.list_size)
    if types.is_map(arrow):
        fields = (arrow.key_field, arrow.item_field)
        key, item = (field.with_type(_polars_type(field.type, decimal)) for field in fields)
        return pa.map_(key, item, keys_sorted=arrow.keys_sorted)
    if types.is_list(arrow) or types.is_large_list(arrow):
        item = arrow.value_field.with_type(_polars_type(arrow.value_type, decimal))
        return pa.list_(item) if types.is_list(arrow) else pa.large_list(item)
    return arrow


def polars_lacks(arrow: pa.DataType) -> bool:
    """Return whether polars itself cannot read a column of this type from a file."""
    if pa.types.is_decimal256(arrow):
        return True
    if pa.types.is_timestamp(arrow) and arrow.tz:
        return _is_broken_offset(arrow.tz)
    return any(polars_lacks(arrow.field(position).type) for position in range(arrow.num_fields))


def _is_broken_offset(zone: str) -> bool:
    """Return whether a time zone is an offset that polars cannot name.

    polars has names for whole hours only.
    """
    return zone[0] in "+-" and not (zone.endswith(":00") and -12 <= int(zone[:3]) <= 14)


def _nullable(column_type: ColumnType) -> ColumnType:
    if column_type.kind is Kind.JSON:
        return replace(column_type, pandas="object")
    if column_type.kind is Kind.ARTIFACT:
        return replace(column_type, pandas="string")
    if holds_arrays(column_type):
        return column_type
    return type_of_arrow(column_type.arrow)


def _columns_of_pandas(frame: Any, dtypes: Mapping[str, ColumnType]) -> dict[str, tuple[Column, ColumnType]]:
    names = _check_names(list(frame.columns))
    check_row_index(frame.index)
    if not names and len(frame):
        raise TVTableError(f"the frame has {len(frame)} rows but no columns")
    return {
        name: _column_of_pandas(name, frame.iloc[:, position], dtypes.get(name)) for position, name in enumerate(names)
    }


def check_row_index(index: pd.Index[Any]) -> None:
    """Raise `TVTableError` if a row index holds data besides the order of rows."""
    names = [name for name in index.names if name is not None]
    if names:
        what = f"is named {shown(names[0])}"
    elif not is_plain_row_index(index):
        what = f"holds {shown(index[0])}"
    else:
        return
    raise TVTableError(
        f"the row index {what} and would be lost; make it a column with reset_index(), or drop it with "
        "reset_index(drop=True)"
    )


def is_plain_row_index(index: pd.Index[Any]) -> bool:
    """Return whether the row labels are integers, like pandas' default labels."""
    return isinstance(index, pd.RangeIndex) or not len(index) or index.inferred_type == "integer"


def in_order_of_positions(frame: _Labelled, count: int | None) -> _Labelled:
    """Sort a frame or series whose row labels are a permutation of the positions below `count`.

    Pandas aligns labels likewise when columns are assigned. Other frames are returned unchanged.
    """
    labels = frame.index
    if count is None or len(labels) != count or not is_plain_row_index(labels):
        return frame
    if labels.is_monotonic_increasing or not labels.is_unique:
        return frame
    return frame.sort_index() if labels.min() == 0 and labels.max() == count - 1 else frame


def is_polars_frame(frame: object) -> bool:
    """Return whether an object is a DataFrame of polars, which need not be installed."""
    return is_polars(frame, "DataFrame")


def is_polars(value: object, kind: str) -> bool:
    """Return whether an object is of a class of polars, which need not be installed."""
    polars = sys.modules.get("polars")
    return polars is not None and isinstance(value, getattr(polars, kind))


def _column_of_pandas(name: str, series: pd.Series[Any], column_type: ColumnType | None) -> tuple[Column, ColumnType]:
    try:
        if column_type is not None and series.dtype == object:
            return _checked_column(series.tolist(), column_type)
        column, own_type = column_of_series(series)
        return (column, own_type) if column_type is None else _fitted(column, own_type, column_type)
    except CellError as error:
        raise _cell_error(name, error) from error
    except TypeError as error:
        raise TVTableError(f"column {name!r}: {error}") from error


def _columns_of_arrow(frame: Any, dtypes: Mapping[str, ColumnType]) -> dict[str, tuple[Column, ColumnType]]:
    if is_polars_frame(frame):
        return _columns_of_polars(frame, dtypes)
    return _columns_of_table(arrow_table(frame), dtypes)


def _columns_of_polars(frame: Any, dtypes: Mapping[str, ColumnType]) -> dict[str, tuple[Column, ColumnType]]:
    """Return the columns of a polars frame.

    Of Python objects, polars would export addresses.
    """
    objects = [name for name, dtype in zip(frame.columns, frame.dtypes, strict=True) if dtype.is_object()]
    _check_names(frame.columns)
    plain = [column for column in frame.get_columns() if not column.dtype.is_object()]
    parts = {column.name: column_of_polars(column.name, column) for column in plain}
    columns = _columns_of_table(pa.table(parts), dtypes)
    for name in objects:
        cells = pd.Series(frame.get_column(name).to_list(), dtype=object)
        column, own_type = _column_of_pandas(name, cells, dtypes.get(name))
        columns[name] = (column, _nullable(own_type))
    return {name: columns[name] for name in frame.columns}


def column_of_polars(name: str, series: Any) -> pa.ChunkedArray:
    """Return a polars column as Arrow.

    Raises `TVTableError` for types that only polars has, such as `Int128`.
    """
    cut = next((field for field in _polars_fields(series.dtype) if "\0" in field), None)
    if cut is not None:  # Polars would abort the interpreter.
        raise TVTableError(f"column {name!r}: the name of the field {cut!r} contains a NUL character; rename it")
    try:
        table = pa.table(series.alias("column").to_frame())
    except (pa.ArrowException, ValueError) as error:
        raise TVTableError(
            f"column {name!r}: its type {series.dtype} cannot be stored; cast it to a simpler one"
        ) from error
    check_field(name, table.schema.field(0))
    return table.column(0)


def _polars_fields(dtype: Any) -> Iterator[str]:
    """Yield the names of a polars type's fields at all levels."""
    for field in getattr(dtype, "fields", ()):
        yield field.name
        yield from _polars_fields(field.dtype)
    inner = getattr(dtype, "inner", None)
    if inner is not None:
        yield from _polars_fields(inner)


def _columns_of_table(table: pa.Table, dtypes: Mapping[str, ColumnType]) -> dict[str, tuple[Column, ColumnType]]:
    columns: dict[str, tuple[Column, ColumnType]] = {}
    for position, name in enumerate(_check_names(table.column_names)):
        check_field(name, table.schema.field(position))
        try:
            table.column(position).validate(full=True)
        except pa.ArrowInvalid as error:
            raise TVTableError(f"column {name!r} is damaged: {error}") from error
        column_type = dtypes.get(name)
        try:
            column, own_type = tensor_column(table.column(position)) or _plain_column(name, table.column(position))
            columns[name] = (column, own_type) if column_type is None else _fitted(column, own_type, column_type)
        except CellError as error:
            raise _cell_error(name, error) from error
        except TypeError as error:
            raise TVTableError(f"column {name!r}: {error}") from error
    return columns


def _plain_column(name: str, column: pa.ChunkedArray) -> tuple[pa.ChunkedArray, ColumnType]:
    plain = plain_column(column)
    if pa.types.is_dictionary(plain.type):
        check_type(name, plain.type)
        plain = unique_categories(plain)
    return plain, type_of_arrow(plain.type)


def arrow_table(frame: object) -> pa.Table:
    """Return an object with Arrow's PyCapsule interface as a table.

    Raises `TVTableError` for others.
    """
    if isinstance(frame, pa.Table):
        return frame
    if isinstance(frame, pa.RecordBatch):
        return pa.Table.from_batches([frame])
    if not hasattr(frame, "__arrow_c_stream__"):
        raise TVTableError(
            f"an object of type {type_name(frame)} is not a frame; use a pandas or polars DataFrame, or a pyarrow Table"
        )
    try:
        return pa.table(frame)
    except (pa.ArrowException, AttributeError, TypeError, ValueError) as error:
        if hasattr(frame, "to_frame") or isinstance(frame, pa.ChunkedArray):
            way = "pyarrow.table({'name': column})" if isinstance(frame, pa.ChunkedArray) else "to_frame('name')"
            raise TVTableError(
                f"an object of type {type_name(frame)} is a single column, not a frame; convert it with {way}"
            ) from None
        raise TVTableError(f"the object of type {type_name(frame)} cannot be read as a table: {error}") from error


def _fitted(column: Column, own_type: ColumnType, column_type: ColumnType) -> tuple[Column, ColumnType]:
    """Convert a column to another type as if checked cell by cell.

    Safe casts take a fast path.
    """
    if column_type.kind is Kind.CATEGORY and own_type.kind is Kind.CATEGORY:
        return column, own_type
    if column_type.kind is Kind.PLAIN and own_type.kind is Kind.PLAIN and _castable(column.type, column_type.arrow):
        try:
            return _without_nan(column).cast(column_type.arrow), column_type
        except pa.ArrowInvalid:
            pass  # Some value does not fit; the slow path finds out which.
    return _checked_column(_cells_to_check(column, own_type, column_type), column_type)


def _cells_to_check(column: Column, own_type: ColumnType, column_type: ColumnType) -> Sequence[object]:
    """Return the cells to check against another type, as arrays if items need no individual check."""
    check_python_times(column)
    form = array_form(own_type)
    if form is None or array_form(column_type) is None or has_null_items(_chunked(column)):
        return plain_values(column, own_type)
    return arrays_of_column(column, form)


def _castable(source: pa.DataType, target: pa.DataType) -> bool:
    """Return whether Arrow's checked cast loses no more than `cell_checker`, once NaN is null."""
    if pa.types.is_integer(source):
        return bool(pa.types.is_integer(target) or pa.types.is_float64(target))
    if pa.types.is_floating(source) and pa.types.is_integer(target):
        return True
    if pa.types.is_timestamp(source) and pa.types.is_timestamp(target):
        return bool(source.tz) == bool(target.tz)
    texts = (pa.string(), pa.large_string())
    return (source in texts and target in texts) or source == target


def _without_nan(column: Column) -> Column:
    if not pa.types.is_floating(column.type) or pa.types.is_float16(column.type):
        return column
    is_nan = pc.is_nan(column)
    return pc.if_else(is_nan, pa.scalar(None, column.type), column) if pc.any(is_nan).as_py() else column


def _checked_column(values: Sequence[object], column_type: ColumnType) -> tuple[Column, ColumnType]:
    check = column_checker(column_type)
    checked: list[object] = []
    for position, value in enumerate(values):
        try:
            checked.append(check(value))
        except NOT_THE_VALUES:
            raise
        except Exception as error:
            raise CellError(position, str(refusal(value, error))) from error
    return build_column(checked, column_type)


def _cell_error(name: str, error: CellError) -> TVTableError:
    return TVTableError(f"column {name!r}, row {error.position}: {error}")


def _check_names(names: Sequence[object]) -> list[str]:
    for name in names:
        if not isinstance(name, str):
            raise TVTableError(f"the column name {shown(name)} is of type {type_name(name)}; names of columns are text")
        if not name:
            raise TVTableError("a column has an empty name; give it one")
        if name == ROW_NUMBER:
            raise TVTableError(f"a column cannot be named {ROW_NUMBER!r}, which means a row's position; rename it")
        if "\0" in name:
            raise TVTableError(f"the column name {shown(name)} contains a NUL character; rename it")
        try:
            checked_text(str(name))
        except ValueError as error:
            raise TVTableError(f"the column name {shown(name)} cannot be stored: {error}") from error
    check_distinct(names)
    return [str(name) for name in names]


def check_distinct(names: Sequence[object]) -> None:
    """Raise `TVTableError` if two columns have the same name."""
    seen: set[object] = set()
    for name in names:
        if name in seen:
            raise TVTableError(f"two columns are named {name!r}; rename one of them")
        seen.add(name)


def _check_dtypes_known(dtypes: Mapping[str, ColumnType], columns: Mapping[str, object]) -> None:
    for name in dtypes:
        if name not in columns:
            raise TVTableError(f"a dtype is given for the unknown column {name!r}{nearest(name, columns)}")


def _check_storable(table: pa.Table) -> None:
    for name, column in zip(table.column_names, table.columns, strict=True):
        check_type(name, column.type)
        check_values(name, column)


def _schema(types: Mapping[str, ColumnType]) -> pa.Schema:
    return pa.schema([pa.field(name, column_type.arrow) for name, column_type in types.items()])


def _chunked(column: Column) -> pa.ChunkedArray:
    if not isinstance(column, pa.ChunkedArray):
        return pa.chunked_array([column], type=column.type)
    return column.unify_dictionaries() if pa.types.is_dictionary(column.type) else column
