"""The outcome of an exception.

It has the facts of the exception's note as fields.
"""

from __future__ import annotations

import json
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from waiting import PATIENCE

from tablevault import tv_errors
from tablevault.notes import add_note, location_of, outcome_of
from tablevault.processes.messages import hint, note
from tablevault.values.outcomes import Cause, OutcomeKind


def failed(job, process_id="", error=RuntimeError, match="no answer for 4"):
    """Return the error of an execution whose function fails at row 4."""
    job.tell("fail", 4)
    with pytest.raises(error, match=match) as caught:
        job.execute(process_id)
    return caught.value


def test_outcome_of_a_pause_has_the_remedies_of_the_process(job):
    error = failed(job, "nightly")
    outcome, info = outcome_of(error), job.vault.get_process("nightly")
    assert (outcome.kind, outcome.process_id, outcome.cause) == (OutcomeKind.PAUSED, "nightly", Cause.FUNCTION)
    assert outcome.is_paused
    assert [remedy.action for remedy in outcome.remedies] == ["resume", "stop"]
    assert outcome.remedies == info.remedies
    assert info.hint == hint(outcome.remedies)
    assert error.__notes__[-1] == note(outcome)


def test_outcome_of_a_revert_counts_the_kept_cells(job):
    error = failed(job)
    outcome = outcome_of(error)
    assert (outcome.kind, outcome.kept_cells, outcome.remedies) == (OutcomeKind.REVERTED, 14, ())
    assert not outcome.is_paused
    assert error.__notes__[-1] == note(outcome)


def test_refused_resume_carries_that_the_process_is_still_paused(job):
    failed(job, "nightly")
    with pytest.raises(tv_errors.TVProcessError, match="force_execute") as caught:
        job.vault.execute_instance("stories", force_execute=True, process_id="nightly")
    outcome = outcome_of(caught.value)
    assert (outcome.kind, outcome.cause) == (OutcomeKind.STILL_PAUSED, Cause.VAULT)
    assert outcome.remedies == job.vault.get_process("nightly").remedies


def test_call_of_another_operation_carries_no_outcome(job):
    failed(job, "nightly")
    with pytest.raises(tv_errors.TVProcessError, match="is a call of execute_instance") as caught:
        job.vault.create_table("another", process_id="nightly")
    assert outcome_of(caught.value) is None


@pytest.mark.slow
def test_waiting_carries_the_outcome_of_the_process(job):
    job.tell("fail", 4)
    job.execute("nightly", background=True)
    with pytest.raises(RuntimeError, match="no answer for 4") as caught:
        job.vault.wait_process("nightly", timeout=PATIENCE)
    outcome = outcome_of(caught.value)
    assert (outcome.kind, outcome.cause) == (OutcomeKind.PAUSED, Cause.FUNCTION)
    assert outcome.remedies == job.vault.get_process("nightly").remedies


def test_cause_of_an_error_is_recorded(job):
    failed(job, "nightly")
    assert job.vault.get_process("nightly").error.cause is Cause.FUNCTION
    with pytest.raises(tv_errors.TVArgumentError):
        job.vault.create_table("artifacts")
    (refused,) = job.vault.get_history(operation="create_table", status="reverted")
    assert refused.error.cause is Cause.VAULT


def test_cause_of_an_interrupt_is_not_the_function(job, no_collections):
    job.tell("signal", 4)
    (job.control / "number").write_text(str(int(signal.SIGINT)))
    with pytest.raises(KeyboardInterrupt) as caught:
        job.execute("nightly")
    assert outcome_of(caught.value).cause is Cause.INTERRUPT
    assert job.vault.get_process("nightly").error.cause is Cause.INTERRUPT


def test_cause_is_none_in_records_without_one(job):
    failed(job, "nightly")
    catalog = Path(job.vault.db_dir, "metadata", "catalog.db")
    with closing(sqlite3.connect(catalog)) as connection, connection:
        (text,) = connection.execute("SELECT error FROM processes WHERE process_id = 'nightly'").fetchone()
        error = json.loads(text)
        del error["cause"]
        connection.execute("UPDATE processes SET error = ? WHERE process_id = 'nightly'", [json.dumps(error)])
    assert job.vault.get_process("nightly").error.cause is None


@pytest.mark.slow
def test_running_process_has_the_remedy_of_a_forced_stop(job):
    job.tell("hold", 4)
    job.execute("nightly", background=True)
    (remedy,) = job.vault.get_process("nightly").remedies
    assert "force=True" in remedy.python
    assert remedy.command.endswith("stop-process nightly --force")
    job.vault.stop_process("nightly", force=True)
    assert job.vault.get_process("nightly").remedies == ()


def test_plain_exception_has_neither_outcome_nor_location():
    error = ValueError("x")
    add_note(error, "paused as 'nightly'")
    assert outcome_of(error) is None
    assert location_of(error) == ""
