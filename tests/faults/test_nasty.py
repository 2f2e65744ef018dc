"""The nasty faults, each by itself.

They are a commit of unknown outcome, full disks, Ctrl-C at any moment, and clocks that go back.
"""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from sweeping import Fault, build_library
from sweeps import sweeps

import tablevault
from tablevault import TableVault

INTERRUPTS = {"execute_copy": "mine", "create_table": "", "write_with_artifacts": "mine"}
MOMENTS = 4
"""At which each operation is interrupted, of all the calls that it makes."""


@pytest.fixture(scope="module")
def prepared():
    with sweeps() as made:
        yield made


@pytest.mark.slow
@pytest.mark.parametrize("operation", INTERRUPTS)
def test_interrupt_in_any_phase_leaves_the_state_before_or_after(prepared, operation):
    sweep = prepared[operation, INTERRUPTS[operation]]
    choice = random.Random(operation)
    moments = [1, sweep.count, *choice.sample(range(1, sweep.count + 1), MOMENTS)]
    interrupted = 0
    for n in moments:
        number = choice.choice((signal.SIGINT, signal.SIGTERM))
        answer = sweep.disturb(Fault(n, -number))
        interrupted += answer["error"].startswith(("KeyboardInterrupt", "SystemExit: 143"))
        assert answer["returned"] or answer["error"].startswith(("KeyboardInterrupt", "SystemExit: 143")), answer
        assert sweep.problem_after(answer) == "", (n, number)
    assert interrupted


@pytest.mark.slow
def test_io_error_of_the_commit_deletes_nothing_and_is_resolved_later(prepared):
    sweep = prepared["create_table", ""]
    left = []
    for n in range(1, sweep.count + 1):
        answer = sweep.disturb(Fault(n, errno.EIO))
        if "could not confirm a commit" in answer["error"]:
            left.append((sweep.place / "vault" / "new").is_dir())
        assert sweep.problem_after(answer) == "", (n, answer)
    # The first commits begin the process, before its folder is made; the one that decides comes after.
    assert any(left), "no fault has hit the commit that decides"
    assert left == sorted(left), "a folder was removed though its commit may hold"


@pytest.mark.slow
def test_disk_full_after_the_decision_loses_no_computed_cell(prepared):
    sweep = prepared["execute_copy", "mine"]
    outcomes = set()
    # The last calls decide, tidy up, finish and log. Their numbers depend on how often checkpoints are written meanwhile:
    # go on until there are no more calls.
    n, beyond = max(sweep.count - 60, 1), 0
    while beyond < 3:
        answer = sweep.disturb(Fault(n, errno.ENOSPC, lasting=True))
        if answer["count"] >= n:
            outcomes.add(answer["returned"])
            beyond = 0
        else:
            beyond += 1
        assert sweep.problem_after(answer) == "", (n, answer)
        n += 1 if n >= sweep.count - 8 else 7
    assert outcomes == {True, False}


CLOCK = """
import ctypes
import sys

import pandas as pd

from tablevault import TableVault

set_clock = ctypes.CDLL(None).fault_shift_clock
set_clock.argtypes = [ctypes.c_long]
vault = TableVault(sys.argv[1], create=True, author="ada")
vault.create_table("t")
for number, shift in enumerate((0, -86_400, -400_000_000, 90_000)):
    set_clock(shift)
    vault.create_instance("t", external_edit=True)
    vault.write_instance(pd.DataFrame({"n": [number]}), "t")
    frame, newest = vault.get_dataframe("t")
    assert frame["n"].tolist() == [number], (number, frame)
    assert vault.get_table_instances("t")[-1] == newest
    vault.create_table(f"other{number}", process_id=f"id-{number}")
assert [info.process_id for info in vault.get_history(operation="create_table")][:4] == [f"id-{n}" for n in (3, 2, 1, 0)]
seconds = [int(name.split("_")[1]) for name in vault.get_table_instances("t")]
assert seconds != sorted(seconds), "the clock did not go back"
"""


@pytest.mark.slow
def test_a_clock_that_goes_back_changes_no_order(tmp_path):
    paths = os.pathsep.join([str(Path(tablevault.__file__).parents[1])])
    environment = {**os.environ, "LD_PRELOAD": str(build_library(tmp_path)), "PYTHONPATH": paths}
    command = [sys.executable, "-c", CLOCK, str(tmp_path / "vault")]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert ended.returncode == 0, ended.stderr
    vault = TableVault(tmp_path / "vault")
    assert vault.verify().ok, vault.verify()
    assert vault.get_dataframe("t")[0]["n"].tolist() == [3]
