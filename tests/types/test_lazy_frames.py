"""Lazy frames have the types and values of `get_dataframe`, and of checked files only."""

from __future__ import annotations

import datetime
import decimal
from pathlib import Path

import duckdb
import pandas as pd
import polars
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from kinds import SERIES

from tablevault import TableVault, TableVaultWarning, tv_errors
from tablevault.storage import frame_files

ARROW = {
    "vector": pa.array([[1.0, 2.0], None, [3.0, 4.0]], pa.list_(pa.float32(), 2)),
    "duration[s]": pa.array([1, None, -3], pa.duration("s")),
    "duration[ms]": pa.array([1, None, 3], pa.duration("ms")),
    "duration[ns]": pa.array([1000, None, -3000], pa.duration("ns")),
    "list of duration": pa.array([[1, None], None, []], pa.list_(pa.duration("ms"))),
    "struct of duration": pa.array([{"d": 1}, None, {"d": None}], pa.struct([("d", pa.duration("us"))])),
    "date64": pa.array([86_400_000, None, 0], pa.date64()),
    "time32[s]": pa.array([5, None, 6], pa.time32("s")),
    "time64[ns]": pa.array([5000, None, 6000], pa.time64("ns")),
    "large_string": pa.array(["a", None, "c"], pa.large_string()),
    "binary[2]": pa.array([b"ab", None, b"cd"], pa.binary(2)),
    "decimal of 38 digits": pa.array([decimal.Decimal(10**36), None, decimal.Decimal("-1.5")], pa.decimal128(38, 1)),
    "struct of time": pa.array([{"t": 1}, None, {"t": None}], pa.struct([("t", pa.timestamp("s"))])),
}
LACKED_BY_POLARS = {
    "decimal of 50 digits": pa.array([decimal.Decimal("1.5"), None, decimal.Decimal("2")], pa.decimal256(50, 2)),
    "time with an offset": pa.array([1, None, 3], pa.timestamp("ms", "+05:30")),
}


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    vault = TableVault(tmp_path_factory.mktemp("lazy") / "vault", author="a", create=True)
    vault.write("series", pd.DataFrame(SERIES))
    vault.write("columns", pa.table(ARROW))
    vault.write("lacked", pa.table({"x": pa.array([1, 2, 3]), **LACKED_BY_POLARS}))
    return vault


@pytest.fixture
def own(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.write("t", pd.DataFrame({"a": range(1000), "b": [f"text {number}" for number in range(1000)]}))
    return vault


@pytest.mark.parametrize("table", ["series", "columns", "lacked"])
def test_polars_frames_have_exact_types_and_values(vault, table):
    expected, instance_id = vault.get_dataframe(table, format="polars")
    lazy, found = vault.scan(table)
    assert found == instance_id
    assert isinstance(lazy, polars.LazyFrame)
    assert lazy.collect_schema() == expected.schema
    assert lazy.collect().equals(expected)
    some = list(reversed(expected.columns))[:2]
    assert vault.scan(table, columns=some)[0].collect().equals(expected.select(some))


def test_polars_frames_that_arrow_reads_are_filtered_and_cut(vault):
    lazy, _ = vault.scan("lacked")
    assert lazy.filter(polars.col("x") > 1).select("x").collect()["x"].to_list() == [2, 3]
    assert lazy.head(2).collect()["x"].to_list() == [1, 2]


@pytest.mark.parametrize("table", ["series", "columns", "lacked"])
def test_datasets_of_arrow_have_exact_types_and_values(vault, table):
    expected, _ = vault.get_dataframe(table, format="arrow")
    dataset, _ = vault.scan(table, format="arrow", full_artifact_path=False)
    read = dataset.to_table()
    for name in expected.column_names:
        arrow = expected.schema.field(name).type
        if pa.types.is_dictionary(arrow) and not pa.types.is_large_string(arrow.value_type):
            arrow = arrow.value_type
        assert read.schema.field(name).type == arrow, name
        assert str(read.column(name).to_pylist()) == str(expected.column(name).to_pylist()), name
    some = list(reversed(expected.column_names))[:2]
    assert vault.scan(table, format="arrow", columns=some)[0].to_table().column_names == some


@pytest.mark.filterwarnings("ignore:Column .* in SQL, which ignores case")
@pytest.mark.parametrize("table", ["series", "columns"])
def test_relations_of_duckdb_have_the_values(vault, table):
    expected, _ = vault.get_dataframe(table, format="arrow")
    relation, _ = vault.scan(table, format="duckdb")
    assert isinstance(relation, duckdb.DuckDBPyRelation)
    rows = relation.fetchall()
    for position, name in enumerate(expected.column_names):
        values = [row[position] for row in rows]
        if expected.schema.field(name).type == pa.timestamp("ns") or "ns," in str(expected.schema.field(name).type):
            values = [None if value is None else pd.Timestamp(value) for value in values]
        wanted = expected.column(name).to_pylist()
        if pa.types.is_map(expected.schema.field(name).type):
            wanted = [None if value is None else dict(value) for value in wanted]
        if "duration" in name or "timedelta" in name:
            wanted = [_as_python(value) for value in wanted]
        if "datetime64[ns]" not in name and "Tokyo" not in name:
            shown = [list(value) if isinstance(value, tuple) else value for value in values]
            assert str(shown) == str(wanted) or shown == wanted, name
    types = dict(zip(relation.columns, map(str, relation.types), strict=True))
    if table == "columns":
        assert (types["vector"], types["duration[s]"], types["list of duration"]) == (
            "FLOAT[2]",
            "INTERVAL",
            "INTERVAL[]",
        )
    else:
        assert types["dict"] == "JSON"


def _as_python(value):
    if isinstance(value, list):
        return [_as_python(item) for item in value]
    if isinstance(value, dict):
        return {name: _as_python(item) for name, item in value.items()}
    return value.to_pytimedelta() if isinstance(value, pd.Timedelta) else value


def test_durations_below_a_microsecond_are_refused_in_sql_by_column(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.write("t", pa.table({"wait": pa.array([1], pa.duration("ns"))}))
    relation, _ = vault.scan("t", format="duckdb")
    with pytest.raises(duckdb.Error, match="column 'wait' has a duration .* scan reads it with format 'polars'"):
        relation.fetchall()


def test_columns_that_sql_cannot_tell_apart_are_renamed_with_a_warning(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    digits = pa.array([decimal.Decimal("1.5")], pa.decimal256(50, 2))
    vault.write("t", pa.table({"A": [1], "a": [2], "a_1": [3], "long": digits}))
    with pytest.warns(TableVaultWarning) as told:
        relation, _ = vault.scan("t", format="duckdb", columns=["a", "A", "a_1", "long"])
    assert sorted(str(item.message).split(" in SQL")[0] for item in told) == [
        "Column 'a' is called 'a_1'",
        "Column 'a_1' is called 'a_1_1'",
        "Column 'long' has more than 38 digits and is DOUBLE",
    ]
    assert relation.columns == ["a_1", "A", "a_1_1", "long"]
    assert relation.fetchall() == [(2, 1, 3, 1.5)]


def test_artifacts_have_full_paths_where_a_library_can_make_them(tmp_path):
    vault = TableVault(tmp_path / "vault", author="a", create=True)
    vault.create_table("t", allow_multiple_artifacts=True)
    vault.create_instance("t", external_edit=True)
    Path(vault.get_artifact_folder("t"), "a'b.txt").write_text("x")
    vault.write_instance(pd.DataFrame({"file": ["a'b.txt", None]}), "t", dtypes={"file": "artifact_string"})
    paths = [None if pd.isna(path) else path for path in vault.get_dataframe("t")[0]["file"]]
    assert Path(paths[0]).read_text() == "x"
    assert vault.scan("t")[0].collect()["file"].to_list() == paths
    assert [row[0] for row in vault.scan("t", format="duckdb")[0].fetchall()] == paths
    lazy = {name: vault.scan("t", format=name, full_artifact_path=False)[0] for name in ("polars", "arrow", "duckdb")}
    assert lazy["polars"].collect()["file"].to_list() == ["a'b.txt", None]
    assert lazy["arrow"].to_table()["file"].to_pylist() == ["a'b.txt", None]
    assert lazy["duckdb"].fetchall() == [("a'b.txt",), (None,)]
    with pytest.raises(tv_errors.TVArgumentError, match="Pass full_artifact_path=False"):
        vault.scan("t", format="arrow")


def flip(path, column):
    chunk = pq.read_metadata(path).row_group(0).column(column)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.mark.parametrize("format", ["polars", "arrow", "duckdb"])
def test_flipped_bit_is_an_error_before_a_lazy_frame_is_handed_out(own, format):
    flip(Path(own.get_frame_path("t")), 1)
    own = TableVault(own.db_dir)
    for _ in range(2):
        with pytest.raises(tv_errors.TVFileError, match="column 1 of row group 0"):
            own.scan("t", format=format)
        with pytest.raises(tv_errors.TVFileError, match="column 1 of row group 0"):
            own.get_frame_path("t")
    assert own.scan("t", format=format, columns=["a"])
    assert own.scan("t", format=format, check_content=False)
    assert own.get_frame_path("t", check_content=False)


def test_damaged_footer_is_an_error_without_the_content_check(own):
    path = Path(own.get_frame_path("t"))
    data = bytearray(path.read_bytes())
    data[-40] ^= 1
    path.chmod(0o644)
    path.write_bytes(data)
    with pytest.raises(tv_errors.TVFileError, match="footer"):
        own.scan("t", check_content=False)


def test_columns_are_checked_once_per_vault_object(own, monkeypatch):
    checked = []
    original = frame_files.check_columns
    monkeypatch.setattr(
        frame_files, "check_columns", lambda path, names: (checked.append(names), original(path, names))
    )
    own.scan("t", columns=["b"])
    own.scan("t", columns=["b"], format="arrow")
    own.get_frame_path("t")
    own.scan("t")
    assert checked == [["b"], ["a"]]
    TableVault(own.db_dir).scan("t")
    assert checked[2:] == [["a", "b"]]


def test_deleted_instance_is_missing_for_new_reads_and_intact_if_open(own):
    lazy, _ = own.scan("t")
    dataset, instance_id = own.scan("t", format="arrow")
    scanner = dataset.scanner(batch_size=10, batch_readahead=0).to_reader()
    first = scanner.read_next_batch()
    own.delete_instance(instance_id, "t")
    assert pa.Table.from_batches([first, *scanner])["a"].to_pylist() == list(range(1000))
    with pytest.raises(FileNotFoundError):
        lazy.collect()


def test_scan_refuses_instances_without_a_file_and_unknown_names(own):
    own.create_instance("t", external_edit=True)
    own.create_tag("paper", "t")
    assert own.scan("t", "@paper")[1] == own.scan("t", as_of=datetime.datetime.now(datetime.UTC))[1]
    for call, kind, said in (
        (lambda: own.scan("t", "TEMP_base"), tv_errors.TVArgumentError, "is temporary and has no frame file"),
        (lambda: own.get_frame_path("t", "TEMP_base"), tv_errors.TVArgumentError, "is temporary"),
        (lambda: own.scan("t", columns=["c"]), tv_errors.TVTableError, "has no column 'c'"),
        (lambda: own.scan("t", format="pandas"), tv_errors.TVArgumentError, "no format 'pandas'"),
        (lambda: own.scan("u"), tv_errors.TVArgumentError, "no table 'u'"),
    ):
        with pytest.raises(kind, match=said):
            call()


@pytest.mark.parametrize(("format", "module"), [("polars", "polars"), ("duckdb", "duckdb")])
def test_missing_library_is_named_with_its_extra(own, monkeypatch, format, module):
    monkeypatch.setitem(__import__("sys").modules, module, None)
    extra = "polars" if module == "polars" else "sql"
    with pytest.raises(tv_errors.TVArgumentError, match=rf"needs {module}: run pip install '\.\[{extra}\]'"):
        own.scan("t", format=format)
