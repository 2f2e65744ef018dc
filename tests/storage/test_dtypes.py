import datetime
import decimal
import math
import zoneinfo
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tablevault.storage import columns
from tablevault.storage.dtypes import CellError, Kind, build_column, cell_checker, parse_dtype, plain_values

BERLIN = zoneinfo.ZoneInfo("Europe/Berlin")
QUICK = settings(max_examples=100, deadline=None)
NAMES = [
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "Float32",
    "Float64",
    "boolean",
    "string",
    "artifact_string",
    "json",
    "category",
    "datetime64[s]",
    "datetime64[ms]",
    "datetime64[us]",
    "datetime64[ns]",
    "datetime64[us,UTC]",
    "datetime64[ns,Europe/Berlin]",
    "timedelta64[us]",
    "date",
    "time",
    "time32[s]",
    "bytes",
    "binary",
    "large_string",
    "float16",
    "decimal128(10,2)",
    "decimal256(50,3)",
    "list<float32>",
    "list<item:int64>",
    "list<list<string>>",
    "large_list<int8>",
    "fixed_size_list<float32>[3]",
    "struct<a:int64,b:list<string>>",
    "null",
    "int64[pyarrow]",
    "string[pyarrow]",
    "double[pyarrow]",
    "timestamp[ns,tz=UTC][pyarrow]",
    "list<string>[pyarrow]",
    "duration[s][pyarrow]",
]


@pytest.mark.parametrize("name", NAMES)
def test_the_canonical_name_of_a_type_names_that_type(name):
    parsed = parse_dtype(name)
    assert parse_dtype(parsed.name) == parsed
    assert hash(parse_dtype(f" {name} ")) == hash(parsed)


@pytest.mark.parametrize(
    ("name", "twin"),
    [
        *[(name.lower(), name) for name in ("Int8", "Int64", "UInt16", "Float32", "Float64")],
        *[("bool", "boolean"), ("str", "string"), ("int", "Int64"), ("float", "Float64")],
        *[("date32[day]", "date32"), ("list<item: float>", "list<float32>"), ("datetime64", "datetime64[us]")],
    ],
)
def test_names_of_numpy_and_arrow_mean_their_nullable_twins(name, twin):
    assert parse_dtype(name).name == twin


def test_object_means_the_natural_type():
    assert parse_dtype("object") is None


@pytest.mark.parametrize(
    ("wrong", "nearest"),
    [
        *[("Int46", "Int64"), ("flaot64", "float64"), ("lst<float32>", "list<float32>"), ("strng", "string")],
        *[("artifact-string", "artifact_string"), ("datetime64[us, Europe/Berln]", "Europe/Berlin")],
    ],
)
def test_a_misspelt_name_is_met_with_the_nearest_right_ones(wrong, nearest):
    with pytest.raises(ValueError) as raised:
        parse_dtype(wrong)
    assert nearest.lower() in str(raised.value).lower()
    assert wrong in str(raised.value)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fixed_size_list<int8>[0]", "fixed size 0"),
        ("list<fixed_size_list<int8>[0]>", "fixed size 0"),
        ("struct<a: int64, a: string>", "two fields of a struct are named 'a'"),
        ("struct<a: int64, a: string>[pyarrow]", "two fields of a struct are named 'a'"),
    ],
)
def test_dtype_that_some_format_cannot_read_is_refused(name, reason):
    with pytest.raises(ValueError, match=reason):
        parse_dtype(name)


@QUICK
@given(st.text(alphabet="listruc<>[]():, 0123456789abdecimalfotnp") | st.text())
def test_no_text_makes_parsing_fail_otherwise(text):
    try:
        parsed = parse_dtype(text)
    except ValueError:
        return
    assert parsed is None or parse_dtype(parsed.name) == parsed


FITTING = [
    *[
        ("Int64", 3, 3),
        ("Int64", np.int8(3), 3),
        ("Int64", 3.0, 3),
        ("Int8", -128, -128),
        ("UInt64", 2**64 - 1, 2**64 - 1),
    ],
    *[("Float64", 3, 3.0), ("Float64", np.float32(0.5), 0.5), ("Float64", 2**60, 2.0**60), ("Float32", 0.5, 0.5)],
    *[
        ("string", "é", "é"),
        ("string", np.str_("x"), "x"),
        ("string", Path("a/b"), "a/b"),
        ("boolean", np.bool_(1), True),
    ],
    *[("bytes", bytearray(b"x"), b"x"), ("date", datetime.date(2020, 1, 1), datetime.date(2020, 1, 1))],
    ("datetime64[us]", pd.Timestamp("2020-01-01"), datetime.datetime(2020, 1, 1)),
    ("datetime64[us]", np.datetime64("2020-01-01"), datetime.datetime(2020, 1, 1)),
    ("datetime64[ns]", np.datetime64(1, "ns"), pd.Timestamp(1, unit="ns")),
    ("timedelta64[us]", np.timedelta64(1, "s"), datetime.timedelta(seconds=1)),
    ("datetime64[us, Europe/Berlin]", pd.Timestamp(0, tz="UTC"), datetime.datetime(1970, 1, 1, 1, tzinfo=BERLIN)),
    ("decimal128(4, 2)", 3, decimal.Decimal(3)),
    ("list<float32>", np.array([0.5, 2], dtype="f4"), [0.5, 2.0]),
    ("list<list<int64>>", ((1, None), []), [[1, None], []]),
    ("fixed_size_list<float32>[2]", (1, 2), [1.0, 2.0]),
    ("struct<a: int64, b: string>", {"a": np.int64(1)}, {"a": 1, "b": None}),
    ("json", {"a": (np.int64(1), None)}, {"a": [1, None]}),
    ("artifact_string", Path("a/b.pdf"), "a/b.pdf"),
    ("category", "x", "x"),
    (None, np.array([[1, 2]]), [[1, 2]]),
    (None, (1, "a"), [1, "a"]),
    (None, {"a": np.array([1.5])}, {"a": [1.5]}),
    (None, np.datetime64("2020-01-01T00:00:00"), datetime.datetime(2020, 1, 1)),
]


def type_of(name):
    return None if name is None else parse_dtype(name)


@pytest.mark.parametrize(("name", "value", "stored"), FITTING)
def test_a_value_that_fits_becomes_a_plain_python_value(name, value, stored):
    checked = cell_checker(type_of(name))(value)
    assert checked == stored
    assert type(checked) is type(stored)


@pytest.mark.parametrize(("name", "value", "stored"), FITTING)
def test_a_checked_value_is_read_back_from_its_column(name, value, stored):
    check = cell_checker(type_of(name))
    column, column_type = build_column([check(value), None], type_of(name))
    assert plain_values(column, column_type) == [stored, None]
    kinds = columns.kinds_of(column_type)
    assert kinds is None or kinds == {type(stored)}


def test_types_of_atoms_tell_the_classes_of_their_values():
    told = {name: columns.kinds_of(parse_dtype(name)) for name in ("Int8", "UInt64", "string", "boolean", "bytes")}
    assert told == {"Int8": {int}, "UInt64": {int}, "string": {str}, "boolean": {bool}, "bytes": {bytes}}
    for name in ("json", "list<int64>", "vector<float32>", "tensor<int8, 2, 2>", "Float32", "datetime64[us]"):
        assert columns.kinds_of(parse_dtype(name)) is None


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        *[("Int64", 3.5, "not a whole number"), ("Int64", "3", "of type str"), ("Int64", True, "of type bool")],
        *[("Int8", 200, "outside the range of Int8"), ("UInt8", -1, "outside the range"), ("Int64", 2**63, "outside")],
        *[("Int64", float("inf"), "whole number"), ("Float64", 2**53 + 1, "exactly"), ("Float64", "x", "of type str")],
        *[("Float64", 10**400, "exactly"), ("Float32", 1e300, "too large"), ("Float32", 2**24 + 1, "exactly")],
        *[("string", 3, "of type int"), ("string", "\ud800", "surrogate"), (None, "a\udfff", "surrogate")],
        *[("boolean", 1, "of type int"), ("json", {"a": math.nan}, "nan"), ("json", {1: 2}, "keys of JSON are text")],
        *[("json", {"a": datetime.date(2020, 1, 1)}, "JSON cannot express"), ("json", "\ud800", "surrogate")],
        ("datetime64[s]", datetime.datetime(2020, 1, 1, 0, 0, 0, 5), "finer"),
        ("datetime64[us]", pd.Timestamp(1, unit="ns"), "finer"),
        ("datetime64[us, UTC]", datetime.datetime(2020, 1, 1), "has no time zone"),
        ("datetime64[us]", datetime.datetime(2020, 1, 1, tzinfo=BERLIN), "has a time zone"),
        ("datetime64[ns]", datetime.datetime(1, 1, 1), "outside the range"),
        ("timedelta64[s]", datetime.timedelta(microseconds=1), "finer"),
        *[("date", datetime.datetime(2020, 1, 1), "datetime"), ("time32[s]", datetime.time(1, 2, 3, 4), "finer")],
        ("time", datetime.time(1, tzinfo=datetime.UTC), "time zone"),
        *[("decimal128(4, 2)", decimal.Decimal("1.555"), "digits"), ("decimal128(4, 2)", 1.5, "of type float")],
        ("decimal128(4, 2)", decimal.Decimal("NaN"), "finite"),
        *[("list<int64>", ["x"], "of type str"), ("list<int64>", "abc", "of type str")],
        ("fixed_size_list<float32>[2]", [1.0], "1 items"),
        *[("struct<a: int64>", {"b": 1}, "has the key 'b'"), ("struct<a: int64>", {"a": "x"}, "field 'a'")],
        *[("artifact_string", "", "path"), ("artifact_string", "a\0b", "path"), ("category", {"a": 1}, "category")],
        *[
            (None, object(), "a cell cannot hold"),
            (None, {1, 2}, "a cell cannot hold"),
            (None, 1j, "a cell cannot hold"),
        ],
        ("bytes", "text", "of type str"),
    ],
)
def test_a_value_that_does_not_fit_is_refused_with_the_reason(name, value, reason):
    with pytest.raises((TypeError, ValueError)) as raised:
        cell_checker(type_of(name))(value)
    assert reason in str(raised.value)


@pytest.mark.parametrize("name", [None, *(name for name in NAMES if name != "null")])
@pytest.mark.parametrize("missing", [None, pd.NA, pd.NaT, math.nan, np.float32("nan"), np.datetime64("NaT")], ids=repr)
def test_missing_values_of_any_kind_are_null_in_every_column(name, missing):
    assert cell_checker(type_of(name))(missing) is None


def test_a_number_in_a_list_may_be_nan():
    for name in (None, "list<float64>", "list<float32>"):
        column, column_type = build_column([cell_checker(type_of(name))(np.array([1.5, math.nan]))], type_of(name))
        (value,) = plain_values(column, column_type)
        assert value[0] == 1.5
        assert math.isnan(value[1])


def test_values_are_rounded_to_a_short_float_at_once():
    checked = cell_checker(parse_dtype("Float32"))(0.1)
    assert plain_values(*build_column([checked], parse_dtype("Float32"))) == [checked]


def test_a_list_that_its_owner_changes_afterwards_is_stored_as_it_was():
    for name, value in ((None, [1]), ("list<int64>", [1]), ("list<float64>", [1.0]), ("json", {"a": [1]})):
        checked = cell_checker(type_of(name))(value)
        (value["a"] if isinstance(value, dict) else value).append(2)
        assert checked in ([1], {"a": [1]})


@pytest.mark.parametrize(
    ("values", "name"),
    [
        *[([None, None], "null"), ([], "null"), ([1, None], "Int64"), ([1, 2.5], "Float64"), ([True, None], "boolean")],
        *[(["a"], "string"), ([b"a"], "binary"), ([2**64 - 1], "UInt64"), ([2**64], "json"), ([-1, 2**63], "json")],
        *[
            ([2**53 + 1, 0.5], "json"),
            ([True, 1], "json"),
            ([1, "a"], "json"),
            ([{"a": 1}], "json"),
            ([[1], "a"], "json"),
        ],
        *[([[1, 2], [0.5], []], "list<float64>"), ([["a"]], "list<string>"), ([[]], "list<null>")],
        *[([[[1]], [[]]], "list<list<int64>>"), ([[1, "a"]], "json"), ([[{"a": 1}]], "json")],
        *[([datetime.date(2020, 1, 1)], "date32"), ([datetime.time(1)], "time64[us]")],
        *[([datetime.datetime(2020, 1, 1)], "datetime64[us]"), ([datetime.timedelta(1)], "timedelta64[us]")],
        ([datetime.datetime(2020, 1, 1), pd.Timestamp(1, unit="ns")], "datetime64[ns]"),
        ([datetime.datetime(2020, 1, 1, tzinfo=BERLIN)], "datetime64[us, Europe/Berlin]"),
        ([datetime.datetime(2020, 1, 1, tzinfo=zone) for zone in (BERLIN, datetime.UTC)], "datetime64[us, UTC]"),
        ([decimal.Decimal("1.5"), decimal.Decimal(100)], "decimal128(4, 1)"),
    ],
)
def test_a_column_without_a_dtype_has_the_natural_type_of_its_values(values, name):
    column, column_type = build_column(values, None)
    assert column_type.name == name
    assert plain_values(column, column_type) == values


@pytest.mark.parametrize(
    ("values", "position"),
    [
        *[(["a", None, b"x"], 2), ([datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1)], 1)],
        ([datetime.datetime(2020, 1, 1), datetime.datetime(2020, 1, 1, tzinfo=BERLIN)], 1),
        *[([None, decimal.Decimal("NaN")], 1), (["a", math.inf], 1), ([1, "a", [b"x"]], 2)],
        ([1, datetime.time(1)], 1),
    ],
)
def test_values_that_cannot_share_a_column_fail_at_the_first_such_row(values, position):
    with pytest.raises(CellError) as raised:
        build_column(values, None)
    assert raised.value.position == position


def test_a_column_of_a_declared_type_names_the_row_that_does_not_fit():
    for name, values in (("Int64", [1, None, "x"]), ("decimal128(3, 1)", [None, None, decimal.Decimal("1.55")])):
        with pytest.raises(CellError) as raised:
            build_column(values, parse_dtype(name))
        assert raised.value.position == 2


def test_categories_are_of_the_type_of_their_values():
    column, column_type = build_column(["b", None, "a", "b"], parse_dtype("category"))
    assert column_type.kind is Kind.CATEGORY
    assert column.type == pa.dictionary(pa.int32(), pa.string())
    assert plain_values(column, column_type) == ["b", None, "a", "b"]
    with pytest.raises(CellError) as raised:
        build_column(["b", 1], parse_dtype("category"))
    assert raised.value.position == 1


SCALARS = [
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(alphabet=st.characters(codec="utf-8")),
    st.binary(),
    st.dates(),
    st.times(),
    st.timedeltas(datetime.timedelta(-(10**8)), datetime.timedelta(10**8)),
    st.datetimes(),
    st.datetimes(
        min_value=datetime.datetime(1900, 1, 1),
        max_value=datetime.datetime(2100, 1, 1),
        timezones=st.just(BERLIN),
        allow_imaginary=False,
    ),
    st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**10), max_value=10**10, places=3),
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | SCALARS[2] | SCALARS[3],
    lambda inner: st.lists(inner) | st.dictionaries(SCALARS[3], inner),
    max_leaves=8,
)


@QUICK
@given(st.one_of(*(st.lists(st.none() | scalar) for scalar in SCALARS), st.lists(JSON)))
def test_plain_values_of_a_natural_column_come_back_exactly(values):
    check = cell_checker(None)
    checked = [check(value) for value in values]
    column, column_type = build_column(checked, None)
    assert plain_values(column, column_type) == checked == values


@QUICK
@given(st.one_of(*(st.lists(st.none() | st.lists(st.none() | scalar)) for scalar in SCALARS)))
def test_lists_of_one_type_come_back_exactly(values):
    try:
        column, column_type = build_column(values, None)
    except CellError:
        assert any(isinstance(item, decimal.Decimal | datetime.date) for value in values for item in value or [])
        return
    assert plain_values(column, column_type) == values


_JSON_LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.integers(min_value=2**62, max_value=2**66),
    st.floats(),
    st.text(st.characters(codec=None), max_size=5),
    st.sampled_from([b"x", datetime.date(2020, 1, 1), (1, 2), np.int64(1), {1: 2}]),
)
_JSON_VALUES = st.recursive(
    _JSON_LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(_JSON_VALUES, max_size=4))
def test_json_is_written_alike_together_and_one_by_one(monkeypatch, values):
    def built():
        try:
            return build_column(values, parse_dtype("json"))[0].to_pylist()
        except CellError as error:
            return error.position, str(error)

    together = built()
    with monkeypatch.context() as patch:
        patch.setattr(columns, "_are_json", lambda _: False)
        assert built() == together


@pytest.mark.parametrize("levels", [10, 63, 64, 65, 200])
def test_deeply_nested_json_is_written(levels):
    value = "x"
    for level in range(levels):
        value = [value, 1] if level % 2 else {"a": value}
    column, column_type = build_column([value, None], parse_dtype("json"))
    assert plain_values(column, column_type) == [value, None]


@pytest.mark.parametrize("before", [[], [None], [""]])
@pytest.mark.parametrize("other", [1, 1.5, True, ["a"], {"a": 1}])
def test_texts_with_other_json_values_are_a_json_column(other, before):
    column, column_type = build_column(["a", *before, other, "b"], None)
    assert column_type.name == "json"
    assert plain_values(column, column_type) == ["a", *before, other, "b"]


@pytest.mark.parametrize("before", [[], [None], [""]])
@pytest.mark.parametrize("other", [b"x", datetime.date(2020, 1, 1), decimal.Decimal(1)])
def test_texts_with_invalid_json_values_are_refused(other, before):
    with pytest.raises(CellError) as refused:
        build_column(["a", *before, other, "b"], None)
    assert refused.value.position == 1 + len(before)


def test_column_of_a_million_simple_values_is_not_converted_one_by_one():
    values = list(range(300_000))
    calls = 0

    class Counting(list):
        def __getitem__(self, position):
            nonlocal calls
            calls += 1
            return super().__getitem__(position)

    column, column_type = build_column(Counting(values), None)
    # The first one and a sample may be looked at.
    assert calls <= 2
    assert plain_values(column, column_type) == values
