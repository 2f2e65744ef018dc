"""What a column may hold: its name in builder files, its Arrow type on disk, and its dtype in pandas."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass

import pyarrow as pa

from tablevault.names import nearest
from tablevault.storage.arrow_names import ARROW_NAMES, arrow_name, parse_arrow_type
from tablevault.storage.zones import check_zone


class Kind(enum.StrEnum):
    """How the stored values are to be understood."""

    PLAIN = "plain"
    """As what they are."""
    ARTIFACT = "artifact_string"
    """Paths of artifact files, relative to the instance's artifact folder."""
    JSON = "json"
    """Each text is one JSON document."""
    CATEGORY = "category"
    """One of few values. Until its values are known, a column's Arrow type is a dictionary of nulls."""


@dataclass(frozen=True, slots=True)
class ColumnType:
    """What a column holds. Equal by value.

    Parameters
    ----------
    name
        The canonical name; `parse_dtype` reads it back, except for Arrow types that only frames written from Arrow
        or polars can have.
    arrow
        The Arrow type of the stored column.
    kind
        How the stored values are to be understood.
    pandas
        The dtype of the column in pandas: the text of a pandas dtype (`Int64`, `int64`, `datetime64[us, UTC]`, …),
        `arrow` (`pandas.ArrowDtype` of the Arrow type), or `object` and `category` with details (see `pandas_forms`).
    """

    name: str
    arrow: pa.DataType
    kind: Kind = Kind.PLAIN
    pandas: str = "arrow"


class CellError(ValueError):
    """One value of a column does not fit its type; `position` is its row, counted from 0."""

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
_DATETIME = re.compile(r"datetime64(?:\[(s|ms|us|ns)(?:, ?([A-Za-z0-9_+\-:/]+))?\])?")
_TIMEDELTA = re.compile(r"timedelta64(?:\[(s|ms|us|ns)\])?")
_PYARROW_SUFFIX = "[pyarrow]"
_KNOWN = (
    *_PLAIN_PANDAS,
    *_NUMPY_TWINS,
    *("artifact_string", "json", "object", "category", "datetime64[us]", "datetime64[us, UTC]", "timedelta64[us]"),
    *ARROW_NAMES,
)


def parse_dtype(text: str) -> ColumnType | None:
    """Return the column type that a dtype of a builder file names; `None` for `object`: the natural type.

    Pandas names mean what they say, numpy names their nullable twin (`int64` is `Int64`), any other name is Arrow's;
    with the ending `[pyarrow]` every name is.

    Raises
    ------
    ValueError
        If it names no type; the message has the nearest names that do.

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


def type_of_arrow(arrow: pa.DataType) -> ColumnType:
    """Return the column type of a plain Arrow column: in pandas it has a nullable type."""
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


def category_of(values: ColumnType) -> ColumnType:
    """Return the type of an unordered category of values of a type."""
    return ColumnType("category", pa.dictionary(pa.int32(), values.arrow), Kind.CATEGORY, f"category:{values.pandas}")


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
    return None


def _arrow_dtype(text: str) -> ColumnType:
    if not text.endswith(_PYARROW_SUFFIX):
        return type_of_arrow(parse_arrow_type(text))
    arrow = parse_arrow_type(text.removesuffix(_PYARROW_SUFFIX))
    return ColumnType(f"{arrow_name(arrow)}{_PYARROW_SUFFIX}", arrow)
