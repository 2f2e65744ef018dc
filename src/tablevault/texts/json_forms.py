"""Lossless JSON encoding of builder file values.

Values without a JSON notation are tagged as in YAML: a date is `{"!!timestamp": "2024-01-01"}`, infinity
`{"!!float": "inf"}`, and a mapping with non-string keys `{"!!map": [[key, value], …]}`. All others are plain JSON.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from typing import Any

_TIMESTAMP, _FLOAT, _INTEGER, _MAP = "!!timestamp", "!!float", "!!int", "!!map"
_TAGS = frozenset({_TIMESTAMP, _FLOAT, _INTEGER, _MAP})
_EXACT_INTEGERS = range(-(2**63), 2**63)
"""Range of integers that JSON readers parse exactly."""


def json_form(value: object) -> Any:
    """Encode a value of a builder file; `from_json_form` is the inverse."""
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value) and not (len(value) == 1 and _TAGS.intersection(value)):
            return {key: json_form(item) for key, item in value.items()}
        return {_MAP: [[json_form(key), json_form(item)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [json_form(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return {_FLOAT: str(value)}
    if isinstance(value, int) and not isinstance(value, bool) and value not in _EXACT_INTEGERS:
        return {_INTEGER: hex(value)}
    return {_TIMESTAMP: value.isoformat()} if isinstance(value, date) else value


def from_json_form(form: Any) -> Any:
    """Decode a value encoded with `json_form`."""
    if isinstance(form, list):
        return [from_json_form(item) for item in form]
    if not isinstance(form, dict):
        return form
    match form:
        case {"!!timestamp": str(text)} if len(form) == 1:
            return datetime.fromisoformat(text) if "T" in text else date.fromisoformat(text)
        case {"!!float": str(text)} if len(form) == 1:
            return float(text)
        case {"!!int": str(text)} if len(form) == 1:
            return int(text, 16)
        case {"!!map": list(pairs)} if len(form) == 1:
            return {from_json_form(key): from_json_form(item) for key, item in pairs}
    return {key: from_json_form(item) for key, item in form.items()}


class InexactValueError(ValueError):
    """A value of JSON that Python would read as another one."""


def exact_float(text: str) -> float:
    """Return a number of JSON.

    Raises `InexactValueError` if it is too large or too small for a float.
    """
    number = float(text)
    is_zero = not number and any(digit in "123456789" for digit in text.lower().partition("e")[0])
    if math.isinf(number) or is_zero:
        raise InexactValueError(f"has the number {text[:40]}, which is outside the range of a float. Write it as text.")
    return number


def array_json(value: Any) -> list[Any]:
    """Return a NumPy array as JSON lists.

    Floats have the shortest digits that round-trip; NaN and infinities are null.
    """
    import numpy as np

    if value.dtype.kind != "f":
        listed: list[Any] = value.tolist()
        return listed
    flat = value.reshape(-1)
    # Convert narrow floats through text, which has fewer digits than a direct conversion to double.
    numbers = flat.astype(str).astype(np.float64) if value.dtype.itemsize < np.dtype(float).itemsize else flat
    plain = numbers.astype(object)
    plain[~np.isfinite(numbers)] = None
    nested: list[Any] = plain.reshape(value.shape).tolist()
    return nested


def text_of(value: object) -> str:
    """Return a value as text; arrays become JSON, since `str` would abbreviate them."""
    kind = type(value)
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return json.dumps(array_json(value))
    return str(value)
