"""Lossless coercion of condition values to the types of the compared columns."""

from __future__ import annotations

import datetime as dt
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TypeAlias

import pyarrow as pa

Coerce: TypeAlias = Callable[[object], object]
"""Returns the value to search a column for; `None` for a null, which matches nothing.

Raises `ValueError`, which names the value and the column type, if coercion would lose information.
"""

INDEX_TYPE = pa.int64()
"""Type of the pseudo-column `index`."""

_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,6})?", re.ASCII)
_NOT_FINITE = re.compile(r"[+-]?(?:inf|infinity)|nan", re.IGNORECASE | re.ASCII)
_FINE_FRACTION = re.compile(r"(?<=[.,]\d{6})\d+", re.ASCII)
_FLOAT_FORMATS = {pa.float16(): "e", pa.float32(): "f", pa.float64(): "d"}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_MICROSECONDS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}


@dataclass(frozen=True, slots=True)
class Coercion:
    """Coercion of values to the type of one column."""

    coerce: Coerce
    exact: type | None
    """Values of exactly this Python type can be looked up uncoerced, because equal values match."""
    written: Coerce
    """Coerces literal text in the reference itself."""


def coercion_into(arrow: pa.DataType) -> Coercion:
    """Return the coercion of values to a column's type.

    Raises
    ------
    ValueError
        If columns of this type cannot be compared with a value.
    """
    types = pa.types
    if types.is_dictionary(arrow):
        return coercion_into(arrow.value_type)
    if isinstance(arrow, pa.JsonType):
        return Coercion(_without_nulls(_json), None, _json_written)
    for is_kind, make, exact in (
        (types.is_integer, _integer, int),
        (_is_text, lambda _: _text, str),
        (types.is_floating, _floating, None),
        (types.is_boolean, lambda _: _boolean, bool),
        (types.is_timestamp, _timestamp, None),
        (types.is_date, lambda _: _date, None),
        (types.is_time, _time, None),
        (types.is_duration, _duration, None),
        (types.is_decimal, _decimal, None),
        (_is_binary, _binary, bytes),
        (types.is_null, lambda _: _nothing, None),
    ):
        if is_kind(arrow):
            coerce = _without_nulls(make(arrow))
            return Coercion(coerce, exact, coerce)
    raise ValueError(f"a column of {arrow} cannot be compared with a value")


def _without_nulls(coerce: Coerce) -> Coerce:
    def coerce_one_value(value: object) -> object:
        if value is None or _is_not_a_number(value):
            return None
        if not isinstance(value, _COMPARABLE):
            raise _incomparable(value)
        return coerce(value)

    return coerce_one_value


_COMPARABLE = (str, int, float, Decimal, dt.date, dt.time, dt.timedelta, bytes)


def _is_not_a_number(value: object) -> bool:
    """Return whether a value is NaN or NaT, which match nothing, like null."""
    if isinstance(value, Decimal):
        return value.is_nan()
    return isinstance(value, float | dt.datetime | dt.timedelta) and value != value


def describe(value: object) -> str:
    """Return the description of an unusable value for an error message."""
    if value is None:
        return "null"
    if isinstance(value, list | tuple | dict | set):
        return f"a {type(value).__name__} of {len(value)} values"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _incomparable(value: object) -> ValueError:
    return ValueError(f"{describe(value)} is not a single comparable value")


def _refused(value: object, what: str) -> ValueError:
    text = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:60]}…"
    return ValueError(f"{text} is not {what}")


def _is_text(arrow: pa.DataType) -> bool:
    types = pa.types
    return bool(types.is_string(arrow) or types.is_large_string(arrow) or types.is_string_view(arrow))


def _is_binary(arrow: pa.DataType) -> bool:
    types = pa.types
    variable = types.is_binary(arrow) or types.is_large_binary(arrow) or types.is_binary_view(arrow)
    return bool(variable or types.is_fixed_size_binary(arrow))


def _nothing(_: object) -> None:
    return None


def json_key(value: object) -> object:
    """Return the search key of a JSON value; unlike in Python, `true` does not equal 1."""
    return f"\0{value}" if isinstance(value, bool) else value


def _json(value: object) -> object:
    if isinstance(value, bytes | dt.date | dt.time | dt.timedelta):
        raise _refused(value, "a value that JSON can express")
    return json_key(value)


def _json_written(value: object) -> object:
    if isinstance(value, str) and (_NUMBER.fullmatch(value.strip()) or value in ("true", "false", "null")):
        raise ValueError(
            f"{value} is ambiguous in a JSON column, where it may or may not be text; use a reference for the value, "
            "or declare a dtype for the column"
        )
    return value


def _text(value: object) -> str:
    """Return the text of a value, as embedded in a longer string by a reference."""
    if isinstance(value, bytes):
        raise _refused(value, "a text")
    return str(value)


def _binary(_: pa.DataType) -> Coerce:
    def coerce(value: object) -> bytes:
        if isinstance(value, str):
            return value.encode("utf-8", "surrogatepass")
        if not isinstance(value, bytes):
            raise _refused(value, "a sequence of bytes")
        return value

    return coerce


def _number(value: object, what: str) -> Decimal:
    """Return a finite value as an exact number."""
    if isinstance(value, int | Decimal):
        number = Decimal(value)
    elif isinstance(value, float):
        # The shortest decimal that denotes this float.
        number = Decimal(repr(value))
    elif isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        number = Decimal(value.strip())
    else:
        raise _refused(value, what)
    if not number.is_finite():
        raise _refused(value, what)
    return number


def _integer(arrow: pa.DataType) -> Coerce:
    signed = pa.types.is_signed_integer(arrow)
    low = -(1 << arrow.bit_width - 1) if signed else 0
    high = (1 << arrow.bit_width - signed) - 1
    what = f"a whole number that {arrow} can hold"

    def coerce(value: object) -> int:
        number = value if type(value) is int else _number(value, what)
        # The range is checked first, so that a huge exponent is never expanded.
        if not low <= number <= high or number != int(number):
            raise _refused(value, what)
        return int(number)

    return coerce


def _floating(arrow: pa.DataType) -> Coerce:
    format_of_type = _FLOAT_FORMATS[arrow]
    what = f"a number that {arrow} can hold"

    def nearest_number(value: object, number: float) -> float:
        try:
            (found,) = struct.unpack(format_of_type, struct.pack(format_of_type, number))
        except OverflowError:
            raise _refused(value, what) from None
        return float(found)

    def coerce(value: object) -> float | None:
        if isinstance(value, str) and _NOT_FINITE.fullmatch(value.strip()):
            number = float(value)
            return number if number == number else None
        if isinstance(value, float):
            found = nearest_number(value, value)
            lost = found != value
        else:
            exact = _number(value, what)
            found = nearest_number(value, float(exact))
            # Fractions denote the nearest float, as usual; whole numbers are not rounded.
            lost = found in _INFINITE or (exact == exact.to_integral_value() and Decimal(found) != exact)
        if lost:
            raise _refused(value, what)
        return found

    return coerce


_INFINITE = (float("inf"), float("-inf"))


def _boolean(value: object) -> bool:
    found = _TRUTH.get(value.strip().lower()) if isinstance(value, str) else None
    if found is None and isinstance(value, int | float | Decimal) and value in (0, 1):
        found = bool(value)
    if found is None:
        raise _refused(value, "a truth value (true or false)")
    return found


def _decimal(arrow: pa.DataType) -> Coerce:
    what = f"a number that {arrow} can hold"

    def coerce(value: object) -> Decimal:
        number = _number(value, what)
        _, digits, exponent = number.as_tuple()
        assert isinstance(exponent, int)
        written = "".join(map(str, digits)).lstrip("0")
        significant = written.rstrip("0")
        exponent += len(written) - len(significant)
        if significant and (exponent < -arrow.scale or len(significant) + exponent > arrow.precision - arrow.scale):
            raise _refused(value, what)
        return number

    return coerce


def _date(value: object) -> dt.date:
    what = "a date (such as 2024-05-31)"
    if isinstance(value, str):
        value = _from_iso(value, what)
    if isinstance(value, dt.datetime):
        if value.tzinfo is not None or value.time() != dt.time.min or _nanoseconds(value):
            raise _refused(value, what)
        return value.date()
    if not isinstance(value, dt.date):
        raise _refused(value, what)
    return value


def _time(arrow: pa.DataType) -> Coerce:
    what = f"a time of day (such as 13:30:00) that {arrow} can hold"

    def coerce(value: object) -> dt.time:
        moment = _time_from_iso(value, what) if isinstance(value, str) else value
        if (
            not isinstance(moment, dt.time)
            or moment.tzinfo is not None
            or moment.microsecond % _MICROSECONDS[arrow.unit]
        ):
            raise _refused(value, what)
        return moment

    return coerce


def _time_from_iso(text: str, what: str) -> dt.time:
    try:
        to_microseconds, nanoseconds = _split_fraction(text)
        moment = dt.time.fromisoformat(to_microseconds)
    except ValueError:
        raise _refused(text, what) from None
    if nanoseconds:
        # Python's times have microsecond precision, so no cell could equal it.
        raise _refused(text, what)
    return moment


def _duration(arrow: pa.DataType) -> Coerce:
    what = f"a duration (such as '1 days 02:30:00') that {arrow} can hold"

    def coerce(value: object) -> dt.timedelta:
        import pandas as pd

        if isinstance(value, str):
            try:
                value = pd.Timedelta(value)
            except ValueError:
                raise _refused(value, what) from None
        if not isinstance(value, dt.timedelta) or _is_not_a_number(value):
            raise _refused(value, what)
        if value.microseconds % _MICROSECONDS[arrow.unit] or (arrow.unit != "ns" and _nanoseconds(value)):
            raise _refused(value, what)
        return value

    return coerce


def _timestamp(arrow: pa.DataType) -> Coerce:
    zone = _zone_of(arrow)
    what = f"a point in time (such as '2024-05-31 13:30:00') that {arrow} can hold"

    def coerce(value: object) -> dt.datetime:
        written = isinstance(value, str)
        moment = _from_iso(value, what) if isinstance(value, str) else value
        if isinstance(moment, dt.date) and not isinstance(moment, dt.datetime):
            moment = dt.datetime.combine(moment, dt.time.min)
        if not isinstance(moment, dt.datetime):
            raise _refused(value, what)
        if moment.microsecond % _MICROSECONDS[arrow.unit] or (arrow.unit != "ns" and _nanoseconds(moment)):
            raise _refused(value, what)
        if zone is not None and moment.tzinfo is None:
            return _in_zone(moment, zone, value)
        if zone is None and moment.tzinfo is not None:
            raise _refused(value if written else str(value), f"{what}: the column has no time zone")
        return moment

    return coerce


def _nanoseconds(value: dt.datetime | dt.timedelta) -> int:
    """Return the nanoseconds of a pandas value beyond its microseconds."""
    return int(getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0))


def _zone_of(arrow: pa.DataType) -> dt.tzinfo | None:
    """Return the time zone of a column, as resolved by Arrow."""
    if arrow.tz is None:
        return None
    zone = pa.scalar(0, pa.timestamp("s", arrow.tz)).as_py().tzinfo
    assert isinstance(zone, dt.tzinfo)
    return zone


def _in_zone(moment: dt.datetime, zone: dt.tzinfo, value: object) -> dt.datetime:
    """Interpret a moment without an offset in the column's zone."""
    earlier, later = moment.replace(tzinfo=zone, fold=0), moment.replace(tzinfo=zone, fold=1)
    if earlier.utcoffset() != later.utcoffset():
        raise _refused(
            str(value), f"one moment in the zone {zone}, where clocks were changed; give its offset from UTC"
        )
    return earlier


def _from_iso(text: str, what: str) -> dt.datetime:
    """Parse an ISO text with nanosecond precision."""
    try:
        to_microseconds, nanoseconds = _split_fraction(text)
        moment = dt.datetime.fromisoformat(to_microseconds)
        if not nanoseconds:
            return moment
        import pandas as pd

        return pd.Timestamp(moment).as_unit("ns") + pd.Timedelta(nanoseconds, "ns")
    except ValueError:
        raise _refused(text, what) from None


def _split_fraction(text: str) -> tuple[str, int]:
    """Split off the nanoseconds of an ISO text, which the standard library would drop."""
    fine = _FINE_FRACTION.search(text)
    if fine is None:
        return text.strip(), 0
    digits = fine.group().rstrip("0")
    if len(digits) > 3:
        raise ValueError("finer than a nanosecond")
    return (text[: fine.start()] + text[fine.end() :]).strip(), int(digits.ljust(3, "0"))
