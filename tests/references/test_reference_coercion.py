from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from zoneinfo import ZoneInfo

import pandas as pd
import pyarrow as pa
import pytest
from frames_in_memory import MemoryFrame, MemorySource

from tablevault.errors import TableReferenceError
from tablevault.references import Evaluator, Placement

UTC = dt.UTC
BERLIN = ZoneInfo("Europe/Berlin")
MOMENT = dt.datetime(2024, 5, 31, 13, 30)
NANOSECOND = pd.Timestamp("2024-05-31T13:30:00.123456789")


def found(arrow: pa.DataType, cell: object, text: str) -> bool:
    """Tell whether a written value finds a cell."""
    frame = MemoryFrame(pa.table({"key": pa.array([cell, None], arrow), "hit": [True, False]}))
    source = MemorySource({"t": frame})
    quoted = text.replace("\\", "\\\\").replace("'", "\\'")
    evaluator = Evaluator(source)
    equal = evaluator.compile(f"<<t.hit[key::'{quoted}']>>", placement=Placement.ARGUMENT)()
    narrowed = evaluator.compile(f"<<t.hit[index::0, key::'{quoted}']>>", placement=Placement.ARGUMENT)()
    assert equal == narrowed
    return equal is True


def found_by_value(arrow: pa.DataType, cell: object, value: object) -> bool:
    """Tell whether a value that an inner reference brings in finds a cell."""
    frame = MemoryFrame(pa.table({"key": pa.array([cell, None], arrow), "hit": [True, False]}))
    inner = MemoryFrame(pa.table({"value": ["", ""]}), {"value": [value, value]})
    evaluator = Evaluator(MemorySource({"t": frame, "self": inner}))
    constant = evaluator.compile("<<t.hit[key::<<self.value[index::0]>>]>>", placement=Placement.ARGUMENT)()
    by_row = evaluator.compile("<<t.hit[key::<<self.value[index]>>]>>", placement=Placement.ROW_ARGUMENT)(1)
    assert constant == by_row
    return constant is True


MATCHING_TEXT = [
    (pa.int64(), 3, "3"),
    (pa.int64(), 3, "+3"),
    (pa.int64(), 3, " 3 "),
    (pa.int64(), 3, "3.0"),
    (pa.int64(), 3000, "3e3"),
    (pa.int8(), -128, "-128"),
    (pa.uint64(), 2**64 - 1, str(2**64 - 1)),
    (pa.int64(), 2**53 + 1, str(2**53 + 1)),
    (pa.float64(), 3.5, "3.5"),
    (pa.float64(), 0.1, "0.1"),
    (pa.float64(), 3.0, "3"),
    (pa.float64(), -0.0, "0"),
    (pa.float64(), float("inf"), "inf"),
    (pa.float64(), float("-inf"), "-Infinity"),
    (pa.float32(), 0.1, "0.1"),
    (pa.float16(), 0.5, "0.5"),
    (pa.bool_(), True, "true"),
    (pa.bool_(), True, "TRUE"),
    (pa.bool_(), False, "False"),
    (pa.bool_(), False, "0"),
    (pa.string(), "3", "3"),
    (pa.string(), " x ", " x "),
    (pa.large_string(), "3", "3"),
    (pa.string_view(), "3", "3"),
    (pa.dictionary(pa.int32(), pa.string()), "red", "red"),
    (pa.dictionary(pa.int32(), pa.int64()), 3, "3"),
    (pa.binary(), b"ab", "ab"),
    (pa.large_binary(), b"ab", "ab"),
    (pa.binary(2), b"ab", "ab"),
    (pa.date32(), dt.date(2024, 5, 31), "2024-05-31"),
    (pa.date64(), dt.date(2024, 5, 31), "2024-05-31"),
    (pa.date32(), dt.date(2024, 5, 31), "2024-05-31T00:00:00"),
    (pa.timestamp("us"), MOMENT, "2024-05-31T13:30:00"),
    (pa.timestamp("us"), MOMENT, "2024-05-31 13:30"),
    (pa.timestamp("s"), dt.datetime(2024, 5, 31), "2024-05-31"),
    (pa.timestamp("ms"), MOMENT.replace(microsecond=5000), "2024-05-31 13:30:00.005"),
    (pa.timestamp("us"), MOMENT.replace(microsecond=5000), "2024-05-31 13:30:00.005000000"),
    (pa.timestamp("ns"), NANOSECOND, "2024-05-31T13:30:00.123456789"),
    (pa.timestamp("ns"), pd.Timestamp("2024-05-31T13:30:00.1234567"), "2024-05-31T13:30:00.1234567"),
    (pa.timestamp("ns"), MOMENT, "2024-05-31T13:30:00"),
    (pa.timestamp("us", "UTC"), MOMENT.replace(tzinfo=UTC), "2024-05-31T13:30:00Z"),
    (pa.timestamp("us", "UTC"), MOMENT.replace(tzinfo=UTC), "2024-05-31T15:30:00+02:00"),
    (pa.timestamp("us", "UTC"), MOMENT.replace(tzinfo=UTC), "2024-05-31T13:30:00"),
    (pa.timestamp("us", "Europe/Berlin"), MOMENT.replace(tzinfo=BERLIN), "2024-05-31T13:30:00"),
    (pa.timestamp("us", "+05:30"), MOMENT.replace(tzinfo=UTC), "2024-05-31T19:00"),
    (pa.timestamp("ns", "UTC"), NANOSECOND.tz_localize("UTC"), "2024-05-31T13:30:00.123456789"),
    (pa.time64("us"), dt.time(13, 30, 0, 5), "13:30:00.000005"),
    (pa.time64("us"), dt.time(13, 30, 0, 5), "13:30:00.000005000"),
    (pa.time32("s"), dt.time(13, 30), "13:30"),
    (pa.duration("us"), dt.timedelta(hours=2, minutes=30), "2:30:00"),
    (pa.duration("us"), dt.timedelta(days=1, hours=2), "1 day, 2:00:00"),
    (pa.duration("ns"), pd.Timedelta(5, "ns"), "5ns"),
    (pa.decimal128(10, 2), Decimal("1.50"), "1.5"),
    (pa.decimal128(10, 2), Decimal("1.50"), "1.5000"),
    (pa.decimal128(10, 2), Decimal("0.00"), "0"),
    (pa.decimal128(10, 2), Decimal("12345678.90"), "12345678.9"),
    (pa.decimal128(5, -2), Decimal("1200"), "1200"),
    (pa.decimal256(60, 2), Decimal("1" * 50), "1" * 50),
]  # fmt: skip


@pytest.mark.parametrize(("arrow", "cell", "text"), MATCHING_TEXT)
def test_a_written_value_is_compared_in_the_columns_own_type(arrow: pa.DataType, cell: object, text: str) -> None:
    assert found(arrow, cell, text)


@pytest.mark.parametrize(
    ("arrow", "cell", "text"),
    [
        (pa.int64(), 3, "4"),
        (pa.string(), "3", "3.0"),
        (pa.string(), "a", "A"),
        (pa.float64(), float("nan"), "nan"),
        (pa.timestamp("us", "UTC"), MOMENT.replace(tzinfo=UTC), "2024-05-31T13:30:00+02:00"),
        (pa.null(), None, "x"),
        (pa.null(), None, ""),
    ],
)
def test_values_that_differ_in_the_column_type_do_not_match(arrow: pa.DataType, cell: object, text: str) -> None:
    assert not found(arrow, cell, text)


@pytest.mark.parametrize(
    ("arrow", "text"),
    [
        (pa.int64(), "3.5"),
        (pa.int64(), "abc"),
        (pa.int64(), ""),
        (pa.int64(), "nan"),
        (pa.int64(), "1_000"),
        (pa.int64(), "0x10"),
        (pa.int64(), "٣"),
        (pa.int64(), "true"),
        (pa.int64(), str(2**63)),
        (pa.int64(), "1e999999"),
        (pa.int64(), "1e-999999"),
        (pa.int64(), "1e99999999999"),
        (pa.int64(), "9" * 10_000),
        (pa.int8(), "128"),
        (pa.uint8(), "-1"),
        (pa.float64(), "abc"),
        (pa.float64(), str(2**53 + 1)),
        (pa.float64(), "1e400"),
        (pa.float32(), "16777217"),
        (pa.float32(), "1e39"),
        (pa.float16(), "1e39"),
        (pa.bool_(), "yes"),
        (pa.bool_(), "2"),
        (pa.date32(), "yesterday"),
        (pa.date32(), "2024-02-30"),
        (pa.date32(), "2024-05-31T13:30:00"),
        (pa.date32(), "2024-05-31T00:00:00Z"),
        (pa.timestamp("us"), "5"),
        (pa.timestamp("us"), "2024-05-31T13:30:00Z"),
        (pa.timestamp("us"), "2024-05-31T13:30:00.1234567"),
        (pa.timestamp("ns"), "2024-05-31T13:30:00.1234567891"),
        (pa.timestamp("ns"), "9024-05-31T13:30:00.123456789"),
        (pa.timestamp("ms"), "2024-05-31T13:30:00.0005"),
        (pa.timestamp("s"), "2024-05-31T13:30:00.5"),
        (pa.timestamp("us", "Europe/Berlin"), "2024-10-27T02:30:00"),
        (pa.timestamp("us", "Europe/Berlin"), "2024-03-31T02:30:00"),
        (pa.time64("us"), "25:00"),
        (pa.time64("us"), "13:30:00.0000005"),
        (pa.time64("us"), "13:30:00.00000000005"),
        (pa.time64("us"), "13:30Z"),
        (pa.time32("s"), "13:30:00.5"),
        (pa.duration("us"), "soon"),
        (pa.duration("us"), "5ns"),
        (pa.duration("s"), "0:00:00.5"),
        (pa.duration("us"), "nat"),
        (pa.decimal128(10, 2), "1.505"),
        (pa.decimal128(10, 2), "123456789"),
        (pa.decimal128(10, 2), "inf"),
        (pa.decimal128(10, 2), "abc"),
        (pa.decimal128(5, -2), "1250"),
    ],
)
def test_lossy_coercion_is_an_error(arrow: pa.DataType, text: str) -> None:
    with pytest.raises(TableReferenceError, match=r"is not .*, as column 'key' needs"):
        found(arrow, None, text)


MATCHING_VALUES = [
    (pa.int64(), 1, True),
    (pa.int64(), 3, 3.0),
    (pa.int64(), 3, Decimal("3.00")),
    (pa.int64(), 3, "3"),
    (pa.float64(), 3.0, 3),
    (pa.float64(), 0.1, Decimal("0.1")),
    (pa.float32(), 0.5, 0.5),
    (pa.bool_(), True, 1),
    (pa.bool_(), False, 0.0),
    (pa.string(), "3", 3),
    (pa.string(), "0.1", 0.1),
    (pa.string(), "True", True),
    (pa.string(), "2024-05-31", dt.date(2024, 5, 31)),
    (pa.string(), "1.50", Decimal("1.50")),
    (pa.binary(), b"ab", b"ab"),
    (pa.date32(), dt.date(2024, 5, 31), dt.date(2024, 5, 31)),
    (pa.date32(), dt.date(2024, 5, 31), dt.datetime(2024, 5, 31)),
    (pa.timestamp("us"), dt.datetime(2024, 5, 31), dt.date(2024, 5, 31)),
    (pa.timestamp("us"), MOMENT, MOMENT),
    (pa.timestamp("us"), MOMENT, pd.Timestamp(MOMENT)),
    (pa.timestamp("ns"), NANOSECOND, NANOSECOND),
    (pa.timestamp("us", "Europe/Berlin"), MOMENT.replace(tzinfo=UTC), MOMENT.replace(tzinfo=UTC)),
    (pa.time64("us"), dt.time(13, 30), dt.time(13, 30)),
    (pa.duration("us"), dt.timedelta(seconds=5), dt.timedelta(seconds=5)),
    (pa.decimal128(10, 2), Decimal("1.50"), 1.5),
    (pa.decimal128(10, 2), Decimal("0.10"), 0.1),
    (pa.decimal128(10, 2), Decimal("3.00"), 3),
]


@pytest.mark.parametrize(("arrow", "cell", "value"), MATCHING_VALUES)
def test_a_value_brought_in_is_compared_in_the_columns_own_type(
    arrow: pa.DataType, cell: object, value: object
) -> None:
    assert found_by_value(arrow, cell, value)


@pytest.mark.parametrize(
    ("arrow", "value"),
    [
        (pa.int64(), 3.5),
        (pa.int64(), float("inf")),
        (pa.int64(), Decimal("Infinity")),
        (pa.int64(), Decimal("1e999999")),
        (pa.int64(), 2**63),
        (pa.int64(), dt.date(2024, 5, 31)),
        (pa.int64(), b"3"),
        (pa.float32(), 0.1),
        (pa.float64(), 2**53 + 1),
        (pa.float64(), 10**400),
        (pa.float64(), MOMENT),
        (pa.bool_(), 2),
        (pa.bool_(), 0.5),
        (pa.string(), b"3"),
        (pa.binary(), 3),
        (pa.date32(), MOMENT),
        (pa.date32(), 19874),
        (pa.timestamp("us"), 1717155000),
        (pa.timestamp("us"), NANOSECOND),
        (pa.timestamp("us"), MOMENT.replace(tzinfo=UTC)),
        (pa.time64("us"), MOMENT),
        (pa.time64("us"), 5),
        (pa.duration("us"), 5),
        (pa.decimal128(10, 2), 0.125),
        (pa.decimal128(10, 2), MOMENT),
    ],
)
def test_a_value_brought_in_that_does_not_fit_is_an_error(arrow: pa.DataType, value: object) -> None:
    with pytest.raises(TableReferenceError, match=r"is not .*, as column 'key' needs"):
        found_by_value(arrow, None, value)


@pytest.mark.parametrize("value", [None, float("nan"), Decimal("NaN"), Decimal("sNaN"), pd.NaT])
@pytest.mark.parametrize(
    ("arrow", "cell"),
    [
        (pa.int64(), 3),
        (pa.float64(), float("nan")),
        (pa.string(), "nan"),
        (pa.timestamp("us"), MOMENT),
        (pa.duration("us"), dt.timedelta(0)),
    ],
)
def test_null_and_nan_match_nothing_in_any_column(arrow: pa.DataType, cell: object, value: object) -> None:
    assert not found_by_value(arrow, cell, value)


@pytest.mark.parametrize("value", [[1], (1,), {"a": 1}, {1}, pd.DataFrame({"a": [1]}), object()])
def test_only_one_value_can_be_compared(value: object) -> None:
    with pytest.raises(TableReferenceError, match="is not a single comparable value, as column 'key' needs"):
        found_by_value(pa.string(), "x", value)


@pytest.mark.parametrize(
    ("arrow", "cell"),
    [
        (pa.list_(pa.int64()), [1]),
        (pa.struct({"a": pa.int64()}), {"a": 1}),
        (pa.uuid(), uuid.UUID(int=1).bytes),
    ],
)
def test_columns_of_other_types_cannot_be_compared(arrow: pa.DataType, cell: object) -> None:
    with pytest.raises(TableReferenceError, match="cannot be compared with a value"):
        found(arrow, cell, "x")


def test_ranges_are_compared_in_the_columns_own_type() -> None:
    days = [dt.date(2024, 1, day) for day in (9, 10, 11)]
    frame = MemoryFrame(pa.table({"day": days, "number": [9, 10, 11], "text": ["9", "10", "11"]}))
    evaluator = Evaluator(MemorySource({"t": frame}))

    def positions(condition: str) -> object:
        return evaluator.compile(f"<<t.index[{condition}]>>", placement=Placement.FIELD)()

    assert positions("number::9:11") == [0, 1]
    assert positions("text::'10':'9'") == [1, 2]
    assert positions("day::2024-01-10:'2024-01-12'") == [1, 2]
