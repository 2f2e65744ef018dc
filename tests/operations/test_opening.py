"""Which folders are vaults, which become vaults, and that a refusal touches nothing."""

from __future__ import annotations

import copy
import gc
import getpass
import json
import os
import pickle

import pytest
from operated import interpreter, picture
from waiting import PATIENCE

from tablevault import TableVault, TableVaultWarning, tv_errors
from tablevault.system import mounts


def everything(folder):
    return {item.relative_to(folder): item.read_bytes() if item.is_file() else None for item in folder.rglob("*")}


def refused(folder, match, **options):
    before = everything(folder) if folder.exists() else None
    with pytest.raises(tv_errors.TVArgumentError, match=match):
        TableVault(folder, **options)
    assert (everything(folder) if folder.exists() else None) == before


def test_a_folder_that_is_not_a_vault_is_refused_and_not_touched(tmp_path):
    refused(tmp_path / "missing", "not a vault")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "create=True")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").write_text("notes")
    refused(tmp_path / "full", "not a vault")


def test_a_file_is_not_a_vault(tmp_path):
    (tmp_path / "file").write_text("text")
    for options in ({}, {"create": True}):
        with pytest.raises(tv_errors.TVArgumentError):
            TableVault(tmp_path / "file", **options)
    assert (tmp_path / "file").read_text() == "text"


def test_create_refuses_a_vault_and_a_folder_that_is_not_empty(vault, path, tmp_path):
    before = picture(path)
    with pytest.raises(tv_errors.TVArgumentError, match="already a vault"):
        TableVault(path, create=True)
    assert picture(path) == before
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / ".hidden").write_text("notes")
    refused(tmp_path / "full", "not empty", create=True)


def test_create_makes_a_missing_folder_and_fills_an_empty_one(tmp_path):
    TableVault(tmp_path / "deep" / "down", create=True)
    (tmp_path / "empty").mkdir()
    TableVault(tmp_path / "empty", create=True).create_table("stories")
    assert TableVault(tmp_path / "empty").get_tables() == ["stories"]


def test_a_path_may_be_a_text_and_relative(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vault = TableVault("vault", create=True)
    monkeypatch.chdir("/")
    vault.create_table("stories")
    assert TableVault(str(tmp_path / "vault")).get_tables() == ["stories"]


def test_the_description_and_the_author_are_kept(tmp_path):
    TableVault(tmp_path / "vault", author="ada", description="all stories", create=True)
    vault = TableVault(tmp_path / "vault")
    assert vault.get_descriptions()["description"] == "all stories"
    vault.create_table("stories")
    assert vault.get_history()[0].author == getpass.getuser()


CREATION = """
import os, sys
import tablevault
from tablevault.storage import files
from tablevault import TableVault
write = os.{call}
left = [int(sys.argv[2])]
def counted(*arguments, **options):
    if left[0] == 0:
        os.kill(os.getpid(), 9)
    left[0] -= 1
    return write(*arguments, **options)
os.{call} = counted
TableVault(sys.argv[1], create=True)
"""


@pytest.mark.parametrize("step", [0, *(pytest.param(step, marks=pytest.mark.slow) for step in (3, 6, 9))])
def test_a_creation_that_was_cut_off_can_be_repeated(tmp_path, step):
    path = tmp_path / "vault"
    process = interpreter(CREATION.format(call="fsync"), str(path), str(step))
    process.communicate(timeout=PATIENCE)
    if process.returncode == 0:
        pytest.skip("a creation has fewer steps")
    assert process.returncode == -9
    with pytest.raises(tv_errors.TVArgumentError):
        TableVault(path)
    vault = TableVault(path, create=True)
    vault.create_table("stories")
    assert TableVault(path).get_tables() == ["stories"]
    assert not (path / ".tablevault-creating").exists()


def test_an_older_creation_marker_alone_is_repeated(tmp_path):
    (tmp_path / "vault").mkdir()
    (tmp_path / "vault" / ".tablevault-creating").touch()
    refused(tmp_path / "vault", "was interrupted")
    TableVault(tmp_path / "vault", create=True).create_table("stories")


@pytest.mark.slow
def test_two_that_create_the_same_vault_make_one(tmp_path):
    program = "import sys; from tablevault import TableVault; TableVault(sys.argv[1], create=True)"
    processes = [interpreter(program, str(tmp_path / "vault")) for _ in range(3)]
    ended = [(process.communicate(timeout=PATIENCE), process.returncode) for process in processes]
    assert [status for _, status in ended].count(0) >= 1
    for (_, errors), status in ended:
        assert status == 0 or "TVArgumentError" in errors, errors
    TableVault(tmp_path / "vault").create_table("stories")


def test_a_newer_format_is_refused(vault, path):
    marker = path / ".tablevault"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "format": 99}))
    before = picture(path)
    with pytest.raises(tv_errors.TVArgumentError, match="format 99"):
        TableVault(path)
    with pytest.raises(tv_errors.TVArgumentError, match="already a vault"):
        TableVault(path, create=True)
    assert picture(path) == before


def test_a_damaged_marker_is_a_file_error(vault, path):
    (path / ".tablevault").write_text("{")
    with pytest.raises(tv_errors.TVFileError, match="damaged"):
        TableVault(path)


def test_vault_of_an_old_release_is_refused_with_the_import_call(tmp_path):
    old = tmp_path / "old"
    for folder in ("code_functions", "metadata", "_temp", "locks", "stories/TEMP_base"):
        (old / folder).mkdir(parents=True)
    (old / ".tablevault").touch()
    (old / "metadata" / "tables_history.json").write_text("{}")
    refused(old, rf"import_legacy_vault\('{old}'")
    refused(old, rf"import_legacy_vault\('{old}'", create=True)


def test_the_parent_has_to_be_a_running_process(vault, path):
    with pytest.raises(tv_errors.TVProcessError, match="no process 'nobody'"):
        TableVault(path, parent_id="nobody")
    done = vault.create_table("stories")
    with pytest.raises(tv_errors.TVProcessError, match="not running"):
        TableVault(path, parent_id=done)


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="open files cannot be counted here")
def test_vaults_that_are_gone_keep_no_files_open(tmp_path):
    def open_some(first):
        for number in range(first, first + 10):
            TableVault(tmp_path / f"vault{number}", create=True).create_table("stories")
        gc.collect()
        return [os.path.realpath(entry.path) for entry in os.scandir("/proc/self/fd")]

    before = open_some(0)
    after = open_some(10)
    assert len(after) <= len(before)
    assert [file for file in after if file.startswith(str(tmp_path))] == []


@pytest.mark.usefixtures("no_collections")
def test_a_vault_that_was_just_made_closes_its_catalog_when_it_is_let_go(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True)
    assert (tmp_path / "vault" / "metadata" / "catalog.db-wal").exists()
    del vault
    assert not (tmp_path / "vault" / "metadata" / "catalog.db-wal").exists()


def test_open_vault_shows_its_folder_and_author(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    vault = TableVault("vault", author="ada", create=True)
    assert (vault.db_dir, vault.author) == (str(tmp_path / "vault"), "ada")
    assert TableVault(vault.db_dir).author == getpass.getuser()
    for name in ("db_dir", "author"):
        with pytest.raises(AttributeError):
            setattr(vault, name, "other")


@pytest.mark.parametrize(
    ("db_dir", "more", "said"),
    [
        (None, {}, "db_dir of TableVault must be text or a path, not None"),
        (5, {"create": True}, "db_dir of TableVault must be text or a path, not int"),
        (b"vault", {}, "db_dir of TableVault must be text or a path, not bytes"),
        ("~nobody-of-this-name/vault", {"create": True}, "db_dir must be the path"),
        ("a\0b", {"create": True}, "null character"),
        ("vault", {"author": 5}, "author of TableVault must be text, not int"),
        ("vault", {"author": "\udc80"}, "author has a lone surrogate"),
        ("vault", {"parent_id": 5}, "parent_id of TableVault must be text, not int"),
        ("vault", {"lock_timeout": "x"}, "lock_timeout of TableVault must be a number, not str"),
        ("vault", {"lock_timeout": -1}, "lock_timeout is a number of seconds"),
        ("vault", {"lock_timeout": float("nan")}, "lock_timeout is a number of seconds"),
        ("vault", {"create": True, "description": "\udc80"}, "description has a lone surrogate"),
    ],
)
def test_invalid_opening_arguments_are_refused(tmp_path, monkeypatch, db_dir, more, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(tv_errors.TVArgumentError, match=said):
        TableVault(db_dir, **more)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("description", [5, "\udc80"])
def test_description_other_than_text_is_refused(tmp_path, description):
    vault = TableVault(tmp_path / "vault", create=True)
    with pytest.raises(tv_errors.TVArgumentError, match="description"):
        vault.create_table("stories", description=description)
    vault.create_table("stories")
    with pytest.raises(tv_errors.TVArgumentError, match="description"):
        vault.create_instance("stories", description=description)
    assert vault.get_table_instances("stories", include_temp=True) == []


def test_pickled_or_copied_vault_is_reopened(tmp_path):
    vault = TableVault(tmp_path / "vault", author="ada", create=True, lock_timeout=2.5)
    vault.create_table("stories")
    for number, again in enumerate((pickle.loads(pickle.dumps(vault)), copy.deepcopy(vault))):
        assert (again.db_dir, again.author) == (vault.db_dir, "ada")
        again.create_table(f"copy-{number}")
        assert again.get_history()[0].author == "ada"
    assert len(vault.get_tables()) == 3


def test_vault_moved_while_open_leaves_nothing_at_its_old_place(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True)
    (tmp_path / "vault").rename(tmp_path / "moved")
    with pytest.raises(tv_errors.TVFileError, match="moved or deleted"):
        vault.create_table("stories")
    assert not (tmp_path / "vault").exists()
    TableVault(tmp_path / "moved").create_table("stories")


def test_a_vault_on_a_network_file_system_is_opened_with_a_warning(vault, path, tmp_path, monkeypatch):
    (tmp_path / "mountinfo").write_text(f"1 0 0:1 / / rw - ext4 disk rw\n2 1 0:2 / {path} rw - nfs4 server:/ rw\n")
    monkeypatch.setattr(mounts, "_MOUNTS", tmp_path / "mountinfo")
    with pytest.warns(TableVaultWarning, match=r"is on a network file system \(nfs4\)"):
        TableVault(path)
