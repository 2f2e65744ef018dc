"""A user of a group who finishes, stops or loses what another one had begun."""

from __future__ import annotations

import os
import signal
import warnings
from functools import partial

import pandas as pd
import pytest
from operated import build, column_builder, index_builder
from other_users import COLLEAGUE, OWNER, as_user, needs_root, remove, shared_folder
from test_permissions import FAILS, FILES, make, read_everything

from tablevault import TableVault
from tablevault.processes.commit import Decisions

ROWS = [f"{key}.txt" for key in range(4)]
COUNTED = FAILS.replace(
    'Path(folder, f"{key}.txt")', 'print(key, file=open("/CALLS", "a"))\n    Path(folder, f"{key}.txt")'
)


@pytest.fixture
def shared(tmp_path_factory):
    """A group's folder with a vault made by the owner.

    All needed modules are imported.
    """
    needs_root()
    imported = tmp_path_factory.mktemp("imported") / "vault"
    make(imported)
    read_everything(imported)
    folder = shared_folder()
    yield folder
    remove(folder)


def prepare(path):
    """Make a vault with an instance of artifacts to execute, and one to write."""
    vault = TableVault(path, create=True)
    code = COUNTED.replace("/CALLS", str(path.parent / "calls")).replace("key == 2", "False")
    file = column_builder("file", "file", '{key: "<<self.key[index]>>", folder: ~ARTIFACT_FOLDER~}', FILES)
    build(vault, index_builder("key", "rows"), code, file=file)
    vault.create_table("written")
    vault.create_instance("written", external_edit=True)


def execute(path):
    TableVault(path).execute_instance("made", process_id="night")


def write_instance(path):
    TableVault(path).write_instance(pd.DataFrame({"x": [1, 2]}), "written", process_id="night")


def write(path):
    TableVault(path).write("fresh", pd.DataFrame({"x": [1, 2]}), process_id="night")


def killed_before_the_decision(work, path):
    """Do some work in a process that is killed once its instance is sealed."""
    child = os.fork()
    if child == 0:
        Decisions.commit = lambda *arguments: os.kill(os.getpid(), signal.SIGKILL)
        work(path)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def quietly(call, path):
    """Do something whose folders only their owner may remove."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        call(path)


def set_aside(path):
    """Return the folders that no instance has."""
    return sorted(folder.name for folder in path.glob("*/*.set-aside-*"))


def assert_recovered(path):
    """Check that the owner's next operation clears away what is left."""

    def recover():
        vault = TableVault(path)
        vault.create_table("another")
        assert vault.verify().ok, vault.verify().problems

    as_user(OWNER, recover)
    assert set_aside(path) == []
    assert list((path / "_temp").iterdir()) == []


@pytest.mark.parametrize(("work", "table"), [(execute, "made"), (write_instance, "written"), (write, "fresh")])
def test_colleague_finishes_a_sealed_but_undecided_process(shared, work, table):
    path = shared / "vault"
    as_user(OWNER, partial(prepare, path))
    as_user(OWNER, partial(killed_before_the_decision, work, path))
    as_user(COLLEAGUE, partial(quietly, work, path))

    def look():
        vault = TableVault(path)
        return vault.get_dataframe(table, full_artifact_path=False)[0].iloc[:, -1].tolist()

    assert as_user(COLLEAGUE, look) == (ROWS if table == "made" else [1, 2])
    assert len(set_aside(path)) == 1
    assert_recovered(path)
    assert as_user(COLLEAGUE, look) == (ROWS if table == "made" else [1, 2])


@pytest.mark.slow
def test_finished_rows_and_files_survive_two_killed_users(shared):
    path = shared / "vault"
    as_user(OWNER, partial(prepare, path))
    as_user(OWNER, partial(killed_before_the_decision, execute, path))
    as_user(COLLEAGUE, partial(killed_before_the_decision, execute, path))
    assert as_user(OWNER, lambda: TableVault(path).verify().problems) == ()
    as_user(OWNER, partial(quietly, execute, path))
    assert (shared / "calls").read_text().split() == ["0", "1", "2", "3"]
    # The owner's own is gone, the colleague's waits for the colleague.
    assert len(set_aside(path)) == 1
    as_user(COLLEAGUE, lambda: TableVault(path).create_table("next"))
    assert_recovered(path)


def test_staged_frame_is_written_by_another_user_without_it(shared):
    path = shared / "vault"
    as_user(OWNER, partial(prepare, path))
    for user in (OWNER, COLLEAGUE):
        as_user(user, partial(killed_before_the_decision, write_instance, path))
    # The folder was renamed, and then the process was killed.
    (sealed,) = (folder for folder in (path / "written").glob("base_*") if "set-aside" not in folder.name)
    os.rename(sealed, sealed.with_name(f"{sealed.name}.set-aside-2"))
    as_user(OWNER, partial(quietly, lambda path: TableVault(path, restart=True), path))
    assert as_user(OWNER, lambda: TableVault(path).get_dataframe("written")[0]["x"].tolist()) == [1, 2]
    as_user(COLLEAGUE, lambda: TableVault(path).create_table("next"))
    assert_recovered(path)


@pytest.mark.parametrize("materialize", [False, True])
def test_colleague_stops_a_sealed_but_undecided_process(shared, materialize):
    path = shared / "vault"
    as_user(OWNER, partial(prepare, path))
    as_user(OWNER, partial(killed_before_the_decision, execute, path))
    as_user(
        COLLEAGUE, partial(quietly, lambda path: TableVault(path).stop_process("night", materialize=materialize), path)
    )
    assert_recovered(path)
    if not materialize:
        as_user(OWNER, lambda: TableVault(path).execute_instance("made", reuse_partial=True))
    vault = TableVault(path)
    assert vault.get_dataframe("made", full_artifact_path=False)[0]["file"].tolist() == ROWS
    assert (shared / "calls").read_text().split() == ["0", "1", "2", "3"]
