"""Cells of every type as pages show them."""

from __future__ import annotations

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from asking import Client

from tablevault import TableVault
from tablevault.presentation.cells import shown_frame

UTC = datetime.UTC

VALUES = {
    "integer": (pa.array([2**63 - 1, None]), "number", str(2**63 - 1)),
    "unsigned": (pa.array([2**64 - 1, None], pa.uint64()), "number", str(2**64 - 1)),
    "float": (pa.array([0.1, None]), "number", "0.1"),
    "half": (pa.array([np.float16(1.5), None], pa.float16()), "number", "1.5"),
    "infinite": (pa.array([-np.inf, None]), "number", "-Infinity"),
    "not a number": (pa.array([np.nan, None]), "number", "NaN"),
    "decimal": (pa.array([decimal.Decimal("1.20"), None]), "number", "1.20"),
    "flag": (pa.array([True, None]), "text", "true"),
    "text": (pa.array(["x" * 301, None]), "text", "x" * 300),
    "large text": (pa.array(["ü", None], pa.large_string()), "text", "ü"),
    "category": (pa.array(["a", None]).dictionary_encode(), "text", "a"),
    "bytes": (pa.array([b"\0" * 40, None]), "bytes", "00 " * 15 + "00"),
    "date": (pa.array([datetime.date(2026, 1, 2), None]), "text", "2026-01-02"),
    "time": (pa.array([datetime.time(1, 2, 3), None]), "text", "01:02:03.000000"),
    "moment": (pa.array([1, None], pa.timestamp("ns", "UTC")), "text", "1970-01-01 00:00:00.000000001Z"),
    "far": (pa.array([10**12, None], pa.timestamp("s")), "text", "<value out of range: 1000000000000>"),
    "duration": (pa.array([1_500, None], pa.duration("ms")), "text", "1.5 s"),
    "brief": (pa.array([-1, None], pa.duration("ns")), "text", "-0.000000001 s"),
    "list": (pa.array([[1, 2], None]), "list", "[1, 2]"),
    "long list": (pa.array([list(range(500)), None]), "list", None),
    "nested": (pa.array([[["a"], None], None]), "list", '[["a"], null]'),
    "vector": (pa.array([[0.5, 1.5], None], pa.list_(pa.float32(), 2)), "list", "[0.5, 1.5]"),
    "no items": (pa.array([[], None], pa.list_(pa.float32(), 0)), "list", "[]"),
    "struct": (pa.array([{"a": 1, "b": b"x"}, None]), "json", '{"a": 1, "b": "78"}'),
    "map": (pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int64())), "json", '[["k", 1]]'),
    "far within": (
        pa.StructArray.from_arrays(
            [pa.array([[2**31 - 1], None], pa.list_(pa.date32()))], ["d"], mask=pa.array([False, True])
        ),
        "json",
        '{"d": ["<value out of range: 2147483647>"]}',
    ),
    "far in lists": (pa.array([[2**62], None], pa.list_(pa.timestamp("s"))), "list", None),
    "nothing": (pa.nulls(2), "null", ""),
}


@pytest.mark.parametrize("name", VALUES)
def test_value_is_shown_in_the_form_of_its_type(name):
    array, state, text = VALUES[name]
    first, second = (row.cells[0] for row in shown_frame(pa.table({"x": array}), {}).rows)
    assert first.state == state
    if text is not None:
        assert first.text == text
    assert len(first.text) <= 302
    assert second.state == "null"


def test_lengths_are_those_of_whole_values():
    table = pa.table({name: array for name, (array, _, _) in VALUES.items()})
    frame = shown_frame(table, {})
    cells = dict(zip(VALUES, frame.rows[0].cells, strict=True))
    lengths = {name: cell.length for name, cell in cells.items() if cell.length is not None}
    assert lengths == {
        "text": 301,
        "bytes": 40,
        "list": 2,
        "long list": 500,
        "nested": 2,
        "vector": 2,
        "no items": 0,
        "far in lists": 1,
    }
    assert [column.name for column in frame.columns if column.is_number] == list(VALUES)[:7]


def test_empty_frames_have_columns():
    for array, _, _ in VALUES.values():
        assert shown_frame(pa.table({"x": array.slice(0, 0)}), {}).rows == ()


def test_columns_of_a_vault_are_named_by_their_types(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    frame = pa.table(
        {
            "vector": pa.array([[0.5] * 384], pa.list_(pa.float32(), 384)),
            "facts": pa.array([{"a": "b" * 400}]),
            "when": pa.array([10**15], pa.timestamp("us", "Europe/Berlin")),
        }
    )
    vault.write("typed", frame, dtypes={"facts": "json", "vector": "vector<float32, 384>"})
    server = vault.serve(block=False)
    try:
        client = Client(server.url)
        data = client.get("/table/typed/base.json").json["frame"]
        assert [column["type_name"] for column in data["columns"]] == [
            "vector<float32, 384>", "json", "datetime64[us, Europe/Berlin]",
        ]  # fmt: skip
        vector, facts, when = data["rows"][0]["cells"]
        assert vector["length"] == 384
        assert facts["length"] > 300
        assert when["text"].startswith("2001-09-09 03:46:40")
        text = client.get("/table/typed/base").text
        assert "384 items" in text
        assert "characters" in text
        whole = client.get("/table/typed/base/row/0.json").json["cells"]
        assert whole[1]["text"] == '{\n  "a": "' + "b" * 400 + '"\n}'
        assert whole[0]["text"].count("0.5") == 384
        for name in ("typed", "typed(base)"):
            assert client.get(f'/sql?q=SELECT+*+FROM+"{name}"').status == 200
    finally:
        server.close()
