"""Frames that are written come back as they were."""

from __future__ import annotations

import datetime
import decimal
import pathlib

import hypothesis.strategies as st
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from kinds import MOMENT, SERIES, new_vault, write
from pandas.testing import assert_frame_equal

from tablevault import tv_errors


@pytest.fixture
def vault(tmp_path):
    return new_vault(tmp_path, "data")


def read(vault, **options):
    return vault.get_dataframe("data", **options)[0]


def test_a_frame_with_a_column_of_every_kind_comes_back_exactly(vault):
    frame = pd.DataFrame(SERIES)
    before = frame.copy(deep=True)
    write(vault, frame)
    assert_frame_equal(read(vault), frame, check_exact=True, check_freq=False)
    assert_frame_equal(frame, before)


@pytest.mark.parametrize("rows", [0, 1])
def test_short_and_empty_frames_keep_their_types(vault, rows):
    frame = pd.DataFrame(SERIES).head(rows)
    write(vault, frame)
    back = read(vault)
    assert len(back) == rows
    plain = [name for name in SERIES if frame[name].dtype != object]
    assert_frame_equal(back[plain], frame[plain])
    assert list(back.columns) == list(frame.columns)


def test_a_frame_without_columns_or_rows_comes_back(vault):
    write(vault, pd.DataFrame())
    assert read(vault).shape == (0, 0)


def test_names_of_columns_may_be_any_text(vault):
    frame = pd.DataFrame({"a b": [1], "ünï": [2], "x.y": [3], "<<z>>": [4], "'": [5], "INDEX": [6], "self": [7]})
    write(vault, frame)
    assert_frame_equal(read(vault), frame)
    assert_frame_equal(read(vault, columns=["x.y", "a b"]), frame[["x.y", "a b"]])


def nested(depth):
    """A number in so many lists, and the type of these."""
    value, arrow = 1, pa.int64()
    for _ in range(depth):
        value, arrow = [value], pa.list_(arrow)
    return value, arrow


def column_of_objects(*values):
    return pd.DataFrame({"a": pd.Series(values, dtype=object)})


class Failing(list):
    def __iter__(self):
        raise KeyError("gone")


RECURSIVE = [1]
RECURSIVE.append(RECURSIVE)
NO_TEXT = pa.Array.from_buffers(
    pa.string(), 1, [None, pa.py_buffer(bytes([0, 0, 0, 0, 2, 0, 0, 0])), pa.py_buffer(b"\xff\xfe")]
)


TENSORS = pa.ExtensionArray.from_storage(
    pa.fixed_shape_tensor(pa.int32(), [2]), pa.array([[1, 2], [1, None]], pa.list_(pa.int32(), 2))
)
PERMUTED = pa.ExtensionArray.from_storage(
    pa.fixed_shape_tensor(pa.int32(), [1, 2], permutation=[1, 0]), pa.array([[1, 2]], pa.list_(pa.int32(), 2))
)


@pytest.mark.parametrize("depth", [1, 39, 40, 41, 60, 90])
def test_lists_nested_however_deeply_come_back(vault, depth):
    write(vault, column_of_objects(nested(depth)[0]))
    assert read(vault)["a"].tolist() == [nested(depth)[0]]


@pytest.mark.usefixtures("no_collections")  # Where values contain themselves, callbacks would have no room.
@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (pd.DataFrame({"index": [1]}), "index"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "'a'"),
        (pd.DataFrame({"": [1]}), "empty"),
        (pd.DataFrame({3: [1]}), "3"),
        (pd.DataFrame({"a": [1, 1 + 2j]}), "'a'"),
        (pd.DataFrame({"a": [1, object()]}, dtype=object), "'a'"),
        (pd.DataFrame({"a": ["x", "bad\ud800"]}, dtype=object), "row 1"),
        (pd.DataFrame({"a": [b"x", "text"]}, dtype=object), "row 1"),
        (pd.DataFrame({"a": [{1: 2}]}, dtype=object), "row 0"),
        (pd.DataFrame({"a": [1]}, index=pd.Index([7], name="key")), "key"),
        (column_of_objects(1, RECURSIVE), "'a', row 1: [1, [...]] contains itself"),
        (column_of_objects(1, 10**5000), "'a', row 1: a whole number of 16,610 bits is too large"),
        (column_of_objects(1, Failing()), "row 1"),
        (pa.table({"a": pa.array([nested(60)[0]], nested(60)[1])}), "'a'"),
        (pa.table({"a": NO_TEXT}), "'a' is damaged"),
        (pd.DataFrame({"a": pd.Series(NO_TEXT, dtype=pd.ArrowDtype(pa.string()))}), "'a': it is damaged"),
        (pd.DataFrame, "type"),
        ({"a": [1]}, "dict"),
        (None, ""),
    ],
)
def test_unstorable_value_is_refused_with_column_and_row(vault, frame, text):
    vault.create_instance("data", external_edit=True)
    with pytest.raises((tv_errors.TVTableError, tv_errors.TVArgumentError)) as caught:
        vault.write_instance(frame, "data")
    assert text in str(caught.value)
    assert vault.get_table_instances("data") == []


def test_frames_of_arrow_and_polars_come_back_in_every_format(vault):
    table = pa.table(
        {
            "n": pa.array([1, None, 3], pa.int32()),
            "t": pa.array(["a", None, "c"]),
            "l": pa.array([[1.5], None, []], pa.list_(pa.float32())),
            "s": pa.array([{"a": 1, "b": "x"}, None, {"a": None, "b": None}]),
            "d": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("2.20")]),
            "when": pa.array([MOMENT, None, MOMENT], pa.timestamp("ns", "Asia/Tokyo")),
            "c": pa.array(["x", None, "x"]).dictionary_encode(),
            "z": pa.nulls(3),
        }
    )
    write(vault, table)
    assert read(vault, format="arrow").equals(table)
    assert read(vault, format="polars").equals(pl.DataFrame(table))
    in_pandas = read(vault)
    assert in_pandas["n"].dtype == "Int32"
    assert in_pandas["t"].dtype == "string"
    assert str(in_pandas["when"].dtype) == "datetime64[ns, Asia/Tokyo]"
    assert in_pandas["c"].dtype == "category"


def test_a_polars_frame_comes_back_exactly(vault):
    frame = pl.DataFrame(
        {
            "i": [1, None, 3],
            "u": pl.Series([1, 2, 3], dtype=pl.UInt8),
            "f": [1.5, None, float("inf")],
            "t": ["a", None, "日本"],
            "b": [True, None, False],
            "d": [datetime.date(2024, 2, 29), None, None],
            "w": [MOMENT, None, MOMENT],
            "c": pl.Series(["x", None, "y"], dtype=pl.Categorical),
            "l": [[1, 2], None, []],
            "s": [{"a": 1}, {"a": 2}, {"a": None}],
            "x": [b"\x00", None, b""],
        }
    )
    write(vault, frame)
    back = read(vault, format="polars")
    assert back.schema == frame.schema
    assert back.equals(frame)
    empty = frame.clear()
    write(vault, empty)
    assert read(vault, format="polars").schema == empty.schema


def test_only_some_rows_and_columns_are_read_on_request(vault):
    frame = pd.DataFrame(SERIES)
    write(vault, frame)
    some = read(vault, rows=2, columns=["category", "Int64", "dict"])
    assert_frame_equal(some, frame[["category", "Int64", "dict"]].head(2))


def dictionary(categories, codes=(0, 1, None)):
    """A column of categories of Arrow, which need not be different."""
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int8()), pa.array(categories))


def arrow_series(column):
    """A column of Arrow in pandas."""
    return pd.DataFrame({"a": pd.Series(column, dtype=pd.ArrowDtype(column.type))})


SIMPLIFIED = {
    "list views": pa.array([[1, None], None, []], pa.list_view(pa.int8())),
    "list views out of order": pa.ListViewArray.from_arrays(
        pa.array([2, 0, 1], pa.int32()), pa.array([1, 2, 2], pa.int32()), pa.array([1, 2, 3])
    ),
    "large list views": pa.array([["a"], None, []], pa.large_list_view(pa.string())),
    "short decimals in lists": pa.array([[decimal.Decimal("1.5")], None], pa.list_(pa.decimal32(5, 2))),
    "short decimals in maps": pa.array([[("a", decimal.Decimal("1.5"))]], pa.map_(pa.string(), pa.decimal64(5, 2))),
    "wide decimals in maps": pa.array([[("a", decimal.Decimal("1.5"))]], pa.map_(pa.string(), pa.decimal256(50, 2))),
    "repeated categories": dictionary(["x", "x"]),
    "categories with null": dictionary(["x", None]),
    "categories of short decimals": dictionary(pa.array([decimal.Decimal("1.5"), None], pa.decimal32(5, 2))),
    "chunks with different categories": pa.chunked_array([dictionary(["x", None]), dictionary(["y", None])]),
}


@pytest.mark.parametrize("column", SIMPLIFIED.values(), ids=SIMPLIFIED)
def test_unusual_arrow_column_is_read_back_equal_in_every_format(vault, column):
    for frame in (pa.table({"a": column}), arrow_series(column)):
        write(vault, frame)
        cells = column.to_pylist()
        assert read(vault, format="arrow")["a"].to_pylist() == cells
        in_pandas = read(vault)["a"]
        assert [plain(cell) for cell in in_pandas.tolist()] == cells
        assert repr(in_pandas)
        in_polars = read(vault, format="polars")["a"]
        if not pa.types.is_map(column.type):
            assert in_polars.to_list() == cells


def test_categories_stored_alike_are_one_category(vault):
    categories = pd.Index([pathlib.PurePosixPath("a"), "a"], dtype=object)
    write(vault, pd.DataFrame({"a": pd.Categorical.from_codes([0, 1, -1], categories)}))
    assert [plain(cell) for cell in read(vault)["a"]] == ["a", "a", None]


UNREADABLE = {
    "lists of size 0": (pa.array([[], []], pa.list_(pa.int8(), 0)), "fixed size 0"),
    "lists of lists of size 0": (pa.array([[[]]], pa.list_(pa.list_(pa.int8(), 0))), "fixed size 0"),
    "nested list views": (pa.array([[[1]]], pa.list_(pa.list_view(pa.int8()))), "list views.*use lists"),
    "repeated fields": (pa.StructArray.from_arrays([pa.array([1])] * 2, ["x", "x"]), "two fields .* named 'x'; rename"),
    "NUL in a field": (pa.StructArray.from_arrays([pa.array([1])], ["x\0y"]), "NUL character; rename"),
    "categories of halves": (dictionary(pa.array([np.float16(1), None], pa.float16())), "cannot be stored"),
    "categories of categories": (dictionary(pa.array(["x", "y"]).dictionary_encode()), "cannot be stored"),
    "far moment in seconds": (pa.array([0, None, 2**60], pa.timestamp("s")), "row 2: .*out of range"),
    "long duration in seconds": (pa.array([0, None, 2**60], pa.duration("s")), "row 2: .*out of range"),
    "long duration in a list": (pa.array([[0], None, [2**60]], pa.list_(pa.duration("s"))), "row 2: .*out of range"),
}


@pytest.mark.parametrize(("column", "reason"), UNREADABLE.values(), ids=UNREADABLE)
def test_arrow_column_that_some_format_cannot_read_is_refused(vault, column, reason):
    vault.create_instance("data", external_edit=True)
    for frame in (pa.table({"a": column}), arrow_series(column)):
        with pytest.raises(tv_errors.TVTableError, match=f"column 'a'.*{reason}"):
            vault.write_instance(frame, "data")


NOT_CATEGORIES = {
    "NaN": (dictionary([1.0, float("nan")]), "row 1: NaN cannot be a category"),
    "unused NaN": (dictionary([float("nan"), 1.0], [1, None]), "NaN cannot be a category"),
    "both zeros": (dictionary([0.0, -0.0]), "row 1: .*both 0.0 and -0.0"),
    "unused zero": (dictionary([0.0, -0.0], [1, None]), "both 0.0 and -0.0"),
}


@pytest.mark.parametrize(("column", "reason"), NOT_CATEGORIES.values(), ids=NOT_CATEGORIES)
def test_categories_that_pandas_confuses_are_refused(vault, column, reason):
    vault.create_instance("data", external_edit=True)
    with pytest.raises(tv_errors.TVTableError, match=f"column 'a'.*{reason}"):
        vault.write_instance(pa.table({"a": column}), "data")


def test_slice_of_lists_ignores_items_outside_of_it(vault):
    column = pa.array([[2**60], [5], None], pa.list_(pa.duration("s"))).slice(1)
    write(vault, pa.table({"a": column}))
    assert read(vault, format="arrow")["a"].to_pylist() == [[datetime.timedelta(seconds=5)], None]


@pytest.mark.parametrize(
    ("frame", "text"),
    [
        (pd.DataFrame({"a\0b": [1]}), "NUL character; rename it"),
        (pl.DataFrame({"a\0b": [1]}), "NUL character; rename it"),
        (pl.DataFrame({"a": [[{"x\0y": 1}]]}), "column 'a': .*NUL character; rename it"),
        (pl.DataFrame({"b": [1], "a": pl.Series([1], dtype=pl.Int128)}), "column 'a': its type Int128 .*; cast it"),
        (pl.DataFrame({"a": pl.Series([[1]], dtype=pl.List(pl.UInt128))}), "column 'a': its type .*; cast it"),
        (pa.table({"a": TENSORS}), "column 'a', row 1: a tensor has a missing item; use NaN"),
        (pa.table({"a": PERMUTED}), "column 'a': its type .* cannot be stored; make a NumPy array"),
    ],
    ids=["pandas", "polars", "field", "Int128", "list of UInt128", "tensor", "permutation"],
)
def test_refused_frame_names_the_column_and_a_remedy(vault, frame, text):
    vault.create_instance("data", external_edit=True)
    with pytest.raises(tv_errors.TVTableError, match=text):
        vault.write_instance(frame, "data")


DECLARED = [
    ("int64", [1, 2.0, None], "Int64", [1, 2, pd.NA]),
    ("float", [1, 2.5, None], "Float64", [1.0, 2.5, pd.NA]),
    ("str", ["a", None, "b"], "string", ["a", pd.NA, "b"]),
    ("bool", [True, None, False], "boolean", [True, pd.NA, False]),
    ("json", [{"a": 1}, None, [1, "x"]], "object", [{"a": 1}, None, [1, "x"]]),
    ("category", ["a", None, "a"], "category", ["a", np.nan, "a"]),
    ("datetime64[ns]", [MOMENT, None, MOMENT], "datetime64[ns]", [pd.Timestamp(MOMENT), pd.NaT, pd.Timestamp(MOMENT)]),
]


def test_column_gets_its_declared_dtype(vault):
    frame = pd.DataFrame({dtype: pd.Series(values, dtype=object) for dtype, values, *_ in DECLARED})
    write(vault, frame, dtypes={dtype: dtype for dtype in frame})
    back = read(vault)
    for dtype, _, expected, cells in DECLARED:
        assert str(back[dtype].dtype) == expected
        assert list(map(plain, back[dtype])) == list(map(plain, cells))


def plain(cell):
    return None if pd.api.types.is_scalar(cell) and pd.isna(cell) else cell


def test_a_list_dtype_is_arrows(vault):
    write(vault, pd.DataFrame({"a": [[1, 2.5], None, []]}), dtypes={"a": "list<float32>"})
    assert read(vault, format="arrow").schema.field("a").type == pa.list_(pa.float32())
    assert read(vault, format="arrow")["a"].to_pylist() == [[1.0, 2.5], None, []]


WRONG = [
    ("Int64", [1, 2.5]),
    ("Int8", [1, 128]),
    ("UInt8", [1, -1]),
    ("Int64", [1, "2"]),
    ("Int64", [1, True]),
    ("Float64", [1.0, 2**53 + 1]),
    ("boolean", [True, 1]),
    ("string", ["a", 1]),
    ("json", [{}, float("inf")]),
    ("json", [{}, {"a": b"x"}]),
    ("list<int64>", [[1], ["a"]]),
    ("datetime64[us]", [MOMENT, "2024-01-01"]),
    ("datetime64[us, UTC]", [MOMENT.replace(tzinfo=datetime.UTC), MOMENT]),
    ("bytes", [b"x", "x"]),
    ("category", ["x", {}]),
    ("category", [True, 1]),
    ("Float32", [1.0, 2**24 + 1]),
    ("float16", [1.0, 1e6]),
    ("decimal128(5, 1)", [decimal.Decimal("1.5"), decimal.Decimal("1.25")]),
    ("decimal128(5, 1)", [decimal.Decimal("1.5"), 1.5]),
    ("Int64", [1, decimal.Decimal(1)]),
    ("datetime64[s]", [MOMENT.replace(microsecond=0), MOMENT]),
    ("datetime64[ns]", [MOMENT, datetime.datetime(1500, 1, 1)]),
    ("timedelta64[s]", [datetime.timedelta(1), datetime.timedelta(microseconds=1)]),
    ("date32", [MOMENT.date(), MOMENT]),
    ("time32[s]", [datetime.time(1), datetime.time(1, 0, 0, 1)]),
    ("list<int8>", [[1], [128]]),
    ("list<float64>", [[1.0], [2**53 + 1]]),
    ("fixed_size_list<int8>[2]", [[1, 2], [1, 2, 3]]),
    ("struct<a: int64>", [{"a": 1}, {"a": 1, "b": 2}]),
    ("struct<a: float64>", [{"a": 1.0}, {"a": 2**53 + 1}]),
]


def test_a_value_outside_its_dtype_is_refused_with_column_and_row(vault):
    vault.create_instance("data", external_edit=True)
    for dtype, values in WRONG:
        frame = pd.DataFrame({"fine": [1, 2], "wrong": pd.Series(values, dtype=object)})
        with pytest.raises(tv_errors.TVTableError, match=r"'wrong', row 1"):
            vault.write_instance(frame, "data", dtypes={"wrong": dtype})
    assert vault.get_table_instances("data") == []


def test_a_dtype_that_does_not_exist_is_refused_with_the_nearest_that_does(vault):
    vault.create_instance("data", external_edit=True)
    with pytest.raises(tv_errors.TVArgumentError, match="int64"):
        vault.write_instance(pd.DataFrame({"a": [1]}), "data", dtypes={"a": "Int46"})
    with pytest.raises(tv_errors.TVTableError, match="'a'"):
        vault.write_instance(pd.DataFrame({"a": [1]}), "data", dtypes={"b": "Int64"})


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
NUMBERS = st.one_of(st.integers(-(2**63), 2**63 - 1))
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MOMENTS = st.datetimes(datetime.datetime(1700, 1, 1), datetime.datetime(2250, 1, 1))
CELLS = {
    "Int64": NUMBERS,
    "Float64": st.floats(allow_nan=False),
    "boolean": st.booleans(),
    "string": TEXT,
    "category": TEXT,
    "datetime64[ns]": MOMENTS,
    "datetime64[us, UTC]": MOMENTS.map(lambda moment: moment.replace(tzinfo=datetime.UTC)),
    "timedelta64[us]": st.timedeltas(datetime.timedelta(-9999), datetime.timedelta(9999)),
    "object of dicts": st.dictionaries(TEXT, JSON, max_size=3),
    "object of lists": st.lists(NUMBERS, max_size=4),
    "object of bytes": st.binary(max_size=5),
    "object of texts": TEXT,
    "object of decimals": st.decimals(-(10**9), 10**9, places=3),
}


@st.composite
def frames(draw):
    rows = draw(st.integers(0, 6))
    names = draw(
        st.lists(
            TEXT.filter(lambda name: name not in ("", "index") and "\0" not in name),
            unique=True,
            min_size=1,
            max_size=5,
        )
    )
    columns = {}
    for name in names:
        kind = draw(st.sampled_from(sorted(CELLS)))
        cells = draw(st.lists(st.none() | CELLS[kind], min_size=rows, max_size=rows))
        columns[name] = pd.Series(cells, dtype=kind.split(" of ")[0])
    return pd.DataFrame(columns)


@given(frame=frames())
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_all_values_allowed_by_the_contract_come_back_from_pandas(vault, frame):
    instance = write(vault, frame)
    assert_frame_equal(read(vault, instance_id=instance), frame, check_exact=True)


@pytest.mark.parametrize(
    ("column", "remedy"),
    [
        (pd.Series([1, 2], name="a"), r"to_frame\('name'\)"),
        (pl.Series("a", [1, 2]), r"to_frame\('name'\)"),
        (pa.chunked_array([[1, 2]]), "pyarrow.table"),
    ],
)
def test_a_single_column_is_to_be_made_a_frame(vault, column, remedy):
    with pytest.raises(tv_errors.TVTableError, match=f"is a single column, not a frame; convert it with {remedy}"):
        vault.write("other", column)
    with pytest.raises(tv_errors.TVTableError, match="is a single column, not a frame"):
        write(vault, column)


@pytest.mark.parametrize(
    ("array", "remedy"),
    [
        (pd.arrays.SparseArray([0, 0, 1]), r"sparse.to_dense\(\)"),
        (np.array([1.0, 2.0], dtype="longdouble"), r"astype\('float64'\)"),
        (pd.period_range("2024-01", periods=2, freq="M"), r"astype\('string'\)"),
    ],
)
def test_a_dtype_that_cannot_be_stored_is_answered_with_its_conversion(vault, array, remedy):
    with pytest.raises(tv_errors.TVTableError, match=f"column 'a': .* cannot be stored; .* {remedy}"):
        write(vault, pd.DataFrame({"a": array}))
