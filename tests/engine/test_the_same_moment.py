"""Races between reading the record of a process and acting on it."""

from __future__ import annotations

import threading

import pandas as pd
import pyarrow as pa
import pytest

from tablevault import TableVault, tv_errors
from tablevault.catalog.owners import RECOVERY
from tablevault.processes.commit import Decisions
from tablevault.processes.process import claim_when_free
from tablevault.processes.recovery import Recovery
from tablevault.state.liveness import Liveness
from tablevault.state.opening import Settings, open_context
from tablevault.values.changes import Changes, Decision, Tidying, TidyingAction
from tablevault.values.plans import Unplanned
from tablevault.values.processes import ErrorInfo, NewProcess, Owner, Status

ARGUMENTS = {
    "table_name": "stories",
    "allow_multiple_artifacts": False,
    "has_side_effects": False,
    "description": "",
}


@pytest.fixture
def context(tmp_path):
    TableVault(tmp_path / "vault", create=True)
    return open_context(tmp_path / "vault", Settings(author="ada"))


def begun(context, lock):
    """Begin a process with a user's id and return its record."""
    new = NewProcess("nightly", "create_table", "ada", ARGUMENTS, None, user_given=True, background=False)
    started = context.catalog.transitions.begin(new, Unplanned(), Owner(lock.name, "here", 1))
    return context.catalog.processes.get(started.serial)


def test_status_is_read_again_when_the_owner_has_gone(context):
    lock = context.owners.claim()
    record = begun(context, lock)
    context.catalog.transitions.decide([Decision(record.serial, 1, Status.SUCCEEDED, Changes())])
    lock.release()
    assert Liveness(context).status(record) is Status.SUCCEEDED


def test_status_is_running_while_a_paused_process_is_resumed(context):
    lock = context.owners.claim()
    record = begun(context, lock)
    context.catalog.transitions.pause(record.serial, 1, None, None)
    paused = context.catalog.processes.get(record.serial)
    assert Liveness(context).status(paused) is Status.RUNNING
    lock.release()
    assert Liveness(context).status(paused) is Status.PAUSED


def test_decision_stands_when_its_owner_dies_before_a_claim(context):
    lock = context.owners.claim()
    record = begun(context, lock)
    remaining = Changes(tidying=(Tidying(TidyingAction.REMOVE, "_temp/1"),))
    context.catalog.transitions.decide([Decision(record.serial, 1, Status.SUCCEEDED, remaining)])
    lock.release()
    claimed = context.catalog.transitions.claim(record, Owner("another", "here", 2))
    assert claimed.status is Status.COMMITTING
    with pytest.raises(tv_errors.TVProcessError, match="committing"):
        context.catalog.transitions.set_running(claimed.serial, claimed.attempt)
    with pytest.raises(tv_errors.TVProcessError, match="committing"):
        context.catalog.transitions.pause(claimed.serial, claimed.attempt, None, None)
    assert context.catalog.processes.get(record.serial).status is Status.COMMITTING


class SlowFrame:
    """A frame that makes another call while it is read."""

    def __init__(self, overtaking):
        self._overtaking = overtaking

    def __arrow_c_stream__(self, requested_schema=None):
        overtaking, self._overtaking = self._overtaking, lambda: None
        overtaking()
        return pa.table({"x": [1, 2]}).__arrow_c_stream__(requested_schema)


def test_call_is_refused_when_another_takes_its_id_meanwhile(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True)
    vault.create_table("numbers")
    vault.create_instance("numbers", external_edit=True)

    def overtake():
        vault.write_instance(pd.DataFrame({"x": [1, 2]}), "numbers", process_id="nightly")

    with pytest.raises(tv_errors.TVProcessError, match="'nightly' was taken by another write_instance"):
        vault.write_instance(SlowFrame(overtake), "numbers", process_id="nightly")
    assert len(vault.get_table_instances("numbers")) == 1


def test_claim_waits_for_recovery_but_not_for_a_running_owner(context):
    record = begun(context, context.owners.claim())
    liveness, transitions = Liveness(context), context.catalog.transitions
    recovering = context.owners.claim(RECOVERY)
    recovered = transitions.claim(record, Owner(recovering.name, "here", 1))
    assert not liveness.is_running(recovered)
    threading.Timer(0.2, recovering.release).start()
    taken = claim_when_free(context, recovered)
    assert taken.attempt == 3
    assert claim_when_free(context, recovered) is None
    taken.leave()


def test_recovery_keeps_the_error_of_a_pause_it_had_not_read(context):
    lock = context.owners.claim()
    record = begun(context, lock)
    context.catalog.transitions.pause(record.serial, 1, ErrorInfo("ConnectionError", "no network", ""), None)
    lock.release()
    assert Recovery(context, Decisions(context)).recover(record).kind == "paused"
    assert context.catalog.processes.get(record.serial).error.message == "no network"


def test_code_module_stays_visible_while_its_file_is_moved(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True)
    over, vanished = threading.Event(), []

    def look():
        seen = set()
        while not over.is_set():
            listed = set(vault.get_code_modules_list())
            vanished.extend(seen - listed)
            seen |= listed

    readers = [threading.Thread(target=look) for _ in range(2)]
    for reader in readers:
        reader.start()
    try:
        for number in range(20):
            vault.create_code_module(f"module_{number}", text="x = 1\n")
    finally:
        over.set()
        for reader in readers:
            reader.join()
    assert vanished == []
