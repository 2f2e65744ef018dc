"""Random values of foreign classes.

They are compared by meaning, without code of TableVault.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import decimal
import enum
import fractions
import math
import pathlib
import random
import uuid
import zoneinfo
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

# --- classes that are not part of TableVault --------------------------------------------------------------------------


class Moment(datetime.datetime):
    """As pendulum and freezegun have them."""

    def __repr__(self) -> str:
        return "a moment"


class Day(datetime.date):
    """A date that prints as something else."""

    def __str__(self) -> str:
        return "a day"


class Clock(datetime.time):
    """A time of day."""


class Span(datetime.timedelta):
    """A time span."""


class Price(Decimal):
    """A decimal that compares with nothing."""

    __hash__ = Decimal.__hash__

    def __str__(self) -> str:
        return "much"


class Secret(str):
    """Text that prints as something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "***"

    def __repr__(self) -> str:
        return "***"


class Count(int):
    """A number that says it is another one."""

    def __int__(self) -> int:
        return -1

    def __index__(self) -> int:
        return -1


class Blob(bytes):
    """Bytes that become others."""

    def __bytes__(self) -> bytes:
        return b"others"


class Weight(float):
    """A fraction."""

    __slots__ = ()

    def __float__(self) -> float:
        return -1.0


class Colour(enum.StrEnum):
    """Texts by name."""

    RED = "red"
    NO = "NO"


class Level(enum.IntEnum):
    """Numbers by name."""

    LOW = 1
    HIGH = 10


class Plain(enum.Enum):
    """Members that are no value themselves."""

    ONE = 1


class Odd(datetime.tzinfo):
    """A time zone without a name that anybody knows, or with one that means something else."""

    def __init__(self, seconds: int, key: object = "local") -> None:
        self.key = key
        self._offset = datetime.timedelta(seconds=seconds)

    def utcoffset(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        return self._offset

    def dst(self, moment: datetime.datetime | None) -> datetime.timedelta | None:
        return datetime.timedelta()

    def tzname(self, moment: datetime.datetime | None) -> str | None:
        return "odd"


class NoOffset(Odd):
    """A time zone that does not say where it is."""

    def utcoffset(self, moment: datetime.datetime | None) -> None:
        return None


class Meters(np.ndarray):
    """An array with a unit."""


@dataclasses.dataclass
class Point:
    """Neither a sequence nor a mapping."""

    x: int = 1


Pair = collections.namedtuple("Pair", "first second")


class Lookup(Mapping):
    """A mapping that is no dict."""

    def __init__(self, content: dict[str, Any]) -> None:
        self._content = content

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Any:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)


class Hostile:
    """An object that cannot even be looked at."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("no text")


# --- values of one family can stand in one column ---------------------------------------------------------------------

Make = Callable[[random.Random], Any]

ZONES = [
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Asia/Kolkata",
    "Australia/Lord_Howe",
    "Etc/GMT+12",
    "Africa/Monrovia",
]
TEXTS = [
    "",
    "a",
    "NA",
    "null",
    "NO",
    "012",
    "日本",
    "\U0001f600",
    "a\0b",
    "\u2028",
    "é",
    "e\u0301",
    "\r\n",
    '"',
    "x" * 300,
    "-0",
]
_EPOCH = datetime.datetime(1970, 1, 1)


def whole(draw: random.Random) -> Any:
    """Make a whole number."""
    value = draw.choice([0, 1, -1, 2**31, 2**53, -(2**53) - 1, 2**63 - 1, -(2**63), draw.randrange(-(10**6), 10**6)])
    small = value % 100
    return draw.choice([value, value, np.int64(value), Count(value), np.int8(small), np.uint16(small), Level.HIGH])


def fraction(draw: random.Random) -> Any:
    """Make a number with a fraction, or a small whole one."""
    value = draw.choice([0.0, -0.0, 0.1, 1e300, 5e-324, math.inf, -math.inf, math.nan, draw.gauss(0, 1), draw.random()])
    half = draw.randrange(-64, 64) / 4
    return draw.choice(
        [
            value,
            value,
            np.float64(value),
            Weight(value),
            np.float32(half),
            np.float16(half),
            np.longdouble(half),
            int(half),
        ]
    )


def text(draw: random.Random) -> Any:
    """Make a text."""
    value = draw.choice([*TEXTS, "".join(chr(draw.randrange(32, 0xD7FF)) for _ in range(draw.randrange(8)))])
    return draw.choice([value, value, np.str_(value), Secret(value), Colour.NO, pathlib.PurePosixPath("a", "b")])


def binary(draw: random.Random) -> Any:
    """Make bytes."""
    value = draw.randbytes(draw.randrange(5))
    return draw.choice(
        [
            value,
            bytearray(value),
            memoryview(value),
            Blob(value),
            np.void(value + b"\0"),
            np.bytes_(b"x" + value + b"y"),
        ]
    )


def truth(draw: random.Random) -> Any:
    """Make a truth value."""
    return draw.choice([True, False, np.True_, np.False_])


def digits(draw: random.Random) -> Any:
    """Make a decimal of up to 50 digits."""
    number = draw.randrange(10 ** draw.randrange(1, 30))
    value = Decimal(number).scaleb(-draw.randrange(0, 20)) * draw.choice([1, -1])
    return draw.choice([value, value, Price(value), Decimal("1E+5"), Decimal("-0.00")])


def naive(draw: random.Random) -> Any:
    """Make a moment without a time zone."""
    value = _EPOCH + datetime.timedelta(microseconds=draw.randrange(-(2**54), 2**54))
    edge = draw.choice([datetime.datetime.min, datetime.datetime.max, datetime.datetime(1500, 2, 28, fold=1)])
    unit = draw.choice(["Y", "M", "D", "h", "s", "ms", "us"])
    return draw.choice(
        [
            value,
            value,
            edge,
            Moment(2024, 2, 29, 1),
            np.datetime64(value, unit),
            pd.Timestamp(value),
            pd.Timestamp(2024, 1, 1),
        ]
    )


def fine(draw: random.Random) -> Any:
    """Make a moment with nanoseconds, or one that could have some."""
    number = draw.choice([draw.randrange(-(2**63) + 1, 2**63), draw.randrange(10**18)])
    value = datetime.datetime(2024, 2, 29, 23, 59, 59, draw.randrange(10**6))
    return draw.choice([pd.Timestamp(number), np.datetime64(number, "ns"), value])


def zone(draw: random.Random) -> datetime.tzinfo:
    """Make a time zone."""
    return draw.choice(
        [
            datetime.UTC,
            datetime.timezone(datetime.timedelta(minutes=draw.randrange(-1439, 1440))),
            datetime.timezone(datetime.timedelta(seconds=draw.randrange(-86399, 86400)), "local"),
            zoneinfo.ZoneInfo(draw.choice(ZONES)),
            zoneinfo.ZoneInfo(draw.choice(ZONES)),
            Odd(draw.randrange(-86399, 86400), draw.choice(["local", "Factory", "", None, 7, "Europe/Berlin"])),
        ]
    )


def zoned(draw: random.Random) -> Any:
    """Make a moment in a time zone."""
    where = zone(draw)
    value = datetime.datetime(draw.randrange(1850, 2150), draw.randrange(1, 13), draw.randrange(1, 29), tzinfo=where)
    value += datetime.timedelta(seconds=draw.randrange(86400), microseconds=draw.randrange(10**6))
    twice = datetime.datetime(2024, 10, 27, 2, 30, fold=draw.randrange(2), tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    never = datetime.datetime(2024, 3, 31, 2, 30, fold=draw.randrange(2), tzinfo=zoneinfo.ZoneInfo("Europe/Berlin"))
    edge = draw.choice([datetime.datetime.min, datetime.datetime.max]).replace(tzinfo=datetime.UTC)
    return draw.choice([value, value, value, twice, never, edge, Moment(2024, 1, 1, tzinfo=where), pd.Timestamp(value)])


def one_zone(draw: random.Random) -> Make:
    """Choose a zone; return what makes moments in it."""
    where = zone(draw)
    return lambda draw: (
        zoned(draw).astimezone(datetime.UTC).replace(day=1, year=draw.randrange(1700, 2200)).astimezone(where)
    )


def day(draw: random.Random) -> Any:
    """Make a date."""
    value = datetime.date.fromordinal(draw.randrange(1, datetime.date.max.toordinal() + 1))
    return draw.choice([value, value, Day(2024, 2, 29), datetime.date.min, datetime.date.max])


def clock(draw: random.Random) -> Any:
    """Make a time of day."""
    value = datetime.time(draw.randrange(24), draw.randrange(60), draw.randrange(60), draw.randrange(10**6))
    return draw.choice([value, value, Clock(23, 59, 59, 999_999), datetime.time(1, fold=1), datetime.time()])


def span(draw: random.Random) -> Any:
    """Make a time span."""
    value = datetime.timedelta(microseconds=draw.randrange(-(2**62), 2**62))
    seconds = draw.randrange(-(10**9), 10**9)
    longest = datetime.timedelta(microseconds=2**63 - 1)
    return draw.choice(
        [value, value, Span(seconds=seconds), np.timedelta64(seconds, "s"), pd.Timedelta(seconds, "s"), longest]
    )


def fine_span(draw: random.Random) -> Any:
    """Make a time span with nanoseconds."""
    number = draw.randrange(-(2**62), 2**62)
    return draw.choice(
        [pd.Timedelta(number, "ns"), np.timedelta64(number, "ns"), datetime.timedelta(days=draw.randrange(1000))]
    )


SCALARS: dict[str, Make] = {
    "whole numbers": whole,
    "fractions": fraction,
    "texts": text,
    "bytes": binary,
    "truth": truth,
    "decimals": digits,
    "moments": naive,
    "fine moments": fine,
    "zoned moments": zoned,
    "days": day,
    "times of day": clock,
    "spans": span,
    "fine spans": fine_span,
}

ARRAYS: tuple[Make, ...] = (
    lambda draw: np.array([draw.randrange(100) for _ in range(3)], dtype=draw.choice([">i2", "<u4", "i8"])),
    lambda draw: np.array([[1.5, draw.random()]], dtype="f8")[0],
    lambda draw: np.ma.array([1, draw.randrange(9)], mask=[0, 1]),
)


def lists_of(make: Make) -> Make:
    """Return what makes lists of a family."""

    def lists(draw: random.Random) -> Any:
        items = [None if draw.random() < 0.1 else make(draw) for _ in range(draw.randrange(5))]
        # A tuple of one is what is in it, where a function returns it.
        ways = [items, items if len(items) == 1 else tuple(items), Pair(*items) if len(items) == 2 else items]
        return draw.choice(ways)

    return lists


def numbers(draw: random.Random) -> Any:
    """Make a list or array of numbers."""
    return draw.choice(ARRAYS)(draw) if draw.random() < 0.5 else [draw.randrange(9), draw.random()]


def json(draw: random.Random, depth: int = 0) -> Any:
    """Make a value that JSON can express."""
    if depth < 3 and draw.random() < 0.5:
        items = [json(draw, depth + 1) for _ in range(draw.randrange(4))]
        named = {draw.choice(["a", "NO", "1", "é", "", Secret("key")]): item for item in items}
        return draw.choice(
            [items, (1, 2, *items), named, collections.OrderedDict(named), Lookup(named), Pair(1, items)]
        )
    finite = draw.choice([0.1, -0.0, 1e300, draw.random(), np.float32(0.5)])
    record = np.array([(draw.randrange(9), 0.5)], dtype=[("a", "i4"), ("b", "f8")])
    large = draw.choice([2**64, -(2**70), 10**400])
    return draw.choice(
        [None, finite, whole(draw), text(draw), truth(draw), large, record[0], record, pd.NA, np.ma.masked]
    )


FAMILIES: dict[str, Make] = {
    **SCALARS,
    **{f"lists of {name}": lists_of(make) for name, make in SCALARS.items()},
    "lists of lists": lists_of(lists_of(whole)),
    "arrays": numbers,
    "json": json,
    "objects": lambda draw: {"x": json(draw), "y": json(draw)},
}
"""What makes values that can stand in one column."""

NULLS: tuple[Any, ...] = (None, None, pd.NA, pd.NaT, math.nan, np.float32("nan"), np.datetime64("NaT"), np.ma.masked)

OUTSIDERS: tuple[Make, ...] = (
    lambda draw: uuid.UUID(int=draw.randrange(9)),
    lambda draw: Plain.ONE,
    lambda draw: Point(),
    lambda draw: Hostile(),
    lambda draw: object(),
    lambda draw: fractions.Fraction(1, 3),
    lambda draw: 1j,
    lambda draw: np.complex64(1j),
    lambda draw: {1, 2},
    lambda draw: {1: "a", "1": "b"},
    lambda draw: {"a": math.nan},
    lambda draw: {"a": b"x"},
    lambda draw: {"a": datetime.date(2024, 1, 1)},
    lambda draw: "\udcff",
    lambda draw: ["a", "\ud800"],
    lambda draw: {"\udcff": 1},
    lambda draw: Decimal(draw.choice(["NaN", "sNaN", "Infinity"])),
    lambda draw: Decimal("1" * 77),
    lambda draw: Decimal("1E-77"),
    lambda draw: Decimal("1E+999999"),
    lambda draw: 2**20_000,
    lambda draw: [2**20_000],
    lambda draw: {"a": [2**20_000]},
    lambda draw: np.longdouble(1) / 3,
    lambda draw: np.array([np.longdouble(1) / 3]),
    lambda draw: np.datetime64(draw.randrange(1, 999), "ps"),
    lambda draw: np.timedelta64(draw.randrange(1, 999), "fs"),
    lambda draw: np.datetime64(20_000, "Y"),
    lambda draw: np.timedelta64(5),
    lambda draw: np.timedelta64(5, "M"),
    lambda draw: datetime.timedelta.max,
    lambda draw: datetime.time(1, tzinfo=datetime.UTC),
    lambda draw: datetime.datetime(2024, 1, 1, tzinfo=NoOffset(0)),
    lambda draw: datetime.datetime(1, 1, 1, tzinfo=zoneinfo.ZoneInfo("Asia/Kolkata")),
    lambda draw: datetime.datetime.max.replace(tzinfo=zoneinfo.ZoneInfo("America/New_York")),
    lambda draw: np.array([1]).view(Meters),
    lambda draw: pd.Period("2024-01"),
    lambda draw: pd.Interval(0, 1),
    lambda draw: pd.Series([1, 2]),
    lambda draw: pd.DataFrame({"a": [1]}),
    lambda draw: pd.Timestamp.max,
    lambda draw: [b"x", "y"],
    lambda draw: [datetime.date(2024, 1, 1), 1],
    lambda draw: [[datetime.date(2024, 1, 1)], ["x"]],
    lambda draw: (value for value in "ab"),
    lambda draw: len,
    lambda draw: ValueError("x"),
    lambda draw: np.array([(1, b"x")], dtype="i4,S1")[0],
    lambda draw: np.array(None),
    lambda draw: np.array([Point()], dtype=object),
)
"""What no column can hold, or nearly."""


def anything(draw: random.Random) -> Any:
    """Make any value, most of which no other can stand beside."""
    if draw.random() < 0.4:
        return draw.choice(OUTSIDERS)(draw)
    return draw.choice(list(FAMILIES.values()))(draw) if draw.random() < 0.9 else draw.choice(NULLS)


def column(draw: random.Random, count: int) -> tuple[str, list[Any]]:
    """Make the values of a column, and say which family they are of."""
    name = draw.choice([*FAMILIES, "one zone"])
    make = one_zone(draw) if name == "one zone" else FAMILIES[name]
    return name, [draw.choice(NULLS) if draw.random() < 0.05 else make(draw) for _ in range(count)]


# --- what values mean -------------------------------------------------------------------------------------------------


def meaning(value: Any, inside: bool = False) -> Any:
    """Return the meaning of a value.

    It is equal for values that count as the same, of any classes.
    """
    if _is_null(value, inside):
        return None
    for kinds, mean in _MEANINGS:
        if isinstance(value, kinds):
            return mean(value)
    raise TypeError(f"the experiment does not know what a {type(value).__name__} means")


def _is_null(value: Any, inside: bool) -> bool:
    if value is None or value is pd.NA or value is pd.NaT or value is np.ma.masked:
        return True
    if isinstance(value, np.datetime64 | np.timedelta64):
        return bool(np.isnat(value))
    nan = isinstance(value, float | np.floating) and bool(value != value)
    return nan and not inside  # In a list NaN is a number as any other.


def _number(value: Any) -> Any:
    if isinstance(value, np.longdouble):
        return "number", float(value) if float(value) == value else repr(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        value = float.__float__(value)
        return ("number", "NaN") if value != value else ("number", value)
    return "number", int.__int__(value)


def _nanoseconds(value: Any) -> int:
    if isinstance(value, np.datetime64):
        return _numpy_nanoseconds(value)
    finer = value.nanosecond if isinstance(value, pd.Timestamp) else 0
    if isinstance(value, pd.Timestamp):
        value = value.to_pydatetime(warn=False)
    offset = value.utcoffset() or datetime.timedelta()
    plain = datetime.datetime.combine(datetime.date(value.year, value.month, value.day), datetime.time()) - _EPOCH
    within = datetime.timedelta(
        hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
    )
    return ((plain + within - offset) // datetime.timedelta(microseconds=1)) * 1000 + finer


def _numpy_nanoseconds(value: Any) -> int:
    unit, count = np.datetime_data(value.dtype)
    if unit in ("Y", "M"):
        value, unit, count = value.astype("datetime64[D]"), "D", 1
    per = {"W": 7 * 86400 * 10**9, "D": 86400 * 10**9, "h": 3600 * 10**9, "m": 60 * 10**9, "s": 10**9}
    per |= {"ms": 10**6, "us": 10**3, "ns": 1}
    return int(value.astype(np.int64)) * per[unit] * count


def _moment(value: Any) -> Any:
    aware = isinstance(value, datetime.datetime) and value.utcoffset() is not None
    return "zoned" if aware else "moment", _nanoseconds(value)


def _span(value: Any) -> Any:
    if isinstance(value, np.timedelta64):
        return "span", _numpy_nanoseconds(value)
    finer = value.nanoseconds if isinstance(value, pd.Timedelta) else 0
    return "span", ((value.days * 86400 + value.seconds) * 10**6 + value.microseconds) * 1000 + finer


def _array(value: Any) -> Any:
    if value.ndim == 0:
        return meaning(value[()])
    if isinstance(value, np.ma.MaskedArray):
        return [meaning(item, inside=True) for item in value.tolist()]
    return [meaning(item.item() if isinstance(item, np.floating) else item, inside=True) for item in value]


def _record(value: Any) -> Any:
    if value.dtype.names is None:
        return "bytes", value.tobytes()
    return _mapping({name: value[name] for name in value.dtype.names})


def _mapping(value: Any) -> Any:
    return {str.__str__(key): meaning(item, inside=True) for key, item in value.items()}


_MEANINGS: tuple[tuple[Any, Callable[[Any], Any]], ...] = (
    ((bool, np.bool_), lambda value: ("truth", bool(value))),
    (np.void, _record),
    (np.ndarray, _array),
    ((str, np.str_), lambda value: ("text", str.__str__(value))),
    ((bytes, np.bytes_), lambda value: ("bytes", bytes.__getitem__(value, slice(None)))),
    ((bytearray, memoryview), lambda value: ("bytes", bytes(value))),
    (np.timedelta64, _span),
    ((int, float, np.number), _number),
    (decimal.Decimal, lambda value: ("decimal", Decimal(decimal.Decimal.as_tuple(value)))),
    ((datetime.datetime, np.datetime64), _moment),
    (datetime.date, lambda value: ("day", datetime.date.toordinal(value))),
    (datetime.time, lambda value: ("clock", (value.hour, value.minute, value.second, value.microsecond))),
    (datetime.timedelta, _span),
    ((list, tuple), lambda value: [meaning(item, inside=True) for item in value]),
    (Mapping, _mapping),
    (pathlib.PurePath, lambda value: ("text", str(value))),
)
