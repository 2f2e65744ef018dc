"""Vectors and tensors from functions and frames to frames, functions, files and checkpoints."""

import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tablevault import TableVault, to_numpy, tv_errors
from tablevault.rows.table import consecutive

sys.path.insert(0, str(Path(__file__).parents[1] / "types"))
from kinds import build, builder, new_vault, write

CODE = """
import threading

import numpy as np
import pandas as pd

AGAIN = np.zeros(3, "float32")
KEPT = []
CALLS = []


def rows(count):
    return pd.DataFrame({"i": range(count)})


def again(i):
    CALLS.append(i)
    AGAIN[:] = [i, i + 0.5, -i]
    return AGAIN


async def again_later(i):
    return again(i)


LOCAL = threading.local()


def again_in_thread(i):
    if not hasattr(LOCAL, "array"):
        LOCAL.array = np.zeros(3, "float32")
    LOCAL.array[:] = [i, i + 0.5, -i]
    return LOCAL.array


def again_batch(i):
    return np.stack([np.array([x, x + 0.5, -x]) for x in i])


def again_all(count):
    for i in range(count):
        yield again(i)


def again_frame(count):
    return pd.DataFrame({"v": [np.array([i, i + 0.5, -i], "float32") for i in range(count)]})


def two(i):
    return np.array([i, i]), np.full((2, 2), i)


def images(i):
    return None if i % 3 == 1 else np.arange(6).reshape(2, 3) * i


def lengths(i):
    return np.arange(i % 4)


def wrong(i):
    return np.zeros(512)


def describe(v):
    KEPT.append(v)
    try:
        v[0] = 9
    except ValueError:
        return f"{type(v).__name__} {v.dtype} {v.tolist()}"


def describe_batch(v):
    form = f"{type(v).__name__} {getattr(v, 'shape', len(v))}"
    return [form] * len(v)


def text(v):
    return v
"""
ROWS = {"built_index": builder("rows", ["i"], index=True, arguments="{count: 20}", primary_key="[i]")}
EXPECTED = np.array([[i, i + 0.5, -i] for i in range(20)], "float32")
ROW = '{i: "<<self.i[index]>>"}'
VECTOR = '{v: "vector<float32, 3>"}'


def made(tmp_path, **builders):
    vault = new_vault(tmp_path, "built")
    build(vault, CODE, ROWS | builders)
    return vault


@pytest.mark.parametrize(
    "text",
    [
        builder("again", ["v"], "row-wise", arguments=ROW, dtypes=VECTOR),
        builder("again", ["v"], "row-wise", arguments=ROW),
        builder("again", ["v"], "row-wise", arguments=ROW, dtypes='{v: "list<float32>"}'),
        builder("again_in_thread", ["v"], "row-wise", arguments=ROW, dtypes=VECTOR, n_threads=16),
        builder("again_later", ["v"], "row-wise", arguments=ROW, dtypes=VECTOR),
        builder("again_batch", ["v"], "batch", arguments=ROW, dtypes=VECTOR, batch_size=6),
        builder("again_all", ["v"], "generator", arguments="{count: 20}", dtypes=VECTOR),
        builder("again_frame", ["v"], "dataframe", arguments="{count: 20}", dtypes=VECTOR),
        builder("again_frame", ["v"], "dataframe", arguments="{count: 20}"),
    ],
)
def test_arrays_come_back_however_they_were_computed(tmp_path, text):
    vault = made(tmp_path, v=text)
    frame, _ = vault.get_dataframe("built")
    assert frame["v"].dtype.pyarrow_dtype.value_type == pa.float32()
    np.testing.assert_array_equal(to_numpy(frame["v"]), EXPECTED)
    for form in ("arrow", "polars"):
        other, _ = vault.get_dataframe("built", format=form)
        np.testing.assert_array_equal(to_numpy(other["v"]), EXPECTED)


@pytest.mark.slow
def test_worker_processes_return_arrays(tmp_path):
    text = builder("again", ["v"], "row-wise", arguments=ROW, dtypes=VECTOR, executor="processes")
    frame, _ = made(tmp_path, v=text).get_dataframe("built")
    np.testing.assert_array_equal(to_numpy(frame["v"]), EXPECTED)


def test_functions_get_read_only_arrays_and_batches_of_them(tmp_path):
    own = '{v: "<<self.v[index]>>"}'
    vault = made(
        tmp_path,
        v=builder("again", ["v"], "row-wise", arguments=ROW, dtypes=VECTOR),
        length=builder("lengths", ["n"], "row-wise", arguments=ROW, dtypes='{n: "vector<int8>"}'),
        image=builder("images", ["t"], "row-wise", arguments=ROW, dtypes='{t: "tensor<int16, 2, 3>"}'),
        listed=builder("again", ["f"], "row-wise", arguments=ROW, dtypes='{f: "fixed_size_list<float32>[3]"}'),
        one=builder("describe", ["one"], "row-wise", arguments=own),
        batch=builder("describe_batch", ["batch"], "batch", arguments=own, batch_size=20),
        uneven=builder("describe_batch", ["uneven"], "batch", arguments='{v: "<<self.n[index]>>"}', batch_size=20),
        nulls=builder("describe_batch", ["nulls"], "batch", arguments='{v: "<<self.t[index]>>"}', batch_size=20),
        fixed=builder("describe_batch", ["fixed"], "batch", arguments='{v: "<<self.f[index]>>"}', batch_size=20),
        text=builder("text", ["text"], "row-wise", arguments='{v: "of <<self.v[index]>>"}'),
        plain=builder("describe_batch", ["plain"], "row-wise", arguments='{v: ["<<self.f[index]>>"]}').replace(
            "describe_batch", "text"
        ),
    )
    frame, _ = vault.get_dataframe("built")
    assert frame["one"][2] == "ndarray float32 [2.0, 2.5, -2.0]"
    assert frame["batch"][0] == "ndarray (20, 3)"
    assert frame["uneven"][0] == "list 20"
    assert frame["nulls"][0] == "list 20"
    assert frame["fixed"][0] == "ndarray (20, 3)"
    assert frame["text"][1] == "of [1.0, 1.5, -1.0]"
    assert frame["plain"][1] == [[1.0, 1.5, -1.0]]
    assert to_numpy(frame["n"].iloc[[3, 7]]).tolist() == [[0, 1, 2], [0, 1, 2]]
    with pytest.raises(ValueError, match="row 1 has 1 items, rows before it have 0"):
        to_numpy(frame["n"])
    with pytest.raises(ValueError, match="row 1 is null"):
        to_numpy(frame["t"])
    assert to_numpy(frame["t"].dropna())[1].tolist() == [[0, 2, 4], [6, 8, 10]]
    dataset, _ = vault.scan("built", format="arrow")
    arrow, _ = vault.get_dataframe("built", format="arrow")
    for form in (dataset.to_table(), vault.scan("built")[0].collect()):
        np.testing.assert_array_equal(to_numpy(form["v"]), EXPECTED)
    assert dataset.schema.field("t").type == arrow.schema.field("t").type
    lengths, _ = vault.query("SELECT v[2] AS second, len(n) AS length FROM built ORDER BY i")
    assert lengths["second"].tolist() == EXPECTED[:, 1].tolist()
    assert lengths["length"].tolist() == [i % 4 for i in range(20)]


def test_a_refused_array_names_builder_column_and_row(tmp_path):
    vault = new_vault(tmp_path, "built")
    wrong = builder("wrong", ["v"], "row-wise", arguments=ROW, dtypes='{v: "vector<float32, 768>"}')
    with pytest.raises(ValueError, match="builder|Builder") as refused:
        build(vault, CODE, ROWS | {"embed": wrong})
    assert (
        "Builder 'embed', column 'v', row 0: an array of float64 with shape (512,) does not fit vector<float32, 768>"
        in str(refused.value)
    )


def test_an_array_cannot_be_a_key_or_a_condition(tmp_path):
    vault = new_vault(tmp_path, "built")
    key = builder("again_frame", ["v"], index=True, arguments="{count: 2}", primary_key="[v]")
    with pytest.raises(tv_errors.TVBuilderError, match="primary key cannot have the dtype"):
        build(vault, CODE, {"built_index": f"{key}\ndtypes: {VECTOR}"})
    vault = new_vault(tmp_path / "natural", "built")
    with pytest.raises(tv_errors.TVTableError, match="Primary key column 'v' holds vector<float32>"):
        build(vault, CODE, {"built_index": key})
    vault = new_vault(tmp_path / "condition", "built")
    condition = builder("text", ["w"], "row-wise", arguments='{v: "<<self.i[v::1]>>"}')
    column = builder("again", ["v"], "row-wise", arguments=ROW, dtypes=VECTOR)
    with pytest.raises(tv_errors.TableReferenceError, match="cannot be compared"):
        build(vault, CODE, ROWS | {"v": column, "w": condition})


def test_redeclaring_a_list_as_a_vector_computes_nothing(tmp_path):
    folder = tmp_path / "calls"
    folder.mkdir()
    code = (
        CODE
        + f"""

def counted(i):
    open({str(folder)!r} + f"/{{i}}-{{len(__import__('os').listdir({str(folder)!r}))}}", "w").close()
    return again(i)
"""
    )
    vault = new_vault(tmp_path, "built")
    text = builder("counted", ["v"], "row-wise", arguments=ROW, dtypes='{v: "list<float32>"}')
    build(vault, code, ROWS | {"v": text})
    called = 20
    for dtype, calls in (("vector<float32, 3>", 0), ("vector<float32>", 0), ("vector<float32, 3>", 0)):
        vault.create_instance("built", copy=True, builders={"v": text.replace("list<float32>", dtype)})
        vault.execute_instance("built")
        called += calls
        assert len(list(folder.iterdir())) == called
        np.testing.assert_array_equal(to_numpy(vault.get_dataframe("built")[0]["v"]), EXPECTED)
        assert vault.get_dataframe("built", format="arrow")[0].schema.field("v").type in (
            pa.list_(pa.float32(), 3),
            pa.list_(pa.float32()),
        )
    vault.create_instance("built", copy=True, builders={"v": text.replace("list<float32>", "vector<float32, 5>")})
    with pytest.raises(ValueError, match="an array of float32 with shape \\(3,\\) does not fit vector<float32, 5>"):
        vault.execute_instance("built")
    assert len(list(folder.iterdir())) == called + 1


NUMBERS = np.array([[1.5, np.nan], [np.inf, -0.0], [0.1, 2]], "float32")


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"v": [NUMBERS[0], None, NUMBERS[2]]}),
        pd.DataFrame({"v": [NUMBERS[0].tolist(), None, NUMBERS[2].astype(">f8")]}),
        pa.table({"v": pa.array([NUMBERS[0], None, NUMBERS[2]], pa.list_(pa.float64()))}),
        pa.table({"v": pa.array([[9, 9], NUMBERS[0], None, NUMBERS[2]], pa.list_(pa.float32(), 2)).slice(1)}),
        pl.DataFrame({"v": pl.Series([NUMBERS[0].tolist(), None, NUMBERS[2].tolist()], dtype=pl.Array(pl.Float32, 2))}),
    ],
)
def test_frames_of_every_library_are_stored_as_vectors(tmp_path, frame):
    vault = new_vault(tmp_path, "data")
    write(vault, frame, dtypes={"v": "vector<float32, 2>"})
    read, _ = vault.get_dataframe("data")
    expected = NUMBERS.copy()
    expected[1] = np.nan
    assert to_numpy(read["v"]).tobytes() == expected.tobytes()
    assert read["v"].isna().tolist() == [False, True, False]


def test_arrow_tensors_are_stored_and_come_back(tmp_path):
    vault = new_vault(tmp_path, "data")
    cubes = np.arange(24, dtype="int16").reshape(2, 3, 4)
    tensors = pa.FixedShapeTensorArray.from_numpy_ndarray(cubes)
    ones = pa.FixedShapeTensorArray.from_numpy_ndarray(np.ones((2, 5), "float32"))
    write(vault, pa.table({"t": tensors, "v": ones}))
    arrow, _ = vault.get_dataframe("data", format="arrow")
    assert arrow.schema.field("t").type == tensors.type
    assert arrow.schema.field("v").type == pa.list_(pa.float32(), 5)
    for form in ("arrow", "pandas", "polars"):
        frame, _ = vault.get_dataframe("data", format=form)
        np.testing.assert_array_equal(to_numpy(frame["t"]), cubes)


def test_a_wrong_cell_of_a_frame_names_column_and_row(tmp_path):
    vault = new_vault(tmp_path, "data")
    vault.create_instance("data", external_edit=True)
    with pytest.raises(tv_errors.TVTableError, match="column 'v', row 1: an array of float64 with shape \\(3,\\)"):
        vault.write_instance(pd.DataFrame({"v": [[1.0, 2], [1.0, 2, 3]]}), "data", dtypes={"v": "vector<float32, 2>"})


def test_files_are_read_by_other_tools_and_have_a_format_of_their_own(tmp_path):
    vault = made(tmp_path, v=builder("again", ["v"], "row-wise", arguments=ROW, dtypes=VECTOR))
    (path,) = (tmp_path / "vault" / "built").glob("*/table.parquet")
    table = pq.read_table(path)
    np.testing.assert_array_equal(table["v"].combine_chunks().flatten().to_numpy().reshape(-1, 3), EXPECTED)
    assert not table.schema.field("v").type.value_field.nullable
    metadata = pq.read_metadata(path)
    assert json.loads(metadata.metadata[b"tablevault"])["format"] == 2
    chunk = metadata.row_group(0).column(metadata.num_columns - 1)
    assert (chunk.compression, chunk.has_dictionary_page) == ("UNCOMPRESSED", False)
    vault.create_table("plain")
    write(vault, pd.DataFrame({"x": [1]}), "plain")
    (path,) = (tmp_path / "vault" / "plain").glob("*/table.parquet")
    assert json.loads(pq.read_metadata(path).metadata[b"tablevault"])["format"] == 1


def test_a_flipped_bit_in_vectors_is_an_error(tmp_path):
    vault = made(tmp_path, v=builder("again", ["v"], "row-wise", arguments=ROW, dtypes=VECTOR))
    (path,) = (tmp_path / "vault" / "built").glob("*/table.parquet")
    good = path.read_bytes()
    place = good.index(EXPECTED[3:6].tobytes())
    path.parent.chmod(0o755)
    path.chmod(0o644)
    for offset in range(0, 36, 5):
        bad = bytearray(good)
        bad[place + offset] ^= 1 << (offset % 8)
        path.write_bytes(bad)
        with pytest.raises(tv_errors.TVFileError):
            vault.get_dataframe("built")
    path.write_bytes(good)
    np.testing.assert_array_equal(to_numpy(vault.get_dataframe("built")[0]["v"]), EXPECTED)


STOPPING = """

def stop(i):
    CALLS.append(i)
    if i == 13 and len(CALLS) < 17:
        raise OSError("no network")
    return np.full(3, i, "float32"), np.arange(i % 3), np.full((2, 2), i)
"""


def test_a_resumed_run_keeps_the_vectors_that_are_there(tmp_path):
    dtypes = '{v: "vector<float32, 3>", n: "vector<int8>", t: "tensor<float64, 2, 2>"}'
    vault = new_vault(tmp_path, "built")
    vault.create_code_module("made", text=CODE + STOPPING)
    stop = builder("stop", ["v", "n", "t"], "row-wise", arguments=ROW, dtypes=dtypes)
    vault.create_instance("built", builders=ROWS | {"v": stop})
    with pytest.raises(OSError, match="no network"):
        vault.execute_instance("built", process_id="work")
    fixed = CODE + STOPPING.replace('raise OSError("no network")', "pass")
    (tmp_path / "vault/code_functions/made.py").write_text(fixed, encoding="utf-8")
    other = TableVault(tmp_path / "vault", author="ada")
    other.execute_instance("built", process_id="work")
    frame, _ = other.get_dataframe("built")
    np.testing.assert_array_equal(to_numpy(frame["v"])[:, 0], np.arange(20))
    assert [len(cell) for cell in frame["n"]] == [i % 3 for i in range(20)]
    np.testing.assert_array_equal(to_numpy(frame["t"])[:, 1, 1], np.arange(20))


@pytest.mark.parametrize(
    "declared", ["vector<float32>", "vector<float32, 3>", "vector<float32, 4>", "vector<int8, 12>"]
)
@pytest.mark.parametrize("column", ["v", "n", "t"])
def test_computed_arrays_are_shown_under_any_dtype_declared_later(tmp_path, column, declared):
    dtypes = {"v": "vector<float32, 3>", "n": "vector<int8>", "t": "tensor<float64, 2, 2>"}
    vault = new_vault(tmp_path, "built")
    vault.create_code_module("made", text=CODE + STOPPING)
    stop = builder("stop", ["v", "n", "t"], "row-wise", arguments=ROW, dtypes=json.dumps(dtypes))
    vault.create_instance("built", builders=ROWS | {"v": stop})
    with pytest.raises(OSError, match="no network"):
        vault.execute_instance("built")
    changed = stop.replace(dtypes[column], declared)
    (tmp_path / "vault/built/TEMP_base/builders/v.yaml").write_text(changed, encoding="utf-8")
    frame, _ = vault.get_dataframe("built", "TEMP_base")
    expected = {"v": lambda i: [float(i)] * 3, "n": lambda i: list(range(i % 3)), "t": lambda i: [[float(i)] * 2] * 2}
    cells = [None if cell is pd.NA else np.asarray(cell).tolist() for cell in frame[column]]
    assert len([cell for cell in cells if cell is not None]) > 5
    assert all(cell in (None, expected[column](i)) for i, cell in enumerate(cells))


STOPPING_AMONG_NULLS = """

def some(i):
    if i == 9:
        raise OSError("no network")
    return None if i % 4 == 1 else np.arange(i % 3) if i % 2 else np.full(3, i)
"""


def test_resumed_run_keeps_arrays_among_nulls_without_a_dtype(tmp_path):
    vault = new_vault(tmp_path, "built")
    vault.create_code_module("made", text=CODE + STOPPING_AMONG_NULLS)
    vault.create_instance("built", builders=ROWS | {"v": builder("some", ["v"], "row-wise", arguments=ROW)})
    with pytest.raises(OSError, match="no network"):
        vault.execute_instance("built", process_id="work")
    vault.create_code_module("made", text=CODE + STOPPING_AMONG_NULLS.replace("== 9", "== -1"))
    TableVault(tmp_path / "vault", author="ada").execute_instance("built", process_id="work")
    frame, _ = vault.get_dataframe("built")
    cells = [None if cell is pd.NA else list(cell) for cell in frame["v"]]
    assert cells == [None if i % 4 == 1 else list(range(i % 3)) if i % 2 else [i] * 3 for i in range(len(cells))]


ORDERS = [list(range(2, 30)), list(range(29, -1, -1)), [0, 1, 2, 9, 4, 5, 3, 30, 31], [7], [31, 30], []]


def test_rows_of_vectors_are_taken_over_wherever_they_were(tmp_path):
    code = CODE + "\n\ndef listed(order):\n    return pd.DataFrame({'i': order})\n"
    vault = new_vault(tmp_path, "built")
    vault.create_code_module("made", text=code)
    text = builder("again", ["v"], "row-wise", arguments=ROW, dtypes=VECTOR)
    origin = ""
    for order in [list(range(30)), *ORDERS]:
        index = builder("listed", ["i"], index=True, arguments=f"{{order: {order}}}", primary_key="[i]")
        vault.create_instance("built", origin_id=origin, builders={"built_index": index, "v": text})
        process = vault.execute_instance("built")
        progress = vault.get_process(process).progress["v"]
        frame, instance = vault.get_dataframe("built")
        new = sum(i >= 30 for i in order) if origin else len(order)
        assert (progress.computed, progress.reused) == (new, len(order) - new)
        expected = np.array([[i, i + 0.5, -i] for i in order], "float32").reshape(-1, 3)
        np.testing.assert_array_equal(to_numpy(frame["v"]).reshape(-1, 3), expected)
        origin = origin or instance


@pytest.mark.parametrize("positions", [[], [4], [1, 2, 3], [1, 9, 0, 4], [3, 2, 1], range(2, 5), [0, 2]])
def test_only_positions_that_follow_one_another_are_a_range(positions):
    found = consecutive(positions)
    assert list(found) == list(positions)
    follows = bool(positions) and list(positions) == list(range(positions[0], positions[0] + len(positions)))
    assert isinstance(found, range) == follows
