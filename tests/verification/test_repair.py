"""`verify(repair=True)` finishes or removes the leftovers of crashes, disturbs no process, and loses no commit."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import pandas as pd
import pytest
from damaged import add, found, instance_folder, tree
from waiting import PATIENCE, until

import tablevault
from tablevault import TableVault, TableVaultWarning

WAITING = """
import os
import time
from pathlib import Path

import pandas as pd


def index(control, folder):
    (Path(folder) / "0.txt").write_text("half of it")
    (Path(control) / "started").write_text(folder)
    while not (Path(control) / "go").exists():
        time.sleep(0.01)
    if (Path(control) / "fail").exists():
        raise RuntimeError("told to")
    return pd.DataFrame({"x": ["0.txt"]})
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: index
code_module: waiting
is_custom: true
dtypes: {{x: artifact_string}}
arguments: {{control: {control}, folder: ~ARTIFACT_FOLDER~}}
"""

EXECUTE = """
import json, sys
from tablevault import TableVault
TableVault(sys.argv[1]).execute_instance("slow", **json.loads(sys.argv[2]))
"""


@pytest.fixture
def control(vault, tmp_path):
    """The folder through which a test holds and releases the execution of table `slow`."""
    folder = tmp_path / "control"
    folder.mkdir()
    vault.create_code_module("waiting", text=WAITING)
    vault.create_table("slow")
    vault.create_instance("slow", builders={"slow_index": INDEX.format(control=folder)})
    return folder


def started(db_dir, control, **arguments):
    """Start an execution in another interpreter, and return it when its function runs."""
    environment = {**os.environ, "PYTHONPATH": str(Path(tablevault.__file__).parents[1])}
    command = [sys.executable, "-c", EXECUTE, str(db_dir), json.dumps(arguments)]
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    until(lambda: (control / "started").exists() and (control / "started").read_text())
    return process


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.slow
def test_a_running_execution_is_neither_reported_nor_disturbed(db_dir, vault, control):
    process = started(db_dir, control)
    for repair in (False, True):
        assert vault.verify(repair=repair).ok, vault.verify()
    (control / "go").touch()
    assert process.wait(PATIENCE) == 0
    assert len(vault.get_dataframe("slow")[0]) == 1
    assert vault.verify().ok, vault.verify()


def test_leftovers_of_a_killed_process_are_named_and_removed(db_dir, vault, control):
    before = tree(db_dir)
    kill(started(db_dir, control))
    problems = found(vault.verify())
    assert [kind for kind, _ in problems] == ["unfinished"]
    assert vault.verify(repair=True).ok
    after = tree(db_dir)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    kept = {name for name in changed if name.startswith("slow/TEMP_base/partial")}
    assert changed - kept <= {"metadata/catalog.db", "metadata/logs.txt"}


@pytest.mark.slow
def test_paused_process_is_not_reported_and_survives_a_repair(db_dir, vault, control):
    kill(started(db_dir, control, process_id="slow-1"))
    assert vault.verify().ok, vault.verify()
    assert vault.verify(repair=True).ok
    assert vault.get_process("slow-1").status == "paused"
    (control / "go").touch()
    vault.execute_instance("slow", process_id="slow-1")
    assert vault.verify().ok, vault.verify()


def test_a_folder_of_a_reverted_process_that_came_back_is_removed(db_dir, vault, control):
    for name in ("go", "fail"):
        (control / name).touch()
    with pytest.raises(RuntimeError, match="told to"):
        vault.execute_instance("slow")
    assert vault.verify().ok, vault.verify()
    # Its removal had not reached the disk when the power failed.
    folder = Path((control / "started").read_text())
    folder.mkdir(parents=True)
    (folder / "0.txt").write_text("half of it")
    assert found(vault.verify()) == [("unclaimed", str(folder.parent.relative_to(db_dir)))]
    assert vault.verify(repair=True).ok
    assert not folder.parent.exists()


def test_leftovers_of_cut_off_writes_are_named_and_removed(db_dir, vault):
    names = [
        "_temp/4711",
        "_temp/.abc.tablevault-temporary",
        "pictures/.abc.tablevault-temporary",
        f"metadata/owners/owner-1-{'0' * 32}",
    ]
    (db_dir / "_temp" / "4711").mkdir()
    for name in names[1:]:
        add(db_dir / name)
    assert found(vault.verify()) == sorted(("unclaimed", name) for name in names)
    assert vault.verify(repair=True).ok
    assert not any((db_dir / name).exists() for name in names)


def test_opening_a_vault_while_others_begin_never_takes_their_lock_files(db_dir):
    errors = []

    def work(name):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                for number in range(15):
                    TableVault(db_dir).create_table(f"{name}{number}")
        except BaseException as error:
            errors.append(error)

    workers = [threading.Thread(target=work, args=(name,)) for name in ("a", "b", "c")]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert errors == []
    assert TableVault(db_dir).verify().ok


def test_verifying_while_others_commit_finds_nothing(db_dir, vault):
    stop = threading.Event()
    errors = []

    def work():
        own = TableVault(db_dir, author="grace")
        try:
            while not stop.is_set():
                own.create_instance("plain", "other", external_edit=True)
                own.write_instance(pd.DataFrame({"n": [1]}), "plain", "other")
                own.delete_instance(own.get_table_instances("plain", "other")[0], "plain")
        except BaseException as error:
            errors.append(error)

    worker = threading.Thread(target=work)
    worker.start()
    reports = [vault.verify(repair=number % 2 == 1) for number in range(6)]
    stop.set()
    worker.join()
    assert errors == []
    assert [report.problems for report in reports] == [()] * 6


class TestTidyingThatFails:
    """A folder stands where a code module is to be put."""

    @pytest.fixture
    def obstacle(self, db_dir, vault):
        folder = db_dir / "code_functions" / "late.py"
        folder.mkdir()
        (folder / "keep").write_text("mine")
        with pytest.warns(TableVaultWarning, match="Tidying up failed"):
            vault.create_code_module("late", text="def f():\n    return 1\n")
        return folder

    def test_fault_is_named_and_committed_instances_are_read(self, db_dir, vault, obstacle):
        problems = found(vault.verify())
        assert {kind for kind, _ in problems} == {"tidying failed"}
        assert vault.get_code_module_str("late") == "def f():\n    return 1\n"
        assert TableVault(db_dir).get_code_module_str("late") == "def f():\n    return 1\n"

    def test_a_repair_finishes_it_once_it_can(self, db_dir, vault, obstacle):
        with pytest.warns(TableVaultWarning, match="Tidying up failed"):
            assert not vault.verify(repair=True).ok
        assert (obstacle / "keep").read_text() == "mine"
        shutil.rmtree(obstacle)
        assert vault.verify(repair=True).ok, vault.verify()
        assert obstacle.read_text() == "def f():\n    return 1\n"

    def test_retried_step_does_not_overwrite_later_writes(self, vault, obstacle):
        shutil.rmtree(obstacle)
        vault.create_code_module("late", text="def f():\n    return 2\n")
        assert vault.get_code_module_str("late") == "def f():\n    return 2\n"
        assert vault.verify(repair=True).ok, vault.verify()
        assert obstacle.read_text() == "def f():\n    return 2\n"


UNPRIVILEGED = """
import ctypes, os, sys
PR_CAPBSET_DROP, OVERRIDE_MODES, SEARCH_ANYWHERE = 24, 1, 2
if "dropped" not in sys.argv:
    # The next program of the superuser has to respect modes of files, as everybody's programs do.
    for capability in (OVERRIDE_MODES, SEARCH_ANYWHERE):
        assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
    os.execv(sys.executable, [*sys.orig_argv, "dropped"])

import warnings
warnings.simplefilter("error")
sys.path[:0] = sys.argv[2:4]
from damaged import make_vault
from tablevault import TableVault, compress_vault, decompress_vault, delete_vault
folder = make_vault(sys.argv[1])
try:
    os.chmod(f"{folder}/pictures", 0o555)
    open(f"{folder}/pictures/new", "x")
except PermissionError:
    os.chmod(f"{folder}/pictures", 0o755)
else:
    sys.exit("modes are not respected")
vault = TableVault(folder)
vault.delete_instance(vault.get_table_instances("pictures")[-1], "pictures")
vault.rename_table("renamed", "plain")
vault.delete_table("renamed")
assert vault.verify().ok, vault.verify()
compress_vault(folder)
delete_vault(folder)
decompress_vault(folder)
assert TableVault(folder).verify().ok
delete_vault(folder)
"""


@pytest.mark.slow
@pytest.mark.skipif(
    sys.platform != "linux" or os.getuid() != 0, reason="the other tests run without privileges already"
)
def test_read_only_folders_do_not_block_an_unprivileged_user(tmp_path):
    sources = [str(Path(tablevault.__file__).parents[1]), str(Path(__file__).parent)]
    command = [sys.executable, "-c", UNPRIVILEGED, str(tmp_path / "vault"), *sources]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_repair_leaves_a_damaged_instance_as_it_is(db_dir, vault):
    path = instance_folder(db_dir) / "table.parquet"
    path.chmod(0o644)
    path.write_bytes(b"PAR1")
    before = path.read_bytes()
    assert not vault.verify(repair=True).ok
    assert path.read_bytes() == before
