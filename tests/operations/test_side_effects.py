"""Tables with side effects.

They have one execution at a time and no reads during it; older instances become inactive.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from operated import build, index_builder

import tablevault
from tablevault import TableVault, tv_errors

CODE = """
import pandas as pd
from pathlib import Path

def rows(flag):
    if not Path(flag).exists():
        raise LookupError("not yet")
    return pd.DataFrame({"x": [1, 2]})
"""


@pytest.fixture
def flag(tmp_path):
    return tmp_path / "flag"


@pytest.fixture
def sending(vault, flag):
    """A table with side effects and one instance."""
    flag.touch()
    vault.create_code_module("made", text=CODE)
    vault.create_table("sent", has_side_effects=True)
    again(vault, flag)
    vault.execute_instance("sent")
    flag.unlink()
    again(vault, flag)
    return vault


def again(vault, value, parameter="flag"):
    vault.create_instance("sent", builders={"sent_index": index_builder("x", "rows", f"{{{parameter}: {value}}}")})


def test_a_success_makes_all_others_inactive_for_good(sending, flag):
    first = sending.get_dataframe("sent")[1]
    flag.touch()
    sending.execute_instance("sent")
    assert sending.get_dataframe("sent")[1] != first
    assert sending.get_dataframe("sent", first)[1] == first
    sending.delete_instance(sending.get_dataframe("sent")[1], "sent")
    with pytest.raises(tv_errors.TVArgumentError, match="no active"):
        sending.get_dataframe("sent")
    assert sending.get_dataframe("sent", active_only=False)[1] == first


def test_reads_are_blocked_while_it_executes_and_open_after_a_revert(sending, path):
    first = sending.get_dataframe("sent")[1]
    with pytest.raises(LookupError):
        sending.execute_instance("sent", process_id="mine")
    for vault in (sending, TableVault(path)):
        for options in ({}, {"instance_id": first}, {"active_only": False}):
            with pytest.raises(tv_errors.TVLockError, match="mine"):
                vault.get_dataframe("sent", **options)
    with pytest.raises(tv_errors.TVLockError, match="mine"):
        sending.create_instance("sent", "other")
    sending.stop_process("mine")
    assert sending.get_dataframe("sent")[1] == first


def test_an_error_without_a_process_id_leaves_them_active(sending):
    first = sending.get_dataframe("sent")[1]
    with pytest.raises(LookupError):
        sending.execute_instance("sent")
    assert sending.get_dataframe("sent")[1] == first


def test_an_execution_that_reads_it_waits_too(sending):
    build(sending, index_builder("x", "whole", '{frame: "<<sent>>"}'), "def whole(frame):\n    return frame\n")
    sending.create_code_module("made", text=CODE + "\ndef whole(frame):\n    return frame\n")
    with pytest.raises(LookupError):
        sending.execute_instance("sent", process_id="mine")
    with pytest.raises(tv_errors.TVLockError, match="mine"):
        sending.execute_instance("made")


NESTED = """
import pandas as pd
from tablevault import TableVault

def rows(path, parent):
    vault = TableVault(path, parent_id=parent)
    vault.create_table("child")
    return vault.get_dataframe("sent")[0]
"""


def test_operations_inside_the_execution_read_it(vault, flag, path):
    vault.create_code_module("made", text=NESTED)
    vault.create_table("sent", has_side_effects=True)
    vault.create_instance("sent", "first", external_edit=True)
    import pandas as pd

    vault.write_instance(pd.DataFrame({"x": [7]}), "sent", "first")
    vault.create_instance(
        "sent", builders={"sent_index": index_builder("x", "rows", f"{{path: {path}, parent: ~PROCESS_ID~}}")}
    )
    with pytest.raises(tv_errors.TVArgumentError, match="no active"):
        vault.execute_instance("sent")
    text = NESTED.replace('get_dataframe("sent")', 'get_dataframe("sent", version="first")').replace('"child"', '"two"')
    vault.create_code_module("made", text=text)
    vault.execute_instance("sent")
    assert vault.get_dataframe("sent")[0]["x"].tolist() == [7]
    assert vault.get_tables() == ["sent", "child", "two"]


READING = """
from tablevault import TableVault

def rows(path):
    return TableVault(path).get_dataframe("sent", active_only=False)[0]
"""


def test_refused_reader_is_told_about_the_running_process_and_how_to_wait(sending, path):
    sending.create_code_module("made", text=READING)
    sending.delete_instance("TEMP_base", "sent")
    again(sending, path, "path")
    told = (
        "^Table 'sent' has side effects, so it cannot be read while it executes. Process '.*' .execute_instance by "
        r".*wait_process\('.*'\) waits for it"
    )
    with pytest.raises(tv_errors.TVLockError, match=told):
        sending.execute_instance("sent")


KILLED = """
import os, signal
import pandas as pd

def rows(flag):
    os.kill(os.getpid(), signal.SIGKILL)
"""


def _killed_while_executing(path, process_id):
    text = f"from tablevault import TableVault; TableVault({str(path)!r}).execute_instance('sent', process_id={process_id!r})"
    source = str(Path(tablevault.__file__).parents[1])
    done = subprocess.run([sys.executable, "-c", text], env={**os.environ, "PYTHONPATH": source}, check=False)
    assert done.returncode == -signal.SIGKILL


@pytest.mark.slow
def test_table_of_a_killed_owner_without_an_id_can_be_read_at_once(sending, path):
    first = sending.get_dataframe("sent")[1]
    sending.create_code_module("made", text=KILLED)
    _killed_while_executing(path, "")
    assert sending.get_dataframe("sent")[1] == first


def test_refused_reader_is_told_about_the_paused_process_and_remedy(sending, path):
    sending.create_code_module("made", text=KILLED)
    _killed_while_executing(path, "mine")
    with pytest.raises(tv_errors.TVLockError, match="paused process 'mine'.*stop_process"):
        sending.get_dataframe("sent")
