"""Conversion of whole columns between plain values and Arrow, and natural types of undeclared columns."""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
from collections.abc import Iterator, Sequence
from types import NoneType
from typing import Any, TypeAlias

import msgspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from tablevault.storage.column_types import (
    ITEM_TYPES,
    CellError,
    ColumnType,
    Kind,
    category_of,
    json_type,
    type_of_arrow,
    vector_type,
)
from tablevault.storage.plain import json_value, shown, type_name, unwrapped
from tablevault.storage.vectors import CHUNK_BYTES, EXACT_INTEGERS, array_form, arrays_of_column, column_of_arrays
from tablevault.storage.zones import zone_name

Column: TypeAlias = pa.Array | pa.ChunkedArray

_JSON_KINDS = frozenset({bool, int, float, str, list, dict})
_EXACT_IN_FLOAT = 2**53
_MAXIMUM_LIST_DEPTH = 40
"""Lists nested deeper than this are JSON: the readers of Parquet refuse types of more than a hundred levels."""
_MAXIMUM_LEVELS = 64
"""Values nested deeper than this are checked one by one."""
_SAMPLED_ROWS = 64
_MINIMUM_CHUNK_ROWS = 1024
_ARROW_ERRORS = (pa.ArrowException, OverflowError, UnicodeError, TypeError, ValueError)

_encode_json = msgspec.json.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


def build_column(values: Sequence[object], column_type: ColumnType | None) -> tuple[Column, ColumnType]:
    """Build an Arrow column of plain values from `cell_checker`, and return it with its type.

    Without a type, the column gets the natural type of its values: their common type; `Float64` for whole numbers mixed
    with fractions, if no digit is lost; `json` for dicts and for other mixtures that JSON can express; Arrow lists for
    lists of one item type; `null` without any value.

    Raises
    ------
    CellError
        If a value does not fit.
    """
    if column_type is None and len(values) and type(values[0]) is str:
        texts = _column_of_texts(values)
        if texts is not None:
            return texts, type_of_arrow(texts.type)
    kinds = frozenset(map(type, values))
    if column_type is None:
        column_type = _natural_type(values, kinds)
    if np.ndarray in kinds:
        built = _column_with_arrays(values, column_type)
        if built is not None:
            return built, column_type
        values = without_arrays(values)
    if column_type.kind is Kind.JSON:
        return _json_column(values), column_type
    if column_type.kind is Kind.CATEGORY:
        return _category_column(values, column_type)
    return _arrow_column(values, column_type.arrow), column_type


def _column_of_texts(values: Sequence[object]) -> Column | None:
    """Build a column of texts in a single pass.

    Returns `None` if there may be other values among them.
    """
    try:
        chunks = [pa.array(chunk) for chunk in _chunks(values)]
    except _ARROW_ERRORS:
        return None
    # Only texts and nulls are inferred to be strings.
    if not all(pa.types.is_string(chunk.type) or pa.types.is_null(chunk.type) for chunk in chunks):
        return None
    return _joined([chunk.cast(pa.string()) for chunk in chunks], pa.string())


def natural_type(values: Sequence[object]) -> ColumnType:
    """Return the natural type of plain values; raises `CellError` if they have no common type."""
    return _natural_type(values, frozenset(map(type, values)))


def _natural_type(values: Sequence[object], kinds: frozenset[type]) -> ColumnType:
    """Return the natural type of values of these classes."""
    if np.ndarray in kinds:
        vector = _natural_vector(values)
        if vector is not None:
            return vector
        values = without_arrays(values)
        kinds = frozenset(map(type, values))
    arrow = _natural_arrow(values, kinds)
    if arrow is not None:
        return type_of_arrow(arrow)
    if kinds - {NoneType} <= _JSON_KINDS:
        return json_type()
    raise _mixture(values)


def plain_values(column: Column, column_type: ColumnType) -> list[Any]:
    """Return a stored column as plain values.

    Nulls are `None`, JSON is decoded, and artifacts are paths as stored.

    Cells of vector and tensor columns are read-only arrays. Raises `ValueError` if a text of a `json` column is not
    JSON.
    """
    if column_type.kind in (Kind.VECTOR, Kind.TENSOR):
        form = array_form(column_type)
        if form is None:
            raise ValueError(f"{column_type.name} is stored as {column.type}")
        return arrays_of_column(column, form)
    if column_type.kind is Kind.JSON:
        return [None if text is None else _read_json(text) for text in _plain_list(column)]
    return _plain_list(column)


def kinds_of(column_type: ColumnType) -> frozenset[type] | None:
    """Return the classes of a column's plain values, if its type determines them.

    The class of `None` is not included.
    """
    if column_type.kind in (Kind.JSON, Kind.VECTOR, Kind.TENSOR):
        return None
    return _READ_AS_BUILT.get(_value_type(column_type))


def normal_cells(cells: Sequence[object], column: Column, column_type: ColumnType) -> Sequence[object]:
    """Return plain values as they will be read back from the column built from them.

    They differ where a column gives all values one form: the digits of decimals, mixed numbers, the zones of times.
    Functions must get the same value that a later run reads.
    """
    kinds = set(map(type, cells)) - {NoneType}
    is_same = column_type.kind is not Kind.JSON and kinds <= _READ_AS_BUILT.get(_value_type(column_type), frozenset())
    return cells if is_same else plain_values(column, column_type)


def _natural_vector(values: Sequence[Any]) -> ColumnType | None:
    """Return the vector type that holds all arrays without loss; `None` if only lists can."""
    dtypes: dict[Any, list[Any]] = {}
    for value in values:
        if value is not None:
            if type(value) is not np.ndarray:
                return None
            dtypes.setdefault(value.dtype, []).append(value)
    kinds = {dtype.kind == "b" for dtype in dtypes}
    common = np.result_type(*dtypes)
    if len(kinds) > 1 or common.name not in ITEM_TYPES:
        return None
    if common.kind == "f":
        wide = [array for dtype, arrays in dtypes.items() if dtype.kind in "iu" for array in arrays if array.size]
        limit = EXACT_INTEGERS[common.name]
        if any(int(array.min()) < -limit or int(array.max()) > limit for array in wide):
            return None
    return vector_type(common.name)


def _column_with_arrays(values: Sequence[Any], column_type: ColumnType) -> Column | None:
    """Build a column of arrays; returns `None` for other columns and if cells need individual checks."""
    form = array_form(column_type)
    if form is None or set(map(type, values)) - {np.ndarray, NoneType} or not _have_shape(values, form.shape):
        return None
    dtypes = {value.dtype for value in values if value is not None}
    if dtypes - {form.dtype}:
        if not np.can_cast(np.result_type(*dtypes), form.dtype):
            return None
        values = [None if value is None else value.astype(form.dtype) for value in values]
    return column_of_arrays(values, column_type.arrow, form.dtype)


def _have_shape(cells: Sequence[Any], shape: tuple[int, ...] | None) -> bool:
    """Return whether all arrays have a shape, or are one-dimensional; a builder may declare another type later."""
    if shape is None:
        return {cell.ndim for cell in cells if cell is not None} <= {1}
    return {cell.shape for cell in cells if cell is not None} <= {shape}


def without_arrays(values: Sequence[Any]) -> list[object]:
    """Return cells with lists in place of arrays."""
    return [value.tolist() if type(value) is np.ndarray else value for value in values]


def _value_type(column_type: ColumnType) -> pa.DataType:
    arrow = column_type.arrow
    return arrow.value_type if pa.types.is_dictionary(arrow) else arrow


_READ_AS_BUILT: dict[pa.DataType, frozenset[type]] = {
    pa.null(): frozenset(),
    pa.bool_(): frozenset({bool}),
    pa.string(): frozenset({str}),
    pa.large_string(): frozenset({str}),
    pa.binary(): frozenset({bytes}),
    pa.large_binary(): frozenset({bytes}),
    pa.float64(): frozenset({float}),
    pa.date32(): frozenset({datetime.date}),
    **{getattr(pa, f"{sign}int{bits}")(): frozenset({int}) for sign in ("", "u") for bits in (8, 16, 32, 64)},
}
"""Classes of values that are read back unchanged, by column type."""


def _natural_arrow(values: Sequence[object], kinds: frozenset[type], depth: int = 0) -> pa.DataType | None:
    """Return the Arrow type that holds all values exactly, or `None`.

    `kinds` are the classes of the values, and `depth` is the number of enclosing lists.
    """
    kinds = kinds - {NoneType}
    if not kinds:
        return pa.null()
    if kinds <= {int, float}:
        return _natural_number(kinds, values)
    if kinds <= {datetime.datetime, pd.Timestamp}:
        return _natural_datetime(values)
    if kinds <= {datetime.timedelta, pd.Timedelta}:
        return pa.duration("ns" if pd.Timedelta in kinds else "us")
    if len(kinds) > 1:
        return None
    (kind,) = kinds
    if kind is list:
        return _natural_list(values, depth)
    if kind is decimal.Decimal:
        return _natural_decimal(values)
    if kind is datetime.time:
        naive = all(value is None or value.tzinfo is None for value in values)  # type: ignore[attr-defined]
        return pa.time64("us") if naive else None
    return _SIMPLE_NATURAL.get(kind)


_SIMPLE_NATURAL: dict[type, pa.DataType] = {
    bool: pa.bool_(),
    str: pa.string(),
    bytes: pa.binary(),
    datetime.date: pa.date32(),
}


def _natural_number(kinds: frozenset[type], values: Sequence[Any]) -> pa.DataType | None:
    if kinds == {float}:
        return pa.float64()
    whole = [value for value in values if type(value) is int]
    low, high = min(whole), max(whole)
    if float in kinds:
        return pa.float64() if max(-low, high) <= _EXACT_IN_FLOAT else None
    if low >= -(2**63) and high < 2**63:
        return pa.int64()
    return pa.uint64() if low >= 0 and high < 2**64 else None


def _natural_datetime(values: Sequence[Any]) -> pa.DataType | None:
    unit = "ns" if any(type(value) is pd.Timestamp for value in values) else "us"
    zones = {value.tzinfo for value in values if value is not None}
    if zones == {None}:
        return pa.timestamp(unit)
    if None in zones:
        return None
    names = {zone_name(zone) for zone in zones}
    return pa.timestamp(unit, names.pop() if len(names) == 1 else "UTC")


def _natural_list(values: Sequence[Any], depth: int) -> pa.DataType | None:
    if depth == _MAXIMUM_LIST_DEPTH:
        return None
    items = list(itertools.chain.from_iterable(value for value in values if value is not None))
    item = _natural_arrow(items, frozenset(map(type, items)), depth + 1)
    return None if item is None else pa.list_(item)


def _natural_decimal(values: Sequence[Any]) -> pa.DataType | None:
    try:
        return pa.array(values).type
    except _ARROW_ERRORS:
        return None


def _mixture(values: Sequence[object]) -> CellError:
    """Return the error for the first value that does not fit those before it.

    Together they have no natural type.
    """
    first = next(value for value in values if value is not None)
    for position, value in enumerate(values):
        kinds = frozenset({type(first), type(value)})
        if value is not None and _natural_arrow([first, value], kinds) is None and not kinds <= _JSON_KINDS:
            if value is first:
                return CellError(position, f"{shown(value)}, of type {type_name(value)}, fits no column")
            return CellError(
                position,
                f"{shown(value)} is of type {type_name(value)}, which cannot share a column with {shown(first)} "
                f"({type_name(first)}); declare a dtype, or return values of one type",
            )
    position = next(at for at, value in enumerate(values) if type(value) not in _JSON_KINDS and value is not None)
    return CellError(position, f"{shown(values[position])} cannot share a column with the values before it")


def _arrow_column(values: Sequence[object], arrow: pa.DataType) -> Column:
    try:
        return _array(values, arrow)
    except _ARROW_ERRORS as error:
        for position, value in enumerate(values):
            _check_fits(position, value, arrow)
        raise CellError(0, f"the values do not fit together into {arrow} ({error})") from error


def _array(values: Sequence[object], arrow: pa.DataType) -> Column:
    return _joined([pa.array(chunk, type=arrow) for chunk in _chunks(values)], arrow)


def _chunks(values: Sequence[object]) -> Iterator[Sequence[object]]:
    """Yield values in pieces of moderate size: Arrow copies an array repeatedly while it grows."""
    sample = values[:: max(1, len(values) // _SAMPLED_ROWS)]
    sampled = sum(len(value) for value in sample if isinstance(value, str | bytes))
    rows = max(_MINIMUM_CHUNK_ROWS, CHUNK_BYTES * len(sample) // max(sampled, 1))
    for start in range(0, len(values), rows):
        yield values[start : start + rows] if rows < len(values) else values
    if not len(values):
        yield values


def _joined(chunks: Sequence[Column], arrow: pa.DataType) -> Column:
    if len(chunks) == 1:
        return chunks[0]
    pieces = [piece for chunk in chunks for piece in (chunk.chunks if isinstance(chunk, pa.ChunkedArray) else (chunk,))]
    return pa.chunked_array(pieces, type=arrow)


def _check_fits(position: int, value: object, arrow: pa.DataType) -> None:
    try:
        pa.array([value], type=arrow)
    except _ARROW_ERRORS as error:
        raise CellError(position, f"{shown(value)} does not fit {arrow} ({error})") from error


def _json_column(values: Sequence[object]) -> Column:
    if _are_json(values):
        try:
            return _array([None if value is None else _encode_json(value) for value in values], pa.string())
        except _ARROW_ERRORS:  # A lone surrogate, or a whole number beyond 64 bits.
            pass
    texts: list[bytes | None] = []
    for position, value in enumerate(values):
        try:
            texts.append(None if value is None else _json_text(value))
        except (TypeError, ValueError, RecursionError) as error:
            raise CellError(position, f"{shown(value)} cannot be stored as JSON: {error}") from error
    return _array(texts, pa.string())


def _are_json(values: Sequence[Any]) -> bool:
    """Return whether values consist of JSON's types and finite numbers; level by level, at C speed."""
    level: Sequence[Any] = values
    for _ in range(_MAXIMUM_LEVELS):
        kinds = set(map(type, level)) - {NoneType}
        if not kinds <= _JSON_KINDS:
            return False
        if float in kinds:
            total = sum(value for value in level if type(value) is float)
            if total - total != 0:
                return False
        dicts = [value for value in level if type(value) is dict] if dict in kinds else []
        lists = [value for value in level if type(value) is list] if list in kinds else []
        if not (dicts or lists):
            return True
        if set(map(type, itertools.chain.from_iterable(dicts))) - {str}:
            return False
        items = (value.values() for value in dicts)
        level = list(itertools.chain(itertools.chain.from_iterable(items), itertools.chain.from_iterable(lists)))
    return False


def _json_text(value: object) -> bytes:
    checked = json_value(value)
    try:
        return _encode_json(checked)
    except OverflowError:  # Whole numbers beyond 64 bits, which msgspec reads but does not write.
        return json.dumps(checked, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def _read_json(text: str) -> Any:
    try:
        return _decode_json(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{shown(text)} is not JSON: {error}") from error


def _category_column(values: Sequence[object], column_type: ColumnType) -> tuple[Column, ColumnType]:
    declared = column_type.arrow.value_type
    value_type = natural_type(values) if pa.types.is_null(declared) else type_of_arrow(declared)
    if value_type.kind is Kind.JSON:
        raise _mixed_category(values)
    if pa.types.is_null(value_type.arrow):
        # Arrow would make null itself a category.
        return pa.DictionaryArray.from_arrays(pa.nulls(len(values), pa.int32()), pa.nulls(0)), category_of(value_type)
    encoded = _arrow_column(values, value_type.arrow).dictionary_encode()
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.unify_dictionaries()
    if pa.types.is_floating(value_type.arrow):
        check_categories(pc.unique(encoded.cast(value_type.arrow)), encoded)
    return encoded, category_of(value_type)


def check_categories(categories: pa.Array, column: Column) -> None:
    """Raise an error for fractions that are not distinct as categories.

    NaN is not distinct from null, nor -0.0 from 0.0. The error is a `CellError` if cells of the column have these
    categories, else a `TypeError`.
    """
    known = categories.to_numpy(zero_copy_only=False)
    unused = "give the column a type of numbers, or remove the category"
    if np.isnan(known[categories.is_valid().to_numpy(zero_copy_only=False)]).any():
        cells = pc.equal(pc.is_nan(column.cast(categories.type)), True)
        position = pc.index(cells, True).as_py()
        if position < 0:
            raise TypeError(f"NaN cannot be a category; {unused}")
        raise CellError(position, "NaN cannot be a category, because pandas cannot tell it from null; use null")
    zeros = known == 0
    if len(set(np.signbit(known[zeros]).tolist())) > 1:
        cells = column.cast(categories.type).to_numpy(zero_copy_only=False)
        found = [np.flatnonzero((cells == 0) & (np.signbit(cells) == sign)) for sign in (False, True)]
        if not all(len(rows) for rows in found):
            raise TypeError(f"its categories have both 0.0 and -0.0, which are equal; {unused}")
        raise CellError(
            int(max(rows[0] for rows in found)),
            "a category column cannot have both 0.0 and -0.0, which are equal; use one of them, or a dtype of numbers",
        )


def _mixed_category(values: Sequence[Any]) -> CellError:
    first = next(type(value) for value in values if value is not None)
    for position, value in enumerate(values):
        if value is not None and type(value) is not first:
            return CellError(position, f"{shown(value)} is not of the same type as the categories before it")
    # Otherwise they are whole numbers that 64 bits cannot hold together.
    whole = [0 if value is None else value for value in values]
    extremes = zip(itertools.accumulate(whole, min), itertools.accumulate(whole, max), strict=True)
    position = next(at for at, (low, high) in enumerate(extremes) if low < -(2**63) or high >= 2 ** (63 + (low >= 0)))
    return CellError(
        position,
        f"{shown(values[position])} does not fit into 64 bits with the categories before it; make the categories text",
    )


def _plain_list(column: Column) -> list[Any]:
    arrow = column.type
    if pa.types.is_dictionary(arrow):
        return _plain_list(column.cast(arrow.value_type))
    if pa.types.is_integer(arrow) or pa.types.is_floating(arrow):
        return _numbers(column)
    if pa.types.is_timestamp(arrow) or pa.types.is_duration(arrow):
        return [None if value is None else unwrapped(value) for value in column.to_pylist()]
    listed: list[Any] = column.to_pylist()
    return listed


def _numbers(column: Column) -> list[Any]:
    filled = pc.fill_null(column, pa.scalar(0, column.type)) if column.null_count else column
    values: list[Any] = filled.to_numpy(zero_copy_only=False).tolist()
    if column.null_count:
        nulls = pc.is_null(column)
        for position in pc.indices_nonzero(nulls).to_numpy().tolist():
            values[position] = None
    return values
