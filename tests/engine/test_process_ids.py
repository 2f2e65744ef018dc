"""Repeated calls with the same process id."""

from __future__ import annotations

import pytest
from jobs import ended
from waiting import until

from tablevault import tv_errors


def test_a_finished_id_with_the_same_arguments_does_nothing_and_warns(job):
    job.execute("nightly")
    job.forget()
    with pytest.warns(tv_errors.TableVaultWarning, match=r"'nightly'.*already succeeded at .*UTC.*Put the run's date"):
        assert job.execute("nightly") == "nightly"
    assert job.noted("called") == []
    assert len(job.vault.get_table_instances("stories")) == 1


def test_a_finished_id_with_other_arguments_is_an_error(job):
    job.execute("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="force_execute"):
        job.execute("nightly", force_execute=True)


def test_an_id_of_another_operation_is_an_error(job):
    job.execute("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="execute_instance, not of create_table"):
        job.vault.create_table("others", process_id="nightly")
    assert job.vault.get_tables() == ["stories"]


def test_the_id_of_a_process_that_an_error_reverted_can_be_used_again(job):
    with pytest.raises(tv_errors.TVArgumentError):
        job.vault.create_instance("storys", process_id="nightly")
    assert job.vault.get_process("nightly").status == "reverted"
    job.execute("nightly")
    assert job.vault.get_process("nightly").status == "succeeded"
    assert job.vault.get_process("nightly").operation == "execute_instance"


def test_the_id_of_a_stopped_process_cannot_be_used_again(job):
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    job.vault.stop_process("nightly")
    job.tell("fail")
    with pytest.raises(tv_errors.TVProcessError, match="stopped"):
        job.execute("nightly")
    assert job.vault.get_process("nightly").status == "stopped"


@pytest.mark.parametrize("process_id", ["a", "7", "run-2025.06_30", "x_y_z", "A" * 200])
def test_valid_ids(vault, process_id):
    assert vault.create_table("stories", process_id=process_id) == process_id
    assert vault.get_process(process_id).status == "succeeded"


@pytest.mark.parametrize("process_id", ["-a", ".a", "_a", "a b", "a/b", "é", "A" * 201, "a\n", "../up"])
def test_invalid_ids(vault, process_id):
    with pytest.raises(tv_errors.TVArgumentError, match="Process Id"):
        vault.create_table("stories", process_id=process_id)
    assert vault.get_tables() == []
    assert vault.get_history() == []


def test_ids_are_compared_whole(vault):
    vault.create_table("stories", process_id="nightly")
    assert vault.create_table("others", process_id="night") == "night"
    with pytest.raises(tv_errors.TVProcessError):
        vault.get_process("nigh")
    assert not vault.get_process_completion("nigh")


def test_a_generated_id_is_valid_and_new(vault):
    first, second = vault.generate_process_id(), vault.generate_process_id()
    assert first != second
    assert vault.create_table("stories", process_id=first) == first


def test_completion_is_true_however_a_process_ended(job):
    vault = job.vault
    assert not vault.get_process_completion("unknown")
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    assert not vault.get_process_completion("nightly"), "a paused process has not ended"
    stop = vault.stop_process("nightly")
    assert vault.get_process_completion("nightly")
    assert vault.get_process_completion(stop)
    with pytest.raises(tv_errors.TVArgumentError):
        vault.delete_table("nothing", process_id="refused")
    assert vault.get_process_completion("refused")
    with pytest.raises(tv_errors.TVProcessError, match="unknown"):
        vault.get_process("unknown")


START = """
print("ready", flush=True)
while not os.path.exists({go!r}):
    pass
try:
    vault.execute_instance("stories", process_id="nightly")
    print("ran", flush=True)
except tv_errors.TVProcessError as error:
    print("refused", error, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("paused", [False, True])
def test_of_two_that_start_the_same_id_at_the_same_moment_one_is_refused(job, paused):
    if paused:
        job.tell("fail", 4)
        with pytest.raises(RuntimeError):
            job.execute("nightly")
        job.tell("fail")
        job.forget()
    job.tell("hold", 7)
    go = job.control / "go"
    both = [job.interpreter(START.format(go=str(go))) for _ in range(2)]
    for other in both:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
    go.touch()
    until(lambda: any(other.poll() is not None for other in both))
    job.tell("hold")
    outputs = sorted(ended(other).output for other in both)
    assert outputs[0] == "ran\n"
    assert outputs[1].startswith("refused")
    assert "nightly" in outputs[1]
    assert job.vault.get_process("nightly").status == "succeeded"
    assert job.noted("called") == list(range(4 if paused else 0, 10))


@pytest.mark.slow
def test_a_refused_second_start_does_not_hide_the_process(job):
    job.tell("hold", 4)
    owner = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("held"), owner)
    with pytest.raises(tv_errors.TVProcessError, match="running"):
        job.execute("nightly")
    assert job.vault.get_process("nightly").status == "running"
    job.tell("hold")
    assert ended(owner).status == 0


def test_process_that_began_since_the_first_look_is_returned(job, monkeypatch):
    job.vault.create_table("others", process_id="p1")
    processes = type(job.vault._context.catalog.processes)
    find, looks = processes.find, []

    def find_late(self, process_id):
        looks.append(process_id)
        return None if len(looks) == 1 else find(self, process_id)

    monkeypatch.setattr(processes, "find", find_late)
    assert job.vault.get_process("p1").status == "succeeded"


def test_missing_process_is_not_suggested_for_itself(job, monkeypatch):
    job.vault.create_table("others", process_id="p1")
    with pytest.raises(tv_errors.TVProcessError, match=r"no process 'p2'; did you mean 'p1'\?"):
        job.vault.get_process("p2")
