"""Column types with their names, Arrow types and pandas dtypes.

The names are those in builder files.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import pyarrow as pa

from tablevault.names import nearest
from tablevault.storage.arrow_layouts import unreadable_part
from tablevault.storage.arrow_names import ARROW_NAMES, arrow_name, parse_arrow_type
from tablevault.storage.zones import check_zone


class Kind(enum.StrEnum):
    """Interpretation of the stored values."""

    PLAIN = "plain"
    """Without further interpretation."""
    ARTIFACT = "artifact_string"
    """Paths of artifact files, relative to the instance's artifact folder."""
    JSON = "json"
    """Each text is one JSON document."""
    CATEGORY = "category"
    """One of few values. Until its values are known, a column's Arrow type is a dictionary of nulls."""
    VECTOR = "vector"
    """Arrays of one dimension, without null items."""
    TENSOR = "tensor"
    """Arrays of the shape in the type's name, row by row in lists of a fixed size."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """The type of a column. Equal by value.

    Parameters
    ----------
    name
        The canonical name; `parse_dtype` reads it back, except for Arrow types that only frames written from Arrow
        or polars can have.
    arrow
        The Arrow type of the stored column.
    kind
        Interpretation of the stored values.
    pandas
        The dtype of the column in pandas: the text of a pandas dtype (`Int64`, `int64`, `datetime64[us, UTC]`, …),
        `arrow` (`pandas.ArrowDtype` of the Arrow type), or `object` and `category` with details (see `pandas_forms`).
    """

    name: str
    arrow: pa.DataType
    kind: Kind = Kind.PLAIN
    pandas: str = "arrow"


class CellError(ValueError):
    """One value of a column does not fit its type.

    `position` is its row, counted from 0.
    """

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position


def artifact_type() -> ColumnType:
    """Return the type of columns that name artifact files."""
    return ColumnType("artifact_string", pa.string(), Kind.ARTIFACT, "string")


def json_type() -> ColumnType:
    """Return the type of columns whose cells are dicts, or mixed."""
    return ColumnType("json", pa.string(), Kind.JSON, "object")


_PLAIN_PANDAS: dict[str, pa.DataType] = {
    "boolean": pa.bool_(),
    "string": pa.string(),
    **{f"{sign}{bits}": getattr(pa, f"{sign.lower()}{bits}")() for sign in ("Int", "UInt") for bits in (8, 16, 32, 64)},
    "Float32": pa.float32(),
    "Float64": pa.float64(),
}
_NUMPY_TWINS = {
    "bool": "boolean",
    "bool_": "boolean",
    "str": "string",
    "int": "Int64",
    "uint": "UInt64",
    "float": "Float64",
    "double": "Float64",
    **{name.lower(): name for name in _PLAIN_PANDAS if name[0] in "IUF"},
}
_BY_ARROW = {arrow: name for name, arrow in _PLAIN_PANDAS.items()}
ITEM_TYPES: dict[str, pa.DataType] = {
    name: getattr(pa, "bool_" if name == "bool" else name)()
    for name in ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "bool")
}
"""Types of the items of vectors and tensors."""
_ARRAYS = re.compile(r"(vector|tensor)\s*<\s*(\w+)\s*((?:,\s*\d+\s*)*)>")
_MAXIMUM_DIMENSIONS = 8
_MAXIMUM_SIZE = 2**31 - 2
_DATETIME = re.compile(r"datetime64(?:\[(s|ms|us|ns)(?:, ?([A-Za-z0-9_+\-:/]+))?\])?")
_TIMEDELTA = re.compile(r"timedelta64(?:\[(s|ms|us|ns)\])?")
_PYARROW_SUFFIX = "[pyarrow]"
_KNOWN = (
    *_PLAIN_PANDAS,
    *_NUMPY_TWINS,
    *("artifact_string", "json", "object", "category", "datetime64[us]", "datetime64[us, UTC]", "timedelta64[us]"),
    *ARROW_NAMES,
    *("vector<float32>", "vector<float32, 768>", "tensor<float32, 3, 4>"),
)


def parse_dtype(text: str) -> ColumnType | None:
    """Parse a dtype of a builder file; returns `None` for `object`, the natural type.

    Names of pandas keep their meaning, and numpy names mean their nullable counterpart (`int64` is `Int64`). All other
    names, and all names that end in `[pyarrow]`, are Arrow's.

    Raises
    ------
    ValueError
        If the dtype is unknown; the message suggests the nearest known names.

    Examples
    --------
    >>> parse_dtype("int64").name, parse_dtype("list<item: float>").name
    ('Int64', 'list<float32>')
    """
    stripped = text.strip()
    if stripped in ("object", "O"):
        return None
    if stripped == "string[python]":
        return parse_dtype("string")
    try:
        return _special(_NUMPY_TWINS.get(stripped, stripped)) or _arrow_dtype(stripped)
    except (ValueError, pa.ArrowException) as error:
        raise ValueError(f"unknown dtype {text!r} ({error}){nearest(stripped, _KNOWN)}") from error


def named_type(name: str) -> ColumnType:
    """Return the column type of a dtype other than `object`; raises `ValueError` for that one and unknown ones."""
    found = parse_dtype(name)
    if found is None:
        raise ValueError(f"the dtype {name!r} has no column type")
    return found


def type_of_arrow(arrow: pa.DataType) -> ColumnType:
    """Return the column type of a plain Arrow column, which is nullable in pandas."""
    if arrow in _BY_ARROW:
        return ColumnType(_BY_ARROW[arrow], arrow, Kind.PLAIN, _BY_ARROW[arrow])
    if arrow == pa.large_string():
        return ColumnType("large_string", arrow, Kind.PLAIN, "string")
    if pa.types.is_timestamp(arrow):
        name = f"datetime64[{arrow.unit}, {arrow.tz}]" if arrow.tz else f"datetime64[{arrow.unit}]"
        return ColumnType(name, arrow, Kind.PLAIN, name)
    if pa.types.is_duration(arrow):
        return ColumnType(f"timedelta64[{arrow.unit}]", arrow, Kind.PLAIN, f"timedelta64[{arrow.unit}]")
    if pa.types.is_dictionary(arrow):
        return ColumnType("category", arrow, Kind.CATEGORY, f"category:{type_of_arrow(arrow.value_type).pandas}")
    return ColumnType(arrow_name(arrow), arrow)


def reused_name(column_type: ColumnType) -> str:
    """Return the type name to compare for reuse; vectors count as lists of the same items."""
    return f"list<{arrow_name(column_type.arrow.value_type)}>" if column_type.kind is Kind.VECTOR else column_type.name


def holds_arrays(column_type: ColumnType | None) -> bool:
    """Return whether functions get the cells of a column as arrays."""
    return column_type is not None and column_type.kind in (Kind.VECTOR, Kind.TENSOR)


def category_of(values: ColumnType) -> ColumnType:
    """Return the type of an unordered category of values of a type."""
    return ColumnType("category", pa.dictionary(pa.int32(), values.arrow), Kind.CATEGORY, f"category:{values.pandas}")


def vector_type(item: str, size: int | None = None) -> ColumnType:
    """Return the type of columns of vectors; `size` is `None` for any length."""
    arrow = ITEM_TYPES[item]
    if size is None:
        return ColumnType(f"vector<{item}>", pa.list_(arrow), Kind.VECTOR)
    return ColumnType(f"vector<{item}, {size}>", pa.list_(arrow, size), Kind.VECTOR)


def tensor_column_type(item: str, shape: Sequence[int]) -> ColumnType:
    """Return the type of columns of arrays of one shape with at least two dimensions."""
    text = ", ".join(map(str, shape))
    return ColumnType(f"tensor<{item}, {text}>", pa.list_(ITEM_TYPES[item], math.prod(shape)), Kind.TENSOR)


def _arrays(text: str) -> ColumnType | None:
    """Parse `vector<…>` or `tensor<…>`; returns `None` for other names."""
    if not text.startswith(("vector", "tensor")):
        return None
    if text.endswith(_PYARROW_SUFFIX):
        raise ValueError(f"vectors and tensors have no form with the ending {_PYARROW_SUFFIX}")
    match = _ARRAYS.fullmatch(text)
    if match is None:
        raise ValueError(
            "a vector is written as vector<float32, 768> or vector<float32>, a tensor as tensor<float32, 3, 4>"
        )
    kind, item, sizes = match[1], match[2], [int(size) for size in match[3].split(",") if size.strip()]
    if item not in ITEM_TYPES:
        raise ValueError(f"the items of a {kind} are {', '.join(ITEM_TYPES)}, not {item}")
    if 0 in sizes:
        raise ValueError("a size of 0 cannot be stored")
    if math.prod(sizes) > _MAXIMUM_SIZE:
        raise ValueError(f"a cell has at most {_MAXIMUM_SIZE:,} items")
    if kind == "vector":
        if len(sizes) > 1:
            raise ValueError("a vector has one size; for several write a tensor")
        return vector_type(item, *sizes)
    if not 2 <= len(sizes) <= _MAXIMUM_DIMENSIONS:
        raise ValueError(f"a tensor has 2 to {_MAXIMUM_DIMENSIONS} sizes, as in tensor<float32, 3, 4>")
    return tensor_column_type(item, sizes)


def _special(name: str) -> ColumnType | None:
    if name == "artifact_string":
        return artifact_type()
    if name == "json":
        return json_type()
    if name == "category":
        return category_of(ColumnType("null", pa.null()))
    if name in _PLAIN_PANDAS:
        return ColumnType(name, _PLAIN_PANDAS[name], Kind.PLAIN, name)
    if datetime := _DATETIME.fullmatch(name):
        return type_of_arrow(pa.timestamp(datetime[1] or "us", datetime[2] and check_zone(datetime[2])))
    if timedelta := _TIMEDELTA.fullmatch(name):
        return type_of_arrow(pa.duration(timedelta[1] or "us"))
    return _arrays(name)


def _arrow_dtype(text: str) -> ColumnType:
    if not text.endswith(_PYARROW_SUFFIX):
        return type_of_arrow(_readable_type(text))
    arrow = _readable_type(text.removesuffix(_PYARROW_SUFFIX))
    return ColumnType(f"{arrow_name(arrow)}{_PYARROW_SUFFIX}", arrow)


def _readable_type(text: str) -> pa.DataType:
    arrow = parse_arrow_type(text)
    reason = unreadable_part(arrow)
    if reason:
        raise ValueError(reason)
    return arrow
