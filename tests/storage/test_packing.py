import datetime
import decimal
import math
import zoneinfo

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault.storage.canonical import canonical
from tablevault.storage.packing import pack, unpack

ZONES = [datetime.UTC, zoneinfo.ZoneInfo("Europe/Berlin"), datetime.timezone(datetime.timedelta(hours=-3, minutes=-30))]
SIMPLE = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
TIMES = (
    st.datetimes(timezones=st.none() | st.sampled_from(ZONES))
    | st.dates()
    | st.times()
    | st.timedeltas()
    | st.decimals(allow_nan=False)
    | st.integers(-(2**62), 2**62).map(lambda number: pd.Timestamp(number, unit="ns"))
    | st.integers(-(2**62), 2**62).map(lambda number: pd.Timestamp(number, unit="ns", tz="Europe/Berlin"))
    | st.integers(-(2**62), 2**62).map(lambda number: pd.Timedelta(number, unit="ns"))
)
PLAIN = st.recursive(
    SIMPLE | TIMES, lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner), max_leaves=10
)
QUICK = settings(max_examples=150, deadline=None)


def same(one, other):
    """Equal, of the same types all the way down; NaN equals NaN, and zeros have signs."""
    if type(one) is not type(other):
        return False
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, datetime.datetime):
        return one == other and one.utcoffset() == other.utcoffset() and one.fold == other.fold
    if isinstance(one, decimal.Decimal):
        return str(one) == str(other)
    return one == other


@QUICK
@given(PLAIN)
def test_packed_values_come_back_exactly(value):
    assert same(unpack(pack(value)), value)


def test_tuples_come_back_as_lists():
    assert unpack(pack([(1, (2, 3)), datetime.date(2020, 1, 1)])) == [[1, [2, 3]], datetime.date(2020, 1, 1)]


@pytest.mark.parametrize("value", [object(), {1, 2}, [pd.NaT], "\ud800", [{"a": bytearray()}]])
def test_values_that_are_not_plain_are_refused(value):
    with pytest.raises((TypeError, ValueError)):
        pack(value)


@QUICK
@given(st.binary())
def test_bytes_that_were_not_packed_are_a_value_error_or_plain(data):
    try:
        value = unpack(data)
    except ValueError:
        return
    assert pack(value) is not None


@QUICK
@given(PLAIN, PLAIN)
def test_canonical_bytes_are_equal_exactly_for_the_same_values(one, other):
    if same(one, other):
        assert canonical(one) == canonical(other)
    elif canonical(one) == canonical(other):
        assert repr(_sorted(one)) == repr(_sorted(other))


def _sorted(value):
    if isinstance(value, dict):
        return sorted(((repr(key), _sorted(item)) for key, item in value.items()))
    return [_sorted(item) for item in value] if isinstance(value, list) else value


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text() | st.integers(), PLAIN, max_size=5))
def test_the_order_of_keys_does_not_count(value):
    assert canonical(dict(reversed(value.items()))) == canonical(value)
    assert canonical([{"k": dict(reversed(value.items()))}]) == canonical([{"k": value}])


def test_values_that_python_calls_equal_but_differ_have_different_bytes():
    frame = pd.DataFrame({"a": [1, None], "b": ["x", None], "c": [[1], None]})
    values = [
        *(1, 1.0, True, "1", b"1", None, decimal.Decimal(1), pd.NA, 2**70, [1], (1,), {1}, {"a": 1}, {1: 1}),
        *(np.array([1]), np.array([1.0]), np.array([[1]]), pd.Series([1]), pa.table({"a": [1]})),
        *(frame, frame.iloc[:1], frame.rename(columns={"a": "z"}), frame.astype({"b": "string"}), frame[["b", "a"]]),
        *(datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1), datetime.time(1)),
    ]
    assert len({canonical(value) for value in values}) == len(values)


def test_numpy_scalars_count_as_their_values():
    assert canonical({"x": np.int64(1), "y": [np.float64(1.5)]}) == canonical({"x": 1, "y": [1.5]})


@settings(max_examples=30, deadline=None)
@given(st.lists(st.none() | st.integers(0, 3)), st.integers(0, 20), st.integers(0, 20))
def test_how_a_frame_is_stored_in_memory_does_not_count(values, start, cut):
    table = pa.table(
        {
            "b": pa.array([None if value is None else value > 1 for value in values], pa.bool_()),
            "s": pa.array([None if value is None else "x" * value for value in values], pa.string()),
            "l": pa.array([None if value is None else [value, None] for value in values], pa.list_(pa.int64())),
            "c": pa.array([None if value is None else str(value) for value in values], pa.string()).dictionary_encode(),
        }
    )
    part = table.slice(start)
    fresh = (
        pa.Table.from_pylist(part.to_pylist(), schema=part.schema) if len(part) == len(table) else part.combine_chunks()
    )
    assert canonical(pa.concat_tables([part.slice(0, cut), part.slice(cut)])) == canonical(fresh)


def test_value_without_content_is_a_type_error():
    with pytest.raises(TypeError, match="no content that could be compared"):
        canonical({"a": object()})
