"""Arrays in memory, in Arrow, in Parquet and in checkpoints.

All have the same bytes, without an object per element.
"""

import itertools
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from array_columns import array_columns
from hypothesis import given, settings
from hypothesis import strategies as st
from waiting import until

from tablevault import TableVault, TableVaultWarning, to_numpy
from tablevault.storage import vectors
from tablevault.storage.columns import build_column, natural_type, plain_values
from tablevault.storage.dtypes import cell_checker, parse_dtype
from tablevault.storage.exports import export_frame
from tablevault.storage.frame_data import frame_of_columns, table_from_frame, to_arrow, to_pandas, to_polars
from tablevault.storage.frame_files import read_frame, write_frame
from tablevault.storage.packing import pack, pack_columns, unpack
from tablevault.storage.vectors import CHUNK_BYTES


def same(found, expected):
    assert len(found) == len(expected)
    for cell, array in zip(found, expected, strict=True):
        if array is None:
            assert cell is None
        else:
            assert cell.dtype == array.dtype
            assert cell.shape == array.shape
            assert cell.tobytes() == array.tobytes()
            assert not cell.flags.writeable


@settings(max_examples=30, deadline=None)
@given(made=array_columns(), cut=st.integers(0, 4))
def test_arrays_have_the_same_bytes_everywhere(made, cut, tmp_path_factory):
    column_type = parse_dtype(made.dtype)
    expected = made.cells
    check = cell_checker(column_type)
    checked = [check(value) for value in made.given]
    same(checked, expected)
    restored = unpack(pack([checked]))[0]
    same(restored, expected)
    together = unpack(b"".join(pack_columns([checked, ["text"] * len(checked)])))
    same(together[0], expected)
    assert together[1] == ["text"] * len(checked)
    mixed = [*restored[:2], *checked[2:]]
    for source in (checked, restored, mixed):
        column, _ = build_column(source, column_type)
        same(plain_values(column, column_type), expected)
    path = tmp_path_factory.mktemp("frames") / "frame.parquet"
    data = frame_of_columns({"v": (column, column_type)})
    write_frame(path, data)
    stored = read_frame(path)
    assert stored.types == data.types
    same(plain_values(stored.table["v"], column_type), expected)
    same(plain_values(stored.table["v"].slice(cut), column_type), expected[cut:])
    arrow = to_arrow(stored)
    assert str(arrow.schema.field("v").type).find("not null") < 0
    again = table_from_frame(arrow, {"v": column_type})
    same(plain_values(again.table["v"], column_type), expected)
    if column_type.kind != "tensor":
        for frame in (to_pandas(stored), to_polars(stored)):
            again = table_from_frame(frame, {"v": column_type})
            same(plain_values(again.table["v"], column_type), expected)


def test_null_rows_and_slices_do_not_move_values(tmp_path):
    """`values` of a list of a fixed size ignores offsets, and `flatten` leaves null rows out."""
    rows = [[1, 2], None, [3, 4], None, [5, 6]]
    column_type = parse_dtype("vector<int64, 2>")
    data = table_from_frame(pa.table({"v": pa.array(rows, pa.list_(pa.int64(), 2))}), {"v": column_type})
    path = tmp_path / "frame.parquet"
    write_frame(path, data)
    column = read_frame(path).table["v"]
    for start in range(5):
        found = plain_values(column.slice(start), column_type)
        assert [None if cell is None else cell.tolist() for cell in found] == rows[start:]
    assert to_numpy(column.slice(4)).tolist() == [[5, 6]]
    with pytest.raises(ValueError, match="row 1 is null"):
        to_numpy(column)


def test_a_null_item_is_refused_and_one_under_a_null_row_is_not(tmp_path):
    column_type = parse_dtype("vector<float32, 2>")
    items = pa.array([1, 2, None, None, 5, 6], pa.float32())
    nulls = pa.FixedSizeListArray.from_arrays(items, 2, mask=pa.array([False, True, False]))
    data = table_from_frame(pa.table({"v": nulls}), {"v": column_type})
    write_frame(tmp_path / "frame.parquet", data)
    found = to_numpy(read_frame(tmp_path / "frame.parquet").table["v"])
    assert found[[0, 2]].tolist() == [[1, 2], [5, 6]]
    assert np.isnan(found[1]).all()
    with pytest.raises(Exception, match="row 1: .*missing item"):
        table_from_frame(pa.table({"v": pa.FixedSizeListArray.from_arrays(items, 2)}), {"v": column_type})


def test_cells_lie_together_and_become_chunks_without_a_copy():
    column_type = parse_dtype("vector<float32, 1024>")
    check = cell_checker(column_type)
    value = np.arange(1024, dtype="float32")
    cells = [check(value) for _ in range(3 * CHUNK_BYTES // value.nbytes)]
    column, _ = build_column(cells, column_type)
    assert column.num_chunks == 3
    first = column.chunk(0)
    assert first.values.buffers()[1].address == cells[0].__array_interface__["data"][0]
    assert to_numpy(first).base is not None
    assert not to_numpy(first).flags.writeable
    assert to_numpy(first, copy=True).flags.writeable
    assert to_numpy(column).shape == (len(cells), 1024)


def test_row_larger_than_a_chunk_has_a_separate_one():
    column_type = parse_dtype("vector<float64>")
    check = cell_checker(column_type)
    large = np.arange(CHUNK_BYTES // 8 + 5, dtype="float64")
    cells = [check(value) for value in (large[:3], large, large[:2])]
    column, _ = build_column(cells, column_type)
    same(plain_values(column, column_type), [large[:3], large, large[:2]])


def test_chunks_end_before_their_offsets_overflow(monkeypatch):
    monkeypatch.setattr(vectors, "_MAXIMUM_OFFSET", 100_000)
    column_type = parse_dtype("vector<float64>")
    check = cell_checker(column_type)
    cells = [check(np.full(30_000, float(number))) for number in range(8)] + [check(np.arange(100_000.0))]
    column, _ = build_column(cells, column_type)
    assert max(len(chunk.values) for chunk in column.chunks) <= 100_000
    same(plain_values(column, column_type), cells)
    with pytest.raises(ValueError, match="has more items than vector<float64> can hold"):
        check(np.zeros(100_001))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_tensors_with_permuted_dimensions_are_read_in_their_order(order):
    stored = np.arange(2 * 24).reshape(2, 2, 3, 4)
    arrow = pa.fixed_shape_tensor(pa.int64(), [2, 3, 4], permutation=list(order))
    column = pa.ExtensionArray.from_storage(arrow, pa.array(stored.reshape(2, 24).tolist(), pa.list_(pa.int64(), 24)))
    np.testing.assert_array_equal(to_numpy(column), np.stack([tensor.transpose(order) for tensor in stored]))


def test_types_of_arrays_without_a_dtype():
    def arrays(*dtypes):
        return [np.array([1, 0], dtype) for dtype in dtypes]

    assert natural_type(arrays("float32", "float32")).name == "vector<float32>"
    assert natural_type([None, *arrays("int8", "uint8")]).name == "vector<int16>"
    assert natural_type(arrays("float32", "int64")).name == "vector<float64>"
    assert natural_type([*arrays("int64"), [1, 2]]).name == "list<int64>"
    assert natural_type([np.array([2**53 + 1]), np.array([0.5])]).name != "vector<float64>"
    assert natural_type(arrays("bool", "float32")).name == "json"


@pytest.mark.slow
def test_one_large_row_takes_no_object_per_element(tmp_path):
    count = 10_000_000
    column_type = parse_dtype("vector<float32>")
    value = np.arange(count, dtype="float32")
    tracemalloc.start()
    try:
        cell = cell_checker(column_type)(value)
        unpacked = unpack(pack([[cell]]))
        column, _ = build_column(unpacked[0], column_type)
        del cell, unpacked
        write_frame(tmp_path / "frame.parquet", frame_of_columns({"v": (column, column_type)}))
        found = to_numpy(read_frame(tmp_path / "frame.parquet").table["v"])
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.tobytes() == value.tobytes()
    assert peak < 4 * value.nbytes


def test_text_files_hold_json_lists_and_warn_of_values_json_lacks(tmp_path):
    column_type = parse_dtype("vector<float32>")
    column, _ = build_column([np.array(cell, "float32") for cell in ([0.1, 2], [], [np.nan, np.inf])], column_type)
    data = frame_of_columns({"v": (column, column_type)})
    for name in ("frame.csv", "frame.jsonl"):
        with pytest.warns(TableVaultWarning, match="Column 'v': 2 numbers are NaN or infinite"):
            export_frame(data, tmp_path / name)
    rows = (tmp_path / "frame.jsonl").read_text(encoding="utf-8").splitlines()
    assert rows == ['{"v": [0.1, 2.0]}', '{"v": []}', '{"v": [null, null]}']
    assert '"[0.1, 2.0]"' in (tmp_path / "frame.csv").read_text(encoding="utf-8")


SCRIPT = """
import sys
from tablevault import TableVault

TableVault(sys.argv[1], author="ada").execute_instance("t", process_id="work")
"""
MODULE = """
import os

import numpy as np
import pandas as pd


def numbers(count):
    return pd.DataFrame({"x": range(count)})


def embed(x):
    with open(os.environ["CALLS"], "a") as file:
        file.write(f"{x}\\n")
    return np.full(768, x, "float32") + np.arange(768, dtype="float32")
"""
BUILDER = """
builder_type: {kind}
changed_columns: [{column}]
code_module: job
is_custom: true
python_function: {function}
return_type: {return_type}
"""


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 0.8, 1.5])
def test_vectors_survive_a_kill(tmp_path, monkeypatch, seconds):
    count, calls = 20_000, tmp_path / "calls.txt"
    monkeypatch.setenv("CALLS", str(calls))
    calls.touch()
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module("job", text=MODULE)
    vault.create_table("t")
    index = BUILDER.format(kind="IndexBuilder", column="x", function="numbers", return_type="dataframe")
    column = BUILDER.format(kind="ColumnBuilder", column="e", function="embed", return_type="row-wise")
    vault.create_instance(
        "t",
        builders={
            "t_index": f"{index}arguments: {{count: {count}}}\nprimary_key: [x]\n",
            "e": f'{column}arguments: {{x: "<<self.x[index]>>"}}\ndtypes: {{e: "vector<float32, 768>"}}\n',
        },
    )
    running = subprocess.Popen([sys.executable, "-c", SCRIPT, str(tmp_path / "vault")])
    until(lambda: calls.stat().st_size)
    time.sleep(seconds)
    running.kill()
    running.wait()
    before = len(calls.read_text(encoding="utf-8").splitlines())
    other = TableVault(tmp_path / "vault", author="ada")
    if before < count or not other.get_table_instances("t"):
        other.execute_instance("t", process_id="work")
    found = to_numpy(other.get_dataframe("t")[0]["e"])
    expected = np.arange(count, dtype="float32")[:, None] + np.arange(768, dtype="float32")
    np.testing.assert_array_equal(found, expected)
    made = list(map(int, calls.read_text(encoding="utf-8").split()))
    assert set(made) == set(range(count))
    assert Path(tmp_path / "vault").exists()
    assert not other.verify().problems
    assert isinstance(other.get_dataframe("t")[0], pd.DataFrame)
