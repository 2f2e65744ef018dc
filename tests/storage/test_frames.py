import datetime
import decimal
import io
import json
import random
import resource
import string
import zoneinfo

import msgspec
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st
from pandas.testing import assert_frame_equal

from tablevault.errors import TVFileError, TVTableError
from tablevault.storage import checksums, frame_files
from tablevault.storage.dtypes import parse_dtype
from tablevault.storage.frames import (
    frame_of_columns,
    read_frame,
    read_schema,
    table_from_frame,
    to_arrow,
    to_pandas,
    to_polars,
    whole_frame,
    with_artifact_folder,
    with_nullable_types,
    write_frame,
)
from tablevault.values.contents import Page

TEXT = st.text(alphabet=st.characters(codec="utf-8"), max_size=5)
ZONES = ["UTC", "Europe/Berlin", "America/St_Johns", "+02:00"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("frames")


def stored(folder, data, **asked):
    path = folder / "frame.parquet"
    path.unlink(missing_ok=True)
    write_frame(path, data)
    return read_frame(path, **asked)


def through(folder, frame):
    return to_pandas(stored(folder, table_from_frame(frame, {})))


def integers(dtype):
    bits = int("".join(filter(str.isdigit, dtype)))
    low, high = (0, 2**bits - 1) if dtype.lower().startswith("u") else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high)


def nullable(values):
    return st.none() | values


def numbers_of(unit):
    """Numbers of points in time that pandas can hold in a unit.

    The smallest number means NaT.
    """
    bound = 2**62 // {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    return st.integers(-bound, bound)


def objects(values):
    return (
        nullable(values).flatmap(lambda _: st.lists(nullable(values))).map(lambda cells: pd.Series(cells, dtype=object))
    )


def series(dtype, values):
    return st.lists(values).map(lambda cells: pd.Series(cells, dtype=dtype))


def times(dtype, unit, zone=None):
    def build(numbers):
        made = pd.Series(np.array(numbers, dtype="i8").view(f"{dtype}[{unit}]"))
        return made if zone is None else made.dt.tz_localize("UTC").dt.tz_convert(zone)

    return st.lists(numbers_of(unit) | st.just(-(2**63))).map(build)


def arrow(dtype, values):
    return st.lists(nullable(values)).map(
        lambda cells: pd.Series(pd.arrays.ArrowExtensionArray(pa.array(cells, type=dtype)))
    )


def categories(values, dtype):
    def build(drawn):
        known, chosen, ordered = drawn
        codes = [code % (len(known) + 1) - 1 for code in chosen]
        return pd.Series(pd.Categorical.from_codes(codes, categories=pd.Index(known, dtype=dtype), ordered=ordered))

    return st.tuples(st.lists(values, unique=True), st.lists(st.integers(0, 99)), st.booleans()).map(build)


BYTES_ORDER = [f">{kind}{size}" for kind, sizes in (("i", "248"), ("u", "248"), ("f", "248")) for size in sizes]
NUMPY_INTEGERS = ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"]
SERIES = {
    **{name: series(name, integers(name)) for name in NUMPY_INTEGERS},
    **{name: series(name, st.integers(0, 100)) for name in BYTES_ORDER},
    **{f"float{width}": series(f"float{width}", st.floats(width=width)) for width in (16, 32, 64)},
    "bool": series("bool", st.booleans()),
    **{name: series(name, nullable(integers(name))) for name in ("Int8", "Int16", "Int32", "Int64")},
    **{name: series(name, nullable(integers(name))) for name in ("UInt8", "UInt16", "UInt32", "UInt64")},
    **{f"Float{width}": series(f"Float{width}", nullable(st.floats(width=width))) for width in (32, 64)},
    "boolean": series("boolean", nullable(st.booleans())),
    **{name: series(name, nullable(TEXT)) for name in ("str", "string", "string[python]")},
    "str[python]": series(pd.StringDtype("python", na_value=np.nan), nullable(TEXT)),
    **{f"datetime64[{unit}]": times("datetime64", unit) for unit in ("s", "ms", "us", "ns")},
    **{f"timedelta64[{unit}]": times("timedelta64", unit) for unit in ("s", "ms", "us", "ns")},
    **{f"datetime64[us, {zone}]": times("datetime64", "us", zone) for zone in ZONES},
    "categories of text": categories(TEXT, "str"),
    "categories of objects": categories(TEXT, object),
    "categories of strings": categories(TEXT, "string"),
    "categories of integers": categories(integers("int64"), "int64"),
    "categories of floats": categories(st.floats(allow_nan=False).map(lambda number: number + 0.0), "float64"),
    "categories of dates": categories(
        st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2100, 1, 1)), "datetime64[us]"
    ),
    "objects: text": objects(TEXT),
    "objects: booleans": objects(st.booleans()),
    "objects: integers": objects(st.integers()),
    "objects: floats": objects(st.floats(allow_nan=False)),
    "objects: bytes": objects(st.binary()),
    "objects: dates": objects(st.dates()),
    "objects: times": objects(st.times()),
    "objects: decimals": objects(st.decimals(-(10**9), 10**9, places=2)),
    "objects: lists": objects(st.lists(nullable(st.integers(0, 2**62)))),
    "objects: tuples": objects(st.tuples(st.integers(0, 9), st.integers(0, 9))),
    "objects: arrays": objects(st.lists(st.floats(width=32)).map(lambda numbers: np.array(numbers, dtype="float32"))),
    "objects: dicts": objects(st.dictionaries(TEXT, st.lists(TEXT | st.none() | st.booleans()))),
    "objects: mixed": objects(TEXT | st.integers() | st.booleans() | st.lists(TEXT | st.integers())),
    "arrow int64": arrow(pa.int64(), integers("int64")),
    "arrow double": arrow(pa.float64(), st.floats()),
    "arrow string": arrow(pa.string(), TEXT),
    "arrow seconds": arrow(pa.timestamp("s"), st.integers(0, 2**31)),
    "arrow zoned": arrow(pa.timestamp("ns", "Europe/Berlin"), numbers_of("ns")),
    "arrow time": arrow(pa.time32("s"), st.integers(0, 86399)),
    "arrow date": arrow(pa.date32(), st.dates()),
    "arrow decimal": arrow(pa.decimal128(12, 2), st.decimals(-(10**9), 10**9, places=2)),
    "arrow list": arrow(pa.list_(pa.float32()), st.lists(nullable(st.floats(width=32)))),
    "arrow fixed list": arrow(pa.list_(pa.int8(), 2), st.lists(integers("int8"), min_size=2, max_size=2)),
    "arrow struct": arrow(
        pa.struct([("a", pa.int64()), ("b", pa.list_(pa.string()))]),
        st.fixed_dictionaries({"a": nullable(integers("int64")), "b": nullable(st.lists(TEXT))}),
    ),
    "arrow map": arrow(
        pa.map_(pa.string(), pa.int64()), st.lists(st.tuples(TEXT, integers("int64")), unique_by=lambda x: x[0])
    ),
    "arrow binary": arrow(pa.large_binary(), st.binary()),
    "arrow null": arrow(pa.null(), st.none()),
}


@pytest.mark.parametrize("kind", SERIES)
def test_a_column_comes_back_exactly_as_it_was_written(folder, kind):
    @settings(max_examples=6, deadline=None)
    @given(SERIES[kind])
    def check(column):
        frame = pd.DataFrame({"column": column})
        before = frame.copy(deep=True)
        back = through(folder, frame)
        assert_frame_equal(back, before)
        assert_frame_equal(frame, before)
        assert back.equals(before) or not before.equals(before.copy())  # NaN may differ from itself in Arrow.

    check()


@settings(max_examples=15, deadline=None)
@given(
    names=st.lists(TEXT.filter(lambda name: name not in ("", "index") and "\0" not in name), unique=True, max_size=5),
    rows=st.integers(0, 5),
    chooser=st.randoms(use_true_random=False),
)
def test_any_names_and_numbers_of_columns_come_back(folder, names, rows, chooser):
    kinds = [list(range(rows)), [str(row) for row in range(rows)], [row / 2 for row in range(rows)]]
    frame = pd.DataFrame({name: pd.Series(chooser.choice(kinds)) for name in names})
    assert_frame_equal(through(folder, frame), frame, check_column_type=False)


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA, pd.NaT], ids=repr)
def test_objects_keep_the_object_that_stands_for_null(folder, missing):
    frame = pd.DataFrame({"a": pd.Series(["x", missing], dtype=object)})
    back = through(folder, frame)["a"].tolist()[1]
    assert back is missing or (back != back and missing != missing)


def test_arrays_of_any_shape_and_type_come_back_as_arrays(folder):
    arrays = [
        np.eye(2),
        np.array([np.datetime64(1, "ns"), np.datetime64("NaT")]),
        np.array([True]),
        np.array(["a", "bc"]),
    ]
    for array in arrays:
        back = through(folder, pd.DataFrame({"a": pd.Series([array, None], dtype=object)}))["a"][0]
        assert isinstance(back, np.ndarray)
        assert back.dtype == array.dtype
        np.testing.assert_array_equal(back, array)


def test_every_cell_of_a_returned_frame_may_be_changed(folder):
    frame = pd.DataFrame(
        {
            **{
                dtype: pd.Series([1, 2], dtype=dtype)
                for dtype in ("int64", "float64", "Int64", "int64[pyarrow]", "bool")
            },
            **{dtype: pd.Series([1, 2]).astype(dtype) for dtype in ("str", "string", "category", "datetime64[us]")},
            "object": pd.Series(["1", "2"], dtype=object),
        }
    )
    back = through(folder, frame)
    for position in range(frame.shape[1]):
        back.iloc[0, position] = back.iloc[1, position]
    assert_frame_equal(back, frame.iloc[[1, 1]].reset_index(drop=True))
    assert_frame_equal(to_pandas(read_frame(folder / "frame.parquet")), frame)


def test_unnamed_row_index_is_dropped_and_named_one_is_refused(folder):
    frame = pd.DataFrame({"a": [1, 2, 3]}).iloc[[2, 0]]
    assert_frame_equal(through(folder, frame), pd.DataFrame({"a": [3, 1]}))
    with pytest.raises(TVTableError, match=r"'key'.*reset_index"):
        table_from_frame(frame.rename_axis("key"), {})


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "two columns are named 'a'"),
        (pa.table([[1], [2]], names=["a", "a"]), "two columns are named 'a'"),
        (pd.DataFrame({0: [1]}), "column name 0 is of type int"),
        (pd.DataFrame({"index": [1]}), "'index'"),
        (pd.DataFrame({"": [1]}), "empty name"),
        (pd.DataFrame([[1]], columns=pd.Index(["\ud800"], dtype=object)), "surrogate"),
        (pd.DataFrame(index=[1, 2]), "2 rows but no columns"),
        (pd.DataFrame({"a": [1j]}), "column 'a'.*complex128"),
        (pd.DataFrame({"a": pd.period_range("2020", periods=2, freq="M")}), "column 'a'.*period"),
        (pd.DataFrame({"a": pd.cut([1, 2], 2)}), "column 'a'.*interval"),
        (pd.DataFrame({"a": pd.arrays.SparseArray([0, 1])}), "column 'a'.*Sparse"),
        (pd.DataFrame({"a": pd.Series(["ok", "\ud800"], dtype=object)}), "column 'a', row 1.*surrogate"),
        (pd.DataFrame({"a": [1, {1}]}), "column 'a', row 1.*set"),
        (pd.DataFrame({"a": [1, b"x"]}), "column 'a', row 1.*bytes"),
        (pa.table({"a": pa.array([{}], pa.struct([]))}), "column 'a'.*struct<>"),
        (pa.table({"a": pa.array([None], pa.month_day_nano_interval())}), "column 'a'.*interval"),
        ([1, 2], "of type list is not a frame"),
    ],
)
def test_a_frame_that_cannot_be_stored_is_a_table_error_that_says_why(frame, message):
    with pytest.raises(TVTableError, match=f"(?s){message}"):
        table_from_frame(frame, {})


@pytest.mark.parametrize(
    ("values", "name", "back"),
    [
        *[
            ([1, 2], "Float64", [1.0, 2.0]),
            ([1.0, np.nan], "Int64", [1, None]),
            ([0.5, np.nan], "Float64", [0.5, None]),
        ],
        *[([300, 1], "Int16", [300, 1]), (["a", None], "string", ["a", None]), (["a", "b"], "category", ["a", "b"])],
        *[([[1, 2]], "list<float32>", [[1.0, 2.0]]), ([{"a": 1}], "json", [{"a": 1}]), ([1, 2], "json", [1, 2])],
        (pd.to_datetime(["2020-01-01"]), "datetime64[s]", [datetime.datetime(2020, 1, 1)]),
        (pd.to_datetime(["2020-01-01"]), "datetime64[ns]", [datetime.datetime(2020, 1, 1)]),
        (["x.pdf"], "artifact_string", ["x.pdf"]),
        ([datetime.date(2020, 1, 1)], "date", [datetime.date(2020, 1, 1)]),
    ],
)
def test_column_gets_its_declared_type_from_any_library(folder, values, name, back):
    column_type = parse_dtype(name)
    frame = pd.DataFrame({"a": values})
    frames = [frame, with_nullable_types(table_from_frame(frame, {})).table]
    for given_frame in frames if name != "json" else frames[:1]:
        data = stored(folder, table_from_frame(given_frame, {"a": column_type}))
        assert data.types["a"].name == column_type.name
        cells = [None if cell is pd.NA else cell for cell in to_pandas(data)["a"].tolist()]
        assert cells == back


@pytest.mark.parametrize(
    ("values", "name"),
    [
        *[([1.0, 1.5], "Int64"), ([1, 300], "Int8"), (["1", "a"], "Int64"), (["a", "\0"], "artifact_string")],
        *[([1.0, 1e300], "Float32"), ([2, 2**53 + 1], "Float64"), (pd.to_datetime([0, 1], unit="ms"), "datetime64[s]")],
    ],
)
def test_value_outside_its_declared_type_is_an_error_naming_column_and_row(values, name):
    if values[0] != "1":
        table_from_frame(pd.DataFrame({"a": values[:1]}), {"a": parse_dtype(name)})
    with pytest.raises(TVTableError, match=r"column 'a', row [01]: "):
        table_from_frame(pd.DataFrame({"a": values}), {"a": parse_dtype(name)})


def test_dtype_for_a_missing_column_is_refused_with_the_nearest_name():
    with pytest.raises(TVTableError, match="'colour'"):
        table_from_frame(pd.DataFrame({"colour": ["red"]}), {"color": parse_dtype("string")})


def test_frames_of_polars_come_back_to_polars(folder):
    frame = pl.DataFrame(
        {
            "i": pl.Series([1, None], dtype=pl.Int16),
            "f": [float("nan"), None],
            "s": ["é", None],
            "d": [datetime.date(2020, 1, 1), None],
            "t": [datetime.datetime(2020, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), None],
            "l": [[1, None], None],
            "r": [{"a": 1, "b": "x"}, None],
            "c": pl.Series(["a", None], dtype=pl.Categorical),
            "n": [decimal.Decimal("1.50"), None],
            "b": [b"x", None],
        }
    )
    back = to_polars(stored(folder, table_from_frame(frame, {})))
    assert back.schema == frame.schema
    assert back.equals(frame)


def test_tables_of_arrow_come_back_to_arrow_and_to_nullable_pandas(folder):
    table = pa.table(
        {
            "i": pa.array([1, None], pa.int32()),
            "s": pa.array(["a", None], pa.string_view()),
            "d": pa.array([1, None], pa.timestamp("s")),
            "c": pa.array(["x", None]).dictionary_encode(),
        }
    )
    table = pa.concat_tables(
        [table, table.slice(1), table.set_column(3, "c", pa.array(["y", "x"]).dictionary_encode())]
    )
    data = stored(folder, table_from_frame(table, {}))
    assert to_arrow(data).to_pylist() == table.to_pylist()
    # Views are a layout in memory, which pandas does not know: they come back as plain texts.
    assert to_arrow(data).schema == table.schema.set(1, pa.field("s", pa.large_string()))
    assert [str(dtype) for dtype in to_pandas(data).dtypes] == [
        "Int32",
        "string",
        "datetime64[s]",
        "category",
    ]


def test_columns_of_builders_have_nullable_types():
    frame = pd.DataFrame({"i": [1], "f": [0.5], "s": ["x"], "b": [True], "o": pd.Series([{"a": 1}]), "l": [[1.5]]})
    back = to_pandas(with_nullable_types(table_from_frame(frame, {})))
    assert [str(dtype) for dtype in back.dtypes] == [
        "Int64",
        "Float64",
        "string",
        "boolean",
        "object",
        "list<item: double>[pyarrow]",
    ]
    assert back["o"][0] == {"a": 1}


def test_only_the_named_columns_are_returned_in_the_order_asked_for(folder):
    struct = pd.Series(pd.arrays.ArrowExtensionArray(pa.array([{"b": 1}])))
    frame = pd.DataFrame({"a.b": [1], "a": struct, "c": [3]})
    write = table_from_frame(frame, {})
    assert list(stored(folder, write, columns=["c", "a"]).types) == ["c", "a"]
    for names in (["a"], ["a.b"], ["c", "a.b", "a"], []):
        assert to_pandas(read_frame(folder / "frame.parquet", names)).columns.tolist() == names
    assert_frame_equal(to_pandas(read_frame(folder / "frame.parquet", ["a", "c"])), frame[["a", "c"]])
    with pytest.raises(KeyError, match="no column 'cc'"):
        read_frame(folder / "frame.parquet", ["cc"])


@pytest.fixture
def small_groups(monkeypatch):
    monkeypatch.setattr(frame_files, "_MAXIMUM_ROWS_PER_GROUP", 10)


@pytest.mark.usefixtures("small_groups")
@pytest.mark.parametrize("rows", [None, 0, 1, 10, 11, 34, 35, 99])
@pytest.mark.parametrize("offset", [0, 1, 9, 10, 11, 25, 34, 35, 99])
def test_only_the_rows_of_the_page_are_returned(folder, rows, offset):
    end = None if rows is None else offset + rows
    frame = pd.DataFrame({"a": range(35), "c": pd.Categorical([str(row % 7) for row in range(35)], ordered=True)})
    data = table_from_frame(frame, {})
    assert_frame_equal(
        to_pandas(stored(folder, data, page=Page(offset, rows))), frame[offset:end].reset_index(drop=True)
    )
    assert pq.read_metadata(folder / "frame.parquet").num_row_groups == 4
    assert_frame_equal(to_pandas(read_frame(folder / "frame.parquet")), frame)


@pytest.mark.usefixtures("small_groups")
def test_unneeded_data_is_not_read(folder):
    frame = pd.DataFrame({"a": range(35), "b": range(35)})
    write_frame(folder / "partly", table_from_frame(frame, {}))
    chunk = pq.read_metadata(folder / "partly").row_group(3).column(1)
    data = bytearray((folder / "partly").read_bytes())
    data[chunk.data_page_offset + 1] ^= 1
    (folder / "partly").write_bytes(data)
    assert_frame_equal(to_pandas(read_frame(folder / "partly", page=Page(rows=30))), frame.head(30))
    assert len(read_frame(folder / "partly", page=Page(20, 10))) == 10
    with pytest.raises(TVFileError, match="column 1 of row group 3"):
        read_frame(folder / "partly", page=Page(31, 1))
    assert_frame_equal(to_pandas(read_frame(folder / "partly", columns=["a"])), frame[["a"]])
    with pytest.raises(TVFileError, match="column 1 of row group 3"):
        read_frame(folder / "partly")


def test_artifacts_come_back_as_full_paths_where_that_is_asked_for(tmp_path):
    frame = pd.DataFrame({"a": ["x/y.pdf", None], "b": ["x", "y"]})
    data = table_from_frame(frame, {"a": parse_dtype("artifact_string")})
    full = to_pandas(with_artifact_folder(data, tmp_path))
    assert full["a"].tolist() == [f"{tmp_path}/x/y.pdf", pd.NA]
    assert full["b"].tolist() == ["x", "y"]
    assert to_pandas(data)["a"].tolist() == ["x/y.pdf", pd.NA]


def test_frame_file_describes_its_content_and_is_never_replaced(folder):
    frame = pd.DataFrame({"a": [1, 2], "b": pd.Series([{"x": 1}, None])})
    path = folder / "once"
    record = write_frame(path, table_from_frame(frame, {}))
    assert record.size == path.stat().st_size
    assert record.rows == 2
    types, rows = read_schema(path)
    assert rows == 2
    assert [column_type.name for column_type in types.values()] == ["Int64", "json"]
    with pytest.raises(FileExistsError):
        write_frame(path, table_from_frame(frame, {}))
    assert_frame_equal(to_pandas(read_frame(path)), frame)


def test_any_parquet_tool_can_read_the_file_with_natural_types(folder):
    frame = pd.DataFrame({"i": [1, 2], "c": pd.Categorical(["b", "a"]), "j": pd.Series([{"x": 1}, {"y": 2}])})
    write_frame(folder / "natural", table_from_frame(frame, {}))
    for rows in (pq.read_table(folder / "natural").to_pylist(), pl.read_parquet(folder / "natural").to_dicts()):
        assert [(row["i"], row["c"], json.loads(row["j"])) for row in rows] == [(1, "b", {"x": 1}), (2, "a", {"y": 2})]


def test_a_frame_that_could_not_be_written_leaves_no_file(folder):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, unlimited[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            write_frame(folder / "failed", frame_of_columns({}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert not (folder / "failed").exists()


@pytest.mark.parametrize("size", [0, 4, 100, -1])
def test_a_frame_that_was_not_written_to_its_end_is_not_whole(folder, size):
    path = folder / f"frame{size}"
    record = write_frame(path, table_from_frame(pd.DataFrame({"x": [1, 2, 3]}), {}))
    assert whole_frame(path) == record
    content = path.read_bytes()
    path.write_bytes(content[:size])
    assert whole_frame(path) is None
    path.write_bytes(content[:size].ljust(len(content), b"\0"))
    assert whole_frame(path) is None
    assert whole_frame(folder / "missing") is None


def test_missing_file_raises_file_not_found(folder):
    with pytest.raises(FileNotFoundError):
        read_frame(folder / "missing")


@pytest.fixture(scope="module")
def intact(folder):
    frame = pd.DataFrame(
        {
            "i": range(50),
            "s": [random.Random(row).choice(string.ascii_letters) * 5 for row in range(50)],
            "c": pd.Categorical(["x", "y"] * 25),
            "j": pd.Series([{"a": 1}, [1]] * 25),
        }
    )
    write_frame(folder / "intact", table_from_frame(frame, {}))
    return frame, (folder / "intact").read_bytes()


def outcome(path, data):
    path.write_bytes(data)
    try:
        return to_pandas(read_frame(path))
    except TVFileError as error:
        return None if str(path) in str(error) else error


def test_no_flipped_bit_goes_unnoticed(folder, intact):
    frame, data = intact
    draw = random.Random(1)
    for position in range(4, len(data), 5):
        flipped = bytearray(data)
        flipped[position] ^= 1 << draw.randrange(8)
        assert outcome(folder / "flipped", flipped) is None, position
    assert_frame_equal(outcome(folder / "flipped", data), frame)


def test_no_flipped_bit_of_a_column_goes_unnoticed_by_several_threads(folder, intact, monkeypatch):
    frame, data = intact
    monkeypatch.setattr(checksums, "_LARGE_BYTES", 0)
    footer = int.from_bytes(data[-8:-4], "little")
    for position in range(4, len(data) - footer, 97):
        flipped = bytearray(data)
        flipped[position] ^= 1
        assert outcome(folder / "flipped", flipped) is None, position
    assert_frame_equal(outcome(folder / "flipped", data), frame)


def test_no_truncation_or_addition_goes_unnoticed(folder, intact):
    _, data = intact
    for length in range(0, len(data), 37):
        assert outcome(folder / "cut", data[:length]) is None
    assert outcome(folder / "cut", data + b"x") is None
    assert outcome(folder / "cut", data[: len(data) // 2] + bytes(len(data) - len(data) // 2)) is None


def test_parquet_file_of_another_program_is_named_as_such(folder):
    pq.write_table(pa.table({"a": [1]}), folder / "foreign")
    with pytest.raises(TVFileError, match="not written by TableVault"):
        read_frame(folder / "foreign")


def forged(data, place, footer_changed=(b"", b"")):
    """Return a file whose checksums are right, and say that each column lies at one place."""
    metadata = pq.read_metadata(io.BytesIO(data))
    length = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - length : -8].replace(*footer_changed)
    columns = [[(*place, xxhash.xxh3_128_digest(b""))] * metadata.num_columns] * metadata.num_row_groups
    content = msgspec.msgpack.encode((xxhash.xxh3_128_digest(footer), columns))
    end = len(content).to_bytes(4, "little") + xxhash.xxh3_128_digest(content) + b"TVSEAL01"
    return data[: -8 - length] + content + end + footer + data[-8:]


def test_a_forged_footer_is_an_error_and_does_not_end_the_interpreter(folder, intact):
    (folder / "forged").write_bytes(forged(intact[1], (0, 0), (b"\x25\x02\x18\x01", b"\x25\x00\x18\x01")))
    with pytest.raises(TVFileError, match="histogram size mismatch"):
        read_frame(folder / "forged")


@pytest.mark.parametrize(
    "place", [(-1, 1), (4, -1), (4, 2**62), (2**62, 4), (2**63 - 1, 2**63 - 1), (2**64 - 1, 1)], ids=str
)
def test_forged_places_of_columns_are_an_error(folder, intact, place):
    (folder / "forged").write_bytes(forged(intact[1], place))
    with pytest.raises(TVFileError, match="beyond its end"):
        read_frame(folder / "forged")


@pytest.mark.parametrize(
    "form", ["object:__import__('os')", "object:None:eval", "pickle", "numpy.load", "category:", "int8"]
)
def test_a_file_that_lies_about_its_columns_is_an_error_and_runs_nothing(folder, form):
    data = table_from_frame(pd.DataFrame({"a": [1, 2]}), {})
    lying = type(data)(data.table, {"a": type(data.types["a"])("Int64", pa.int64(), pandas=form)})
    with pytest.raises(ValueError):
        to_pandas(stored(folder, lying))
