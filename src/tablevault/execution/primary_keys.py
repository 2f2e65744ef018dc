"""Validation of primary keys, which must be unique and not null."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import pyarrow as pa

from tablevault.errors import TVTableError
from tablevault.storage.canonical import canonical
from tablevault.storage.cell_texts import values_or_texts
from tablevault.storage.columns import Column
from tablevault.storage.dtypes import ColumnType, Kind, holds_arrays
from tablevault.storage.frames import FrameData
from tablevault.storage.plain import shown

KeyColumn = tuple[Column, ColumnType]
NamePair = Callable[[int, int], str]
"""Returns the text for two rows in a message."""


def pair_of_rows(first: int, second: int) -> str:
    """Return the text for two rows, by their positions."""
    return f"rows {first} and {second}"


def check_primary_key(names: Sequence[str], data: FrameData) -> None:
    """Raise `TVTableError` if the primary key of a frame is null or not unique."""
    columns = [(data.table.column(name), data.types[name]) for name in names]
    check_keys(names, columns, lambda: [values_or_texts(*column) for column in columns])


def check_keys(
    names: Sequence[str],
    columns: Sequence[KeyColumn],
    values: Callable[[], Sequence[Sequence[object]]],
    name_pair: NamePair = pair_of_rows,
) -> None:
    """Raise `TVTableError` if keys are null or not unique.

    Parameters
    ----------
    names, columns
        The columns of the primary key; may be empty.
    values
        Returns the columns as plain values, which are slower to compare.
    name_pair
        Returns the text for two rows with the same key.
    """
    for name, (_, column_type) in zip(names, columns, strict=True):
        if holds_arrays(column_type):
            raise TVTableError(f"Primary key column '{name}' holds {column_type.name}; use a column of another type.")
    if names and not _are_distinct(columns):
        cells = values()
        _check_not_null(names, cells)
        _check_unique(names, cells, name_pair)


def _are_distinct(columns: Sequence[KeyColumn]) -> bool:
    """Return whether Arrow can prove that no key is null and all are unique."""
    if any(column.null_count or not compares_as_python_does(kind) for column, kind in columns):
        return False
    if len(columns) == 1 and _ascends(columns[0][0]):
        return True
    table = pa.table({str(place): column for place, (column, _) in enumerate(columns)})
    distinct: int = table.group_by(table.column_names, use_threads=False).aggregate([]).num_rows
    return distinct == len(table)


def _ascends(column: Column) -> bool:
    """Return whether integers strictly increase, as most integer keys do."""
    if not pa.types.is_integer(column.type):
        return False
    values = column.to_numpy()
    return bool((values[1:] > values[:-1]).all())


def compares_as_python_does(kind: ColumnType) -> bool:
    """Return whether values that differ in Arrow also differ in Python.

    0.0 and -0.0, or two texts of one JSON, do not.
    """
    types, arrow = pa.types, kind.arrow
    simple = types.is_integer(arrow) or types.is_string(arrow) or types.is_date(arrow) or types.is_boolean(arrow)
    return kind.kind is not Kind.JSON and bool(simple)


def first_missing(values: Sequence[object]) -> int | None:
    """Return the first row that is null or NaN, which frames of Arrow and polars distinguish from null."""
    return next((row for row, value in enumerate(values) if value is None or _is_nan(value)), None)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _check_not_null(names: Sequence[str], columns: Sequence[Sequence[object]]) -> None:
    for name, values in zip(names, columns, strict=True):
        row = first_missing(values)
        if row is not None:
            word = "null" if values[row] is None else "NaN"
            raise TVTableError(f"Primary key column '{name}' is {word} in row {row}; every row needs a value there.")


def _check_unique(names: Sequence[str], columns: Sequence[Sequence[object]], name_pair: NamePair) -> None:
    first: dict[object, int] = {}
    for row, key in enumerate(row_keys(columns)):
        earlier = first.setdefault(key, row)
        if earlier != row:
            cells = [shown(values[row]) for values in columns]
            text = cells[0] if len(cells) == 1 else f"({', '.join(cells)})"
            raise TVTableError(
                f"Primary key ({', '.join(names)}) is not unique: {name_pair(earlier, row)} both have {text}. Correct "
                "the values, or add a column to the key."
            )


def row_keys(columns: Sequence[Sequence[object]]) -> list[object]:
    """Return one hashable key per row."""
    hashable = [_hashable_column(column) for column in columns]
    return list(hashable[0]) if len(hashable) == 1 else list(zip(*hashable, strict=True))


def _hashable_column(values: Sequence[object]) -> Sequence[object]:
    if any(issubclass(kind, bool | float | list | dict) for kind in set(map(type, values))):
        return [_hashable(value) for value in values]
    return values


def _hashable(value: object) -> object:
    if isinstance(value, bool):
        return bool, value  # Python considers it equal to 1 or 0.
    if _is_nan(value):
        return math.nan  # One object, which dicts find. No new key is NaN, but those of old instances may be.
    return canonical(value) if isinstance(value, list | dict) else value
