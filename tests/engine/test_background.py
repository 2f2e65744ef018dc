"""Executions in the background.

They outlive their caller, and their errors reach waiting calls.
"""

from __future__ import annotations

import os
import signal
import threading

import pytest
from jobs import ended
from waiting import PATIENCE, until

from tablevault import tv_errors
from tablevault.processes.commit import Decisions


def test_a_background_execution_outlives_its_caller(job):
    job.tell("hold", 4)
    other = job.interpreter("print(vault.execute_instance('stories', background=True))")
    left = ended(other)
    assert left.status == 0
    process_id = left.output.strip()
    until(lambda: job.noted("held"))
    info = job.vault.get_process(process_id)
    assert info.status == "running"
    assert info.owner.alive
    assert info.owner.pid not in (other.pid, os.getpid())
    job.tell("hold")
    info = job.vault.wait_process(process_id, timeout=PATIENCE)
    assert (info.process_id, info.status) == (process_id, "succeeded")
    assert job.answers() == job.complete()


def test_errors_in_arguments_are_raised_at_once(job):
    with pytest.raises(tv_errors.TVArgumentError, match="storys"):
        job.vault.execute_instance("storys", background=True)
    job.vault.create_builder_file("stories", "answer", text="builder_type: ColumnBuilder\n")
    with pytest.raises(tv_errors.TVBuilderError, match="answer"):
        job.execute(background=True)
    assert job.vault.get_active_processes() == {}


@pytest.mark.slow
def test_call_with_a_running_id_is_refused_at_once(job):
    job.tell("hold", 4)
    job.execute("nightly", background=True)
    with pytest.raises(tv_errors.TVProcessError, match="running process cannot be taken over"):
        job.execute("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="running process cannot be taken over"):
        job.execute("nightly", background=True)
    job.tell("hold")
    assert job.vault.wait_process("nightly", timeout=PATIENCE).status == "succeeded"


def raising(job, text, header=""):
    """Make row 4 fail in the background, and return the id of the awaited process."""
    code = job.vault.get_code_module_str("jobs").replace('raise RuntimeError(f"no answer for {x}")', text)
    job.vault.create_code_module("jobs", text=header + code)
    job.tell("fail", 4)
    return job.execute("nightly", background=True)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("raise ZeroDivisionError('by nothing')", ZeroDivisionError, "by nothing"),
        ("raise tablevault.tv_errors.TVTableError('nested')", tv_errors.TVTableError, "nested"),
        ("raise SystemExit(3)", SystemExit, "3"),
    ],
)
def test_waiting_raises_known_errors_by_their_own_class(job, text, kind, message):
    process_id = raising(job, text, "import tablevault\n")
    with pytest.raises(kind) as caught:
        job.vault.wait_process(process_id, timeout=PATIENCE)
    assert type(caught.value) is kind
    assert str(caught.value) == message
    assert "in answer" in "".join(caught.value.__notes__), "the note has the traceback"
    if kind is SystemExit:
        assert caught.value.code == 3


@pytest.mark.slow
def test_waiting_raises_any_other_error_as_a_process_error_that_tells_all(job):
    process_id = raising(job, "raise OwnError('of the user')", "class OwnError(Exception): pass\n")
    with pytest.raises(tv_errors.TVProcessError, match="OwnError: of the user") as caught:
        job.vault.wait_process(process_id, timeout=PATIENCE)
    assert "Traceback" in str(caught.value)
    assert "in answer" in str(caught.value)


@pytest.mark.slow
def test_waiting_for_a_stopped_process_says_so(job):
    job.tell("fail", 4)
    job.execute("nightly", background=True)
    with pytest.raises(RuntimeError):
        job.vault.wait_process("nightly", timeout=PATIENCE)
    job.vault.stop_process("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="stopped"):
        job.vault.wait_process("nightly")


@pytest.mark.slow
def test_waiting_has_an_end(job):
    job.tell("hold", 4)
    job.execute("nightly", background=True)
    with pytest.raises(TimeoutError, match="nightly"):
        job.vault.wait_process("nightly", timeout=0.1)
    job.tell("hold")
    job.vault.wait_process("nightly", timeout=PATIENCE)
    with pytest.raises(tv_errors.TVProcessError, match="unknown"):
        job.vault.wait_process("unknown")


@pytest.mark.slow
def test_worker_log_has_printed_text_and_traceback(job):
    raising(job, "print('printed', flush=True); raise ZeroDivisionError('by nothing')")
    with pytest.raises(ZeroDivisionError):
        job.vault.wait_process("nightly", timeout=PATIENCE)
    log = job.path / "metadata" / "worker_logs" / "nightly.log"
    until(lambda: "resume it with" in log.read_text())
    assert "printed" in log.read_text()
    assert "ZeroDivisionError: by nothing" in log.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("process_id", ["", "nightly"])
def test_waiting_for_a_killed_worker_ends(job, process_id):
    job.tell("hold", 4)
    process_id = job.execute(process_id, background=True)
    until(lambda: job.noted("held"))
    os.kill(job.vault.get_process(process_id).owner.pid, signal.SIGKILL)
    with pytest.raises(tv_errors.TVProcessError, match=process_id):
        job.vault.wait_process(process_id, timeout=PATIENCE)
    assert job.vault.get_process(process_id).status == ("paused" if process_id == "nightly" else "reverted")


@pytest.mark.slow
def test_sigterm_pauses_a_worker(job):
    job.tell("hold", 4)
    job.execute("nightly", background=True)
    until(lambda: job.noted("held"))
    os.kill(job.vault.get_process("nightly").owner.pid, signal.SIGTERM)
    with pytest.raises(SystemExit) as caught:
        job.vault.wait_process("nightly", timeout=PATIENCE)
    assert caught.value.code == 143
    job.tell("hold")
    job.execute("nightly")
    assert job.noted("returned") == list(range(10))


BROKEN_INTERPRETER = """
sys.executable = "/bin/false"
try:
    vault.execute_instance("stories", process_id={process_id!r}, background=True)
except tv_errors.TVProcessError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("process_id", ["", "nightly"])
def test_a_worker_that_dies_before_it_claims_is_an_error_of_the_call(job, process_id):
    left = job.run(BROKEN_INTERPRETER.format(process_id=process_id))
    assert left.status == 0
    assert "ended with status 1 before it could start" in left.output
    assert job.vault.get_active_processes() == {}
    job.execute(process_id)
    assert job.answers() == job.complete()


@pytest.mark.slow
def test_a_caller_killed_before_its_worker_claims_leaves_a_paused_process(job, tmp_path):
    stuck = tmp_path / "stuck"
    stuck.write_text("#!/bin/sh\nexec sleep 3\n")
    stuck.chmod(0o755)
    other = job.interpreter(
        f"sys.executable = {str(stuck)!r}\nvault.execute_instance('stories', process_id='nightly', background=True)"
    )
    until(lambda: "nightly" in job.vault.get_active_processes(), other)
    until((job.path / "metadata" / "worker_logs" / "nightly.log").exists, other)
    other.kill()
    ended(other)
    # A child that was just forked holds the caller's locks until it becomes the worker's interpreter.
    until(lambda: job.vault.get_process("nightly").status == "paused")
    job.execute("nightly")
    assert job.answers() == job.complete()


@pytest.mark.slow
def test_stop_before_the_worker_claims_the_process_reaches_it(job):
    code = job.vault.get_code_module_str("jobs").partition("def answer")[0]
    slow = 'def answer(x, control):\n    note(control, "called", x)\n    time.sleep(0.1)\n    return f"{x}-ok"\n'
    job.vault.create_code_module("jobs", text=code + slow)
    job.build(count=100)
    starting = threading.Thread(target=lambda: job.execute("nightly", background=True))
    starting.start()
    until(lambda: "nightly" in job.vault.get_active_processes())
    job.vault.stop_process("nightly", force=True, timeout=PATIENCE)
    starting.join()
    assert job.vault.get_process("nightly").status == "stopped"
    assert len(job.noted("called")) < 90


@pytest.mark.slow
def test_waiting_raises_a_key_error_with_its_key(job):
    code = job.vault.get_code_module_str("jobs").partition("def answer")[0]
    job.vault.create_code_module("jobs", text=code + "def answer(x, control):\n    raise KeyError('clock')\n")
    job.execute("nightly", background=True)
    with pytest.raises(KeyError) as caught:
        job.vault.wait_process("nightly", timeout=PATIENCE)
    assert caught.value.args == ("clock",)


def test_completion_means_that_locks_and_files_are_let_go(job, monkeypatch):
    job.tell("fail", 4)
    seen = []
    real = Decisions._tidy_all

    def looking(decisions, serial, *told):
        process_id = job.vault.get_history(operation="execute_instance")[0].process_id
        info = job.vault.get_process(process_id)
        seen.append(
            (job.vault.get_process_completion(process_id), info.ended_at, list(job.vault.get_active_processes()))
        )
        with pytest.raises(TimeoutError):
            job.vault.wait_process(process_id, timeout=0)
        return real(decisions, serial, *told)

    monkeypatch.setattr(Decisions, "_tidy_all", looking)
    with pytest.raises(RuntimeError):
        job.execute()
    [info] = job.vault.get_history(operation="execute_instance")
    assert seen == [(False, None, [info.process_id])]
    assert job.vault.get_process_completion(info.process_id)
    assert (info.status, info.locks, info.ended_at is None) == ("reverted", (), False)
