"""SQL queries over frame files that give each column its SQL type."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_DAY = 86_400_000_000
"""In microseconds."""
_SHORT = 9 * 10**15
"""Length in microseconds up to which an interval fits Arrow's, which is in nanoseconds."""
_LONGEST = 2**63 - 1
"""In microseconds."""
_MAXIMUM_DIGITS = 38
"""Maximum number of digits of an SQL decimal."""
_VALUES = {
    pa.bool_(): "BOOLEAN",
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float16(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
    pa.string(): "VARCHAR",
}
"""Value types of fixed-size lists."""


@dataclass(frozen=True)
class FrameColumns:
    """The columns of a frame that is read by SQL."""

    columns: Mapping[str, pa.DataType]
    """All columns in order, with their stored types."""
    json: frozenset[str] = frozenset()
    """Text columns with JSON."""
    prefixes: Mapping[str, str] | None = None
    """Text to prepend to values, by column."""

    def query(self, source: str, columns: list[str] | None = None) -> str:
        """Return the query that reads a source's columns.

        Reads all columns, or the given ones in this order.
        """
        stored = list(self.columns)
        names = self.names()
        # By position: the source may have columns that differ only in case, which SQL cannot distinguish.
        aliases = ", ".join(f"c{position}" for position in range(len(stored)))
        selected = ", ".join(
            f"{self._expression(name, f'c{stored.index(name)}')} AS {quoted(names[name])}"
            for name in (stored if columns is None else columns)
        )
        return f"SELECT {selected or 'NULL'} FROM {source} AS frame({aliases})"

    def names(self) -> dict[str, str]:
        """Return the SQL names of all columns; a number is appended to case-insensitive duplicates."""
        taken: set[str] = set()
        found = {}
        for name in self.columns:
            free, number = name, 0
            while free.lower() in taken:
                number += 1
                free = f"{name}_{number}"
            taken.add(free.lower())
            found[name] = free
        return found

    def differences(self, columns: list[str] | None = None) -> Iterator[str]:
        """Yield a sentence for each column that differs between SQL and frame.

        Columns differ in name or type.
        """
        names = self.names()
        for name in self.columns if columns is None else columns:
            if name != names[name]:
                yield f"Column {name!r} is called {names[name]!r} in SQL, which ignores case."
            if _holds(self.columns[name], _is_long_decimal):
                yield f"Column {name!r} has more than {_MAXIMUM_DIGITS} digits and is DOUBLE in SQL."

    def coarse_times(self) -> list[str]:
        """Return the columns with times in seconds or milliseconds, which reach beyond those of SQL."""
        return [name for name, arrow in self.columns.items() if _holds(arrow, _is_coarse_time)]

    def _expression(self, name: str, column: str) -> str:
        if name in self.json:
            return f"CAST({column} AS JSON)"
        if self.prefixes and name in self.prefixes:
            return f"{text(self.prefixes[name])} || {column}"
        return _typed(column, self.columns[name], name)


@dataclass(frozen=True)
class FrameFile:
    """The location and columns of a frame file."""

    path: str
    frame: FrameColumns

    @property
    def columns(self) -> Mapping[str, pa.DataType]:
        """All columns of the file in order, with their stored types."""
        return self.frame.columns

    def query(self, columns: list[str] | None = None) -> str:
        """Return the query that reads the file's columns.

        Reads all columns, or the given ones in this order.
        """
        return self.frame.query(f"read_parquet({text(self.path)})", columns)

    def differences(self, columns: list[str] | None = None) -> Iterator[str]:
        """Yield a sentence for each column that differs between SQL and frame.

        Columns differ in name or type.
        """
        return self.frame.differences(columns)


def as_frame_file(arrow: pa.DataType) -> pa.DataType:
    """Return the type in which DuckDB reads a frame file's type.

    Durations are counts, and there are fewer kinds of numbers.
    """
    if pa.types.is_duration(arrow):
        return pa.int64()
    if pa.types.is_float16(arrow):
        return pa.float32()
    if pa.types.is_decimal256(arrow):
        return pa.float64() if _is_long_decimal(arrow) else pa.decimal128(arrow.precision, arrow.scale)
    if pa.types.is_struct(arrow):
        return pa.struct([field.with_type(as_frame_file(field.type)) for field in arrow])
    if pa.types.is_map(arrow):
        return pa.map_(as_frame_file(arrow.key_type), as_frame_file(arrow.item_type))
    if pa.types.is_fixed_size_list(arrow):
        return pa.list_(arrow.value_field.with_type(as_frame_file(arrow.value_type)), arrow.list_size)
    if pa.types.is_list(arrow):
        return pa.list_(arrow.value_field.with_type(as_frame_file(arrow.value_type)))
    if pa.types.is_large_list(arrow):
        return pa.large_list(arrow.value_field.with_type(as_frame_file(arrow.value_type)))
    if pa.types.is_dictionary(arrow) and not _is_text(arrow.value_type):
        return as_frame_file(arrow.value_type)
    return arrow


def quoted(name: str) -> str:
    """Quote a name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    """Quote a text as an SQL literal."""
    return "'" + value.replace("'", "''") + "'"


def _typed(value: str, arrow: pa.DataType, column: str, depth: int = 0) -> str:
    """Return an expression that converts a value to the SQL type of `arrow`.

    There is no conversion if DuckDB infers the type.
    """
    if pa.types.is_dictionary(arrow):
        arrow = arrow.value_type
    if pa.types.is_duration(arrow):
        return _interval(value, arrow.unit, column)
    if pa.types.is_fixed_size_list(arrow) and arrow.value_type in _VALUES:
        return f"CAST({value} AS {_VALUES[arrow.value_type]}[{arrow.list_size}])"
    if not _holds(arrow, pa.types.is_duration):
        return value
    if pa.types.is_struct(arrow):
        fields = ", ".join(
            f"{quoted(field.name)} := {_typed(f'({value}).{quoted(field.name)}', field.type, column, depth)}"
            for field in arrow
        )
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE struct_pack({fields}) END"
    item = f"item{depth}"
    if pa.types.is_map(arrow):
        key = _typed(f"({item}).key", arrow.key_type, column, depth + 1)
        held = _typed(f"({item}).value", arrow.item_type, column, depth + 1)
        entries = f"list_transform(map_entries({value}), lambda {item}: struct_pack(key := {key}, value := {held}))"
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE map_from_entries({entries}) END"
    return f"list_transform({value}, lambda {item}: {_typed(item, arrow.value_type, column, depth + 1)})"


def _interval(value: str, unit: str, column: str) -> str:
    """Return an expression for the interval of a count.

    Intervals longer than Arrow's are in days and microseconds.
    """
    if unit == "ns":
        refusal = text(
            f"column {column!r} has a duration that is not a whole number of microseconds, the resolution of an "
            "INTERVAL; scan reads it with format 'polars' or 'arrow'"
        )
        return f"CASE WHEN {value} % 1000 <> 0 THEN error({refusal}) ELSE to_microseconds({value} // 1000) END"
    factor = _MICROSECONDS[unit]
    length = f"{value} * {factor}" if factor > 1 else value
    short, longest = _SHORT // factor, _LONGEST // factor
    per_day = _DAY // factor
    days = f"to_days(CAST({value} // {per_day} AS INTEGER)) + to_microseconds({value} % {per_day} * {factor})"
    refusal = text(
        f"column {column!r} has a duration that is too long for an INTERVAL; scan reads it with format 'polars' or "
        "'arrow'"
    )
    return (
        f"CASE WHEN {value} BETWEEN -{short} AND {short} THEN to_microseconds({length}) "
        f"WHEN {value} BETWEEN -{longest} AND {longest} THEN {days} WHEN {value} IS NOT NULL THEN error({refusal}) END"
    )


def _is_coarse_time(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_timestamp(arrow) and arrow.unit in ("s", "ms"))


def _is_text(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_string(arrow) or pa.types.is_large_string(arrow))


def _is_long_decimal(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_decimal(arrow) and arrow.precision > _MAXIMUM_DIGITS)


def _holds(arrow: pa.DataType, is_wanted: Callable[[pa.DataType], bool]) -> bool:
    """Return whether a type, or a part of it, is wanted."""
    if pa.types.is_dictionary(arrow):
        return _holds(arrow.value_type, is_wanted)
    return is_wanted(arrow) or any(
        _holds(arrow.field(position).type, is_wanted) for position in range(arrow.num_fields)
    )
