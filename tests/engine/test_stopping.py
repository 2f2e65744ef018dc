"""Stops of processes, which revert or materialize.

Running processes are asked to stop first.
"""

from __future__ import annotations

import errno
import time
from pathlib import Path

import pytest
from jobs import ended, tree
from waiting import PATIENCE, until

from tablevault import TableVault, tv_errors
from tablevault.processes import stopping
from tablevault.processes.process import Process
from tablevault.processes.stopping import StopProcess


@pytest.fixture
def paused(job):
    """The job, paused as `nightly` with rows 0 to 3 done."""
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    job.tell("fail")
    return job


def running(job, row=4, process_id="nightly"):
    """Let another interpreter execute, and hold in a row."""
    job.tell("hold", row)
    other = job.interpreter(f"vault.execute_instance('stories', process_id={process_id!r})")
    until(lambda: row in job.noted("held"), other)
    return other


def test_a_stop_reverts_and_releases_the_locks(job):
    before = tree(job.path)
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    own = job.vault.stop_process("nightly")
    assert own != "nightly"
    assert job.vault.get_process(own).operation == "stop_process"
    assert job.vault.get_process(own).status == "succeeded"
    info = job.vault.get_process("nightly")
    assert (info.status, info.locks) == ("stopped", ())
    assert job.vault.get_active_processes() == {}
    assert tree(job.path) == before
    job.vault.delete_table("stories")


def test_warnings_that_are_errors_are_raised_once_all_is_done(paused):
    builder = Path(paused.vault.db_dir) / "stories" / "TEMP_base" / "builders" / "answer.yaml"
    builder.write_text(builder.read_text() + "# edited meanwhile\n")
    # Pytest turns warnings into errors here, as other programs do.
    with pytest.raises(tv_errors.TableVaultWarning, match=r"Builder files edited by hand .* \(answer\) did not run"):
        paused.vault.stop_process("nightly", materialize=True)
    assert paused.vault.get_process("nightly").status == "stopped"
    assert paused.vault.get_active_processes() == {}
    assert paused.answers() == [f"{x}-ok" for x in range(4)] + [None] * 6


def test_a_paused_process_goes_on_where_its_warning_is_an_error(paused):
    builder = Path(paused.vault.db_dir) / "stories" / "TEMP_base" / "builders" / "answer.yaml"
    builder.write_text(builder.read_text() + "# edited meanwhile\n")
    with pytest.raises(tv_errors.TableVaultWarning, match="it continues with the original ones"):
        paused.execute("nightly")
    assert paused.vault.get_process("nightly").status == "succeeded"
    assert paused.answers() == [f"{x}-ok" for x in range(10)]


def test_computed_rows_can_be_reused_after_a_stop(paused):
    paused.vault.stop_process("nightly")
    assert paused.answers(instance_id="TEMP_base") == [f"{x}-ok" for x in range(4)] + [None] * 6
    paused.forget()
    paused.execute(reuse_partial=True)
    assert paused.noted("called") == [4, 5, 6, 7, 8, 9]


def test_the_stops_own_id_can_be_given_in_each_way(paused):
    assert paused.vault.stop_process("nightly", False, False, "stopping") == "stopping"
    paused.tell("fail", 4)
    with pytest.raises(RuntimeError):
        paused.execute("weekly")
    assert paused.vault.stop_process(to_stop_process_id="weekly", process_id="stopping-2") == "stopping-2"
    assert paused.vault.get_process("weekly").status == "stopped"


def test_a_process_that_ended_or_never_was_cannot_be_stopped(job):
    job.execute("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="succeeded"):
        job.vault.stop_process("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="unknown"):
        job.vault.stop_process("unknown")
    assert len(job.vault.get_table_instances("stories")) == 1


def test_a_second_stop_is_refused(paused):
    paused.vault.stop_process("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="was stopped"):
        paused.vault.stop_process("nightly")


@pytest.mark.slow
def test_a_killed_process_without_an_id_can_be_stopped(job):
    job.killed_at(4)
    (killed,) = job.vault.get_active_processes()
    job.vault.stop_process(killed)
    assert job.vault.get_process(killed).status == "stopped"


# --- materialize --------------------------------------------------------------------------------------------------


def test_materialize_makes_an_unsuccessful_instance_of_computed_rows(paused):
    paused.vault.stop_process("nightly", materialize=True)
    assert paused.vault.get_process("nightly").status == "stopped"
    assert paused.answers() == [f"{x}-ok" for x in range(4)] + [None] * 6
    with pytest.raises(tv_errors.TVArgumentError, match="successful"):
        paused.vault.get_dataframe("stories", successful_only=True)
    (instance_id,) = paused.vault.get_table_instances("stories")
    assert paused.vault.get_dataframe("stories", instance_id=instance_id)[1] == instance_id


def test_remaining_rows_can_be_computed_after_a_materialized_stop(paused):
    paused.vault.stop_process("nightly", materialize=True)
    paused.forget()
    paused.vault.create_instance("stories", copy=True)
    paused.execute()
    assert paused.noted("called") == [4, 5, 6, 7, 8, 9]
    assert paused.answers() == paused.complete()
    assert paused.vault.get_dataframe("stories", successful_only=True)[0]["answer"].notna().all()


def test_materialize_is_for_operations_that_make_instances(vault, job, monkeypatch):
    def full(self, name, text):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Process, "stage_text", full)
    with pytest.raises(OSError, match="No space left"):
        vault.create_code_module("long", text="# long", process_id="made")
    with pytest.raises(tv_errors.TVArgumentError, match="create_code_module"):
        vault.stop_process("made", materialize=True)
    assert vault.get_process("made").status == "paused"
    vault.stop_process("made")
    assert vault.get_code_modules_list() == ["jobs"]


PICTURES = """
from pathlib import Path
from jobs import is_told

def picture(x, folder, control):
    if is_told(control, "fail", x):
        (Path(folder) / "stray.txt").write_text("not named")
        raise RuntimeError("no picture")
    (Path(folder) / f"{x}.txt").write_text(f"{WORD} {x}")
    return f"{x}.txt"
"""

PICTURE = """
builder_type: ColumnBuilder
changed_columns: [picture]
python_function: picture
code_module: pictures
is_custom: true
return_type: row-wise
dtypes: {{picture: artifact_string}}
arguments: {{x: "<<self.x[index]>>", folder: ~ARTIFACT_FOLDER~, control: "{control}"}}
"""


def test_artifacts_of_a_materialized_stop_stay_with_it_and_replace_nothing(job):
    job.vault.create_code_module("pictures", text=PICTURES.replace("{WORD}", "old"))
    job.vault.create_builder_file("stories", "picture", text=PICTURE.format(control=job.control))
    job.execute()
    (whole,) = job.vault.get_table_instances("stories")
    job.vault.create_code_module("pictures", text=PICTURES.replace("{WORD}", "new"))
    job.vault.create_instance("stories", copy=True)
    job.tell("fail", 2)
    with pytest.raises(RuntimeError, match="no picture"):
        job.execute("nightly")
    job.vault.stop_process("nightly", materialize=True)
    frame, partial = job.vault.get_dataframe("stories")
    assert partial != whole
    assert frame["picture"].isna().tolist() == [False, False, *[True] * 8]
    assert Path(frame["picture"][0]).read_text() == "new 0"
    folder = job.path / "stories" / partial / "artifacts"
    assert sorted(path.name for path in folder.iterdir()) == ["0.txt", "1.txt"]
    kept, _ = job.vault.get_dataframe("stories", successful_only=True)
    assert [Path(path).read_text() for path in kept["picture"]] == [f"old {x}" for x in range(10)]
    assert (job.path / "stories" / "artifacts").resolve() == job.path / "stories" / whole / "artifacts"


# --- live owners --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_live_owner_is_not_stopped_without_force(job):
    other = running(job)
    with pytest.raises(tv_errors.TVProcessError, match="force=True"):
        job.vault.stop_process("nightly")
    job.tell("hold")
    assert ended(other).status == 0
    assert job.vault.get_process("nightly").status == "succeeded"


@pytest.mark.slow
def test_force_asks_a_live_owner_to_stop_at_its_next_row(job):
    job.tell("hold", 4)
    catching = (
        "try:\n    vault.execute_instance('stories', process_id='nightly')\n"
        "except tv_errors.TVForcedError as error:\n    print('forced', error.__notes__[-1])\n"
    )
    other = job.interpreter(catching)
    until(lambda: job.noted("held"), other)
    stopping = job.interpreter("vault.stop_process('nightly', force=True, timeout=180)")
    until(lambda: job.vault.get_history(operation="stop_process") or stopping.poll() is not None)
    # The owner looks for requests while the row takes its time.
    time.sleep(1)
    job.tell("hold")
    assert ended(stopping).status == 0
    left = ended(other)
    assert left.status == 0, "the user's interpreter is never killed"
    assert left.output.startswith("forced stopped by")
    assert job.vault.get_process("nightly").status == "stopped"
    assert job.noted("called") == [0, 1, 2, 3, 4]


@pytest.mark.slow
def test_force_does_not_kill_the_users_interpreter_and_says_so(job):
    other = running(job)
    with pytest.raises(tv_errors.TVProcessError, match="never killed"):
        job.vault.stop_process("nightly", force=True, timeout=0.5)
    assert other.poll() is None
    assert job.vault.get_process("nightly").status == "running"
    job.tell("hold")
    assert "TVForcedError" in ended(other).errors
    # It ends as requested, though no caller waits for it any more.
    info = job.vault.get_process("nightly")
    assert (info.status, info.locks) == ("stopped", ())
    job.execute(reuse_partial=True)
    assert job.noted("returned") == list(range(10))


@pytest.mark.slow
def test_owner_killed_after_a_stop_gave_up_is_stopped_not_paused(job):
    other = running(job)
    with pytest.raises(tv_errors.TVProcessError, match="never killed"):
        job.vault.stop_process("nightly", force=True, timeout=0.1)
    other.kill()
    ended(other)
    assert TableVault(job.path, restart=True).restart_report == {"nightly": "reverted"}
    assert job.vault.get_process("nightly").status == "stopped"


HELD = """
import time
from pathlib import Path


def answer(x, control):
    if x == 4:
        Path(control, "held").write_text("4")
        while not Path(control, "go").exists():
            time.sleep(0.01)
        raise RuntimeError("too late")
    return str(x)


def index(count):
    import pandas as pd
    return pd.DataFrame({"x": range(count)})
"""


@pytest.mark.slow
def test_error_after_a_stop_gave_up_ends_the_process_as_stopped(job):
    job.vault.create_code_module("jobs", text=HELD)
    other = job.interpreter("vault.execute_instance('stories', process_id='nightly')")
    until(lambda: job.noted("held"), other)
    with pytest.raises(tv_errors.TVProcessError, match="never killed"):
        job.vault.stop_process("nightly", force=True, timeout=1.0)
    (job.control / "go").touch()
    left = ended(other)
    assert "RuntimeError: too late" in left.errors
    assert "stopped by stop_process(force=True)" in left.errors
    assert job.vault.get_process("nightly").status == "stopped"


@pytest.mark.slow
def test_killed_worker_leaves_no_finding_of_verify(job):
    job.tell("hold", 4)
    job.execute("nightly", background=True)
    until(lambda: job.noted("held"))
    job.vault.stop_process("nightly", force=True, timeout=0.2)
    report = job.vault.verify()
    assert report.ok, report.problems


@pytest.mark.slow
def test_force_kills_a_background_worker_that_does_not_answer(job):
    job.tell("hold", 4)
    job.execute("nightly", background=True)
    until(lambda: job.noted("held"))
    assert job.vault.get_process("nightly").owner.alive
    job.vault.stop_process("nightly", force=True, materialize=True, timeout=0.5)
    info = job.vault.get_process("nightly")
    assert info.status == "stopped"
    assert not info.owner.alive
    assert job.answers() == [f"{x}-ok" for x in range(4)] + [None] * 6


@pytest.mark.slow
def test_force_spares_a_user_interpreter_running_a_background_process(job):
    job.tell("fail", 4)
    job.execute("nightly", background=True)
    with pytest.raises(RuntimeError):
        job.vault.wait_process("nightly", timeout=PATIENCE)
    job.tell("fail")
    other = running(job, 5)
    with pytest.raises(tv_errors.TVProcessError, match="never killed"):
        job.vault.stop_process("nightly", force=True, timeout=0.3)
    assert other.poll() is None
    job.tell("hold")
    assert "TVForcedError" in ended(other).errors


@pytest.mark.slow
def test_force_kills_a_worker_that_runs_a_foreground_process(paused):
    paused.tell("hold", 5)
    paused.execute("nightly", background=True)
    until(lambda: paused.noted("held"))
    paused.vault.stop_process("nightly", force=True, timeout=0.3)
    assert paused.vault.get_process("nightly").status == "stopped"


def test_force_on_a_process_without_owner_is_a_plain_stop(paused):
    paused.vault.stop_process("nightly", force=True)
    assert paused.vault.get_process("nightly").status == "stopped"


@pytest.mark.slow
def test_of_two_stops_at_the_same_moment_one_is_refused(paused):
    go = paused.control / "go"
    text = (
        f"print('ready', flush=True)\nwhile not os.path.exists({str(go)!r}): pass\n"
        "try:\n    vault.stop_process('nightly')\n    print('stopped')\n"
        "except tv_errors.TVProcessError:\n    print('refused')\n"
    )
    both = [paused.interpreter(text) for _ in range(2)]
    for other in both:
        assert other.stdout is not None
        assert other.stdout.readline() == "ready\n"
    go.touch()
    assert sorted(ended(other).output for other in both) == ["refused\n", "stopped\n"]
    assert TableVault(paused.path).get_process("nightly").status == "stopped"


@pytest.mark.parametrize("force", [False, True])
def test_stop_of_a_process_that_another_one_stops_names_that_one(paused, monkeypatch, force):
    original, refused = StopProcess._end, []

    def end(self, claimed, is_meant):
        second = TableVault(paused.path, author="eve")
        with pytest.raises(tv_errors.TVProcessError) as told:
            second.stop_process("nightly", force=force, timeout=0.0)
        refused.append(str(told.value))
        return original(self, claimed, is_meant)

    monkeypatch.setattr(StopProcess, "_end", end)
    paused.vault.stop_process("nightly", own_process_id="first")
    assert refused == [
        "Process 'nightly' is being stopped already, by process 'first' of ada; wait_process('first') waits for its end."
    ]
    assert paused.vault.get_process("nightly").status == "stopped"


def test_stop_that_is_overtaken_at_its_claim_names_the_other_one(paused, monkeypatch):
    original, refused = StopProcess._end, []

    def end(self, claimed, is_meant):
        with pytest.raises(tv_errors.TVProcessError, match="being stopped already, by process 'first'") as told:
            stopping._claim(claimed.context, claimed.context.catalog.processes.get(claimed.serial), 0)
        refused.append(told.value)
        return original(self, claimed, is_meant)

    monkeypatch.setattr(StopProcess, "_end", end)
    paused.vault.stop_process("nightly", own_process_id="first")
    assert len(refused) == 1


def test_reused_cells_are_in_the_instance_of_a_materialized_stop(job):
    job.execute()
    job.vault.create_instance("stories", copy=True)
    job.build(count=12)
    job.tell("fail", 11)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    job.vault.stop_process("nightly", materialize=True)
    frame, _ = job.vault.get_dataframe("stories")
    assert frame["answer"].dropna().tolist() == [f"{x}-ok" for x in range(11)]
    assert job.noted("returned") == list(range(11))
