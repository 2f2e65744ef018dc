"""Checks of single values against column types, and conversion to the plain values that are stored.

Nothing is lost silently: a value is either stored exactly or refused. The exceptions follow from the declared type:
fractions are rounded to `Float32`, and an aware datetime is moved to the zone of the column.
"""

from __future__ import annotations

import datetime
import decimal
import os
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from tablevault.storage.column_types import ColumnType, Kind, holds_arrays
from tablevault.storage.plain import (
    MINIMUM_TIMEDELTA,
    array_items,
    checked_text,
    in_stored_zone,
    is_missing,
    json_value,
    natural_value,
    shown,
    type_name,
    unwrapped,
)
from tablevault.storage.vectors import ArrayChecker, array_form, list_array, natural_array
from tablevault.storage.zones import zone_of_name

CellChecker = Callable[[Any], Any]

_UNITS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_EPOCH = datetime.datetime(1970, 1, 1)
_MICROSECOND = datetime.timedelta(microseconds=1)
_NEVER_MISSING = frozenset({str, bytes, int, bool, list, dict, datetime.datetime, datetime.date, decimal.Decimal})
_INT64_MAXIMUM = 2**63 - 1


def cell_checker(column_type: ColumnType | None) -> CellChecker:
    """Return a function that converts a value for storage, or raises `TypeError` or `ValueError`.

    The error describes the fault of the value; the caller adds its position. Without a column type, every value fits
    that some column could hold. Missing values of any library become `None`, and so does NaN, as in pandas' nullable
    types (within lists NaN stays NaN).
    """
    if column_type is None:
        return natural_value
    if holds_arrays(column_type):
        return ArrayChecker(column_type)
    if column_type.kind is Kind.JSON:
        return _nullable(json_value)
    if column_type.kind is Kind.ARTIFACT:
        return _nullable(_artifact)
    if column_type.kind is Kind.CATEGORY:
        return _category_checker(column_type)
    arrow = column_type.arrow
    if pa.types.is_integer(arrow):
        return _integer_checker(column_type.name, arrow)
    if arrow == pa.float64():
        return _float_checker()
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow):
        return _text_checker()
    if pa.types.is_boolean(arrow):
        return _boolean_checker()
    return _nullable(_converter(column_type.name, arrow))


def column_checker(column_type: ColumnType | None) -> CellChecker:
    """Return a `cell_checker` for cells that `build_column` will turn into a column.

    Arrays that fit as a whole stay arrays: in columns of numeric lists until the column is built, and without a column
    type, where they may become vectors.
    """
    check = cell_checker(column_type)
    if column_type is None:
        return _natural
    return check if holds_arrays(column_type) or array_form(column_type) is None else _array_or_list(check, column_type)


def unchanged_kinds(column_type: ColumnType | None) -> frozenset[type]:
    """Return the types whose values `cell_checker` returns unchanged.

    For `str` this applies to ASCII text only, for `int` to numbers that a float holds exactly. Without a column type, a
    `Mixture` decides whether the values can share a column.
    """
    if column_type is None:
        return frozenset({str, int, bool, bytes, datetime.date})
    if column_type.kind is not Kind.PLAIN:
        return frozenset()
    arrow = column_type.arrow
    if pa.types.is_string(arrow) or pa.types.is_large_string(arrow):
        return frozenset({str})
    return frozenset({bool}) if pa.types.is_boolean(arrow) else frozenset()


def _natural(value: Any) -> Any:
    """Return a plain value; arrays with an item type of vectors are copied."""
    cell = natural_array(value) if isinstance(value, np.ndarray) else None
    return natural_value(value) if cell is None else cell


def _array_or_list(convert: CellChecker, column_type: ColumnType) -> CellChecker:
    """Return the checker of a numeric list column.

    It accepts arrays as a whole if they fit.
    """

    def check(value: Any) -> Any:
        cell = list_array(value, column_type) if isinstance(value, np.ndarray) else None
        return convert(value) if cell is None else cell

    return check


def _integer_checker(name: str, arrow: pa.DataType) -> CellChecker:
    convert = _integer_converter(name, arrow)
    low, high = _limits(arrow)

    def check(value: Any) -> Any:
        if type(value) is int and low <= value <= high:
            return value
        return None if is_missing(value) else convert(value)

    return check


def _float_checker() -> CellChecker:
    def check(value: Any) -> Any:
        if type(value) is float:
            return value if value == value else None
        return None if is_missing(value) else _float(value)

    return check


def _text_checker() -> CellChecker:
    def check(value: Any) -> Any:
        if type(value) is str and value.isascii():
            return value
        return None if is_missing(value) else _text(value)

    return check


def _boolean_checker() -> CellChecker:
    def check(value: Any) -> Any:
        if value is True or value is False:
            return value
        return None if is_missing(value) else _boolean(value)

    return check


def _category_checker(column_type: ColumnType) -> CellChecker:
    values = column_type.arrow.value_type
    if not pa.types.is_null(values):
        return _nullable(_converter(column_type.name, values))

    def check(value: Any) -> Any:
        plain = natural_value(value)
        if type(plain) is list or type(plain) is dict:
            raise TypeError(f"{shown(value)} is of type {type_name(value)}, which cannot be a category")
        return plain

    return check


def _nullable(convert: CellChecker) -> CellChecker:
    def check(value: Any) -> Any:
        if type(value) not in _NEVER_MISSING and is_missing(value):
            return None
        return convert(value)

    return check


def _converter(name: str, arrow: pa.DataType) -> CellChecker:
    """Return a converter of non-missing values to an Arrow type; `name` is used in messages."""
    simple: list[tuple[Callable[[pa.DataType], bool], CellChecker]] = [
        (pa.types.is_boolean, _boolean),
        (pa.types.is_string, _text),
        (pa.types.is_large_string, _text),
        (pa.types.is_binary, _bytes),
        (pa.types.is_large_binary, _bytes),
        (pa.types.is_float64, _float),
        (pa.types.is_date, _date),
        (pa.types.is_null, _nothing),
    ]
    for fits, convert in simple:
        if fits(arrow):
            return convert
    making: list[tuple[Callable[[pa.DataType], bool], Callable[[str, pa.DataType], CellChecker]]] = [
        (pa.types.is_integer, _integer_converter),
        (pa.types.is_floating, _short_float_converter),
        (pa.types.is_timestamp, _datetime_converter),
        (pa.types.is_duration, _timedelta_converter),
        (pa.types.is_time, _time_converter),
        (pa.types.is_decimal, _decimal_converter),
        (_is_any_list, _list_converter),
        (pa.types.is_struct, _struct_converter),
    ]
    for fits, make in making:
        if fits(arrow):
            return make(name, arrow)
    raise ValueError(f"a column of type {name} can only be written as a whole frame")


def _is_any_list(arrow: pa.DataType) -> bool:
    return bool(pa.types.is_list(arrow) or pa.types.is_large_list(arrow) or pa.types.is_fixed_size_list(arrow))


def _boolean(value: Any) -> bool:
    plain = unwrapped(value)
    if type(plain) is not bool:
        raise _unfit(value, "boolean")
    return plain


def _text(value: Any) -> str:
    if type(value) is str:
        return checked_text(value)
    plain = unwrapped(os.fspath(value) if isinstance(value, os.PathLike) else value)
    if type(plain) is not str:
        raise _unfit(value, "string")
    return checked_text(plain)


def _artifact(value: Any) -> str:
    text = _text(value)
    if not text or "\0" in text:
        raise ValueError(f"{shown(value)} is not the path of an artifact file")
    return text


def _bytes(value: Any) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise _unfit(value, "bytes")
    plain = unwrapped(value)
    return plain if type(plain) is bytes else bytes(plain)


def _nothing(value: Any) -> None:
    raise _unfit(value, "null")


def _float(value: Any) -> float:
    plain = unwrapped(value)
    if type(plain) is float:
        return plain
    if type(plain) is not int:
        raise _unfit(value, "Float64")
    return _exact_float(plain, 53, "Float64")


def _exact_float(value: int, bits: int, name: str) -> float:
    # Trailing binary zeros take no bits of a float's significand.
    significant = value // (value & -value) if value else 0
    if significant.bit_length() > bits or value.bit_length() > 1000:
        raise ValueError(f"{shown(value)} cannot be expressed exactly in {name}")
    return float(value)


def _short_float_converter(name: str, arrow: pa.DataType) -> CellChecker:
    form, bits = (struct.Struct("<f"), 24) if pa.types.is_float32(arrow) else (struct.Struct("<e"), 11)

    def convert(value: Any) -> float:
        plain = unwrapped(value)
        if type(plain) is int:
            plain = _exact_float(plain, bits, name)
        if type(plain) is not float:
            raise _unfit(value, name)
        try:
            # This run must compute with the same value that a later run would read.
            rounded: float = form.unpack(form.pack(plain))[0]
        except OverflowError as error:
            raise ValueError(f"{shown(value)} is too large for {name}") from error
        return rounded

    return convert


def _limits(arrow: pa.DataType) -> tuple[int, int]:
    if pa.types.is_signed_integer(arrow):
        return -(2 ** (arrow.bit_width - 1)), 2 ** (arrow.bit_width - 1) - 1
    return 0, 2**arrow.bit_width - 1


def _integer_converter(name: str, arrow: pa.DataType) -> CellChecker:
    low, high = _limits(arrow)

    def convert(value: Any) -> int:
        plain = unwrapped(value)
        if type(plain) is float:
            if not plain.is_integer():
                raise ValueError(f"{shown(value)} is not a whole number, so it does not fit {name}")
            plain = int(plain)
        if type(plain) is not int:
            raise _unfit(value, name)
        if not low <= plain <= high:
            raise ValueError(f"{shown(value)} is outside the range of {name} ({low} to {high})")
        return plain

    return convert


def _datetime_converter(name: str, arrow: pa.DataType) -> CellChecker:
    step = _UNITS[arrow.unit]
    zone = _time_zone(arrow.tz)

    def convert(value: Any) -> Any:
        plain = unwrapped(value)
        if not isinstance(plain, datetime.datetime):
            raise _unfit(value, name)
        if (plain.utcoffset() is None) != (zone is None):
            what = "has no time zone" if zone else "has a time zone"
            raise ValueError(f"{shown(value)} {what}, so it does not fit {name}")
        nanoseconds = _nanoseconds(plain)
        if nanoseconds % step:
            raise ValueError(f"{shown(value)} is finer than {name} can express")
        if abs(nanoseconds // step) > _INT64_MAXIMUM:
            raise ValueError(f"{shown(value)} is outside the range of {name}")
        return in_stored_zone(plain, zone)

    return convert


def _time_zone(name: str | None) -> datetime.tzinfo | None:
    return zone_of_name(name) if name else None


def _nanoseconds(value: datetime.datetime) -> int:
    offset = value.utcoffset() or datetime.timedelta()
    plain = datetime.datetime.combine(value.date(), value.time().replace(tzinfo=None))
    finer = value.nanosecond if isinstance(value, pd.Timestamp) else 0
    return ((plain - _EPOCH - offset) // _MICROSECOND) * 1000 + finer


def _timedelta_converter(name: str, arrow: pa.DataType) -> CellChecker:
    step = _UNITS[arrow.unit]

    def convert(value: Any) -> Any:
        plain = unwrapped(value)
        if not isinstance(plain, datetime.timedelta):
            raise _unfit(value, name)
        finer = plain.nanoseconds if isinstance(plain, pd.Timedelta) else 0
        whole = datetime.timedelta(plain.days, plain.seconds, plain.microseconds) // _MICROSECOND
        nanoseconds = whole * 1000 + finer
        if nanoseconds % step:
            raise ValueError(f"{shown(value)} is finer than {name} can express")
        if abs(nanoseconds // step) > _INT64_MAXIMUM or (arrow.unit == "us" and plain < MINIMUM_TIMEDELTA):
            raise ValueError(f"{shown(value)} is outside the range of {name}")
        return plain

    return convert


def _date(value: Any) -> datetime.date:
    plain = unwrapped(value)
    if type(plain) is not datetime.date:
        raise _unfit(value, "date")
    return plain


def _time_converter(name: str, arrow: pa.DataType) -> CellChecker:
    step = _UNITS[arrow.unit]

    def convert(value: Any) -> datetime.time:
        if not isinstance(value, datetime.time):
            raise _unfit(value, name)
        if value.tzinfo is not None:
            raise ValueError(f"{shown(value)} has a time zone, so it does not fit {name}")
        plain: datetime.time = unwrapped(value)
        if plain.microsecond * 1000 % step:
            raise ValueError(f"{shown(value)} is finer than {name} can express")
        return plain.replace(fold=0)

    return convert


def _decimal_converter(name: str, arrow: pa.DataType) -> CellChecker:
    def convert(value: Any) -> decimal.Decimal:
        plain = unwrapped(value)
        if type(plain) is int:
            plain = decimal.Decimal(plain)
        if not isinstance(plain, decimal.Decimal):
            raise _unfit(value, name)
        if not plain.is_finite():
            raise ValueError(f"{shown(value)} is not a finite number, so it does not fit {name}")
        try:
            pa.scalar(plain, type=arrow)
        except pa.ArrowInvalid as error:
            raise ValueError(f"{shown(value)} has more digits than {name} can express") from error
        return plain

    return convert


def _list_converter(name: str, arrow: pa.DataType) -> CellChecker:
    convert_item = _converter(name, arrow.value_type)
    size = arrow.list_size if pa.types.is_fixed_size_list(arrow) else None
    unchecked = float if pa.types.is_float64(arrow.value_type) else None

    def convert(value: Any) -> list[Any]:
        if isinstance(value, np.ndarray) and value.ndim:
            value = array_items(value)
        if not isinstance(value, (list, tuple)):
            raise _unfit(value, name)
        if size is not None and len(value) != size:
            raise ValueError(f"{shown(value)} has {len(value)} items, but {name} holds {size}")
        if set(map(type, value)) == {unchecked}:
            return list(value)
        return [_item(item, convert_item) for item in value]

    return convert


def _item(item: Any, convert: CellChecker) -> Any:
    if is_missing(item) and not isinstance(item, (float, np.floating)):
        return None
    return convert(item)


def _struct_converter(name: str, arrow: pa.DataType) -> CellChecker:
    converters = {field.name: _converter(f"{name}, field {field.name!r}", field.type) for field in arrow}

    def convert(value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise _unfit(value, name)
        unknown = [key for key in value if key not in converters]
        if unknown:
            raise ValueError(f"{shown(value)} has the key {shown(unknown[0])}, which {name} does not define")
        return {key: _item(value.get(key), converter) for key, converter in converters.items()}

    return convert


def _unfit(value: object, name: str) -> TypeError:
    return TypeError(f"{shown(value)} is of type {type_name(value)}, which does not fit {name}")
