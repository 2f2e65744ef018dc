"""Writing a frame in one step, and making what may be there already."""

import errno
import math
import os

import pandas as pd
import pyarrow as pa
import pytest
from operated import interpreter, output_of, picture

from tablevault import TableVault, TableVaultWarning, tv_errors

PRICES = pd.DataFrame({"fruit": ["fig", "pear"], "price": [0.3, 1.25]})


def test_write_makes_the_table_and_its_first_instance(vault):
    process_id = vault.write("prices", PRICES, description="of today")
    assert vault.get_tables() == ["prices"]
    (instance_id,) = vault.get_table_instances("prices")
    assert vault.read("prices").equals(PRICES)
    info = vault.get_process(process_id)
    assert (info.operation, info.status, info.table_name) == ("write", "succeeded", "prices")
    assert vault.get_descriptions(instance_id, "prices")["description"] == "of today"
    assert vault.verify().ok


def test_write_adds_instances_to_a_table(vault):
    vault.write("prices", PRICES)
    vault.write("prices", PRICES.head(1))
    vault.write("prices", PRICES, version="v2")
    assert len(vault.get_table_instances("prices", version="")) == 3
    assert len(vault.read("prices")) == 1
    assert len(vault.read("prices(v2)")) == 2
    assert vault.verify().ok


def test_write_makes_no_instance_of_an_unchanged_frame(vault):
    vault.write("prices", PRICES, primary_key="fruit")
    process_id = vault.write("prices", PRICES.copy(), primary_key=["fruit"])
    assert len(vault.get_table_instances("prices")) == 1
    assert vault.get_process(process_id).status == "succeeded"
    assert vault.get_process(process_id).instance_id == vault.get_table_instances("prices")[0]


@pytest.mark.parametrize(
    "changed",
    [
        {"frame": PRICES.assign(price=[0.3, 1.2500000001])},
        {"frame": PRICES.astype({"price": "Float64"})},
        {"frame": PRICES[["price", "fruit"]]},
        {"frame": PRICES.iloc[::-1].reset_index(drop=True)},
        {"frame": PRICES, "primary_key": "fruit"},
        {"frame": PRICES, "skip_unchanged": False},
        {"frame": PRICES, "version": "v2"},
    ],
    ids=["value", "type", "order of columns", "order of rows", "primary key", "not skipped", "version"],
)
def test_write_makes_an_instance_of_a_changed_frame(vault, changed):
    vault.write("prices", PRICES)
    vault.write("prices", **changed)
    assert len(vault.get_table_instances("prices", version="")) == 2


_MAPS = pa.map_(pa.string(), pa.int64())
ALIKE = {
    "null and NaN": ([None, 1.0], [math.nan, 1.0]),
    "zero and minus zero": ([0.0], [-0.0]),
    "text and text with NUL": (["a"], ["a\0"]),
    "composed and decomposed": (["\u00e9"], ["e\u0301"]),
    "numbers of several widths": (pa.array([1], pa.int32()), pa.array([1], pa.int64())),
    "digits after the point": (pa.array([1], pa.decimal128(5, 1)), pa.array([1], pa.decimal128(5, 2))),
    "one moment in two zones": (
        pa.array([0], pa.timestamp("us", "UTC")),
        pa.array([0], pa.timestamp("us", "Asia/Tokyo")),
    ),
    "no struct and a struct of nulls": (
        pa.array([None], pa.struct([("x", pa.int64())])),
        pa.array([{"x": None}], pa.struct([("x", pa.int64())])),
    ),
    "pairs in another order": (
        pa.array([[("a", [1]), ("b", [2])]], pa.map_(pa.string(), pa.list_(pa.int8()))),
        pa.array([[("b", [2]), ("a", [1])]], pa.map_(pa.string(), pa.list_(pa.int8()))),
    ),
    "times in lists that Python has no values for": (
        pa.array([[2**62]], pa.list_(pa.timestamp("us"))),
        pa.array([[2**62 + 1]], pa.list_(pa.timestamp("us"))),
    ),
    "days of a category that Python has no values for": (
        pa.array([2**31 - 1], pa.int32()).view(pa.date32()).dictionary_encode(),
        pa.array([2**31 - 2], pa.int32()).view(pa.date32()).dictionary_encode(),
    ),
    "bytes and text": ([b"a"], ["a"]),
    "lists and lists of another item": ([[0.5], [], None], [[0.5], [None], None]),
    "lists and an empty list": ([None], [[]]),
    "maps": (pa.array([[("a", 1)]], _MAPS), pa.array([[("a", 2)]], _MAPS)),
    "structs of lists": ([{"a": [1]}], [{"a": [2]}]),
    "a nanosecond in a list": (pa.array([[1]], pa.list_(pa.time64("ns"))), pa.array([[2]], pa.list_(pa.time64("ns")))),
    "durations beyond Python's": (
        pa.array([[2**62]], pa.list_(pa.duration("ms"))),
        pa.array([[2**61]], pa.list_(pa.duration("ms"))),
    ),
    "category and text": (pa.array(["a"]).dictionary_encode(), ["a"]),
}


@pytest.mark.parametrize("pair", ALIKE.values(), ids=ALIKE)
def test_write_tells_values_apart_that_look_alike(vault, pair):
    for values in pair:
        for _ in range(2):  # The second time, nothing has changed.
            vault.write("prices", pa.table({"a": values if isinstance(values, pa.Array) else pa.array(values)}))
    assert len(vault.get_table_instances("prices")) == 2


def test_write_leaves_a_temporary_instance_alone(vault):
    vault.create_table("prices")
    vault.create_instance("prices", external_edit=True)
    vault.write("prices", PRICES)
    assert "TEMP_base" in vault.get_table_instances("prices", include_temp=True)
    vault.write_instance(PRICES.head(1), "prices")
    assert len(vault.read("prices")) == 1


def test_write_records_dependencies_and_dtypes(vault):
    vault.write("prices", PRICES)
    source = vault.get_table_instances("prices")[0]
    vault.write("sums", pa.table({"x": [1]}), dtypes={"x": "Int8"}, dependencies=[("prices", source)])
    assert str(vault.read("sums").dtypes["x"]) == "Int8"
    assert source in repr(vault.get_lineage("sums"))


def test_write_takes_the_rows_of_a_written_table_as_an_origin(vault):
    vault.write("prices", PRICES, primary_key="fruit")
    vault.create_instance("prices", origin_id=vault.get_table_instances("prices")[0], external_edit=True)
    vault.write_instance(PRICES, "prices")
    assert vault.verify().ok


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"frame": PRICES, "primary_key": "price2"}, tv_errors.TVTableError, "'price2' is not in the frame.*price"),
        ({"frame": pd.DataFrame({"a": [1, 1]}), "primary_key": "a"}, tv_errors.TVTableError, "Primary key"),
        ({"frame": pd.DataFrame({"a": [1, None]}), "primary_key": "a"}, tv_errors.TVTableError, "Primary key"),
        ({"frame": pd.DataFrame({"index": [1]})}, tv_errors.TVTableError, "index"),
        ({"frame": PRICES, "dtypes": {"fruit": "artifact_string"}}, tv_errors.TVTableError, "write_instance"),
        ({"frame": PRICES, "dtypes": {"fruit": "Int8"}}, tv_errors.TVTableError, "'fruit', row 0"),
        ({"frame": PRICES, "version": "a_b"}, tv_errors.TVArgumentError, "a_b"),
        ({"frame": PRICES, "dependencies": [("nothing", "")]}, tv_errors.TVArgumentError, "nothing"),
        ({"frame": 7}, tv_errors.TVTableError, "int"),
        ({"frame": None}, tv_errors.TVArgumentError, "frame is None"),
    ],
)
def test_write_refuses_wrong_arguments_and_leaves_nothing(vault, path, given, error, said):
    before = picture(path)
    with pytest.raises(error, match=said):
        vault.write("prices", **given)
    assert vault.get_tables() == []
    assert picture(path) == before


def test_write_refuses_a_name_that_is_not_allowed(vault):
    with pytest.raises(tv_errors.TVArgumentError, match="Forbidden Table Name: artifacts"):
        vault.write("artifacts", PRICES)


def test_write_that_is_paused_goes_on_without_the_frame_once_it_is_staged(vault, path, monkeypatch):
    from tablevault.operations import write as write_module

    real = write_module.seal_instance

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write_module, "seal_instance", full)
    with pytest.raises(OSError, match="No space"):
        vault.write("prices", PRICES, process_id="daily")
    assert list(vault.get_active_processes()) == ["daily"]
    with pytest.raises(tv_errors.TVLockError, match="daily"):
        vault.write("prices", PRICES)
    monkeypatch.setattr(write_module, "seal_instance", real)
    again = TableVault(path, author="ada", restart=True)
    assert again.restart_report == {"daily": "resumed"}
    assert again.read("prices").equals(PRICES)
    with pytest.warns(TableVaultWarning, match="daily"):
        again.write("prices", PRICES, process_id="daily")
    with pytest.raises(tv_errors.TVProcessError, match="frame"):
        again.write("prices", PRICES.head(1), process_id="daily")
    assert again.verify().ok


def test_write_that_fails_leaves_no_table(vault, path, monkeypatch):
    from tablevault.operations import write as write_module

    before = picture(path)

    def full(*arguments, **options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(write_module, "seal_instance", full)
    with pytest.raises(OSError, match="No space"):
        vault.write("prices", PRICES)
    assert vault.get_tables() == []
    assert picture(path) == before
    assert vault.verify().ok


WRITING = """
import sys
import pandas as pd
from tablevault import TableVault
vault = TableVault(sys.argv[1], author="b", create=True, exist_ok=True, lock_timeout=120)
vault.create_table("shared", exist_ok=True)
for number in range(3):
    vault.write("prices", pd.DataFrame({"by": [int(sys.argv[2])], "number": [number]}))
print(len(vault.get_tables()))
"""


@pytest.mark.slow
def test_several_interpreters_make_one_vault_and_one_table(tmp_path):
    folder = tmp_path / "made"
    running = [interpreter(WRITING, str(folder), str(number)) for number in range(4)]
    for process in running:
        output, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert output == "2\n"
    vault = TableVault(folder, author="a")
    written = {
        tuple(row)
        for instance in vault.get_table_instances("prices")
        for row in vault.read(f"prices({instance})").itertuples(index=False)
    }
    assert written == {(by, number) for by in range(4) for number in range(3)}
    assert vault.verify().ok


def test_create_table_with_exist_ok_is_a_no_op_for_the_same_table(vault):
    vault.create_table("stories", allow_multiple_artifacts=True)
    process_id = vault.create_table("stories", allow_multiple_artifacts=True, description="other", exist_ok=True)
    assert vault.get_process(process_id).status == "succeeded"
    vault.make_table("new", exist_ok=True)
    assert vault.get_tables() == ["stories", "new"]


@pytest.mark.parametrize(
    ("name", "options"), [("stories", {}), ("stories", {"has_side_effects": True}), ("Stories", {})]
)
def test_create_table_with_exist_ok_refuses_another_table(vault, name, options):
    vault.create_table("stories", allow_multiple_artifacts=True)
    with pytest.raises(tv_errors.TVArgumentError, match="stories"):
        vault.create_table(name, **options, exist_ok=True)


def test_create_table_with_exist_ok_does_not_wait_for_a_paused_execution(stories, monkeypatch):
    stories.create_code_module("words", text="import pandas as pd\ndef rows(count):\n    raise ValueError\n")
    stories.create_builder_file("stories", "loud", text="")
    stories.delete_builder_file("loud", "stories")
    with pytest.raises(ValueError):
        stories.execute_instance("stories", process_id="night")
    assert stories.get_process("night").status == "paused"
    stories.create_table("stories", exist_ok=True)


def test_existing_vault_is_opened_with_exist_ok(vault, path, tmp_path):
    vault.create_table("stories")
    assert TableVault(path, create=True, exist_ok=True).get_tables() == ["stories"]
    with pytest.raises(tv_errors.TVArgumentError, match="is already a vault"):
        TableVault(path, create=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(tv_errors.TVArgumentError, match="not empty"):
        TableVault(tmp_path / "full", create=True, exist_ok=True)
    assert os.listdir(tmp_path / "full") == ["file"]


@pytest.mark.slow
def test_write_and_read_are_commands(path, tmp_path):
    (tmp_path / "prices.csv").write_text("fruit,price\nfig,0.3\n")
    text = """
import subprocess, sys
run = [sys.executable, "-m", "tablevault.cli", "--db-dir", sys.argv[1], "--author", "a"]
subprocess.run([*run, "init", sys.argv[1], "--exist-ok"], check=True, capture_output=True)
for _ in range(2):
    subprocess.run([*run, "write", "prices", sys.argv[2], "--primary-key", "fruit"], check=True, capture_output=True)
print(subprocess.run([*run, "read", "prices", "--column", "fruit"], check=True, capture_output=True, text=True).stdout)
"""
    assert output_of(text, str(path), str(tmp_path / "prices.csv")).split() == ["[", "{", '"fruit":', '"fig"', "}", "]"]
