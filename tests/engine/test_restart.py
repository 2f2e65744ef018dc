"""`restart=True` takes up what a crash left, oldest first, and says what became of each."""

from __future__ import annotations

import errno
import os
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import pytest
from jobs import ANSWER, INDEX, ended
from waiting import PATIENCE, until

from tablevault import TableVault, tv_errors


@pytest.fixture
def second(job):
    """The job with a second table `poems`.

    The table is like the first, but has separate control files.
    """
    control = job.control.parent / "second"
    control.mkdir()
    job.vault.create_table("poems")
    job.vault.create_instance("poems")
    job.vault.create_builder_file("poems", text=INDEX.format(count=10))
    job.vault.create_builder_file("poems", "answer", text=ANSWER.format(threads=1, control=control))
    return control


def paused(job, process_id="nightly"):
    """Pause the execution at row 4."""
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute(process_id)
    job.forget()


def test_a_paused_process_is_resumed(job):
    paused(job)
    job.tell("fail")
    assert TableVault(job.path, restart=True).restart_report == {"nightly": "resumed"}
    assert job.noted("called") == [4, 5, 6, 7, 8, 9]
    assert job.answers() == job.complete()


@pytest.mark.slow
def test_a_killed_process_with_an_id_is_resumed(job):
    job.killed_at(4, "nightly")
    assert TableVault(job.path, restart=True).restart_report == {"nightly": "resumed"}
    assert job.answers() == job.complete()


@pytest.mark.slow
def test_a_killed_process_without_an_id_is_reverted(job):
    job.killed_at(4)
    report = TableVault(job.path, restart=True).restart_report
    assert list(report.values()) == ["reverted"]
    assert job.vault.get_process(next(iter(report))).status == "reverted"
    assert job.vault.get_table_instances("stories") == []


@pytest.mark.slow
def test_a_process_killed_after_its_decision_is_rolled_forward(job):
    notes = job.path / "stories" / "TEMP_base" / "notes"
    notes.mkdir()
    for number in range(4_000):
        (notes / str(number)).touch()
    other = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: "committing" in {info.status for info in job.vault.get_active_processes().values()}, other)
    other.kill()
    ended(other)
    assert TableVault(job.path, restart=True).restart_report == {"nightly": "rolled forward"}
    assert job.vault.get_process("nightly").status == "succeeded"
    assert not notes.exists()


@pytest.mark.slow
def test_a_process_with_a_live_owner_is_left_running(job):
    job.tell("hold", 4)
    other = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("held"), other)
    assert TableVault(job.path, restart=True).restart_report == {"nightly": "left running"}
    job.tell("hold")
    assert ended(other).status == 0
    assert job.noted("returned") == list(range(10))


@pytest.mark.slow
def test_one_that_its_live_owner_ends_meanwhile_was_left_running(job, second):
    (second / "fail").write_text("7")
    with pytest.raises(RuntimeError):
        job.vault.execute_instance("poems", process_id="weekly")
    (second / "fail").unlink()
    (second / "hold").write_text("7")
    job.tell("hold", 4)
    other = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("held"), other)

    def end_the_other_one() -> None:
        until((second / "held").exists)
        job.tell("hold")
        ended(other)
        (second / "hold").unlink()

    with ThreadPoolExecutor() as threads:
        ending = threads.submit(end_the_other_one)
        report = TableVault(job.path, restart=True).restart_report
        ending.result()
    assert report == {"weekly": "resumed", "nightly": "left running"}
    assert job.vault.get_process("nightly").status == "succeeded"


def test_one_that_fails_again_is_paused_again_and_the_others_still_run(job, second):
    paused(job)
    (second / "fail").write_text("7")
    with pytest.raises(RuntimeError):
        job.vault.execute_instance("poems", process_id="weekly")
    (second / "fail").unlink()
    with pytest.warns(tv_errors.TableVaultWarning, match="'nightly'.*no answer for 4"):
        vault = TableVault(job.path, restart=True)
    assert vault.restart_report == {"nightly": "paused again", "weekly": "resumed"}
    assert vault.get_process("nightly").status == "paused"
    assert len(vault.get_table_instances("poems")) == 1


@pytest.mark.usefixtures("no_collections")
def test_an_interrupt_ends_the_restart(job, second):
    paused(job)
    (second / "fail").write_text("7")
    with pytest.raises(RuntimeError):
        job.vault.execute_instance("poems", process_id="weekly")
    (second / "fail").unlink()
    (second / "called").unlink()
    job.tell("fail")
    job.signal_at(6, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        TableVault(job.path, restart=True)
    assert job.vault.get_process("nightly").status == "paused"
    assert job.vault.get_process("weekly").status == "paused"
    assert not (second / "called").exists()


@pytest.mark.slow
def test_one_that_was_in_the_background_goes_on_in_the_background(job):
    job.tell("fail", 4)
    job.execute("nightly", background=True)
    with pytest.raises(RuntimeError):
        job.vault.wait_process("nightly", timeout=PATIENCE)
    job.tell("fail")
    job.tell("hold", 5)
    vault = TableVault(job.path, restart=True)
    assert vault.restart_report == {"nightly": "resumed"}
    assert vault.get_process("nightly").owner.alive, "the constructor does not wait for the worker"
    job.tell("hold")
    assert vault.wait_process("nightly", timeout=PATIENCE).status == "succeeded"


def test_without_restart_opening_runs_no_function(job):
    paused(job)
    job.tell("fail")
    vault = TableVault(job.path)
    assert vault.restart_report == {}
    assert vault.get_process("nightly").status == "paused"
    assert job.noted("called") == []


def test_after_a_restart_nothing_is_left_to_restart(job):
    paused(job)
    job.tell("fail")
    TableVault(job.path, restart=True)
    assert TableVault(job.path, restart=True).restart_report == {}


LIMITED = """
import resource
import pandas as pd
frame = pd.DataFrame({{"x": range(500_000), "y": [str(number * 7919) for number in range(500_000)]}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000, resource.RLIM_INFINITY))
vault.write_instance(frame, "frames", process_id="written")
"""


FULL = {
    "create_code_module": {"module_name": "m", "text": "ANSWER = 1\n"},
    "create_builder_file": {"table_name": "stories", "builder_name": "more", "text": "builder_type: ColumnBuilder\n"},
    "create_instance": {"table_name": "stories", "version": "new", "builders": {"more": "# nothing\n"}},
}
"""Arguments of operations that stage texts."""


@pytest.fixture
def full_disk(monkeypatch):
    """A disk on which nothing can be staged; returns what makes room."""
    real = os.open

    def full(path, flags, *rest, **options):
        if flags & os.O_CREAT and "_temp" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", full)
    return monkeypatch.undo


def made_by(vault, operation):
    """Return the text that an operation was given, as it can be read afterwards."""
    if operation == "create_code_module":
        return vault.get_code_module_str("m")
    version = "new" if operation == "create_instance" else "base"
    return vault.get_builder_str("stories", "more", version=version)


@pytest.mark.parametrize("how", ["restart", "without arguments", "same arguments"])
@pytest.mark.parametrize("operation", FULL)
def test_texts_are_recorded_so_that_a_process_resumes_after_a_full_disk(job, full_disk, operation, how):
    arguments = FULL[operation]
    with pytest.raises(OSError, match="No space left") as caught:
        getattr(job.vault, operation)(**arguments, process_id="full")
    assert "# nothing" not in "".join(caught.value.__notes__), "a long text is not part of the call that resumes"
    full_disk()
    info = job.vault.get_process("full")
    assert (info.status, info.arguments["table_name" if "table_name" in arguments else "text"] is None) == (
        "paused",
        False,
    )
    if how == "restart":
        assert TableVault(job.path, restart=True).restart_report == {"full": "resumed"}
    else:
        given = (
            arguments
            if how == "same arguments"
            else {k: v for k, v in arguments.items() if k in ("table_name", "version")}
        )
        getattr(job.vault, operation)(**given, process_id="full")
    given = arguments.get("text") or arguments["builders"]["more"]
    assert made_by(job.vault, operation) == given


@pytest.mark.parametrize("operation", FULL)
def test_other_text_is_another_call(job, full_disk, operation):
    arguments = dict(FULL[operation])
    with pytest.raises(OSError, match="No space left"):
        getattr(job.vault, operation)(**arguments, process_id="full")
    full_disk()
    changed = "builders" if operation == "create_instance" else "text"
    arguments[changed] = {"more": "# other\n"} if changed == "builders" else "# other\n"
    with pytest.raises(tv_errors.TVProcessError, match=f"another value of '{changed}'"):
        getattr(job.vault, operation)(**arguments, process_id="full")
    assert job.vault.get_process("full").status == "paused"


@pytest.mark.slow
def test_a_write_whose_frame_was_not_staged_whole_stays_paused(vault, job):
    vault.create_table("frames")
    vault.create_instance("frames", external_edit=True)
    left = job.run(LIMITED.format())
    assert left.status == 1
    assert "paused as 'written'" in left.errors
    with pytest.warns(tv_errors.TableVaultWarning, match="written"):
        again = TableVault(job.path, restart=True)
    assert again.restart_report == {"written": "paused again"}
    info = again.get_process("written")
    assert info.status == "paused"
    assert info.error is not None
    frame = pd.DataFrame({"x": range(500_000), "y": [str(number * 7919) for number in range(500_000)]})
    again.write_instance(frame, "frames", process_id="written")
    assert len(again.get_dataframe("frames")[0]) == 500_000


def test_restart_reports_no_failure_for_children_finished_by_parents(job, tmp_path):
    code = (
        job.vault.get_code_module_str("jobs")
        + """

def nested(x, control, folder, parent):
    from tablevault import TableVault
    vault = TableVault(folder, parent_id=parent)
    vault.execute_instance("poems", process_id=f"{parent}-{x}")
    return x
"""
    )
    job.vault.create_code_module("jobs", text=code)
    job.vault.create_table("poems")
    job.vault.create_instance("poems")
    job.vault.create_builder_file("poems", text=INDEX.format(count=10))
    job.vault.create_builder_file("poems", "answer", text=ANSWER.format(threads=1, control=job.control))
    job.build(count=1)
    text = ANSWER.format(threads=1, control=job.control).replace("python_function: answer", "python_function: nested")
    text = text.replace("arguments: {", f"arguments: {{folder: '{job.path}', parent: ~PROCESS_ID~, ")
    job.vault.create_builder_file("stories", "answer", text=text)
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    assert set(job.vault.get_active_processes()) == {"nightly", "nightly-0"}
    job.tell("fail")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vault = TableVault(job.path, restart=True)
    assert vault.restart_report == {"nightly": "resumed", "nightly-0": "resumed"}
    assert job.noted("returned") == list(range(10))


LARGE_ARTIFACT = """
import resource
import pandas as pd
with open(vault.get_artifact_folder("frames") + "/large.bin", "wb") as file:
    file.write(b"." * 20_000_000)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
# The journal of the catalog, whose size depends on how long everything took, stays far below this limit.
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000_000, resource.RLIM_INFINITY))
vault.write_instance(pd.DataFrame({"file": ["large.bin"]}), "frames", dtypes={"file": "artifact_string"}, process_id="w")
"""


@pytest.fixture
def staged(vault, job):
    """The vault, with the paused write `w`.

    Its frame is staged completely, but its artifact did not fit on the disk.
    """
    vault.create_table("frames")
    vault.create_instance("frames", external_edit=True)
    left = job.run(LARGE_ARTIFACT)
    assert left.status == 1
    assert "paused as 'w'" in left.errors
    return vault


@pytest.mark.slow
def test_a_write_whose_frame_was_staged_whole_is_finished(staged, job):
    again = TableVault(job.path, restart=True)
    assert again.restart_report == {"w": "resumed"}
    frame, _ = again.get_dataframe("frames", successful_only=True)
    assert Path(frame["file"][0]).stat().st_size == 20_000_000


@pytest.mark.slow
def test_write_with_a_fully_staged_frame_can_be_materialized_by_a_stop(staged, job):
    staged.stop_process("w", materialize=True)
    frame, instance_id = staged.get_dataframe("frames")
    assert Path(frame["file"][0]).stat().st_size == 20_000_000
    assert staged.get_descriptions(instance_id, "frames")["success"] is False
    written = Path(job.path, "frames", instance_id, "description.yaml").read_text()
    assert "success: false" in written
    assert staged.verify().ok
