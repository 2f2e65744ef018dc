"""Deterministic serialization of values, arrays, frames and paths, for fingerprints.

Values take the form in which checkpoints are packed where that is deterministic. Lists of simple values take a fast
path without a Python step per value.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import os
from collections.abc import Mapping, Sequence, Set
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import xxhash

from tablevault.errors import TVTableError
from tablevault.storage.arrow_layouts import first_uncastable, has_fine_times, with_counted_times, with_python_times
from tablevault.storage.column_types import ColumnType, holds_arrays
from tablevault.storage.columns import plain_values
from tablevault.storage.frame_data import ROW_NUMBER, FrameData, table_from_frame
from tablevault.storage.packing import ATOMS, MAPPING, SIMPLE, consists_of, wrapped_integer, wrapped_scalar
from tablevault.storage.plain import is_missing, type_name, unwrapped

_FEW = 16
_PLAIN_TYPES: tuple[type[Any], ...] = (str, bytes, int, float, dict, list)

# Extension types, distinct from those of packed values.
_TUPLE, _SET = 10, 11
_ARRAY, _FRAME, _SERIES, _PATH, _MISSING = range(32, 37)

_encode = msgspec.msgpack.Encoder().encode
_encode_sorted = msgspec.msgpack.Encoder(order="deterministic").encode


def canonical(value: object) -> bytes:
    """Return the bytes of a value for fingerprints.

    They do not depend on the order of keys.

    Equal values have equal bytes. `1`, `1.0`, `True` and `"1"` differ, as do a list and a tuple. NumPy scalars count as
    their Python values, arrays by type, shape and content; frames (pandas without the row index, polars, Arrow) by
    names, types and content. Raises `TypeError` for objects without comparable content, such as an open file.
    """
    if _is_simple(value):
        try:
            return _encode_sorted(value)
        except (TypeError, OverflowError):  # Keys that are not text; whole numbers beyond 64 bits.
            pass
    return _encode_sorted(_canonical_form(value))


def canonical_rows(columns: Sequence[Sequence[object]], kinds: Set[type]) -> list[bytes]:
    """Return `canonical` of each row's list of values.

    The values are given as columns, with their classes.
    """
    if kinds <= ATOMS:
        try:
            return list(map(_encode_sorted, zip(*columns, strict=True)))
        except OverflowError:  # A whole number beyond 64 bits.
            pass
    return [canonical(list(row)) for row in zip(*columns, strict=True)]


def _is_simple(value: Any) -> bool:
    """Return whether a value consists of simple ones; fast for a few items, like most arguments."""
    kind = type(value)
    if kind in ATOMS:
        return True
    if kind is list and len(value) > _FEW:
        return consists_of(value, SIMPLE)
    if kind is not dict and kind is not list:
        return False
    for item in value.values() if kind is dict else value:
        if type(item) not in ATOMS and not _is_simple(item):
            return False
    return True


def _canonical_form(value: Any) -> Any:
    kind = type(value)
    if kind in ATOMS:
        return wrapped_integer(value) if kind is int else value
    if kind is list:
        return [_canonical_form(item) for item in value]
    if kind is dict and all(type(key) is str for key in value):
        return {key: _canonical_form(item) for key, item in value.items()}
    if kind is dict:
        pairs = sorted((canonical(key), canonical(item)) for key, item in value.items())
        return msgspec.msgpack.Ext(MAPPING, _encode(pairs))
    if kind is tuple:
        return msgspec.msgpack.Ext(_TUPLE, _encode([canonical(item) for item in value]))
    if kind is set or kind is frozenset:
        return msgspec.msgpack.Ext(_SET, _encode(sorted(canonical(item) for item in value)))
    return _canonical_foreign(value)


def _canonical_foreign(value: Any) -> Any:
    """Return the canonical form of dates, paths, NumPy objects, frames and subclasses."""
    if isinstance(value, (decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)):
        return wrapped_scalar(value)
    for plain in _PLAIN_TYPES:
        if isinstance(value, plain) and type(value).__module__ != "numpy":
            return _canonical_form(plain(value))
    return _content_form(value)


def _content_form(value: Any) -> Any:
    """Return the canonical form of a value; raises `TypeError` if its content cannot be compared."""
    if isinstance(value, np.ndarray):
        return _array_form(value)
    if isinstance(value, pd.Series):
        name = canonical(value.name)
        return msgspec.msgpack.Ext(_SERIES, canonical([name, _frame_digest(value.to_frame("values"))]))
    if isinstance(value, (pd.DataFrame, pa.Table, pa.RecordBatch)) or hasattr(value, "__arrow_c_stream__"):
        return msgspec.msgpack.Ext(_FRAME, _frame_digest(value))
    if isinstance(value, os.PathLike):
        return msgspec.msgpack.Ext(_PATH, canonical(os.fspath(value)))
    if is_missing(value):
        return msgspec.msgpack.Ext(_MISSING, type_name(value).encode())
    plain = unwrapped(value)
    if plain is value or type(plain) is type(value):
        raise TypeError(f"a value of type {type_name(value)} has no content that could be compared")
    return msgspec.Raw(canonical(plain))


def _array_form(array: np.ndarray[Any, Any]) -> msgspec.msgpack.Ext:
    if array.dtype.hasobject:
        content = canonical(array.tolist())
    else:
        plain = np.ascontiguousarray(array)
        # Arrays of times do not export a buffer.
        content = xxhash.xxh3_128_digest(plain.data if plain.dtype.kind in "iufb" else plain.tobytes())
    return msgspec.msgpack.Ext(_ARRAY, canonical([array.dtype.str, list(array.shape), content]))


def _frame_digest(frame: object) -> bytes:
    stand_in = ""
    if isinstance(frame, pd.DataFrame) and ROW_NUMBER in frame.columns:
        # A reference may add row positions as a column of this name, which stored frames cannot have.
        stand_in = "_".join([ROW_NUMBER, *map(str, frame.columns)])
        frame = frame.rename(columns={ROW_NUMBER: stand_in})
    try:
        data = table_from_frame(frame, {})
    except TVTableError as error:
        raise TypeError(f"a {type_name(frame)} has no content that could be compared: {error}") from error
    return _data_digest(data, {stand_in: f"\0{ROW_NUMBER}"})


def _data_digest(data: FrameData, other_names: Mapping[str, str]) -> bytes:
    columns = [
        [
            other_names.get(name, name),
            known.name,
            known.kind.value,
            known.pandas,
            str(known.arrow),
            typed_digest(data.table.column(position), known),
        ]
        for position, (name, known) in enumerate(data.types.items())
    ]
    return xxhash.xxh3_128_digest(canonical([len(data), columns]))


def typed_digest(column: pa.ChunkedArray, column_type: ColumnType) -> bytes:
    """Return a digest of a column's values; vectors and tensors are hashed by their bytes."""
    if not holds_arrays(column_type):
        return column_digest(column)
    state = xxhash.xxh3_128()
    for cell in plain_values(column, column_type):
        state.update(b"\0" if cell is None else b"\1%d:" % cell.size)
        if cell is not None:
            state.update(np.ascontiguousarray(cell).data)
    return state.digest()


def _nested_values(column: pa.ChunkedArray) -> list[Any]:
    """Return cells as Python values.

    Times are whole numbers if Python cannot express one.
    """
    if not has_fine_times(column.type) or first_uncastable(column, with_python_times(column.type)) is None:
        with contextlib.suppress(OverflowError, ValueError):
            return column.to_pylist()  # type: ignore[no-any-return]
    return column.cast(with_counted_times(column.type)).to_pylist()  # type: ignore[no-any-return]


def column_digest(column: pa.ChunkedArray) -> bytes:
    """Return a digest of a column's values, independent of chunking and of data under nulls."""
    if pa.types.is_dictionary(column.type):
        categories = _nested_values(pa.chunked_array([column.chunk(0).dictionary])) if column.num_chunks else []
        return canonical([canonical(categories), column_digest(column.cast(column.type.value_type))])
    if column.type.num_fields:
        return xxhash.xxh3_128_digest(canonical(_nested_values(column)))
    state = xxhash.xxh3_128(column.is_valid().combine_chunks().cast(pa.uint8()).buffers()[1] or b"")
    values = column.drop_null().combine_chunks()
    if pa.types.is_boolean(values.type):
        values = values.cast(pa.uint8())
    # Arrow's serialization truncates the buffers to the values.
    state.update(pa.record_batch([values], names=["values"]).serialize())
    digest: bytes = state.digest()
    return digest
