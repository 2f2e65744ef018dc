"""Received vaults of any content.

They are read or refused, and no file outside is touched.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sqlite3
import warnings
from functools import partial
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from checkpoint_files import make_sqlite, parts_in, write_segment
from hostile_vaults import CATALOG_TABLES, agree, allow_null, make_vault, read

from tablevault import TableVault, delete_vault, tv_errors
from tablevault.layout import VaultLayout
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.storage.column_types import type_of_arrow
from tablevault.storage.frame_data import FrameData
from tablevault.storage.frame_files import read_frame, write_frame
from tablevault.storage.local_files import LocalFiles
from tablevault.values.contents import ArtifactRecord


@pytest.fixture
def outside(tmp_path):
    """A folder beside the vault, which no operation has a reason to touch."""
    folder = tmp_path / "outside"
    (folder / "12").mkdir(parents=True)
    (folder / "kept.txt").write_text("kept")
    (folder / "table.parquet").write_text("kept")
    yield folder
    assert sorted(path.name for path in folder.iterdir()) == ["12", "kept.txt", "table.parquet"]
    assert (folder / "kept.txt").read_text() == "kept"
    assert (folder / "table.parquet").read_text() == "kept"


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return make_vault(tmp_path_factory.mktemp("template") / "vault")


@pytest.fixture
def db_dir(template, tmp_path, outside):
    return shutil.copytree(template, tmp_path / "vault", symlinks=True)


def change(db_dir, *statements):
    with contextlib.closing(sqlite3.connect(db_dir / "metadata" / "catalog.db")) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


STEPS = [
    ("remove", "../outside/kept.txt", ""),
    ("remove", "", ""),
    ("remove", ".", ""),
    ("put file", "code_functions/drawing.py", "../outside/kept.txt"),
    ("move folder", "../outside", "plain/mine"),
    ("replace folder", "plain", "../outside"),
    ("prune", "../outside", ""),
    ("link", "plain", "../outside/kept.txt"),
    ("unlink", "", "../outside/kept.txt"),
    ("link", "code_functions", "plain/artifacts"),
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step[0])
def test_no_step_of_tidying_up_leaves_the_vault(db_dir, step):
    action, source, target = step
    change(
        db_dir,
        f"INSERT INTO tidying (serial, action, source, target) "
        f"SELECT max(serial), '{action}', '{source}', '{target}' FROM processes",
        "UPDATE processes SET status = 'committing', finished = 0 WHERE serial = (SELECT max(serial) FROM processes)",
    )
    with pytest.raises(tv_errors.TVFileError, match=r"not a path in the vault|asks for a link"):
        TableVault(db_dir)
    assert (db_dir / "plain").is_dir()
    assert (db_dir / "code_functions" / "drawing.py").is_file()


@pytest.mark.parametrize("link", ["_temp", "metadata/owners", "metadata/logs.lock", "code_functions"])
def test_vault_never_writes_through_a_link(db_dir, outside, link):
    path = db_dir / link
    path.rename(path.with_name("away"))
    path.symlink_to(outside / "kept.txt" if link.endswith(".lock") else outside)
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        TableVault(db_dir)


def resume_through_link(db_dir, outside, path):
    """Resume the paused process with a link in place of a path; it must be refused, and stopping must work."""
    if path.is_dir():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.symlink_to(outside)
    vault = TableVault(db_dir)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
            vault.execute_instance("paused", process_id="mine")
        if "mine" in vault.get_active_processes():
            vault.stop_process("mine")
    assert vault.get_active_processes() == {}


@pytest.mark.parametrize("inner", ["", "artifacts"])
def test_unfinished_instance_is_not_filled_through_a_link(db_dir, outside, inner):
    resume_through_link(db_dir, outside, next((db_dir / "paused").glob("base_*")) / inner)


@pytest.mark.parametrize("inner", ["", "code", "builders"])
def test_process_does_not_write_into_its_folder_through_a_link(db_dir, outside, inner):
    folder = next(path for path in (db_dir / "_temp").iterdir() if path.name.isdecimal())
    resume_through_link(db_dir, outside, folder / inner)


def test_pinned_builder_that_is_a_link_is_refused(db_dir, outside):
    folder = next(path for path in (db_dir / "_temp").iterdir() if path.name.isdecimal())
    resume_through_link(db_dir, outside, folder / "builders" / "draw.yaml")


def test_staged_file_is_not_written_through_a_link(tmp_path, outside):
    store = LocalFiles(VaultLayout(tmp_path / "vault"))
    store.write("_temp/1/staged/a", b"mine")
    shutil.rmtree(tmp_path / "vault" / "_temp" / "1")
    (tmp_path / "vault" / "_temp" / "1").symlink_to(outside)
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        store.write("_temp/1/staged/a", b"mine")


def test_changed_artifact_of_a_row_is_not_removed_through_a_link(tmp_path, outside):
    folder = tmp_path / "artifacts"
    folder.mkdir()
    (folder / "away").symlink_to(outside)
    (folder / "1.txt").mkdir()
    records = [ArtifactRecord(path, 1, "") for path in ("away/kept.txt", "1.txt", "missing/2.txt")]
    InstanceArtifacts(folder).remove(records)
    assert [path.name for path in folder.iterdir()] == ["away"]


def test_a_step_that_a_link_leads_out_is_reported_and_not_done(db_dir, outside):
    (db_dir / "plain" / "away").symlink_to(outside)
    change(
        db_dir,
        "INSERT INTO tidying (serial, action, source, target) "
        "SELECT max(serial), 'remove', 'plain/away/kept.txt', '' FROM processes",
        "UPDATE processes SET status = 'committing', finished = 0 WHERE serial = (SELECT max(serial) FROM processes)",
    )
    with pytest.warns(tv_errors.TableVaultWarning, match="out of the vault"):
        vault = TableVault(db_dir)
    assert any(problem.kind == "tidying failed" for problem in vault.verify().problems)


@pytest.mark.parametrize("name", ["../../../outside/kept.txt", "/etc/hostname", "..", "owner-1-x"])
def test_owner_without_a_valid_lock_file_name_is_dead(db_dir, name):
    change(db_dir, f"UPDATE processes SET owner_lock = '{name}', status = 'running' WHERE process_id = 'mine'")
    vault = TableVault(db_dir)
    assert vault.get_process("mine").status == "paused"
    vault.stop_process("mine", force=True)


@pytest.mark.parametrize("folder", ["../outside", "/etc", "..", "a/b", "", "x" * 300])
@pytest.mark.parametrize("table", ["tables", "instances"])
def test_folders_that_lead_elsewhere_are_damage(db_dir, table, folder):
    change(db_dir, f"UPDATE {table} SET folder = '{folder}'")
    with pytest.raises(tv_errors.TVFileError, match="damaged"):
        TableVault(db_dir).get_dataframe("plain")


SMALL_TABLES = ("counters", "creates", "locks", "vault")


def import_into_another(folder):
    """Import a received vault into one of our own, which stays readable."""
    own = TableVault(folder.parent / "own", author="ada", create=True)
    try:
        own.import_instances(folder)
    finally:
        assert own.verify().problems == ()


@pytest.mark.parametrize("value", [None, float("inf")])
@pytest.mark.parametrize(
    "table",
    [name if name in SMALL_TABLES else pytest.param(name, marks=pytest.mark.slow) for name in CATALOG_TABLES],
)
def test_null_or_infinity_in_a_column_is_read_or_refused(template, tmp_path, outside, table, value):
    def damaged(column):
        folder = shutil.copytree(template, tmp_path / column, symlinks=True)
        with contextlib.closing(sqlite3.connect(folder / "metadata" / "catalog.db")) as connection:
            allow_null(connection)
            # Keys and unique columns cannot have the value in all rows, nor some of them at all.
            for rows in ("", f" WHERE rowid = (SELECT max(rowid) FROM {table})"):
                with contextlib.suppress(sqlite3.Error):
                    connection.execute(f'UPDATE {table} SET "{column}" = ?{rows}', (value,))
                    break
            connection.commit()
        return folder

    with contextlib.closing(sqlite3.connect(template / "metadata" / "catalog.db")) as connection:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
    assert columns
    assert {column: faults for column in columns if (faults := list(read(damaged(column))))} == {}


@pytest.mark.parametrize(
    ("change_made", "read_it"),
    [
        ("UPDATE vault SET format = NULL", TableVault),
        ("UPDATE vault SET vault_id = NULL", TableVault),
        ("UPDATE counters SET value = 1e999", lambda folder: TableVault(folder).get_status()),
        ("UPDATE locks SET resource = NULL", lambda folder: TableVault(folder).get_process("mine")),
        ("UPDATE creates SET location = NULL", lambda folder: TableVault(folder).get_dataframe("paused", "TEMP_base")),
        ("UPDATE instances SET failed_cells = 'many'", import_into_another),
        ("UPDATE instances SET skipped_cells = 1e999", lambda folder: TableVault(folder).query("FROM vault.instances")),
        ("DELETE FROM creates", lambda folder: TableVault(folder).get_dataframe("paused", "TEMP_base")),
    ],
)
def test_row_with_a_value_of_another_type_is_damage(db_dir, change_made, read_it):
    with contextlib.closing(sqlite3.connect(db_dir / "metadata" / "catalog.db")) as connection:
        allow_null(connection)
    change(db_dir, change_made)
    with pytest.raises(tv_errors.TVFileError, match="damaged"):
        read_it(db_dir)


MORE_THAN_ROWS = pytest.mark.parametrize(
    "statement",
    [
        "CREATE VIEW more AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
        "CREATE TRIGGER more AFTER UPDATE ON processes BEGIN DELETE FROM tables; END",
        "CREATE VIRTUAL TABLE more USING fts4(x)",
        "CREATE TABLE more (x, y GENERATED ALWAYS AS (zeroblob(1000000000)))",
    ],
    ids=["view", "trigger", "virtual table", "computed column"],
)


@MORE_THAN_ROWS
def test_a_catalog_that_does_more_than_hold_rows_is_refused(db_dir, statement):
    change(db_dir, statement)
    with pytest.raises(tv_errors.TVFileError, match="unexpected .* in its schema"):
        TableVault(db_dir)


def test_catalog_whose_schema_is_not_text_is_damaged(db_dir):
    change(db_dir, "PRAGMA wal_checkpoint(TRUNCATE)")
    path = db_dir / "metadata" / "catalog.db"
    content = path.read_bytes()
    assert b"CREATE TABLE instances (" in content
    path.write_bytes(content.replace(b"CREATE TABLE instances (", b"CREATE TABLE instances \xcb"))
    with pytest.raises(tv_errors.TVFileError, match="is not text"):
        TableVault(db_dir)


@MORE_THAN_ROWS
def test_a_checkpoint_that_does_more_than_hold_rows_is_refused(db_dir, statement):
    segment = make_sqlite(next(db_dir.glob("_temp/*/partial/checkpoints/segment-1.log")))
    with contextlib.closing(sqlite3.connect(segment)) as connection:
        connection.execute("CREATE TABLE processes (x)")
        connection.execute("CREATE TABLE tables (x)")
        connection.execute(statement)
        connection.commit()
    with pytest.raises(tv_errors.TVFileError, match="unexpected .* in its schema"):
        TableVault(db_dir).get_dataframe("paused", "TEMP_base")


@pytest.mark.parametrize("name", ["../../../../outside/table.parquet", "/etc/hostname"])
def test_a_checkpoint_cannot_name_a_frame_elsewhere(db_dir, name):
    segment = next(db_dir.glob("_temp/*/partial/checkpoints/segment-1.log"))
    changed = []
    for builder, content in parts_in(segment.parent):
        fields = msgspec.msgpack.decode(content)
        if fields[4] and fields[4].get("frame"):
            fields[4]["frame"] = name
        changed.append((builder, msgspec.msgpack.encode(fields)))
    write_segment(segment, changed)
    with pytest.raises(tv_errors.TVFileError, match="damaged"):
        TableVault(db_dir).get_dataframe("paused", "TEMP_base")


@pytest.mark.parametrize("name", ["../../../outside/kept.txt", "/etc/passwd", "a/../../b"])
def test_cells_cannot_name_artifacts_elsewhere(db_dir, name):
    path = next(db_dir.glob("pictures/base_*/table.parquet"))
    data = read_frame(path)
    column = data.table.column_names.index("picture")
    table = data.table.set_column(column, data.table.field(column), pa.array([name] * len(data)))
    path.parent.chmod(0o755)
    path.unlink()
    write_frame(path, FrameData(table, data.types))
    with pytest.raises(tv_errors.TVFileError, match="outside"):
        TableVault(db_dir).get_dataframe("pictures")


def test_a_sealed_file_that_is_a_link_is_not_followed(db_dir, outside):
    path = next(db_dir.glob("pictures/base_*/table.parquet"))
    path.parent.chmod(0o755)
    path.rename(outside.parent / "moved.parquet")
    path.symlink_to(outside.parent / "moved.parquet")
    vault = TableVault(db_dir)
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        vault.get_dataframe("pictures")
    assert not vault.verify().ok


@pytest.mark.parametrize(
    "record",
    [
        {"path": "../../../outside/kept.txt"},
        {"path": "/etc/passwd"},
        {"path": "/"},
        {"path": "a\0b"},
        {"path": None},
        {"size": None},
    ],
    ids=str,
)
def test_records_of_artifacts_cannot_name_files_elsewhere(db_dir, record):
    path = next(db_dir.glob("pictures/base_*/artifacts.parquet"))
    data = read_frame(path)
    rows = [{**row, **record} for row in data.table.to_pylist()]
    path.parent.chmod(0o755)
    path.unlink()
    write_frame(path, FrameData(pa.Table.from_pylist(rows, data.table.schema), data.types))
    agree(db_dir, path.relative_to(db_dir))
    problems = TableVault(db_dir).verify().problems
    assert any("records of artifacts" in problem.detail for problem in problems), problems


def test_a_folder_of_artifacts_that_is_a_link_is_not_looked_into(db_dir, outside):
    path = next(db_dir.glob("pictures/base_*/artifacts"))
    path.parent.chmod(0o755)
    path.rename(path.with_name("away"))
    path.symlink_to(outside)
    problems = TableVault(db_dir).verify().problems
    assert any("symbolic link" in problem.detail for problem in problems), problems


@pytest.mark.parametrize("place", ["code_functions/drawing.py", "pictures/TEMP_base/builders/draw.yaml"])
def test_a_file_that_people_edit_is_not_read_through_a_link(db_dir, outside, place):
    (db_dir / place).unlink()
    (db_dir / place).symlink_to(outside / "kept.txt")
    vault = TableVault(db_dir)
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        vault.plan_instance("pictures")
    read_it = vault.get_code_module_str if place.startswith("code") else partial(vault.get_builder_str, "pictures")
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        read_it(Path(place).stem)


@pytest.mark.filterwarnings("ignore:Builder files")
def test_a_pinned_builder_is_not_read_through_a_link(db_dir, outside):
    path = next(db_dir.glob("_temp/*/builders/draw.yaml"))
    path.unlink()
    path.symlink_to(outside / "kept.txt")
    vault = TableVault(db_dir)
    assert len(vault.get_dataframe("paused", "TEMP_base")[0]) == 3
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        vault.execute_instance("paused", process_id="mine")


@pytest.mark.parametrize("inner", ["", "builders", "partial"])
def test_rows_of_a_paused_process_are_not_read_through_a_link(db_dir, tmp_path, inner):
    vault = TableVault(db_dir)
    path = next(db_dir.glob("_temp/*/builders")).parent / inner
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        vault.get_dataframe("paused", "TEMP_base")
    assert any("symbolic link" in problem.detail for problem in vault.verify().problems)
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        vault.execute_instance("paused", process_id="mine")


def test_rows_of_a_reverted_process_are_not_read_through_a_link(db_dir, tmp_path):
    vault = TableVault(db_dir)
    path = db_dir / "pictures" / "TEMP_base" / "partial"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(tv_errors.TVFileError, match="symbolic link"):
        vault.get_dataframe("pictures", "TEMP_base")
    assert any("symbolic link" in problem.detail for problem in vault.verify().problems)


def test_declared_type_that_is_not_text_is_ignored(db_dir):
    path = next(db_dir.glob("_temp/*/builders/draw.yaml"))
    path.write_text(path.read_text().replace("{picture: artifact_string}", "{picture: }"))
    assert len(TableVault(db_dir).get_dataframe("paused", "TEMP_base")[0]) == 3


def with_column(table, name, column):
    return table.set_column(table.column_names.index(name), name, column)


@pytest.mark.parametrize(
    "forge",
    [
        lambda table: with_column(table, "draw:version", pa.nulls(len(table), pa.int64())),
        lambda table: with_column(table, "draw:version", pa.array([99] * len(table))),
        lambda table: with_column(table, "draw:version", pa.array([-1] * len(table))),
        lambda table: with_column(table, "draw:version", pa.array([[0]] * len(table))),
        lambda table: with_column(table, "draw:fingerprint", pa.array([7] * len(table))),
        lambda table: table.drop_columns(["draw:fingerprint"]),
        lambda table: table.slice(0, 1),
    ],
    ids=["nulls", "too large", "negative", "lists", "numbers", "no fingerprints", "too few"],
)
def test_forged_fingerprints_are_damage(db_dir, forge):
    path = next(db_dir.glob("pictures/base_*/fingerprints.parquet"))
    table = read_frame(path).table
    assert {"draw:fingerprint", "draw:version"} <= set(table.column_names)
    path.parent.chmod(0o755)
    path.unlink()
    forged = forge(table)
    write_frame(path, FrameData(forged, {field.name: type_of_arrow(field.type) for field in forged.schema}))
    agree(db_dir, path.relative_to(db_dir))
    with pytest.raises(tv_errors.TVFileError, match="damaged"):
        TableVault(db_dir).plan_instance("pictures", run_index=True)


FAILING = """
import pandas as pd

def rows():
    return pd.DataFrame({"x": range(5)})

def answer(x):
    if x == 1:
        raise ValueError(x)
    return "a"
"""
COMMON = "code_module: m\nis_custom: true\n"
ROWS = f"builder_type: IndexBuilder\nchanged_columns: [x]\npython_function: rows\nprimary_key: [x]\n{COMMON}"
ANSWER = (
    f"builder_type: ColumnBuilder\nchanged_columns: [answer]\npython_function: answer\n{COMMON}"
    "return_type: row-wise\non_error: collect\narguments: {x: '<<self.x[index]>>'}\n"
)
FORGED_CELLS = {
    "kind": ("kind", "other"),
    "no kind": ("kind", None),
    "negative row": ("row_index", -1),
    "row beyond the end": ("row_index", 10**9),
    "no row": ("row_index", None),
    "unknown builder": ("builder", "nothing"),
    "no builder": ("builder", None),
    "no frames": ("frames", None),
    "wrong frames": ("frames", "[1]"),
    "deep frames": ("frames", "[" * 100_000),
    "broken result": ("result", "{"),
    "deep result": ("result", "[" * 100_000),
    "lists of builders": ("builder", ["a"]),
    "wrong notes": ("notes", "7"),
    "wrong cause": ("cause", "[1, 2, 3]"),
    "active message": ("message", "\x1b[31m<script>alert(1)</script>"),
    "long message": ("message", "m" * 3_000_000),
    "negative calls": ("calls", -5),
    "endless seconds": ("seconds", float("inf")),
    "no time": ("failed_at", None),
    "unknown code": ("code", "nothing"),
}


def check_shown(view):
    assert "\x1b" not in repr(view)
    assert "<script>" not in view._repr_html_()


@pytest.mark.filterwarnings("ignore::tablevault.errors.TableVaultWarning")
@pytest.mark.parametrize(("name", "value"), FORGED_CELLS.values(), ids=FORGED_CELLS)
def test_forged_errors_of_rows_are_read_safely_or_refused(tmp_path, name, value):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module("m", text=FAILING)
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": ROWS, "answer": ANSWER})
    vault.execute_instance("t")
    vault.create_instance("t", copy=True)
    path = next((tmp_path / "vault").glob("t/base_*/errors.parquet"))
    errors = read_frame(path)
    path.parent.chmod(0o755)
    path.unlink()
    kind = pa.list_(pa.string()) if isinstance(value, list) else errors.table.column(name).type
    forged = with_column(errors.table, name, pa.array([value], kind))
    types = {**errors.types, name: type_of_arrow(kind)} if isinstance(value, list) else errors.types
    write_frame(path, FrameData(forged, types))
    agree(tmp_path / "vault", path.relative_to(tmp_path / "vault"))
    vault = TableVault(tmp_path / "vault", author="eve")
    for reading in (
        lambda: vault.get_errors("t"),
        lambda: vault.get_dataframe("t", failed="drop"),
        lambda: vault.get_dataframe("t", failed="raise"),
        lambda: vault.plan_instance("t", run_index=True),
        lambda: check_shown(vault.show("t")),
        lambda: check_shown(vault.trace_cell("t", 1, "answer")),
        lambda: vault.query('SELECT * FROM errors."t"'),
        lambda: vault.execute_instance("t"),
    ):
        with contextlib.suppress(tv_errors.TableVaultError):
            reading()


def test_forged_tracebacks_show_no_line_of_a_file_outside(tmp_path):
    (tmp_path / "private.py").write_text("PRIVATE = 1\n")
    os.mkfifo(tmp_path / "endless.py")
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module("m", text=FAILING)
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": ROWS, "answer": ANSWER})
    with pytest.warns(tv_errors.TableVaultWarning):
        vault.execute_instance("t")
    assert "raise ValueError(x)" in vault.get_errors("t")["traceback"][0]
    path = next((tmp_path / "vault").glob("t/base_*/errors.parquet"))
    errors = read_frame(path)
    path.parent.chmod(0o755)
    path.unlink()
    frames = [[str(tmp_path / name), 1, "f"] for name in ("private.py", "endless.py")]
    frames.append([str(tmp_path / "code_functions" / "private.py"), 1, "f"])
    forged = with_column(errors.table, "frames", pa.array([json.dumps(frames)]))
    write_frame(path, FrameData(forged, errors.types))
    code = path.parent / "code"
    code.chmod(0o755)
    (code / "local").mkdir()
    (code / "local" / "private.py").symlink_to(tmp_path / "private.py")
    agree(tmp_path / "vault", path.relative_to(tmp_path / "vault"))
    vault = TableVault(tmp_path / "vault", author="eve")
    shown = vault.get_errors("t")["traceback"][0]
    assert "private.py" in shown
    assert "PRIVATE" not in shown
    for shown in (vault.trace_cell("t", 1, "answer"), vault.show("t"), vault.query('SELECT * FROM errors."t"')):
        assert "PRIVATE" not in f"{shown!r}{shown}"


@pytest.mark.parametrize("listed", ["/", "/etc/hostname", "../../outside/kept.txt", ""])
def test_a_manifest_cannot_list_files_elsewhere(db_dir, outside, listed):
    path = next(db_dir.glob("pictures/base_*/manifest.json")).relative_to(db_dir)
    (db_dir / path).chmod(0o644)
    (db_dir / path).write_text((db_dir / path).read_text().replace('"table.parquet"', f'"{listed}"'))
    agree(db_dir, path)
    vault = TableVault(db_dir)
    assert any("is not a file of the folder" in problem.detail for problem in vault.verify().problems)
    with pytest.raises(tv_errors.TVFileError, match="is not a file of the folder"):
        vault.get_lineage("pictures")


def test_a_missing_manifest_is_a_named_error(db_dir):
    path = next(db_dir.glob("pictures/base_*/manifest.json"))
    path.parent.chmod(0o755)
    path.unlink()
    vault = TableVault(db_dir)
    with pytest.raises(tv_errors.TVFileError, match=r"manifest\.json is missing"):
        vault.get_lineage("pictures")
    with pytest.raises(tv_errors.TVFileError, match=r"manifest\.json is missing"):
        vault.get_builder_str("pictures", "draw", is_temp=False)


def test_pipe_in_place_of_a_lock_file_blocks_no_operation(db_dir):
    name = f"owner-1-{'0' * 32}"
    os.mkfifo(db_dir / "metadata" / "owners" / name)
    change(db_dir, f"UPDATE processes SET owner_lock = '{name}', status = 'running' WHERE process_id = 'mine'")
    assert TableVault(db_dir).get_process("mine").status == "paused"


@pytest.mark.parametrize("content", ["a: [", "\xff", "[" * 5_000, ""])
@pytest.mark.slow
def test_a_damaged_description_is_a_named_error(db_dir, content):
    (db_dir / "description.yaml").write_bytes(content.encode("latin-1"))
    vault = TableVault(db_dir)
    if content:
        with pytest.raises(tv_errors.TVFileError, match=r"description\.yaml"):
            vault.get_descriptions()
    assert list(read(db_dir)) == []


@pytest.mark.parametrize("line", [b"[" * 100_000, b"\xff", b"null"])
def test_invalid_log_file_blocks_no_operation(db_dir, line):
    (db_dir / "metadata" / "logs.txt").write_bytes(line + b"\n")
    vault = TableVault(db_dir)
    assert [problem.path for problem in vault.verify().problems] in ([], ["metadata/logs.txt"])
    vault.create_table("more")


@pytest.mark.slow
def test_deleting_a_received_vault_follows_no_link(db_dir, outside):
    for place in ("plain/away", "_temp/12", "metadata/ARCHIVED_TRASH/12_away"):
        (db_dir / place).symlink_to(outside)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert list(read(db_dir)) == []
    delete_vault(db_dir)
    assert not db_dir.exists()
