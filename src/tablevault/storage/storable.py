"""Checks of whether Arrow columns can be stored and then read in every format."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tablevault.errors import TVTableError
from tablevault.storage.arrow_layouts import (
    first_uncastable,
    has_fine_times,
    unreadable_part,
    with_milliseconds,
    with_python_times,
)
from tablevault.storage.column_types import CellError, ColumnType
from tablevault.storage.columns import check_categories, plain_values


def check_field(name: str, field: pa.Field) -> None:
    """Raise `TVTableError` for extension types that pyarrow does not know.

    A column may have one in a part of it.

    Such a column arrives as its storage type, with the name of the extension in its metadata.
    """
    extension = (field.metadata or {}).get(b"ARROW:extension:name")
    if extension is not None:
        shown_name = extension.decode("utf-8", "replace")
        raise TVTableError(
            f"column {name!r}: its type extension<{shown_name}> cannot be stored; cast it to a simpler one"
        )
    for position in range(field.type.num_fields):
        check_field(name, field.type.field(position))


def check_type(name: str, arrow: pa.DataType) -> None:
    """Raise `TVTableError` for types that some format cannot read."""
    reason = unreadable_part(arrow)
    if reason:
        raise TVTableError(f"column {name!r} cannot be stored: {reason}")
    if _has_unstorable(arrow) or not _can_be_written(arrow):
        raise TVTableError(f"column {name!r}: its type {arrow} cannot be stored; cast it to a simpler one")


def check_values(name: str, column: pa.ChunkedArray) -> None:
    """Raise `TVTableError` for seconds that are out of range.

    Files and polars express times and durations in milliseconds or finer.
    """
    target = with_milliseconds(column.type)
    if target == column.type:
        return
    plain = column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column
    target = target.value_type if pa.types.is_dictionary(target) else target
    row = first_uncastable(plain, target)
    if row is not None:
        raise TVTableError(
            f"column {name!r}, row {row}: a time or duration of {plain.type} is out of range: in milliseconds it "
            "exceeds 64 bits; use a number"
        )


def check_python_times(column: pa.Array | pa.ChunkedArray) -> None:
    """Raise `CellError` for a time of day that Python would cut."""
    arrow = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if has_fine_times(arrow):
        chunked = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
        row = first_uncastable(chunked.cast(arrow), with_python_times(arrow))
        if row is not None:
            raise CellError(row, "the time of day is finer than a microsecond, so no Python value is equal to it")


def python_values(name: str, column: pa.Array | pa.ChunkedArray, column_type: ColumnType) -> list[Any]:
    """Return a stored column as plain values.

    Raises `TVTableError` for a time of day that Python would cut to microseconds.
    """
    check_readable_times(name, column)
    return plain_values(column, column_type)


def check_readable_times(name: str, column: pa.Array | pa.ChunkedArray) -> None:
    """Raise `TVTableError` for a time of day that Python would cut to microseconds."""
    try:
        check_python_times(column)
    except CellError as error:
        raise TVTableError(
            f"column {name!r}, row {error.position}: {error}; refer to the whole column, which is a DataFrame, or "
            "store whole numbers"
        ) from error


def unique_categories(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return a column of categories without repeated and null categories.

    Raises `CellError` or `TypeError` for categories that pandas cannot tell apart from others or from null.
    """
    chunks = [_with_unique_categories(chunk) for chunk in column.chunks]
    unique = pa.chunked_array(chunks, type=column.type).unify_dictionaries()
    if unique.num_chunks and pa.types.is_floating(column.type.value_type):
        check_categories(unique.chunk(0).dictionary, unique)
    return unique


def are_distinct(column: pa.ChunkedArray) -> bool:
    """Return whether pandas can tell a column's categories apart."""
    try:
        unique_categories(column)
    except (CellError, TypeError, pa.ArrowException):
        return False
    return all(_with_unique_categories(chunk) is chunk for chunk in column.chunks)


def _with_unique_categories(chunk: pa.Array) -> pa.Array:
    categories = chunk.dictionary
    if not categories.null_count and len(pc.unique(categories)) == len(categories):
        return chunk
    unique = pc.unique(categories).drop_null()
    codes = pc.index_in(categories, value_set=unique, skip_nulls=True).take(chunk.indices)
    return pa.DictionaryArray.from_arrays(codes.cast(chunk.type.index_type), unique, ordered=chunk.type.ordered)


def _has_unstorable(arrow: pa.DataType, inside: bool = False) -> bool:
    if isinstance(arrow, pa.BaseExtensionType):
        return True
    if pa.types.is_dictionary(arrow):
        return inside or arrow.value_type.num_fields > 0
    return any(_has_unstorable(arrow.field(position).type, True) for position in range(arrow.num_fields))


@lru_cache(maxsize=256)
def _can_be_written(arrow: pa.DataType) -> bool:
    """Return whether a type can be written to Parquet: an empty file is written, once per type."""
    plain = arrow.value_type if pa.types.is_dictionary(arrow) else arrow
    try:
        written = io.BytesIO()
        pq.ParquetWriter(written, pa.schema([pa.field("column", plain)])).close()
        if plain.num_fields:  # Types that are nested too deeply can be written, but not read.
            pq.read_schema(written)
        if plain is not arrow:  # Categories are looked up when they are read.
            pc.index_in(pa.array([], plain), value_set=pa.array([], plain))
    except (pa.ArrowException, OSError):
        return False
    return True
