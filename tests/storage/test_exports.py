"""Frames exported for other programs equal those in the vault."""

import base64
import csv
import datetime
import decimal
import json
import os
from zoneinfo import ZoneInfo

import openpyxl
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tablevault.errors import TVArgumentError, TVTableError
from tablevault.storage.column_types import json_type
from tablevault.storage.exports import export_frame
from tablevault.storage.frame_data import FrameData, table_from_frame
from tablevault.texts.delimited import read_delimited

BERLIN = ZoneInfo("Europe/Berlin")
COLUMNS = {
    "text": pa.array(["a", "", None, 'say "hi",\nthen go', "=1+1"]),
    "whole": pa.array([2**63 - 1, -1, None, 0, 2**53 + 1], pa.int64()),
    "unsigned": pa.array([2**64 - 1, 0, None, 1, 2], pa.uint64()),
    "fraction": pa.array([0.1 + 0.2, 1e-12, None, float("nan"), float("-inf")]),
    "single": pa.array([0.1, 1e-12, None, float("nan"), float("inf")], pa.float32()),
    "half": pa.array([0.1, 1.0, None, 0.0, 65504.0], pa.float16()),
    "truth": pa.array([True, False, None, True, False]),
    "price": pa.array(
        [decimal.Decimal("1.10"), decimal.Decimal("-0.01"), None, decimal.Decimal(0), decimal.Decimal(9)]
    ),
    "day": pa.array([datetime.date(2024, 2, 29), datetime.date(1, 1, 1), None, datetime.date.max, datetime.date.min]),
    "moment": pa.array([datetime.datetime(2024, 1, 1, 1, 2, 3, 4)] * 4 + [None], pa.timestamp("us")),
    "nanos": pa.array([1, 2, None, -1, 10**18 + 1], pa.timestamp("ns")),
    "zoned": pa.array(
        [datetime.datetime(2024, 7, 1, 12, tzinfo=BERLIN)] * 4 + [None], pa.timestamp("us", "Europe/Berlin")
    ),
    "clock": pa.array([1, 2, None, 86_399_999_999_999, 0], pa.time64("ns")),
    "span": pa.array([1, -1_500_000, None, 0, 10**15], pa.duration("us")),
    "blob": pa.array([b"\xff\x00", b"", None, b"a", b"\n"]),
    "list": pa.array([[1.5, None], [], None, [float("nan")], [0.1 + 0.2]]),
    "struct": pa.array([{"a": datetime.date(2024, 1, 1), "b": b"\xff"}, None, {"a": None, "b": None}, None, None]),
    "pairs": pa.array([[("k", 1)], [], None, None, None], pa.map_(pa.string(), pa.int64())),
    "label": pa.array(["x", "y", None, "x", "x"]).dictionary_encode(),
}


@pytest.fixture(scope="module")
def frame():
    data = table_from_frame(pa.table(COLUMNS), {})
    documents = pa.array(['{"a":1e-12}', "[1,2]", None, '"text"', "12345678901234567890123"])
    return FrameData(data.table.append_column("document", documents), {**data.types, "document": json_type()})


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "feather"])
def test_binary_formats_keep_every_value_and_type(frame, tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    export_frame(frame, path)
    readers = {
        "parquet": pyarrow.parquet.read_table,
        "arrow": lambda path: pa.ipc.open_file(path).read_all(),
        "feather": pyarrow.feather.read_table,
    }
    read = readers[suffix](path)
    assert read.schema.equals(frame.table.schema)
    for column, expected in zip(read.columns, frame.table.columns, strict=True):
        # As text, NaN equals itself.
        assert column.equals(expected) or repr(column.to_pylist()) == repr(expected.to_pylist())


CATEGORIES = {
    "duration": pa.array([1_000_000, None, 1], pa.duration("us")),
    "zoned": pa.array([0, None, 1], pa.timestamp("us", "Asia/Tokyo")),
    "clock": pa.array([0, None, 1], pa.time64("ns")),
    "price": pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("2.00")]),
    "whole": pa.array([1, None, 2**64 - 1], pa.uint64()),
}


@pytest.mark.parametrize("name", CATEGORIES)
def test_parquet_keeps_the_types_of_categories(tmp_path, name):
    column = pa.chunked_array([CATEGORIES[name]])
    export_frame(table_from_frame(pa.table({"a": column.dictionary_encode()}), {}), tmp_path / "out.parquet")
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet").column("a").equals(column)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_json_holds_every_value_exactly(frame, tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    export_frame(frame, path)
    text = path.read_text()
    rows = json.loads(text) if suffix == "json" else [json.loads(line) for line in text.splitlines()]

    def cells(name):
        return [row[name] for row in rows]

    assert cells("text") == COLUMNS["text"].to_pylist()
    assert cells("whole") == COLUMNS["whole"].to_pylist()
    assert cells("unsigned") == COLUMNS["unsigned"].to_pylist()
    assert cells("fraction") == [0.1 + 0.2, 1e-12, None, "NaN", "-Infinity"]
    assert cells("single") == [COLUMNS["single"][0].as_py(), COLUMNS["single"][1].as_py(), None, "NaN", "Infinity"]
    assert cells("price") == ["1.10", "-0.01", None, "0.00", "9.00"]
    assert cells("day") == ["2024-02-29", "0001-01-01", None, "9999-12-31", "0001-01-01"]
    assert cells("moment") == ["2024-01-01T01:02:03.000004"] * 4 + [None]
    assert cells("nanos")[0] == "1970-01-01T00:00:00.000000001"
    assert [moment and datetime.datetime.fromisoformat(moment) for moment in cells("zoned")] == COLUMNS[
        "zoned"
    ].to_pylist()
    assert cells("zoned")[0].endswith("+02:00")
    assert cells("clock") == [
        "00:00:00.000000001",
        "00:00:00.000000002",
        None,
        "23:59:59.999999999",
        "00:00:00.000000000",
    ]
    assert cells("span") == ["PT0.000001S", "-PT1.5S", None, "PT0S", "PT1000000000S"]
    assert [blob and base64.b64decode(blob) for blob in cells("blob")] == [b"\xff\x00", "", None, b"a", b"\n"]
    assert cells("list") == [[1.5, None], [], None, ["NaN"], [0.1 + 0.2]]
    assert cells("struct")[0] == {"a": "2024-01-01", "b": "/w=="}
    assert cells("pairs")[0] == [["k", 1]]
    assert cells("label") == ["x", "y", None, "x", "x"]
    assert cells("document") == [{"a": 1e-12}, [1, 2], None, "text", 12345678901234567890123]


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t"), ("", ",")])
def test_delimited_text_holds_every_value(frame, tmp_path, suffix, delimiter):
    path = tmp_path / (f"out.{suffix}" if suffix else "out")
    export_frame(frame, path)
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter=delimiter))
    assert [row["text"] for row in rows] == ["a", "", "", 'say "hi",\nthen go', "=1+1"]
    assert [row["whole"] for row in rows] == ["9223372036854775807", "-1", "", "0", "9007199254740993"]
    assert [row["fraction"] for row in rows] == ["0.30000000000000004", "1e-12", "", "nan", "-inf"]
    assert [row["price"] for row in rows] == ["1.10", "-0.01", "", "0.00", "9.00"]
    assert rows[0]["zoned"] == "2024-07-01 12:00:00.000000+02:00"
    assert json.loads(rows[4]["list"]) == [0.1 + 0.2]
    assert rows[4]["document"] == "12345678901234567890123"
    assert rows[0]["blob"] == base64.b64encode(b"\xff\x00").decode()


MEAN_TIME = pa.array([-315573330000000, None, 10**15], pa.timestamp("us", "Africa/Monrovia"))
"""Until 1972, this zone's offset has seconds."""


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "xlsx"])
def test_offsets_with_seconds_are_written_whole(tmp_path, suffix):
    path = tmp_path / f"out.{suffix}"
    export_frame(table_from_frame(pa.table({"a": MEAN_TIME}), {}), path)
    if suffix == "xlsx":
        _, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
        texts = [row[0] for row in rows]
    elif suffix in ("csv", "tsv"):
        texts = [field.strip('"') or None for field in path.read_text().splitlines()[1:]]
    else:
        texts = [row["a"] for row in map(json.loads, path.read_text().strip("[]\n").replace(",\n", "\n").splitlines())]
    assert texts[0].replace("T", " ") == "1960-01-01 12:00:00.000000-00:44:30"
    assert [text and datetime.datetime.fromisoformat(text) for text in texts] == MEAN_TIME.to_pylist()


def counted(arrow, *counts):
    """Return times by their counts, which Python's types need not hold."""
    return pa.array([0, None, *counts], pa.int32() if arrow == pa.date32() else pa.int64()).view(arrow)


FAR = {
    "day": counted(pa.date32(), 2**31 - 1),
    "day in milliseconds": counted(pa.date64(), 10**10 * 86_400_000),
    "moment": counted(pa.timestamp("us"), 2**62),
    "moment of a zone": counted(pa.timestamp("us", "Asia/Tokyo"), -(2**62)),
    "moment in UTC": counted(pa.timestamp("s", "UTC"), 10**15),
    "moment that no local clock tells": counted(pa.timestamp("ns", "Europe/Berlin"), 2**63 - 1),
    "category": counted(pa.date32(), 2**31 - 1).dictionary_encode(),
    "list": pa.array([[0], None, [2**62]], pa.list_(pa.timestamp("us"))),
    "struct": pa.array([{"a": 0}, None, {"a": 2**62}], pa.struct([("a", pa.timestamp("us"))])),
    "list of durations": pa.array([[0], None, [10**15]], pa.list_(pa.duration("s"))),
}


@pytest.mark.parametrize("suffix", ["csv", "tsv", "json", "jsonl", "xlsx"])
@pytest.mark.parametrize("name", FAR)
def test_a_time_without_a_text_is_refused_at_its_row(tmp_path, name, suffix):
    data = table_from_frame(pa.table({"far": FAR[name]}), {})
    with pytest.raises(TVTableError, match=r"Column 'far', row 2, cannot be written as .*Write the frame as \.parquet"):
        export_frame(data, tmp_path / f"out.{suffix}")
    assert list(tmp_path.iterdir()) == []


def test_years_up_to_32767_are_written_in_text(tmp_path):
    days = counted(pa.date32(), 11_248_737, -12_687_428)
    moments = counted(pa.timestamp("ms"), 11_248_738 * 86_400_000 - 1, -12_687_428 * 86_400_000)
    nanos = counted(pa.timestamp("ns", "UTC"), 2**63 - 1, -(2**63) + 1)
    frame = pa.table({"day": days, "moment": moments, "nanos": nanos})
    export_frame(table_from_frame(frame, {}), tmp_path / "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[3:] == [
        '32767-12-31,32767-12-31 23:59:59.999,"2262-04-11 23:47:16.854775807Z"',
        '-32767-01-01,-32767-01-01 00:00:00.000,"1677-09-21 00:12:43.145224193Z"',
    ]


@pytest.mark.parametrize(
    "arrow", [pa.list_(pa.time64("ns")), pa.list_(pa.time64("ns"), 1), pa.large_list(pa.time64("ns"))], ids=str
)
def test_times_in_lists_keep_their_nanoseconds(tmp_path, arrow):
    export_frame(table_from_frame(pa.table({"a": pa.array([[1]], arrow)}), {}), tmp_path / "out.jsonl")
    assert json.loads((tmp_path / "out.jsonl").read_text()) == {"a": ["00:00:00.000000001"]}


def test_delimited_text_tells_an_empty_text_from_null(tmp_path):
    data = table_from_frame(pa.table({"a": ["", None, "NA"], "b": [1, 2, 3]}), {})
    export_frame(data, tmp_path / "out.csv")
    assert read_delimited(tmp_path / "out.csv").column("a").to_pylist() == ["", None, "NA"]


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
@pytest.mark.parametrize(
    "name", [" ", "a;b", "a|b", "a\tb", "a,b", 'a"b', "a\nb", "a\r\nb", "a\rb", "\ufeffa", " a ", "a\u2028b"]
)
def test_names_in_delimited_text_come_back_as_they_were(tmp_path, name, suffix):
    for columns in ({name: ["x", "", None]}, {name: ["x", "", None], "b": ["1.", "a\0", "\r"]}):
        export_frame(table_from_frame(pa.table(columns), {}), tmp_path / f"out.{suffix}")
        assert read_delimited(tmp_path / f"out.{suffix}").to_pydict() == columns


@settings(max_examples=50, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.floats(),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_csv_and_json_lines_come_back_as_they_were(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("export")
    texts, wholes, fractions = (list(column) for column in zip(*rows, strict=True))
    table = pa.table(
        {
            "text": pa.array(texts, pa.string()),
            "whole": pa.array(wholes, pa.int64()),
            "fraction": pa.array(fractions, pa.float64()),
        }
    )
    data = table_from_frame(table, {})
    export_frame(data, folder / "out.csv")
    export_frame(data, folder / "out.jsonl")
    with (folder / "out.csv").open(newline="", encoding="utf-8") as file:
        _, *fields = csv.reader(file)
    assert [text for text, _, _ in fields] == [text or "" for text in texts]
    assert [whole and int(whole) for _, whole, _ in fields] == ["" if whole is None else whole for whole in wholes]
    assert repr([fraction and float(fraction) for _, _, fraction in fields]) == repr(
        ["" if fraction is None else fraction for fraction in fractions]
    )
    lines = [json.loads(line) for line in (folder / "out.jsonl").read_text(encoding="utf-8").split("\n")[:-1]]
    assert [(line["text"], line["whole"]) for line in lines] == [(text, whole) for text, whole, _ in rows]
    assert repr([line["fraction"] and float(line["fraction"]) for line in lines]) == repr(fractions)


def test_excel_holds_every_value(frame, tmp_path):
    export_frame(frame, tmp_path / "out.xlsx")
    header, *rows = openpyxl.load_workbook(tmp_path / "out.xlsx").active.iter_rows(values_only=True)
    cells = {name: [row[position] for row in rows] for position, name in enumerate(header)}
    assert cells["text"] == ["a", None, None, 'say "hi",\nthen go', "=1+1"]
    assert cells["whole"] == ["9223372036854775807", "-1", None, "0", "9007199254740993"]
    assert cells["fraction"] == [0.1 + 0.2, 1e-12, None, "NaN", "-Infinity"]
    assert cells["truth"] == [True, False, None, True, False]
    assert cells["price"] == [1.1, -0.01, None, 0, 9]
    assert cells["day"][0] == "2024-02-29"
    assert cells["moment"][0] == "2024-01-01 01:02:03.000004"
    assert cells["blob"][0] == base64.b64encode(b"\xff\x00").decode()
    assert cells["document"][0] == '{"a":1e-12}'


def test_excel_has_dates_as_dates_where_all_are_exact(tmp_path):
    moments = [datetime.datetime(1900, 3, 1), None, datetime.datetime(2024, 1, 1, 1, 2, 3, 4000)]
    days = [datetime.date(1900, 3, 1), None, datetime.date(9999, 12, 31)]
    export_frame(table_from_frame(pa.table({"moment": moments, "day": days}), {}), tmp_path / "out.xlsx")
    _, *rows = openpyxl.load_workbook(tmp_path / "out.xlsx").active.iter_rows(values_only=True)
    assert [row[0] for row in rows] == moments
    assert [row[1] and row[1].date() for row in rows] == days


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(), min_size=1, max_size=20))
def test_excel_keeps_all_digits_of_fractions(tmp_path_factory, numbers):
    path = tmp_path_factory.mktemp("excel") / "out.xlsx"
    export_frame(table_from_frame(pa.table({"x": pa.array(numbers, pa.float64())}), {}), path)
    _, *rows = openpyxl.load_workbook(path).active.iter_rows(values_only=True)
    assert repr([float(row[0]) for row in rows]) == repr(numbers)


@pytest.mark.parametrize(
    "text", ["a\x0bb", "a\rb", "_x000D_", "x" * 32_768], ids=["control", "return", "escape", "long"]
)
def test_excel_refuses_a_text_that_it_cannot_keep(tmp_path, text):
    data = table_from_frame(pa.table({"a": ["fine", text]}), {})
    with pytest.raises(TVTableError, match="Column 'a', row 1 .*Write the frame as .csv or .parquet"):
        export_frame(data, tmp_path / "out.xlsx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["out.parq", "out.xls", "out.csv.gz", "out.txt"])
def test_a_suffix_without_a_format_is_refused(frame, tmp_path, name):
    with pytest.raises(
        TVArgumentError, match=r"\.csv, \.tsv, \.parquet, \.json, \.jsonl, \.arrow, \.feather or \.xlsx"
    ):
        export_frame(frame, tmp_path / name)


def test_an_export_that_fails_leaves_the_earlier_file(tmp_path):
    path = tmp_path / "out.xlsx"
    export_frame(table_from_frame(pa.table({"a": ["first"]}), {}), path)
    before = path.read_bytes()
    with pytest.raises(TVTableError):
        export_frame(table_from_frame(pa.table({"a": ["a\x00b"]}), {}), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_an_export_can_go_into_a_pipe(tmp_path):
    pipe = tmp_path / "out.csv"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        export_frame(table_from_frame(pa.table({"a": [1]}), {}), pipe)
        assert os.read(reader, 100) == b"a\n1\n"
    finally:
        os.close(reader)


def test_an_empty_frame_is_written_in_every_format(tmp_path):
    for suffix in ("csv", "tsv", "json", "jsonl", "parquet", "arrow", "feather", "xlsx"):
        export_frame(table_from_frame(pa.table({"a": pa.array([], pa.string())}), {}), tmp_path / f"out.{suffix}")
    assert (tmp_path / "out.csv").read_text() == "a\n"
    assert json.loads((tmp_path / "out.json").read_text()) == []
