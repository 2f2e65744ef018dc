"""The table of ends after errors, with each fault produced for real."""

from __future__ import annotations

import resource
import signal

import pytest
from jobs import ended, tree
from waiting import until

from tablevault import TableVault, tv_errors

NULL_KEY = """
builder_type: ColumnBuilder
changed_columns: [x]
python_function: nothing
code_module: broken
is_custom: true
return_type: row-wise
arguments: {x: "<<self.x[index]>>"}
"""


@pytest.fixture
def broken_key(job):
    """The job, with a builder that overwrites the primary key with nulls.

    This wrong input is found only at the end.
    """
    job.vault.create_code_module("broken", text="def nothing(x):\n    return None\n")
    job.vault.create_builder_file("stories", "broken", text=NULL_KEY)
    return job


def assert_reverted(job, before, process_id):
    """Assert that only the record of a process is left.

    The instance can be executed again.
    """
    assert job.vault.get_active_processes() == {}
    assert job.vault.get_process(process_id).status == "reverted"
    assert job.vault.get_process(process_id).locks == ()
    assert tree(job.path) == before
    assert job.vault.get_table_instances("stories") == []


def assert_paused(job, process_id, type_name):
    """Assert that a process is paused with its error, locks and progress."""
    info = job.vault.get_active_processes()[process_id]
    assert info.status == "paused"
    assert info.error is None or info.error.type == type_name
    assert info.locks
    assert process_id in info.hint
    assert job.vault.get_table_instances("stories") == []
    with pytest.raises(tv_errors.TVLockError, match=process_id):
        job.vault.delete_table("stories")


def only_process(job):
    """Return the id of the newest execution."""
    return job.vault.get_history(operation="execute_instance")[0].process_id


@pytest.mark.parametrize("process_id", ["", "nightly"])
def test_an_internal_error_before_the_work_reverts(job, process_id):
    job.vault.create_builder_file("stories", "answer", text="builder_type: ColumnBuilder\nn_thread: 3\n")
    before = tree(job.path)
    with pytest.raises(tv_errors.TVBuilderError, match=r"answer\.yaml"):
        job.execute(process_id)
    assert_reverted(job, before, process_id or only_process(job))


@pytest.mark.parametrize("process_id", ["", "nightly"])
def test_an_internal_error_at_the_end_of_the_work_reverts(broken_key, process_id):
    before = tree(broken_key.path)
    with pytest.raises(tv_errors.TVTableError, match="'x'") as caught:
        broken_key.execute(process_id)
    assert "reverted" in caught.value.__notes__[-1]
    assert_reverted(broken_key, before, process_id or only_process(broken_key))


def test_an_external_exception_without_an_id_reverts(job):
    before = tree(job.path)
    job.tell("fail", 4)
    with pytest.raises(RuntimeError, match="no answer for 4"):
        job.execute()
    assert_reverted(job, before, only_process(job))
    job.tell("fail")
    job.execute()
    assert job.answers() == job.complete()


def test_an_external_exception_with_an_id_pauses(job):
    job.tell("fail", 4)
    with pytest.raises(RuntimeError, match="no answer for 4"):
        job.execute("nightly")
    assert_paused(job, "nightly", "RuntimeError")
    assert job.vault.get_process("nightly").progress["answer"].computed == 4
    job.tell("fail")
    job.execute("nightly")
    assert job.answers() == job.complete()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_without_an_id_reverts(job, number):
    before = tree(job.path)
    job.signal_at(4, number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as caught:
        job.execute()
    assert "reverted" in caught.value.__notes__[-1]
    assert_reverted(job, before, only_process(job))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_with_an_id_pauses(job, number):
    job.signal_at(4, number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit):
        job.execute("nightly")
    assert_paused(job, "nightly", "KeyboardInterrupt" if number == signal.SIGINT else "SystemExit")
    assert job.noted("returned") == [0, 1, 2, 3]
    job.tell("signal")
    job.execute("nightly")
    assert job.noted("returned") == list(range(10))
    assert job.answers() == job.complete()


@pytest.mark.slow
def test_killed_owner_without_an_id_is_reverted_when_the_vault_is_opened(job):
    before = tree(job.path)
    job.killed_at(4)
    TableVault(job.path)
    assert_reverted(job, before, only_process(job))


@pytest.mark.slow
def test_killed_owner_without_an_id_is_reverted_when_its_locks_are_needed(job):
    job.killed_at(4)
    killed = only_process(job)
    job.execute()
    assert job.vault.get_process(killed).status == "reverted"
    assert job.answers() == job.complete()


@pytest.mark.slow
def test_process_of_a_killed_owner_is_shown_as_paused_if_it_has_an_id(job):
    job.killed_at(4, "nightly")
    assert_paused(job, "nightly", "OwnerDied")
    owner = job.vault.get_process("nightly").owner
    assert owner is not None
    assert not owner.alive
    # Opening the vault does not take it up, only records what is known of its end.
    again = TableVault(job.path)
    info = again.get_process("nightly")
    assert info.status == "paused"
    assert info.error is not None
    assert str(owner.pid) in info.error.message
    assert job.noted("returned") == [0, 1, 2, 3]
    again.execute_instance("stories", process_id="nightly")
    assert job.answers() == job.complete()


# --- after the decision -------------------------------------------------------------------------------------------


@pytest.fixture
def slow_to_tidy(job):
    """The job, with so many files in its temporary instance that removing them takes a while."""
    notes = job.path / "stories" / "TEMP_base" / "notes"
    notes.mkdir()
    for number in range(4_000):
        (notes / str(number)).touch()
    return job


def is_committing(job):
    """Tell whether the newest execution is decided, and not tidied up yet."""
    found = job.vault.get_history(operation="execute_instance")
    return bool(found) and found[0].status == "committing"


def interrupted_while_committing(job, process_id, number):
    """Let another interpreter execute, send it a signal after the decision, and return what it left."""
    other = job.interpreter(f"vault.execute_instance('stories', process_id={process_id!r})")
    until(lambda: is_committing(job), other)
    other.send_signal(number)
    return ended(other)


@pytest.mark.slow
@pytest.mark.parametrize("process_id", ["", "nightly"])
def test_decided_process_is_rolled_forward_by_recovery_after_a_kill(slow_to_tidy, process_id):
    job = slow_to_tidy
    left = interrupted_while_committing(job, process_id, signal.SIGKILL)
    killed = only_process(job)
    assert left.status == -signal.SIGKILL
    assert job.vault.get_process(killed).status == "committing"
    assert job.answers() == job.complete(), "what is decided is visible before it is tidied up"
    assert (job.path / "stories" / "TEMP_base").exists()
    job.vault.create_instance("stories")
    assert job.vault.get_process(killed).status == "succeeded"
    assert not (job.path / "stories" / "TEMP_base" / "notes").exists()
    assert job.noted("returned") == list(range(10))


@pytest.mark.slow
def test_same_call_after_a_kill_past_the_decision_finishes_without_running(slow_to_tidy):
    job = slow_to_tidy
    interrupted_while_committing(job, "nightly", signal.SIGKILL)
    with pytest.warns(tv_errors.TableVaultWarning, match="already succeeded"):
        assert job.execute("nightly") == "nightly"
    assert job.vault.get_process("nightly").status == "succeeded"
    assert job.noted("returned") == list(range(10))


@pytest.mark.slow
@pytest.mark.parametrize("process_id", ["", "nightly"])
def test_interrupt_after_the_decision_undoes_nothing(slow_to_tidy, process_id):
    job = slow_to_tidy
    left = interrupted_while_committing(job, process_id, signal.SIGTERM)
    assert left.status == 143
    assert job.vault.get_process(only_process(job)).status == "succeeded"
    assert not (job.path / "stories" / "TEMP_base").exists()
    assert job.answers() == job.complete()


@pytest.mark.slow
@pytest.mark.parametrize("process_id", ["", "nightly"])
def test_error_after_the_decision_says_that_the_process_is_committed(slow_to_tidy, process_id):
    job = slow_to_tidy
    other = job.interpreter(f"vault.execute_instance('stories', process_id={process_id!r})")
    until(lambda: is_committing(job), other)
    # From here on the other interpreter cannot write any file, the catalog included.
    resource.prlimit(other.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    left = ended(other)
    assert left.status == 1
    assert left.errors.rstrip().endswith(
        "committed, will be rolled forward: the change is visible and durable, only tidying up remains."
    )
    failed = only_process(job)
    assert job.vault.get_process(failed).status == "committing"
    assert job.answers() == job.complete()
    TableVault(job.path)
    assert job.vault.get_process(failed).status == "succeeded"
    assert job.vault.get_active_processes() == {}


NO_ROOM = """
import resource

def answer(x, control):
    if x == 4:
        # From here on no file can be written, the catalog included.
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        raise RuntimeError("no room")
    note(control, "returned", x)
    return f"{x}-ok"
"""


@pytest.mark.slow
@pytest.mark.parametrize("process_id", ["", "nightly"])
def test_end_that_cannot_be_recorded_is_left_to_recovery(job, process_id):
    code = job.vault.get_code_module_str("jobs")
    job.vault.create_code_module("jobs", text=code.partition("def answer")[0] + NO_ROOM)
    left = job.run(f"vault.execute_instance('stories', process_id={process_id!r})")
    assert left.status == 1
    assert "RuntimeError: no room" in left.errors
    assert "could not record its end" in left.errors
    failed = only_process(job)
    job.vault.create_code_module("jobs", text=code)
    again = TableVault(job.path)
    assert again.get_process(failed).status == ("paused" if process_id else "reverted")
    again.execute_instance("stories", process_id=process_id)
    assert job.answers() == job.complete()
