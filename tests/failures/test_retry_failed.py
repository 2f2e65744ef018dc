"""Retries of the failed rows of a materialized instance, with minimal calls."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from tablevault import TableVault, tv_errors

CODE = """
from pathlib import Path
import pandas as pd

VERSION = 1

def note(folder, what):
    with open(Path(folder, "calls"), "a") as file:
        file.write(f"{what}\\n")

def is_bad(folder, key):
    return str(key) in Path(folder, "bad").read_text().split()

def rows(folder, count):
    note(folder, "rows")
    return pd.DataFrame({"key": range(count)})

def answer(folder, key):
    note(folder, f"answer-{key}")
    if is_bad(folder, key):
        raise ValueError(f"no answer to {key}")
    return f"answer {key} of {VERSION}"

def answers(folder, key):
    note(folder, "answers-" + ",".join(map(str, key)))
    return [
        ValueError(f"no answer to {one}") if is_bad(folder, one) else f"answer {one} of {VERSION}" for one in key
    ]

def stream(folder):
    note(folder, "stream")
    for key in range(6):
        yield ValueError(f"no answer to {key}") if is_bad(folder, key) else f"answer {key} of {VERSION}"

def file(folder, key, target):
    note(folder, f"file-{key}")
    if is_bad(folder, key):
        raise ValueError(f"no file for {key}")
    Path(target, f"{key}.txt").write_text(f"{key} of {VERSION}")
    return f"{key}.txt"

def shout(folder, text):
    note(folder, f"shout-{text[7] if text else None}")
    return str(text).upper()

def other(folder, key):
    note(folder, f"other-{key}")
    return key

def count(folder, texts):
    note(folder, "count")
    return pd.DataFrame({"known": [int(texts.notna().sum().sum())] * len(texts)})
"""


class Bench:
    """A table whose functions note their calls, and fail for the keys that a file lists."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.vault = TableVault(folder / "vault", author="tester", create=True)
        self.vault.create_code_module("work", text=CODE)
        self.bad()

    def bad(self, *keys: int) -> None:
        """Let the functions fail for some keys."""
        (self.folder / "bad").write_text(" ".join(map(str, keys)))

    def builder(self, function, columns, arguments="", more="return_type: row-wise", kind="ColumnBuilder"):
        """Return the text of a builder."""
        return (
            f"builder_type: {kind}\nchanged_columns: [{columns}]\npython_function: {function}\ncode_module: work\n"
            f"is_custom: true\nuntracked: [folder]\n{more}\narguments:\n  folder: {str(self.folder)!r}\n{arguments}"
        )

    def build(self, **builders):
        """Make the table, execute it, and return the calls."""
        index = self.builder("rows", "key", "  count: 6\n", "primary_key: [key]", "IndexBuilder")
        self.vault.create_table("made")
        self.vault.create_instance("made", builders={"made_index": index, **builders})

    def answer(self, function="answer", more="on_error: collect\nreturn_type: row-wise"):
        """Return the builder whose rows fail."""
        key = "" if function == "stream" else "  key: '<<self.key[index]>>'\n"
        return self.builder(function, "answer", key, more)

    def shout(self, more="return_type: row-wise"):
        """Return a builder of rows that reads the answers."""
        return self.builder("shout", "loud", "  text: '<<self.answer[index]>>'\n", more)

    def edit(self, version):
        """Replace the code by a version of which every function counts as changed."""
        text = CODE.replace("VERSION = 1", f"VERSION = {version}")
        self.vault.create_code_module("work", text=text)

    def execute(self):
        """Execute the table with failures."""
        with pytest.warns(tv_errors.TableVaultWarning, match="failed row"):
            self.vault.execute_instance("made")
        return self.calls()

    def calls(self):
        """Return the calls since the last time."""
        log = self.folder / "calls"
        text = log.read_text() if log.exists() else ""
        log.write_text("")
        return sorted(text.split())

    def column(self, name, instance_id=""):
        """Return a column of the newest instance, `None` for null."""
        frame = self.vault.get_dataframe("made", instance_id, full_artifact_path=False)[0]
        return [None if pd.isna(cell) else cell for cell in frame[name]]


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def answers(*versions):
    return [f"answer {key} of {version}" if version else None for key, version in enumerate(versions)]


def test_failed_and_skipped_rows_are_computed_and_no_others(bench):
    bench.build(
        answer=bench.answer(), loud=bench.shout(), other=bench.builder("other", "n", "  key: '<<self.key[index]>>'\n")
    )
    bench.bad(1, 4)
    bench.execute()
    before = bench.vault.get_dataframe("made")[1]
    bench.bad()
    bench.edit(2)
    process = bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1", "answer-4", "shout-1", "shout-4"]
    assert bench.column("answer") == answers(1, 2, 1, 1, 2, 1)
    assert bench.column("loud")[4] == "ANSWER 4 OF 2"
    assert bench.vault.get_errors("made").empty
    instances = bench.vault.get_table_instances("made")
    assert len(instances) == 2
    assert instances[0] == before
    assert bench.column("answer", before) == answers(1, None, 1, 1, None, 1)
    assert bench.vault.verify().ok, bench.vault.verify().problems
    assert bench.vault.get_process(process).operation == "retry_failed"
    lineage = bench.vault.get_lineage("made")
    assert before in repr(lineage)


def test_temporary_instance_is_left_alone_and_its_edits_do_not_count(bench):
    bench.build(answer=bench.answer())
    bench.bad(1)
    bench.execute()
    bench.vault.create_instance("made", copy=True)
    bench.vault.create_builder_file("made", "answer", copy_dir=_file(bench, "answer.yaml", bench.answer("answers")))
    bench.bad()
    bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1"]
    assert bench.vault.get_table_instances("made", include_temp=True).count("TEMP_base") == 1


def _file(bench, name, text):
    path = bench.folder / name
    path.write_text(text)
    return str(path)


def test_row_that_fails_again_is_recorded_and_retried_once_more(bench):
    bench.build(answer=bench.answer(), loud=bench.shout())
    bench.bad(1, 4)
    bench.execute()
    bench.bad(4)
    bench.edit(2)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row in 'answer'"):
        bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1", "answer-4", "shout-1"]
    assert bench.vault.get_errors("made")["index"].tolist() == [4, 4]
    bench.bad()
    bench.edit(3)
    bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-4", "shout-4"]
    assert bench.column("answer") == answers(1, 2, 1, 1, 3, 1)
    with pytest.warns(tv_errors.TableVaultWarning, match="no failed rows"):
        bench.vault.retry_failed("made")
    assert bench.calls() == []
    assert len(bench.vault.get_table_instances("made")) == 3


def test_rows_of_batches_are_retried_by_themselves(bench):
    bench.build(answer=bench.answer("answers", "on_error: collect\nreturn_type: batch\nbatch_size: 3"))
    bench.bad(0, 5)
    bench.execute()
    bench.bad()
    bench.edit(2)
    bench.vault.retry_failed("made")
    assert bench.calls() == ["answers-0,5"]
    assert bench.column("answer") == answers(2, 1, 1, 1, 1, 2)


def test_generator_runs_whole_and_gives_failed_rows_only(bench):
    bench.build(answer=bench.answer("stream", "on_error: collect\nreturn_type: generator"), loud=bench.shout())
    bench.bad(2, 3)
    bench.execute()
    bench.bad(3)
    bench.edit(2)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row in 'answer'"):
        bench.vault.retry_failed("made")
    assert bench.calls() == ["shout-2", "stream"]
    assert bench.column("answer") == answers(1, 1, 2, None, 1, 1)


def test_failures_of_generated_rows_that_are_kept_do_not_count(bench):
    bench.build(answer=bench.answer("stream", "on_error: collect\nreturn_type: generator"))
    bench.bad(2)
    bench.execute()
    bench.bad(0, 1, 5)
    limits = {"max_failures": 0, "max_consecutive_failures": 1}
    process = bench.vault.retry_failed("made", policies={"answer": limits})
    assert bench.column("answer") == answers(1, 1, 1, 1, 1, 1)
    progress = bench.vault.get_process(process).progress["answer"]
    assert (progress.computed, progress.reused, progress.failed, progress.done) == (1, 5, 0, True)
    assert len(bench.vault.get_errors("made")) == 0


def test_failures_of_generated_rows_that_are_kept_do_not_count_when_resumed(bench):
    bench.build(answer=bench.answer("stream", "on_error: collect\nreturn_type: generator"))
    bench.bad(2, 3)
    bench.execute()
    bench.bad(0, 2, 3)
    with pytest.raises(ValueError, match="no answer to 3"):
        bench.vault.retry_failed("made", process_id="again", policies={"answer": {"max_failures": 1}})
    assert bench.vault.get_process("again").progress["answer"].failed == 2
    bench.bad(0, 5)
    with pytest.warns(tv_errors.TableVaultWarning, match="2 failed rows in 'answer'"):
        bench.vault.retry_failed("made", process_id="again", policies={"answer": {"max_failures": 2}})
    progress = bench.vault.get_process("again").progress["answer"]
    assert (progress.computed, progress.reused, progress.failed) == (0, 4, 2)


def test_function_that_reads_the_whole_column_runs_again(bench):
    count = bench.builder("count", "known", "  texts: '<<self.answer>>'\n", "return_type: dataframe")
    bench.build(answer=bench.answer(), known=count)
    bench.bad(1)
    bench.execute()
    assert bench.column("known") == [5] * 6
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1"]
    bench.bad()
    bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1", "count"]
    assert bench.column("known") == [6] * 6


def test_rows_with_failed_inputs_are_recomputed_with_them(bench):
    bench.build(answer=bench.answer(), loud=bench.shout("return_type: row-wise\nfailed_inputs: pass"))
    bench.bad(1, 4)
    bench.execute()
    bench.bad(4)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1", "answer-4", "shout-1"]
    assert bench.column("loud")[4] == "NONE"


def test_artifacts_of_finished_rows_are_taken_over(bench):
    arguments = "  key: '<<self.key[index]>>'\n  target: ~ARTIFACT_FOLDER~\n"
    more = "on_error: collect\nreturn_type: row-wise\ndtypes: {file: artifact_string}"
    bench.build(file=bench.builder("file", "file", arguments, more))
    bench.bad(3)
    bench.execute()
    bench.bad()
    bench.edit(2)
    bench.vault.retry_failed("made")
    assert bench.calls() == ["file-3"]
    folder = Path(bench.vault.get_artifact_folder("made", is_temp=False))
    assert [(folder / name).read_text()[-1] for name in bench.column("file")] == list("111211")
    assert bench.vault.verify().ok, bench.vault.verify().problems


def test_versions_of_code_are_kept_row_by_row(bench):
    bench.build(answer=bench.answer())
    bench.bad(1)
    bench.execute()
    bench.bad()
    bench.edit(2)
    bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1"]
    bench.vault.create_instance("made", copy=True)
    bench.vault.execute_instance("made")
    # Rows of the code as it is are reused, the others are not.
    assert bench.calls() == [*(f"answer-{key}" for key in (0, 2, 3, 4, 5)), "rows"]


def test_instance_with_an_id_of_an_older_version_is_retried(bench):
    bench.build(answer=bench.answer())
    bench.bad(1)
    bench.execute()
    first = bench.vault.get_dataframe("made")[1]
    bench.bad()
    bench.vault.create_instance("made", "later", origin_id=first, origin_table="made")
    bench.vault.execute_instance("made", "later")
    bench.calls()
    bench.vault.retry_failed("made", first)
    assert bench.calls() == ["answer-1"]
    assert len(bench.vault.get_table_instances("made")) == 2
    bench.vault.create_instance("made")
    with pytest.raises(tv_errors.TVArgumentError, match="not materialized"):
        bench.vault.retry_failed("made", "TEMP_base")


def test_stopped_instance_is_completed(bench):
    bench.build(answer=bench.answer(more="return_type: row-wise"), loud=bench.shout())
    bench.bad(3)
    with pytest.raises(ValueError, match="no answer to 3"):
        bench.vault.execute_instance("made", process_id="night")
    bench.vault.stop_process("night", materialize=True)
    bench.calls()
    bench.bad()
    bench.edit(2)
    bench.vault.retry_failed("made")
    calls = bench.calls()
    assert [call for call in calls if call.startswith("answer")] == ["answer-3", "answer-4", "answer-5"]
    assert bench.column("answer") == answers(1, 1, 1, 2, 2, 2)
    assert None not in bench.column("loud")


def test_stopped_instance_with_failed_rows_is_completed(bench):
    bench.build(answer=bench.answer(more="return_type: row-wise\non_error: collect\nmax_failures: 1"))
    bench.bad(1, 4)
    with pytest.raises(ValueError, match="no answer to 4"):
        bench.vault.execute_instance("made", process_id="night")
    bench.vault.stop_process("night", materialize=True)
    assert len(bench.vault.get_errors("made")) == 2
    bench.calls()
    bench.bad()
    bench.edit(2)
    bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1", "answer-4", "answer-5"]
    assert bench.column("answer") == answers(1, 2, 1, 1, 2, 2)
    assert len(bench.vault.get_errors("made")) == 0


def read_input(bench):
    """Build a table that reads another one."""
    bench.vault.write("facts", pd.DataFrame({"word": ["x"]}))
    arguments = "  key: '<<self.key[index]>>'\n  word: '<<facts.word>>'\n"
    text = CODE.replace("def answer(folder, key)", "def answer(folder, key, word)")
    bench.vault.create_code_module("work", text=text)
    more = "on_error: collect\nreturn_type: row-wise"
    bench.build(answer=bench.builder("answer", "answer", arguments, more))
    bench.bad(1)
    bench.execute()
    bench.bad()


def test_inputs_are_those_of_the_instance(bench):
    read_input(bench)
    bench.vault.write("facts", pd.DataFrame({"word": ["y"]}))
    bench.vault.rename_table("known", "facts")
    bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1"]
    assert bench.column("answer") == answers(*[1] * 6)


def test_input_that_was_deleted_is_an_error_before_anything_runs(bench):
    read_input(bench)
    old = bench.vault.get_table_instances("facts")[0]
    bench.vault.write("facts", pd.DataFrame({"word": ["y"]}))
    bench.vault.delete_instance(old, "facts")
    with pytest.raises(tv_errors.TVTableError, match=f"{old}.*was deleted"):
        bench.vault.retry_failed("made", process_id="again")
    assert bench.calls() == []
    assert bench.vault.get_active_processes() == {}


def test_renamed_table_is_retried_under_its_new_name(bench):
    bench.build(answer=bench.answer())
    bench.bad(1)
    bench.execute()
    bench.bad()
    bench.vault.rename_table("named", "made")
    bench.vault.retry_failed("named")
    assert bench.calls() == ["answer-1"]


def test_written_instance_has_nothing_to_retry(bench):
    bench.vault.write("facts", pd.DataFrame({"word": ["x"]}))
    with pytest.raises(tv_errors.TVTableError, match="was written, not executed"):
        bench.vault.retry_failed("facts")


def test_run_that_pauses_goes_on_with_the_rows_that_are_left(bench):
    bench.build(answer=bench.answer(), loud=bench.shout())
    bench.bad(1, 2, 4)
    bench.execute()
    bench.bad(4)
    policies = {"answer": {"on_error": "pause"}}
    with pytest.raises(ValueError, match="no answer to 4"):
        bench.vault.retry_failed("made", process_id="again", policies=policies)
    assert bench.calls() == ["answer-1", "answer-2", "answer-4"]
    assert bench.vault.get_process("again").status == "paused"
    with pytest.raises(tv_errors.TVLockError, match="^Version 'base' of table 'made' is changed by the paused process"):
        bench.vault.write("made", pd.DataFrame({"key": [1]}))
    bench.bad()
    bench.edit(2)
    bench.vault.retry_failed("made", process_id="again")
    assert bench.calls() == ["answer-4", "shout-1", "shout-2", "shout-4"]
    assert bench.column("answer") == answers(1, 1, 1, 1, 2, 1)
    assert bench.vault.verify().ok


def test_killed_run_is_resumed_and_stopped_run_leaves_nothing(bench):
    bench.build(answer=bench.answer(), loud=bench.shout())
    bench.bad(1, 4)
    bench.execute()
    bench.bad()
    killing = CODE.replace(
        "    return str(text).upper()", "    import os, time\n    time.sleep(0.3)\n    os.kill(os.getpid(), 9)"
    )
    bench.vault.create_code_module("work", text=killing)
    for name in ("first", "second"):
        child = os.fork()
        if child == 0:
            TableVault(bench.folder / "vault").retry_failed("made", process_id=name)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert [call for call in bench.calls() if call.startswith("answer")] == ["answer-1", "answer-4"]
        if name == "first":
            bench.vault.stop_process("first")
            assert len(bench.vault.get_table_instances("made")) == 1
            assert bench.vault.verify().ok
    bench.edit(1)
    bench.vault.retry_failed("made", process_id="second")
    assert bench.calls() == ["shout-1", "shout-4"]
    assert bench.vault.verify().ok


def test_builder_that_never_ran_in_a_stopped_instance_runs(bench):
    count = bench.builder(
        "count", "known", "  texts: '<<self.answer>>'\n", "return_type: dataframe\ndtypes: {known: int32}"
    )
    bench.build(answer=bench.answer(more="return_type: row-wise"), known=count)
    bench.bad(5)
    with pytest.raises(ValueError, match="no answer to 5"):
        bench.vault.execute_instance("made", process_id="night")
    bench.vault.stop_process("night", materialize=True)
    bench.bad()
    bench.calls()
    bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-5", "count"]
    assert str(bench.vault.get_dataframe("made")[0]["known"].dtype) == "Int32"


def test_provenance_names_the_origin_and_the_versions_of_the_code(bench):
    bench.build(answer=bench.answer(), other=bench.builder("other", "n", "  key: '<<self.key[index]>>'\n"))
    bench.bad(1)
    bench.execute()
    first = bench.vault.get_dataframe("made")[1]
    bench.bad()
    bench.edit(2)
    process = bench.vault.retry_failed("made")
    newest = bench.vault.get_dataframe("made")[1]
    before, after = (
        json.loads((bench.folder / "vault" / "made" / instance / "provenance.json").read_text())
        for instance in (first, newest)
    )
    assert (after["operation"], after["process_id"]) == ("retry_failed", process)
    assert after["origin"]["instance_id"] == first
    old, new = ({facts["name"]: facts for facts in each["builders"]} for each in (before, after))
    assert new["answer"]["versions"][1:] == old["answer"]["versions"]
    assert new["answer"]["computed"] == 1
    assert new["answer"]["reused"] == 5
    assert new["other"]["versions"] == old["other"]["versions"]
    assert new["other"]["code_parts"] == old["other"]["code_parts"]


def test_overwritten_cells_are_not_read_again(bench):
    first = CODE.replace(
        'pd.DataFrame({"key": range(count)})', 'pd.DataFrame({"key": range(count), "other": range(count)})'
    )
    failing = first.replace(
        "    return key\n", "    if is_bad(folder, key):\n        raise ValueError(key)\n    return key + 10\n"
    )
    bench.vault.create_code_module("work", text=failing)
    bench.vault.create_table("made")
    index = bench.builder("rows", "key, other", "  count: 6\n", "primary_key: [key]", "IndexBuilder")
    more = "on_error: collect\nreturn_type: row-wise"
    overwriting = bench.builder("other", "other", "  key: '<<self.other[index]>>'\n", more)
    bench.vault.create_instance("made", builders={"made_index": index, "other": overwriting, "answer": bench.answer()})
    bench.bad(2)
    bench.execute()
    bench.bad()
    with pytest.raises(tv_errors.TVTableError, match="'other' cannot be retried: cells that it read were overwritten"):
        bench.vault.retry_failed("made")
    assert len(bench.vault.get_table_instances("made")) == 1


def test_table_with_side_effects_has_one_active_instance(bench):
    bench.vault.create_table("made", has_side_effects=True)
    index = bench.builder("rows", "key", "  count: 6\n", "primary_key: [key]", "IndexBuilder")
    bench.vault.create_instance("made", builders={"made_index": index, "answer": bench.answer()})
    bench.bad(1)
    bench.execute()
    bench.bad()
    bench.vault.retry_failed("made")
    assert bench.calls() == ["answer-1"]
    assert bench.column("answer") == answers(*[1] * 6)
    first, second = bench.vault.get_table_instances("made")
    bench.vault.delete_instance(second, "made")
    with pytest.raises(tv_errors.TVArgumentError, match="no active"):
        bench.vault.get_dataframe("made")
    assert bench.vault.get_dataframe("made", active_only=False)[1] == first


def test_policies_of_unknown_builders_are_refused_and_limits_apply(bench):
    bench.build(answer=bench.answer())
    bench.bad(1, 2)
    bench.execute()
    with pytest.raises(tv_errors.TVArgumentError, match="nothing"):
        bench.vault.retry_failed("made", policies={"nothing": {"retry": 1}})
    with pytest.raises(ValueError, match="no answer to 1"):
        bench.vault.retry_failed("made", policies={"answer": {"max_failures": 0}})
    assert len(bench.vault.get_table_instances("made")) == 1
    assert bench.vault.verify().ok


@pytest.mark.slow
def test_command_ends_with_status_5_if_rows_fail_again(bench):
    bench.build(answer=bench.answer())
    bench.bad(1)
    bench.execute()
    command = [sys.executable, "-m", "tablevault.cli", "retry-failed", "made", "--policy", "answer.retry=1"]
    environment = {**os.environ, "TABLEVAULT_DIR": str(bench.folder / "vault")}
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 5
    assert bench.calls() == ["answer-1"]
    bench.bad()
    assert subprocess.run(command, env=environment, capture_output=True, check=False).returncode == 0
    assert bench.calls() == ["answer-1"]


@pytest.mark.slow
def test_retry_in_the_background(bench):
    bench.build(answer=bench.answer())
    bench.bad(1)
    bench.execute()
    bench.bad()
    bench.vault.wait_process(bench.vault.retry_failed("made", background=True))
    assert bench.calls() == ["answer-1"]


@pytest.mark.parametrize("key", ["[name]", ""])
def test_input_rows_that_failed_are_retried(bench, key):
    split = """
def split(folder, name, text):
    note(folder, f"split-{name}")
    if is_bad(folder, name):
        raise ValueError(f"cannot split {name}")
    return [(name, word) for word in text.split()]
"""
    bench.vault.create_code_module("work", text=CODE + split)
    facts = pd.DataFrame({"name": [0, 1, 2], "text": ["one two", "three four", "five"]})
    bench.vault.write("facts", facts, primary_key=["name"] if key else None)
    index = bench.builder(
        "split",
        "name, word",
        "  name: '<<facts.name[index]>>'\n  text: '<<facts.text[index]>>'\n",
        "on_error: collect\nreturn_type: row-wise\nfor_each: facts",
        "IndexBuilder",
    )
    other = bench.builder("other", "n", "  key: '<<self.word[index]>>'\n")
    bench.vault.create_table("made")
    bench.vault.create_instance("made", builders={"made_index": index, "n": other})
    bench.bad(1)
    bench.execute()
    bench.bad()
    bench.vault.retry_failed("made")
    assert bench.calls() == ["other-four", "other-three", "split-1"]
    assert bench.column("word") == ["one", "two", "three", "four", "five"]
    assert bench.column("n") == bench.column("word")
    assert bench.vault.verify().ok
