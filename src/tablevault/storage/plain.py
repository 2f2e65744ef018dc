"""Plain values, the form of cells in memory, independent of the library that made them.

A plain value is `None`, a bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, a list of these, or a
dict that JSON can express, of exactly these classes. A pandas Timestamp or Timedelta is a plain value only if it is
finer than a microsecond, which Python's types cannot express. Every plain value can be packed into a checkpoint and
stored in some column.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import os
import uuid
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

import numpy as np
import pandas as pd

from tablevault.names import without_namespaces
from tablevault.storage.zones import stored_zone

MAXIMUM_SHOWN = 60
NOT_THE_VALUES = (OSError, MemoryError)
"""Errors of reading a value that do not mean that the value is invalid."""
_AS_THEY_ARE = frozenset({bool, bytes, datetime.date})
_UNCHECKED_ITEMS = frozenset({bool, float, bytes, NoneType})
_JSON_UNCHECKED = frozenset({bool, NoneType})
_PLAIN_ARRAYS = frozenset({np.ndarray, np.ma.MaskedArray, np.recarray, np.memmap, np.matrix})
"""Arrays of other classes carry information beyond their items, such as a unit."""
_MAXIMUM_INTEGER_BITS = 14_000
"""Python converts whole numbers of at most 4,300 digits to text, and so to JSON."""
_MAXIMUM_DECIMAL_DIGITS = 76
_MAXIMUM_TIMEDELTA = datetime.timedelta(microseconds=2**63 - 1)
MINIMUM_TIMEDELTA = -datetime.timedelta(seconds=(2**63 - 1) // 10**6)
"""Arrow computes durations in whole seconds first, and so refuses those of the last negative second."""
_MICROSECOND = datetime.timedelta(microseconds=1)


def natural_value(value: Any) -> Any:
    """Convert a value to a plain value; missing values of any library, including NaN, become `None`.

    Raises `TypeError` for a type, and `ValueError` for a text, number, time or dict, that no column can hold.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else checked_text(value)
    if kind is float:
        return value if value == value else None
    if value is None or kind in _AS_THEY_ARE:
        return value
    if kind is int:
        return _checked_integer(value)
    if kind is list:
        return _natural_list(value)
    if kind is dict:
        return json_value(value)
    check = _SCALARS.get(kind)
    if check is not None:
        return check(unwrapped(value))
    if is_missing(value):
        return None
    return _converted(value, natural_value)


def json_value(value: Any) -> Any:
    """Convert a part of a JSON document to a plain value.

    Raises `TypeError` for values that JSON cannot express, and `ValueError` for NaN and infinities.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else checked_text(value)
    if kind in _JSON_UNCHECKED:
        return value
    if kind is int:
        return _checked_integer(value)
    if kind is float:
        return _finite(value)
    if kind is list or kind is tuple:
        return [json_value(item) for item in value]
    if kind is dict or isinstance(value, Mapping):
        return _json_object(value)
    if value is pd.NA or value is pd.NaT or value is np.ma.masked:
        return None
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, bytes, bytearray)):
        raise TypeError(f"{shown(value)} is of type {type_name(value)}, which JSON cannot express; make it text")
    return _converted(value, json_value)


def checked_text(value: str) -> str:
    """Return the text if UTF-8 can express it; raises `ValueError` for lone surrogates."""
    if value.isascii():
        return value
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text has a lone surrogate ({value[error.start]!r} at character {error.start}); it cannot be stored"
        ) from error
    return value


def is_missing(value: object) -> bool:
    """Return whether a value is missing.

    Missing values are `None`, `NA`, `NaT`, `masked` and NaN.
    """
    if value is None or value is pd.NA or value is pd.NaT or value is np.ma.masked:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return isinstance(value, (np.datetime64, np.timedelta64)) and bool(np.isnat(value))


def unwrapped(value: Any) -> Any:
    """Convert a scalar to the equal built-in value.

    Converts values of NumPy, pandas and subclasses; others are unchanged.

    The content of a subclass counts, not its text form. A number or time finer than Python's types stays unchanged.
    Raises `ValueError` for a time that Python cannot express.
    """
    if isinstance(value, np.generic):
        return _unwrapped_numpy(value)
    if isinstance(value, pd.Timestamp):
        return value if value.nanosecond else value.to_pydatetime(warn=False)
    if isinstance(value, pd.Timedelta):
        return value if value.nanoseconds else value.to_pytimedelta()
    for plain, content in _CONTENTS:
        if isinstance(value, plain):
            return value if type(value) is plain else content(value)
    return value


def array_items(array: np.ndarray[Any, Any]) -> list[Any]:
    """Return the items of an array with dimensions.

    Raises `TypeError` if they do not fully describe it.
    """
    if type(array) not in _PLAIN_ARRAYS:
        raise TypeError(
            f"{shown(array)} is of type {type_name(array)}, and a cell would keep only its numbers; convert it with "
            "numpy.asarray()"
        )
    # `tolist` would turn nanoseconds into plain numbers and lose field names.
    return list(array) if array.dtype.kind in "mMV" else array.tolist()


def in_stored_zone(value: datetime.datetime, zone: datetime.tzinfo | None = None) -> datetime.datetime:
    """Convert a datetime to a zone, or to the zone for storing it.

    The latter is its own zone if all readers know its name, else UTC.

    Raises `ValueError` if the result is out of range, or the datetime is ambiguous in its own zone.
    """
    own = value.tzinfo
    if own is None:
        return value.replace(fold=0) if value.fold else value
    if value.utcoffset() is None:
        raise ValueError(f"{shown(value)} has a time zone that does not say how far from UTC it is; use another zone")
    try:
        # Convert via UTC, so that skipped and repeated hours are read back the same.
        return value.astimezone(datetime.UTC).astimezone(zone or stored_zone(own))
    except (OverflowError, pd.errors.OutOfBoundsDatetime) as error:
        raise ValueError(f"{shown(value)} is before the year 1 or after the year 9999 in UTC, or as stored") from error


def shown(value: object) -> str:
    """Return the text of a value for error messages."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the class is the user's; and of the largest whole numbers Python makes no text
        return f"a value of type {type_name(value)}"
    if "\n" in text:  # A frame, say: a message is a sentence.
        text = " ".join(text.split())
    return text if len(text) <= MAXIMUM_SHOWN else f"{text[: MAXIMUM_SHOWN - 1]}…"


def type_name(value: object) -> str:
    """Return the name of a value's type for error messages."""
    kind = type(value)
    module = without_namespaces(f"{kind.__module__}.").removesuffix(".")
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


class UnreadableCell:
    """A value of a frame that Python cannot express.

    It is refused when it becomes a cell.
    """

    __slots__ = ("reason",)

    def __init__(self, reason: str) -> None:
        self.reason = reason

    def __repr__(self) -> str:
        return self.reason


def refusal(value: object, error: Exception) -> TypeError | ValueError:
    """Return the error for a value that cannot be a cell.

    It is made from the exception raised when reading the value.
    """
    if type(value) is UnreadableCell:
        return ValueError(value.reason)
    if isinstance(error, RecursionError):
        return ValueError(f"{shown(value)} contains itself, or is nested too deeply")
    if isinstance(error, (TypeError, ValueError)):
        return error
    return TypeError(f"{shown(value)}, of type {type_name(value)}, cannot be read: {type(error).__name__}: {error}")


def _natural_list(value: list[Any]) -> list[Any]:
    kinds = set(map(type, value))
    if kinds <= _UNCHECKED_ITEMS:
        return value.copy()  # The function that returned it may still hold it.
    return [_natural_item(item) for item in value]


def _natural_item(item: Any) -> Any:
    # In a list, NaN is an ordinary number, so that an embedding with a NaN is preserved.
    if type(item) is float:
        return item
    if isinstance(item, (float, np.floating)) and item != item:
        return math.nan
    return natural_value(item)


def _checked_integer(value: int) -> int:
    if value.bit_length() > _MAXIMUM_INTEGER_BITS:
        raise ValueError(f"a whole number of {value.bit_length():,} bits is too large to be stored; make it text")
    return value


def _checked_decimal(value: decimal.Decimal) -> decimal.Decimal:
    if not value.is_finite():
        raise ValueError(f"{shown(value)} is not a finite number, so no column of decimals can hold it; use None")
    exponent = value.as_tuple().exponent
    scale = max(-int(exponent), 0)
    if max(value.adjusted() + 1, 0) + scale > _MAXIMUM_DECIMAL_DIGITS or scale > _MAXIMUM_DECIMAL_DIGITS:
        raise ValueError(f"{shown(value)} needs more than {_MAXIMUM_DECIMAL_DIGITS} digits; make it text")
    return value


def _checked_timedelta(value: datetime.timedelta) -> datetime.timedelta:
    if not MINIMUM_TIMEDELTA <= value <= _MAXIMUM_TIMEDELTA:
        raise ValueError(f"{shown(value)} is longer than a column can hold; make it a number of days")
    return value


def _checked_time(value: datetime.time) -> datetime.time:
    if value.tzinfo is not None:
        raise ValueError(
            f"{shown(value)} is a time of day with a time zone, which no column can hold; leave out the zone"
        )
    return value.replace(fold=0) if value.fold else value


_SCALARS: dict[type, Callable[[Any], Any]] = {
    datetime.datetime: in_stored_zone,
    pd.Timestamp: in_stored_zone,
    datetime.timedelta: _checked_timedelta,
    pd.Timedelta: lambda value: value,
    datetime.time: _checked_time,
    decimal.Decimal: _checked_decimal,
}
"""Converters of classes whose values need a check before they become cells."""


def _converted(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Return the plain value of an object of another class.

    `convert` converts its parts.
    """
    if isinstance(value, np.ndarray):
        return _array_items(value, convert)
    if isinstance(value, np.void):
        return _record(value, convert)
    if isinstance(value, (tuple, list)):
        return convert(list(value))
    if isinstance(value, Mapping):
        return convert(dict(value))
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, os.PathLike):
        return convert(os.fspath(value))
    plain = unwrapped(value)
    if plain is value or type(plain) is type(value):
        raise TypeError(f"{shown(value)} is of type {type_name(value)}, which a cell cannot hold; {remedy(value)}")
    return convert(plain)


def remedy(value: object) -> str:
    """Return the remedy for an object that is not a cell.

    The object is not touched, since it may be hostile.
    """
    attributes = set().union(*(vars(base) for base in type(value).__mro__))
    if "model_dump" in attributes:
        return "use its .model_dump(mode='json')"
    if "__dataclass_fields__" in attributes:
        return "use dataclasses.asdict()"
    if isinstance(value, enum.Enum):
        return "use its .value"
    if isinstance(value, uuid.UUID):
        return "use str()"
    return "use text, numbers, dates, bytes, lists or dicts"


def _array_items(array: np.ndarray[Any, Any], convert: Callable[[Any], Any]) -> Any:
    return convert(array[()]) if array.ndim == 0 else convert(array_items(array))


def _record(record: Any, convert: Callable[[Any], Any]) -> Any:
    """Return the items of a NumPy record by field name.

    Returns its bytes if it has no fields.
    """
    if record.dtype.names is None:
        return record.tobytes()
    return json_value({name: record[name] for name in record.dtype.names})


def _unwrapped_numpy(value: Any) -> Any:
    if isinstance(value, np.datetime64 | np.timedelta64):
        return _unwrapped_numpy_time(value)
    if isinstance(value, np.longdouble):
        plain = float(value)
        return plain if plain == value or plain != plain else value
    if isinstance(value, str | bytes):  # `item` would drop NUL characters at the end.
        return str.__str__(value) if isinstance(value, str) else bytes.__getitem__(value, slice(None))
    return value if isinstance(value, np.void) else value.item()


def _unwrapped_numpy_time(value: Any) -> Any:
    if np.datetime_data(value.dtype)[0] == "generic" and not np.isnat(value):
        raise ValueError(
            f"{shown(value)} has no unit, so it is not a time span; use one such as numpy.timedelta64(5, 's')"
        )
    whole = pd.Timestamp(value) if isinstance(value, np.datetime64) else pd.Timedelta(value)
    if not pd.isna(whole) and whole.to_numpy() != value:  # pandas drops fractions of a nanosecond.
        raise ValueError(f"{shown(value)} has sub-nanosecond precision, which no column type supports")
    return unwrapped(whole)


def _content_of_decimal(value: decimal.Decimal) -> decimal.Decimal:
    sign, digits, exponent = decimal.Decimal.as_tuple(value)
    return decimal.Decimal((sign, digits, exponent))  # type: ignore[arg-type]  # Of NaN the exponent is a letter.


def _content_of(plain: Any, *fields: str) -> Callable[[Any], Any]:
    descriptors = [getattr(plain, field) for field in fields]

    def content(value: Any) -> Any:
        return plain(*(descriptor.__get__(value) for descriptor in descriptors))

    return content


def _content_of_fold(plain: Any, *fields: str) -> Callable[[Any], Any]:
    content = _content_of(plain, *fields)
    return lambda value: content(value).replace(fold=plain.fold.__get__(value))


_CONTENTS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (bool, bool),
    (str, str.__str__),
    (int, int.__int__),
    (float, float.__float__),
    (bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (
        datetime.datetime,
        _content_of_fold(
            datetime.datetime, "year", "month", "day", "hour", "minute", "second", "microsecond", "tzinfo"
        ),
    ),
    (datetime.date, _content_of(datetime.date, "year", "month", "day")),
    (datetime.time, _content_of_fold(datetime.time, "hour", "minute", "second", "microsecond", "tzinfo")),
    (datetime.timedelta, _content_of(datetime.timedelta, "days", "seconds", "microseconds")),
    (decimal.Decimal, _content_of_decimal),
)
"""Accessors to the content of a subclass that bypass its overrides."""


def _finite(value: float) -> float:
    if value - value != 0:
        raise ValueError(f"{value} cannot be part of JSON; use None")
    return value


def _json_object(value: Mapping[Any, Any]) -> dict[str, Any]:
    items = {_json_key(key): json_value(item) for key, item in value.items()}
    if len(items) != len(value):
        raise ValueError(f"{shown(value)} has keys that are the same text")
    return items


def _json_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key {shown(key)} is of type {type_name(key)}, but keys of JSON are text")
    return checked_text(key if type(key) is str else str.__str__(key))
