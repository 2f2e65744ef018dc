"""Resumed processes.

They continue with the current code, and with everything else as at their start.
"""

from __future__ import annotations

import pandas as pd
import pytest
from jobs import ANSWER, Job
from waiting import PATIENCE

from tablevault import TableVault, tv_errors


@pytest.fixture
def paused(job):
    """The job, paused as `nightly` with rows 0 to 3 done."""
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    job.forget()
    return job


def fix(job, old, new):
    """Edit the code module."""
    job.vault.create_code_module("jobs", text=job.vault.get_code_module_str("jobs").replace(old, new))


def assert_still_paused(job, before):
    """Assert that a process is as it was, and can be resumed."""
    assert job.vault.get_process("nightly") == before
    job.tell("fail")
    job.execute("nightly")
    assert job.noted("returned") == [4, 5, 6, 7, 8, 9]


def test_only_the_remaining_rows_are_computed_and_by_the_fixed_code(paused):
    fix(paused, 'if is_told(control, "fail", x):', "if False:")
    fix(paused, 'return f"{x}-ok"', 'return f"{x}-fixed"')
    assert paused.execute("nightly") == "nightly"
    assert paused.noted("called") == [4, 5, 6, 7, 8, 9]
    assert paused.answers() == [f"{x}-ok" for x in range(4)] + [f"{x}-fixed" for x in range(4, 10)]
    info = paused.vault.get_process("nightly")
    assert info.status == "succeeded"
    assert info.error is None
    assert info.progress["answer"].computed == 10


def test_provenance_records_under_which_code_rows_ran(paused):
    paused.tell("fail")
    fix(paused, 'return f"{x}-ok"', 'return f"{x}-fixed"')
    paused.execute("nightly")
    (step,) = [step for step in paused.vault.get_lineage("stories").columns if step.column == "answer"]
    assert len(set(step.code_versions)) == 2


def test_a_process_can_pause_and_go_on_any_number_of_times(paused):
    for row in (6, 8, 9):
        paused.tell("fail", row)
        with pytest.raises(RuntimeError, match=f"no answer for {row}"):
            paused.execute("nightly")
        assert paused.vault.get_process("nightly").error.message == f"no answer for {row}"
    paused.tell("fail")
    paused.execute("nightly")
    assert paused.noted("returned") == [4, 5, 6, 7, 8, 9]
    assert paused.answers() == paused.complete()


def test_paused_process_is_shown_with_its_error_progress_and_remedies(paused):
    info = paused.vault.get_active_processes()["nightly"]
    assert info.error is not None
    assert (info.error.type, info.error.message) == ("RuntimeError", "no answer for 4")
    assert 'raise RuntimeError(f"no answer for {x}")' in info.error.traceback
    assert (info.progress["answer"].total, info.progress["answer"].computed) == (10, 4)
    vault = f"TableVault({str(paused.path)!r})"
    command = f"tablevault --db-dir {paused.path}"
    assert info.hint == (
        "resume it with\n"
        f"    {vault}.execute_instance(table_name='stories', process_id='nightly')\n"
        f"    {command} execute-instance stories --process-id nightly\n"
        "or stop it with\n"
        f"    {vault}.stop_process('nightly')\n"
        f"    {command} stop-process nightly"
    )
    assert paused.answers(instance_id="TEMP_base") == [f"{x}-ok" for x in range(4)] + [None] * 6


def test_missing_environment_variable_on_resume_leaves_the_process_paused(job, monkeypatch):
    monkeypatch.setenv("JOB_KEY", str(job.control))
    builder = job.vault.get_builder_str("stories", "answer")
    job.vault.create_builder_file("stories", "answer", text=builder.replace(str(job.control), "~ENV:JOB_KEY~"))
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    monkeypatch.delenv("JOB_KEY")
    with pytest.raises(LookupError, match=r"'answer' .*JOB_KEY") as caught:
        job.execute("nightly")
    assert "paused as 'nightly'" in caught.value.__notes__[-1]
    monkeypatch.setenv("JOB_KEY", str(job.control))
    job.tell("fail")
    job.execute("nightly")
    assert job.noted("returned") == list(range(10))


def test_operation_blocked_by_a_paused_process_is_refused_at_once(paused):
    patient = TableVault(paused.path, lock_timeout=3600)
    with pytest.raises(tv_errors.TVLockError, match=r"'nightly' \(execute_instance\).*no answer for 4.*resume.*stop"):
        patient.delete_table("stories")
    with pytest.raises(tv_errors.TVLockError, match="nightly"):
        patient.create_instance("stories")
    patient.create_table("unrelated")


@pytest.mark.slow
def test_a_paused_process_survives_the_interpreter_and_a_move_of_the_vault(job, tmp_path):
    job.tell("fail", 4)
    assert job.run("vault.execute_instance('stories', process_id='nightly')").status == 1
    job.tell("fail")
    job.path.rename(tmp_path / "moved")
    moved = TableVault(tmp_path / "moved")
    assert moved.get_process("nightly").status == "paused"
    moved.execute_instance("stories", process_id="nightly")
    assert job.noted("returned") == list(range(10))
    assert list(moved.get_dataframe("stories")[0]["answer"]) == job.complete()


@pytest.mark.parametrize(
    ("options", "name"), [({"force_execute": True}, "force_execute"), ({"reuse_partial": True}, "reuse_partial")]
)
def test_a_different_argument_is_an_error_that_names_it(paused, options, name):
    before = paused.vault.get_process("nightly")
    with pytest.raises(tv_errors.TVProcessError, match=f"'{name}'"):
        paused.execute("nightly", **options)
    assert_still_paused(paused, before)


def test_a_different_table_or_version_is_an_error_that_names_it(paused):
    before = paused.vault.get_process("nightly")
    with pytest.raises(tv_errors.TVProcessError, match="'table_name'"):
        paused.vault.execute_instance("others", process_id="nightly")
    with pytest.raises(tv_errors.TVProcessError, match="'version'"):
        paused.execute("nightly", version="other")
    assert_still_paused(paused, before)


def test_an_argument_that_equals_its_default_counts_as_left_out(job):
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly", force_execute=True)
    job.tell("fail")
    # False is the default, so it does not contradict what was given at the start.
    job.execute("nightly", force_execute=False, version="base")
    assert job.vault.get_process("nightly").arguments["force_execute"] is True
    assert job.answers() == job.complete()


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("def answer(x, control):", "def answer(x, control:", tv_errors.TVBuilderError),
        ("def answer(x, control):", "def answers(x, control):", tv_errors.TVBuilderError),
        ("def answer(x, control):", "def answer(x):", tv_errors.TVBuilderError),
        ("import os\n", "import os\nraise LookupError('at import')\n", LookupError),
    ],
    ids=["syntax error", "no such function", "other arguments", "error at import"],
)
def test_error_before_any_function_runs_leaves_the_process_paused(paused, old, new, expected):
    before = paused.vault.get_process("nightly")
    fix(paused, old, new)
    with pytest.raises(expected) as caught:
        paused.execute("nightly")
    assert caught.value.__notes__[-1].startswith("process 'nightly' is still paused, unchanged")
    assert paused.noted("called") == []
    fix(paused, new, old)
    assert_still_paused(paused, before)


def test_computed_rows_can_be_materialized_after_a_refused_resume(paused):
    fix(paused, "def answer(x, control):", "def answer(x, control:")
    with pytest.raises(tv_errors.TVBuilderError):
        paused.execute("nightly")
    paused.vault.stop_process("nightly", materialize=True)
    assert paused.answers() == [f"{x}-ok" for x in range(4)] + [None] * 6


def test_builders_edited_while_paused_are_not_used_and_that_is_said(paused):
    paused.tell("fail")
    path = paused.path / "stories" / "TEMP_base" / "builders" / "answer.yaml"
    edited = path.read_text() + "dtypes: {answer: artifact_string}\n"
    path.write_text(edited)
    with pytest.warns(tv_errors.TableVaultWarning) as warned:
        paused.execute("nightly")
    assert any("answer" in str(item.message) and "edited" in str(item.message) for item in warned)
    assert paused.answers() == paused.complete()
    kept = list((paused.path / "metadata" / "ARCHIVED_TRASH").glob("*/builders/answer.yaml"))
    assert [file.read_text() for file in kept] == [edited]


def test_input_instances_are_the_ones_pinned_at_the_start(vault, tmp_path):
    vault.create_table("names")
    vault.create_instance("names", external_edit=True)
    vault.write_instance(named("old"), "names")
    job = Job(vault, tmp_path)
    text = ANSWER.format(threads=1, control=job.control).replace(
        "<<self.x[index]>>", "<<names.name[key::<<self.x[index]>>]>>"
    )
    vault.create_builder_file("stories", "answer", text=text)
    job.tell("fail", "old4")
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    job.tell("fail")
    vault.create_instance("names", external_edit=True)
    vault.write_instance(named("new"), "names")
    job.execute("nightly")
    assert job.answers() == [f"old{x}-ok" for x in range(10)]


def named(word):
    """Return a frame to look names up in."""
    return pd.DataFrame({"key": range(10), "name": [f"{word}{x}" for x in range(10)]})


@pytest.mark.slow
def test_a_process_started_in_the_foreground_may_go_on_in_the_background(paused):
    paused.tell("fail")
    paused.execute("nightly", background=True)
    assert paused.vault.wait_process("nightly", timeout=PATIENCE).status == "succeeded"
    assert paused.noted("called") == [4, 5, 6, 7, 8, 9]


FRAME = """
builder_type: ColumnBuilder
changed_columns: [length]
python_function: length
code_module: lengths
is_custom: true
arguments: {frame: <<self.answer>>, control: CONTROL}
"""

LENGTHS = """
from pathlib import Path
from jobs import note, is_told

def length(frame, control):
    note(control, "measured", 1)
    if is_told(control, "fail", "length"):
        raise RuntimeError("no length")
    return [len(value) for value in frame["answer"]]
"""


def test_finished_builder_is_not_rerun_and_unfinished_frame_is_one_unit(job):
    job.vault.create_code_module("lengths", text=LENGTHS)
    job.vault.create_builder_file("stories", "length", text=FRAME.replace("CONTROL", f"'{job.control}'"))
    job.tell("fail", "length")
    with pytest.raises(RuntimeError, match="no length"):
        job.execute("nightly")
    assert job.vault.get_process("nightly").progress["answer"].done
    job.forget()
    job.tell("fail")
    job.execute("nightly")
    assert job.noted("called") == []
    assert job.noted("measured") == [1, 1]
    assert list(job.vault.get_dataframe("stories")[0]["length"]) == [4] * 10


def test_null_is_a_result_like_any_other(job):
    fix(job, 'return f"{x}-ok"', "return None")
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    job.forget()
    job.tell("fail")
    job.execute("nightly")
    assert job.noted("called") == [4, 5, 6, 7, 8, 9]
    assert job.answers() == [None] * 10


def test_a_paused_write_goes_on_with_the_same_frame_only(vault):
    vault.create_table("stories", process_id="made")
    vault.create_instance("stories", external_edit=True)
    frame = pd.DataFrame({"x": [1, 2]})
    vault.write_instance(frame, "stories", process_id="written")
    with pytest.warns(tv_errors.TableVaultWarning):
        vault.write_instance(frame.copy(), "stories", process_id="written")
    with pytest.raises(tv_errors.TVProcessError, match="table_df"):
        vault.write_instance(pd.DataFrame({"x": [1, 3]}), "stories", process_id="written")
