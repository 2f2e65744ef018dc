"""Entries of any kind that other programs put into the vault's own folders are left alone."""

import os
import shutil
import socket
import sys
import warnings
from pathlib import Path

import pytest

from tablevault import TableVault

sys.path.insert(0, str(Path(__file__).parents[1] / "faults"))
from hostile_vaults import change_owner, make_vault

OWNER = f"owner-1-{'0' * 32}"


def fill(path):
    path.mkdir()
    (path / "notes.txt").write_text("mine")
    (path / "inner").mkdir()


def listen(path):
    here = Path.cwd()
    os.chdir(path.parent)  # The path of a socket is limited to about 100 bytes.
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(path.name)
    finally:
        os.chdir(here)


KINDS = {
    "folder": Path.mkdir,
    "filled folder": fill,
    "file": lambda path: path.write_text("mine"),
    "link": lambda path: path.symlink_to("/etc/hostname"),
    "dangling link": lambda path: path.symlink_to("/nowhere/at/all"),
    "link to a folder": lambda path: path.symlink_to("/etc"),
    "pipe": os.mkfifo,
    "socket": listen,
}
FOLDERS = (
    *("metadata", "metadata/owners", "metadata/worker_logs", "metadata/ARCHIVED_TRASH", "_temp", "code_functions"),
    *("pictures", "pictures/TEMP_base/builders", "pictures/TEMP_base", "plain", "paused"),
)
OF_PROCESS = [
    (folder, name, kind)
    for folder in ("", "builders", "code", "partial", "partial/checkpoints")
    for name in (".ipynb_checkpoints", "mine", "mine.yaml")
    for kind in KINDS
    # A builder that is no file is refused, and a file is a builder.
    if (folder, name) != ("builders", "mine.yaml") or kind in ("folder", "filled folder")
]


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    return make_vault(tmp_path_factory.mktemp("template") / "vault")


@pytest.fixture
def db_dir(template, tmp_path):
    return shutil.copytree(template, tmp_path / "vault", symlinks=True)


def workspace(db_dir):
    return next(path for path in (db_dir / "_temp").iterdir() if path.name.isdecimal())


def use(db_dir):
    """Open, read, verify, collect, write to and resume a vault; return the paths of problems."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vault = TableVault(db_dir)
        vault = TableVault(db_dir)
        found = {problem.path for problem in vault.verify().problems}
        vault.get_dataframe("pictures")
        vault.get_dataframe("paused", instance_id="TEMP_base")
        vault.get_errors("paused", "TEMP_base")
        vault.get_history()
        vault.gc(vault.plan_gc(keep_last=1, leftovers=True))
        vault.create_table("more")
        vault.execute_instance("paused", process_id="mine")
        vault.verify(repair=True)
    return found


def check_left_alone(db_dir, path, kind, is_told):
    KINDS[kind](path)
    facts = path.lstat()
    found = use(db_dir)
    if path.exists() or path.is_symlink():  # A finished process takes its folder with it.
        assert path.lstat().st_ino == facts.st_ino
    else:
        assert "_temp" in path.parts
    if is_told:
        assert path.relative_to(db_dir).as_posix() in found


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "link" not in kind])
@pytest.mark.parametrize("folder", FOLDERS)
def test_entry_in_an_own_folder_is_left_alone(db_dir, folder, kind):
    is_told = not folder.startswith(("code_functions", "pictures/TEMP_base"))
    check_left_alone(db_dir, db_dir / folder / "mine", kind, is_told)


@pytest.mark.parametrize("name", ["9" * 18, "9" * 30, "²", "٧"])
@pytest.mark.parametrize("folder", ["_temp", "metadata/ARCHIVED_TRASH"])
def test_folder_with_a_number_that_is_no_process_blocks_nothing(db_dir, folder, name):
    path = db_dir / folder / (f"{name}_base" if folder.endswith("TRASH") else name)
    path.mkdir()
    found = use(db_dir)
    # In `_temp/`, the folder of a process that never was is a leftover.
    assert path.is_dir() == ((folder, name) != ("_temp", "9" * 18))
    assert (path.relative_to(db_dir).as_posix() in found) == path.is_dir()


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("name", [".ipynb_checkpoints", "notes.txt", OWNER])
def test_entry_among_lock_files_is_left_alone(db_dir, name, kind):
    path = db_dir / "metadata" / "owners" / name
    if (name, kind) == (OWNER, "file"):
        KINDS[kind](path)
        assert use(db_dir) == set()  # A lock file without a holder is removed.
        assert not path.exists()
    else:
        check_left_alone(db_dir, path, kind, is_told=not name.startswith("."))


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "file"])
@pytest.mark.parametrize("status", ["running", "paused"])
def test_entry_in_place_of_an_owners_lock_file_is_no_owner(db_dir, status, kind):
    change_owner(db_dir, "mine", OWNER, status)
    KINDS[kind](db_dir / "metadata" / "owners" / OWNER)
    assert TableVault(db_dir).get_process("mine").status == "paused"
    use(db_dir)
    assert TableVault(db_dir).get_process("mine").status == "succeeded"


@pytest.mark.parametrize(("folder", "name", "kind"), OF_PROCESS)
def test_entry_in_the_folder_of_a_paused_process_is_left_alone(db_dir, folder, name, kind):
    check_left_alone(db_dir, workspace(db_dir) / folder / name, kind, is_told=False)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "file"])
def test_entry_in_place_of_the_mark_of_a_creation_is_left_alone(db_dir, kind):
    check_left_alone(db_dir, db_dir / ".tablevault-creating", kind, is_told=True)
