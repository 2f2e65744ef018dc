"""Plain values: what a cell is while it is in memory, whatever library made it.

A plain value is `None`, a bool, int, float, str, bytes, datetime, date, time, timedelta, Decimal, a list of such, or a
dict that JSON can express. A pandas Timestamp or Timedelta is one only where it is finer than a microsecond, which
Python has no type for.
"""

from __future__ import annotations

import datetime
import decimal
import enum
import os
import re
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Any

import numpy as np
import pandas as pd

MAXIMUM_SHOWN = 60
NOT_THE_VALUES = (OSError, MemoryError)
"""What reading a value may raise without the value being wrong."""
_OF_A_VAULT = re.compile(r"^tablevault_code\.[0-9a-f]+\.")
"""What code modules of a vault are called by Python, before their own name."""
_AS_THEY_ARE = frozenset(
    {bool, int, float, bytes, decimal.Decimal, datetime.datetime, datetime.date, datetime.time, datetime.timedelta}
)
_UNCHECKED_ITEMS = frozenset({bool, int, float, bytes, NoneType})
_JSON_UNCHECKED = frozenset({bool, int, NoneType})


def natural_value(value: Any) -> Any:
    """Return the plain value that a value stands for; a missing value of any library, also NaN, is `None`.

    Raises `TypeError` for what no column can hold, and `ValueError` for text that UTF-8, or dicts that JSON, cannot
    express.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else checked_text(value)
    if kind is float:
        return value if value == value else None
    if value is None or kind in _AS_THEY_ARE:
        return value
    if kind is list:
        return _natural_list(value)
    if kind is dict:
        return json_value(value)
    if is_missing(value):
        return None
    return _converted(value, natural_value)


def json_value(value: Any) -> Any:
    """Return the plain value that a part of a JSON document stands for.

    Raises `TypeError` for what JSON has no notation for, and `ValueError` for NaN and infinities.
    """
    kind = type(value)
    if kind is str:
        return value if value.isascii() else checked_text(value)
    if kind in _JSON_UNCHECKED:
        return value
    if kind is float:
        return _finite(value)
    if kind is list or kind is tuple:
        return [json_value(item) for item in value]
    if kind is dict or isinstance(value, Mapping):
        return {_json_key(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, bytes, bytearray)):
        raise TypeError(f"{shown(value)} is of type {type_name(value)}, which JSON cannot express; make it text")
    if value is pd.NA:
        return None
    return _converted(value, json_value)


def checked_text(value: str) -> str:
    """Return a text that UTF-8 can express; raises `ValueError` for lone surrogates."""
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
    """Tell whether a value is one of the ways to say that there is none: `None`, `NA`, `NaT`, NaN."""
    if value is None or value is pd.NA or value is pd.NaT:
        return True
    if isinstance(value, (float, np.floating)):
        return bool(value != value)
    return isinstance(value, (np.datetime64, np.timedelta64)) and bool(np.isnat(value))


def unwrapped(value: Any) -> Any:
    """Return the plain value of a scalar of NumPy or pandas, or of an enumeration; others as they are."""
    if isinstance(value, (np.datetime64, np.timedelta64)):
        value = pd.Timestamp(value) if isinstance(value, np.datetime64) else pd.Timedelta(value)
    if isinstance(value, pd.Timestamp):
        return value if value.nanosecond else value.to_pydatetime()
    if isinstance(value, pd.Timedelta):
        return value if value.nanoseconds else value.to_pytimedelta()
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, enum.Enum) and isinstance(value, (str, int, float)):
        return value.value
    for plain in (str, int, float):
        if isinstance(value, plain) and type(value) is not bool:
            return plain(value)
    return value


def shown(value: object) -> str:
    """Return a value as an error message shows it."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the class is the user's; and of the largest whole numbers Python makes no text
        return f"a value of type {type_name(value)}"
    if "\n" in text:  # A frame, say: a message is a sentence.
        text = " ".join(text.split())
    return text if len(text) <= MAXIMUM_SHOWN else f"{text[: MAXIMUM_SHOWN - 1]}…"


def type_name(value: object) -> str:
    """Return the name of a value's type as an error message shows it."""
    kind = type(value)
    module = _OF_A_VAULT.sub("", kind.__module__)
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def refusal(value: object, error: Exception) -> TypeError | ValueError:
    """Return the error that says why a value is no cell, from whatever was raised when it was read."""
    if isinstance(error, RecursionError):
        return ValueError(f"{shown(value)} contains itself, or is nested too deeply")
    if isinstance(error, (TypeError, ValueError)):
        return error
    return TypeError(f"{shown(value)}, of type {type_name(value)}, cannot be read: {type(error).__name__}: {error}")


def _natural_list(value: list[Any]) -> list[Any]:
    if set(map(type, value)) <= _UNCHECKED_ITEMS:
        return value.copy()  # The function that returned it may still hold it.
    return [_natural_item(item) for item in value]


def _natural_item(item: Any) -> Any:
    # In a list NaN is a number like any other: an embedding with a NaN comes back as it was.
    return item if type(item) is float else natural_value(item)


def _converted(value: Any, convert: Callable[[Any], Any]) -> Any:
    """Return the plain value of what is not built in, as `convert` takes the parts of it."""
    if isinstance(value, np.ndarray):
        return _array_items(value, convert)
    if isinstance(value, (tuple, list)):
        return convert(list(value))
    if isinstance(value, Mapping):
        return convert(dict(value))
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, os.PathLike):
        return convert(os.fspath(value))
    plain = unwrapped(value)
    if plain is value and isinstance(value, (pd.Timestamp, pd.Timedelta)):
        return value
    if plain is value or type(plain) is type(value):
        raise TypeError(
            f"{shown(value)} is of type {type_name(value)}, which a cell cannot hold; use text, numbers, dates, bytes, "
            "lists or dicts"
        )
    return convert(plain)


def _array_items(array: np.ndarray[Any, Any], convert: Callable[[Any], Any]) -> Any:
    if array.ndim == 0:
        return convert(array[()])
    if array.dtype.kind in "mM":  # `tolist` would make plain numbers of nanoseconds.
        return [convert(item) for item in array]
    return convert(array.tolist())


def _finite(value: float) -> float:
    if value - value != 0:
        raise ValueError(f"{value} cannot be part of JSON; use None")
    return value


def _json_key(key: object) -> str:
    if not isinstance(key, str):
        raise TypeError(f"the key {shown(key)} is of type {type_name(key)}, but keys of JSON are text")
    return checked_text(key if type(key) is str else str(key))
