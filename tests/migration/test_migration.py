"""Vaults of format 1 with any content.

They are read unchanged, and migrated by the first operation.
"""

import gc
import json
import shutil
import sqlite3
import tarfile
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault, compress_vault, decompress_vault, tv_errors

ARCHIVE = Path(__file__).parent / "vault-format-1.tar.xz"


@pytest.fixture
def old(tmp_path):
    """A vault of format 1 with a paused process, a reverted one, and temporary instances."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="fully_trusted")
    return tmp_path / "format-1"


def format_in_catalog(folder):
    connection = sqlite3.connect(f"file:{folder}/metadata/catalog.db?mode=ro", uri=True)
    try:
        return connection.execute("SELECT format, migrated_from FROM vault").fetchone()
    except sqlite3.OperationalError:
        return None
    finally:
        connection.close()


def marker_of(folder):
    return json.loads((folder / ".tablevault").read_text())


def content(vault):
    frames = {
        (table, instance): vault.get_dataframe(table, instance, full_artifact_path=False)[0].to_dict("list")
        for table in vault.get_tables()
        for instance in vault.get_table_instances(table, version="")
    }
    return repr(frames)


def test_a_vault_of_format_1_is_read_without_being_changed(old):
    vault = TableVault(old, author="b")
    assert vault.get_tables() == ["made", "given"]
    assert len(vault.get_history()) > 5
    assert vault.get_process("night").status == "paused"
    assert vault.read("made", columns=["x"])["x"].tolist() == list(range(6))
    assert vault.get_lineage("made")
    assert vault.get_status()
    assert vault.plan_instance("made", "failed").builders["file"].reasons
    assert {name: status.state for name, status in vault.get_status().items()} == {
        "given": "external",
        "made": "paused",
    }
    assert vault.verify().ok
    assert format_in_catalog(old) is None
    assert marker_of(old)["format"] == 1


def test_the_first_operation_migrates(old):
    vault = TableVault(old, author="b")
    before, vault_id = content(vault), marker_of(old)["vault_id"]
    vault.create_table("new")
    assert format_in_catalog(old) == (2, 1)
    assert marker_of(old) == {**marker_of(old), "format": 2, "vault_id": vault_id, "catalog": None, "storage": "folder"}
    assert content(vault) == before
    assert vault.verify().ok
    assert content(TableVault(old)) == before


def test_a_paused_process_goes_on_after_the_migration(old):
    vault = TableVault(old, author="b")
    vault.create_table("new")
    vault.create_code_module("job", text=vault.get_code_module_str("job").replace("x == 4", "False"))
    vault.execute_instance("made", process_id="night")
    assert vault.get_process("night").progress["file"].done
    assert vault.verify().ok


def test_a_paused_process_migrates_when_it_goes_on(old):
    vault = TableVault(old, author="b")
    module = old / "code_functions" / "job.py"
    module.write_text(module.read_text().replace("x == 4", "False"))
    vault.execute_instance("made", process_id="night")
    assert format_in_catalog(old) == (2, 1)
    assert vault.verify().ok


def pause(folder, like, replaced):
    """Add a paused process that is like an ended one, with other names in its arguments and plan."""
    connection = sqlite3.connect(folder / "metadata" / "catalog.db")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(processes)")]
    found = connection.execute("SELECT * FROM processes WHERE serial = ?", [like]).fetchone()
    values = dict(zip(columns, found, strict=True))
    for name in ("table_name", "instance_id", "arguments", "plan"):
        for before, after in replaced.items():
            values[name] = values[name].replace(before, after)
    changed = {"process_id": "later", "status": "paused", "finished": 0, "user_given": 1}
    values.update(changed, serial=None, ended_at=None, end_order=None, owner_lock="owner-1-gone")
    with connection:
        marks = ", ".join("?" * len(values))
        cursor = connection.execute(f"INSERT INTO processes VALUES ({marks})", list(values.values()))
        connection.executemany(
            "INSERT INTO locks (serial, resource, exclusive) VALUES (?, ?, ?)",
            [(cursor.lastrowid, *lock) for lock in json.loads(values["plan"])["locks"]],
        )
    connection.close()


def serial_of(folder, operation, table):
    connection = sqlite3.connect(folder / "metadata" / "catalog.db")
    found = connection.execute(
        "SELECT min(serial) FROM processes WHERE operation = ? AND table_name = ?", [operation, table]
    ).fetchone()[0]
    connection.close()
    return found


def given_frame(vault):
    return vault.get_dataframe("given")[0]


PAUSED = {
    "create_code_module": (
        "",
        {'"job"': '"words"'},
        lambda vault: vault.create_code_module("words", text=vault.get_code_module_str("job"), process_id="later"),
        lambda vault: "words" in vault.get_code_modules_list(),
    ),
    "create_table": (
        "given",
        {"given": "added"},
        lambda vault: vault.create_table("added", process_id="later"),
        lambda vault: "added" in vault.get_tables(),
    ),
    "create_instance": (
        "given",
        {"base": "other"},
        lambda vault: vault.create_instance("given", "other", external_edit=True, process_id="later"),
        lambda vault: vault.write_instance(given_frame(vault), "given", "other"),
    ),
    "write_instance": (
        "given",
        {'"temporary": 3': '"temporary": 5', "base_1795849068_a1943fbd365b45d0": "base_1795849068_b1943fbd365b45d0"},
        lambda vault: vault.write_instance(given_frame(vault), "given", process_id="later"),
        lambda vault: len(vault.get_table_instances("given")) == 2,
    ),
}


@pytest.mark.parametrize("by_itself", [False, True], ids=["after another operation", "by itself"])
@pytest.mark.parametrize("operation", PAUSED)
def test_a_paused_process_of_any_operation_goes_on(old, operation, by_itself):
    table, replaced, again, is_done = PAUSED[operation]
    pause(old, serial_of(old, operation, table), replaced)
    vault = TableVault(old, author="b")
    assert vault.get_process("later").status == "paused"
    locks = vault.get_process("later").locks
    if not by_itself:
        vault.create_table("new")
        assert vault.get_process("later").locks == locks
    again(vault)
    assert vault.get_process("later").status == "succeeded"
    assert is_done(vault)
    assert format_in_catalog(old) == (2, 1)
    assert vault.verify().ok


@pytest.mark.parametrize("operation", PAUSED)
def test_a_paused_process_of_any_operation_can_be_stopped(old, operation):
    table, replaced, *_ = PAUSED[operation]
    before = content(TableVault(old))
    pause(old, serial_of(old, operation, table), replaced)
    vault = TableVault(old, author="b")
    vault.stop_process("later")
    assert vault.get_process("later").status == "stopped"
    assert content(vault) == before
    assert format_in_catalog(old) == (2, 1)
    assert vault.verify().ok


def test_a_restart_migrates(old):
    module = old / "code_functions" / "job.py"
    module.write_text(module.read_text().replace("x == 4", "False"))
    vault = TableVault(old, author="b", restart=True)
    assert vault.restart_report == {"night": "resumed"}
    assert vault.verify().ok


def test_a_paused_process_can_be_stopped_in_a_vault_of_format_1(old):
    vault = TableVault(old, author="b")
    vault.stop_process("night", materialize=True)
    assert vault.get_process("night").status == "stopped"
    assert vault.verify().ok


def test_a_repair_migrates(old):
    assert TableVault(old, author="b").verify(repair=True).ok
    assert format_in_catalog(old) == (2, 1)


def test_a_migration_that_was_cut_off_before_the_marker_is_completed(old):
    before = (old / ".tablevault").read_text()
    TableVault(old, author="b").create_table("new")
    (old / ".tablevault").write_text(before)
    vault = TableVault(old, author="b")
    assert vault.get_tables()[-1] == "new"
    vault.create_table("newer")
    assert marker_of(old)["format"] == 2
    assert format_in_catalog(old) == (2, 1)


def test_two_vaults_in_one_folder_are_told_apart(old):
    vault = TableVault(old, author="b")
    vault.create_table("new")
    del vault
    other = TableVault(old.parent / "other", author="b", create=True)
    del other
    gc.collect()  # What the vault has written is in its catalog's file once nothing holds the catalog open.
    shutil.copy(old.parent / "other" / "metadata" / "catalog.db", old / "metadata" / "catalog.db")
    for name in ("catalog.db-wal", "catalog.db-shm"):
        (old / "metadata" / name).unlink(missing_ok=True)
    with pytest.raises(tv_errors.TVFileError, match="is that of the vault"):
        TableVault(old)


def test_a_running_process_refuses_the_migration(old):
    vault = TableVault(old, author="b")
    owners = vault._context.owners
    lock = owners.claim()
    connection = sqlite3.connect(old / "metadata" / "catalog.db")
    with connection:
        connection.execute(
            "UPDATE processes SET status = 'running', owner_lock = ? WHERE process_id = 'night'", [lock.name]
        )
    connection.close()
    with pytest.raises(tv_errors.TVLockError, match=r"process 'night' \(.*\) is running"):
        vault.create_table("new")
    assert format_in_catalog(old) is None
    lock.release()
    vault.create_table("new")
    assert format_in_catalog(old) == (2, 1)


def test_locks_that_contradict_each_other_are_damage(old):
    connection = sqlite3.connect(old / "metadata" / "catalog.db")
    with connection:
        connection.execute(
            "INSERT INTO locks (serial, resource, exclusive) SELECT 1, resource, 1 FROM locks WHERE exclusive = 1"
        )
    connection.close()
    with pytest.raises(tv_errors.TVFileError, match="both hold"):
        TableVault(old, author="b").create_table("new")
    assert format_in_catalog(old) is None


def test_a_lock_that_a_process_holds_twice_is_kept_once(old):
    connection = sqlite3.connect(old / "metadata" / "catalog.db")
    with connection:
        connection.execute(
            "INSERT INTO locks (serial, resource, exclusive) SELECT serial, resource, 1 FROM locks WHERE exclusive = 1"
        )
    connection.close()
    vault = TableVault(old, author="b")
    vault.create_table("new")
    assert len(set(vault.get_process("night").locks)) == len(vault.get_process("night").locks)


def test_an_older_interpreter_that_had_the_vault_open_can_go_on(old):
    TableVault(old, author="b").create_table("new")
    connection = sqlite3.connect(old / "metadata" / "catalog.db")
    columns = [row[1] for row in connection.execute("PRAGMA table_info(processes)")]
    old_columns = [
        name for name in columns if name not in ("policies", "budget", "usage", "waiting", "process_key", "pinned")
    ]
    names = ", ".join(f'"{name}"' for name in old_columns)
    values = names.replace('"serial"', "NULL").replace('"process_id"', "'other'").replace('"status"', "'reverted'")
    with connection:
        connection.execute(f"INSERT INTO processes ({names}) SELECT {values} FROM processes WHERE process_id = 'first'")
    connection.close()
    assert TableVault(old, author="b").get_process("other").status == "reverted"


def test_archives_of_format_1_are_read(old):
    vault = TableVault(old, author="b")
    vault.stop_process("night")
    shutil.rmtree(old)
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(old.parent, filter="fully_trusted")
    archive_path = Path(compress_vault(old))
    assert marker_of(old)["format"] == 1
    shutil.rmtree(old)
    decompress_vault(archive_path)
    assert marker_of(old)["format"] == 1
    vault = TableVault(old, author="b")
    vault.write("new", pd.DataFrame({"x": [1]}))
    assert vault.verify().ok


@pytest.mark.parametrize("url", ["postgresql://u@h/d", "sqlite://", "sqlite:///:memory:", "nonsense", "mysql://h/d"])
def test_invalid_sqlite_catalog_is_refused(tmp_path, url):
    with pytest.raises(tv_errors.TVArgumentError, match="catalog_url"):
        TableVault(tmp_path / "vault", create=True, catalog_url=url)
    assert not (tmp_path / "vault" / ".tablevault").exists()


def test_the_marker_says_where_the_catalog_is(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    url = f"sqlite:///{tmp_path}/elsewhere/catalog.db"
    TableVault(tmp_path / "vault", author="a", create=True, catalog_url=url).create_table("stories")
    assert not (tmp_path / "vault" / "metadata" / "catalog.db").exists()
    assert TableVault(tmp_path / "vault").get_tables() == ["stories"]
