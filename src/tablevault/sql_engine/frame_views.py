"""SQL queries over frame files that give each column its SQL type."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1}
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
class FrameFile:
    """The location and columns of a frame file."""

    path: str
    columns: Mapping[str, pa.DataType]
    """All columns of the file in order, with their stored types."""
    json: frozenset[str] = frozenset()
    """Text columns with JSON."""
    prefixes: Mapping[str, str] | None = None
    """Text to prepend to values, by column."""

    def query(self, columns: list[str] | None = None) -> str:
        """Return the query that reads the file's columns.

        Reads all columns, or the given ones in this order.
        """
        stored = list(self.columns)
        names = self.names()
        # By position: the file may have columns that differ only in case, which SQL cannot distinguish.
        aliases = ", ".join(f"c{position}" for position in range(len(stored)))
        selected = ", ".join(
            f"{self._expression(name, f'c{stored.index(name)}')} AS {quoted(names[name])}"
            for name in (stored if columns is None else columns)
        )
        return f"SELECT {selected or 'NULL'} FROM read_parquet({text(self.path)}) AS frame({aliases})"

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
            arrow = self.columns[name]
            if name != names[name]:
                yield f"Column {name!r} is called {names[name]!r} in SQL, which ignores case."
            if pa.types.is_decimal(arrow) and arrow.precision > _MAXIMUM_DIGITS:
                yield f"Column {name!r} has more than {_MAXIMUM_DIGITS} digits and is DOUBLE in SQL."

    def _expression(self, name: str, column: str) -> str:
        if name in self.json:
            return f"CAST({column} AS JSON)"
        if self.prefixes and name in self.prefixes:
            return f"{text(self.prefixes[name])} || {column}"
        return _typed(column, self.columns[name], name)


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
    if pa.types.is_duration(arrow):
        return _interval(value, arrow.unit, column)
    if pa.types.is_fixed_size_list(arrow) and arrow.value_type in _VALUES:
        return f"CAST({value} AS {_VALUES[arrow.value_type]}[{arrow.list_size}])"
    if not _holds_durations(arrow):
        return value
    if pa.types.is_struct(arrow):
        fields = ", ".join(
            f"{quoted(field.name)} := {_typed(f'({value}).{quoted(field.name)}', field.type, column, depth)}"
            for field in arrow
        )
        return f"CASE WHEN {value} IS NULL THEN NULL ELSE struct_pack({fields}) END"
    if pa.types.is_map(arrow):
        return value
    item = f"item{depth}"
    return f"list_transform({value}, lambda {item}: {_typed(item, arrow.value_type, column, depth + 1)})"


def _interval(value: str, unit: str, column: str) -> str:
    if unit in _MICROSECONDS:
        factor = _MICROSECONDS[unit]
        return f"to_microseconds({value} * {factor})" if factor > 1 else f"to_microseconds({value})"
    refusal = text(
        f"column {column!r} has a duration that is not a whole number of microseconds, the resolution of an INTERVAL; "
        "scan reads it with format 'polars' or 'arrow'"
    )
    return f"CASE WHEN {value} % 1000 <> 0 THEN error({refusal}) ELSE to_microseconds({value} // 1000) END"


def _holds_durations(arrow: pa.DataType) -> bool:
    if pa.types.is_duration(arrow):
        return True
    return any(_holds_durations(arrow.field(position).type) for position in range(arrow.num_fields))
