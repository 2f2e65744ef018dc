"""Modes for failing rows.

They pause, are collected, or revert; there are limits, and success with a warning.
"""

from __future__ import annotations

import asyncio
import errno
import json
import subprocess
import sys
import threading
import time
import warnings
from itertools import repeat
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import yaml
from click.testing import CliRunner
from failing_tables import CODE, TOLD, Refused, positions, raises_for
from waiting import PATIENCE

import tablevault
from tablevault import TableVault, tv_errors
from tablevault.cli.application import application
from tablevault.storage.checkpoint_segments import SegmentFolder
from tablevault.system.waiting import poll

WARNED = tv_errors.TableVaultWarning


def test_pause_keeps_the_rows_before_and_resumes(make):
    table = make(raises_for({5}))
    with pytest.raises(ValueError, match="row 5"):
        table.execute("night")
    info = table.vault.get_process("night")
    assert info.status == "paused"
    assert table.progress("night").computed == 5
    table.tell(raises_for({}))
    table.execute("night")
    assert table.column() == [f"a{x}" for x in range(30)]
    assert table.calls[4] == 1
    assert table.calls[5] == 2


def test_pause_without_a_process_id_reverts(make):
    table = make(raises_for({5}))
    with pytest.raises(ValueError, match="row 5"):
        table.execute()
    assert table.vault.get_history(operation="execute_instance")[0].status == "reverted"


def test_collect_goes_on_with_nulls_and_succeeds_with_a_warning(make):
    table = make(raises_for({3, 7}), on_error="collect", max_failures=5)
    with pytest.warns(WARNED, match=r"2 failed rows in 'answer' \(2 ValueError\); see get_errors\('answers'\)"):
        table.execute("night")
    assert table.vault.get_process("night").status == "succeeded"
    process = table.vault.get_process("night")
    assert "answer: 28 computed, 0 reused, 2 failed (2 ValueError) of 30 rows, done" in repr(process)
    assert "failed" in process._repr_html_()
    assert "skipped" not in process._repr_html_()
    assert table.column() == [None if x in (3, 7) else f"a{x}" for x in range(30)]
    assert positions(table.errors()) == [3, 7]


def test_warning_names_the_version(make):
    table = make(raises_for({3}), on_error="collect", max_failures=5)
    with pytest.warns(WARNED):
        table.execute()
    table.vault.create_instance("answers", "v2", origin_table="answers", copy=True)
    with pytest.warns(WARNED, match=r"see get_errors\('answers', version='v2'\)"):
        table.vault.execute_instance("answers", "v2")


def test_revert_reverts_with_a_process_id_too(make):
    table = make(raises_for({5}), on_error="revert")
    with pytest.raises(ValueError, match="row 5"):
        table.execute("night")
    assert table.vault.get_process("night").status == "reverted"
    assert table.vault.get_active_processes() == {}


@pytest.mark.parametrize(
    "fields", [{}, {"max_concurrency": 3}, {"return_type": "batch", "batch_size": 1}, {"return_type": "generator"}]
)
def test_revert_reverts_for_refused_results_too(make, fields):
    if fields.get("return_type") == "generator":
        fields = {**fields, "arguments": {"x": "all"}}

    def answer(x):
        if x == "all":
            return iter(["a", object()])
        return object() if x in (5, [5]) else ["a"] if isinstance(x, list) else "a"

    table = make(answer, on_error="revert", dtypes={"answer": "string"}, **fields)
    with pytest.raises((TypeError, ValueError)):
        table.execute("night")
    assert table.vault.get_process("night").status == "reverted"


# --- errors of the run --------------------------------------------------------------------------------------------

ERRORS_OF_THE_RUN = {
    "not an Exception": lambda: SystemExit("over"),
    "keyboard": lambda: KeyboardInterrupt(),
    "memory": lambda: MemoryError("too large"),
    "StopRun": lambda: tv_errors.StopRun("enough"),
    "unauthorized": lambda: Refused(status_code=401),
    "payment": lambda: Refused(response=type("R", (), {"status": 402})()),
    "quota": lambda: Refused(status_code=429, code="insufficient_quota"),
    "quota in a body": lambda: Refused(status_code=429, body={"code": "insufficient_quota"}),
    "import": lambda: ModuleNotFoundError("no module"),
    "name": lambda: NameError("no name"),
    "unbound": lambda: UnboundLocalError("no local"),
}


@pytest.mark.parametrize("fields", [{}, {"max_concurrency": 2}], ids=["inline", "threads"])
@pytest.mark.parametrize("error", ERRORS_OF_THE_RUN.values(), ids=ERRORS_OF_THE_RUN.keys())
def test_errors_of_the_run_are_never_collected_or_retried(make, error, fields):
    table = make(
        raises_for({4}, lambda x: error()),
        on_error="collect",
        retry={"max_retries": 3, "on": ["transient", "4xx", "Exception"], "wait": 0},
        **fields,
    )
    with pytest.raises(type(error())):
        table.execute("night")
    assert table.vault.get_process("night").status == "paused"
    assert table.calls[4] == 1
    assert len(table.errors("night")) == 0


@pytest.mark.parametrize(
    "fields",
    [{}, {"max_concurrency": 2}, {"return_type": "generator"}, {"return_type": "dataframe"}],
    ids=["inline", "threads", "generator", "dataframe"],
)
@pytest.mark.parametrize("name", ["not an Exception", "memory", "StopRun", "unauthorized", "name"])
def test_error_of_the_run_pauses_where_an_error_of_a_row_reverts(make, name, fields):
    error = ERRORS_OF_THE_RUN[name]
    if "return_type" in fields:
        fields = {**fields, "arguments": {"x": 4}}

    def answer(x):
        if x == 4:
            raise error()
        return "a"

    table = make(answer, on_error="revert", **fields)
    with pytest.raises(type(error())):
        table.execute("night")
    assert table.vault.get_process("night").status == "paused"


def test_full_disk_is_never_collected_or_retried(make, monkeypatch):
    def full(*given):
        raise OSError(errno.ENOSPC, "No space left on device")

    def answer(x):
        if x == 5:
            monkeypatch.setattr(SegmentFolder, "append", full)
        if x > 5:
            time.sleep(0.05)
        return "a"

    retry = {"max_retries": 3, "on": ["OSError"], "wait": 0}
    table = make(answer, rows=100, on_error="collect", max_failures="100%", retry=retry)
    with pytest.raises(OSError, match="No space left"):
        table.execute("night")
    monkeypatch.undo()
    assert table.vault.get_process("night").status == "paused"
    assert len(table.errors("night")) == 0
    assert max(table.calls.values()) == 1
    table.tell(raises_for({}))
    table.execute("night")
    assert table.column()[-1] == "a99"


@pytest.mark.parametrize("executor", ["threads", "processes"])
def test_module_that_fails_to_load_is_never_collected(make, executor):
    table = make(raises_for({}), on_error="collect", max_failures="100%", executor=executor)
    table.vault.create_code_module("m", text=f"{CODE}\nraise RuntimeError('no such model')\n")
    with pytest.raises(RuntimeError, match="no such model"):
        table.execute("night")
    assert table.vault.get_process("night").status == "paused"
    assert len(table.errors("night")) == 0


@pytest.mark.parametrize("name", ["StopRun", "RetryLater"])
def test_errors_that_functions_raise_to_steer_a_run_are_plain(name):
    assert not issubclass(getattr(tv_errors, name), tv_errors.TableVaultError)


WRONG_RESULTS = {
    "too many cells": (["a", "b"], {}, (1, 2, 3)),
    "no row": (["a", "b"], {}, 7),
    "text for a number": (["a"], {"a": "int64"}, "many"),
    "no value of a frame": (["a"], {"a": "int64"}, object()),
}


@pytest.mark.parametrize(
    "fields",
    [{}, {"max_concurrency": 2}, {"return_type": "batch", "batch_size": 4}],
    ids=["inline", "threads", "batch"],
)
@pytest.mark.parametrize(("columns", "dtypes", "wrong"), WRONG_RESULTS.values(), ids=WRONG_RESULTS.keys())
def test_result_that_is_no_row_or_fits_no_dtype_is_an_error_of_its_row(make, columns, dtypes, wrong, fields):
    def of_row(x):
        return wrong if x == 3 else (x, x) if len(columns) == 2 else x

    def answer(x):
        return [of_row(row) for row in x] if isinstance(x, list) else of_row(x)

    table = make(answer, rows=8, on_error="collect", changed_columns=columns, dtypes=dtypes, **fields)
    assert run(table) is None
    assert positions(table.errors()) == [3]
    assert table.errors()["result"][0] is not None
    assert table.column("a") == [None if x == 3 else x for x in range(8)]


def test_error_of_a_nested_operation_is_an_error_of_its_row(make):
    def answer(x):
        if x == 3:
            table.vault.get_dataframe("missing")
        return "a"

    table = make(answer, rows=8, on_error="collect")
    assert run(table) is None
    assert positions(table.errors()) == [3]
    assert "missing" in table.errors()["message"][0]


def test_missing_environment_variable_in_arguments_ends_the_run(make, monkeypatch):
    monkeypatch.setenv("TV_FAILING", "set for now")
    table = make(raises_for({}), on_error="collect", arguments={"key": "~ENV:TV_FAILING~"})
    table.tell(lambda x, key: "a")

    def forget(**given):
        monkeypatch.delenv("TV_FAILING", raising=False)

    TOLD["setup"] = forget
    monkeypatch.delenv("TV_FAILING")
    with pytest.raises(tv_errors.TVBuilderError, match="TV_FAILING"):
        table.execute("night")


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        pytest.param("Answering", {}, id="inline"),
        pytest.param("Answering", {"max_concurrency": 2}, id="threads"),
        pytest.param("AnsweringAsync", {"max_concurrency": 3}, id="async"),
    ],
)
def test_errors_of_the_constructor_of_a_class_end_the_run(make, name, fields):
    table = make(raises_for({}), on_error="collect", python_function=name, **fields)
    setups = []

    def fail(**given):
        setups.append(given)
        raise ValueError("no model")

    TOLD["setup"] = fail
    with pytest.raises(ValueError, match="no model") as caught:
        table.execute("night")
    # One worker is set up once: threads are workers, coroutines share the event loop.
    assert len(setups) <= (2 if name == "Answering" else 1)
    assert [note for note in caught.value.__notes__ if note.startswith("raised by")] == [
        f"raised by the constructor {name}() of builder 'answer'"
    ]
    assert table.vault.get_process("night").status == "paused"
    assert len(table.errors("night")) == 0


@pytest.mark.parametrize("fields", [{}, {"max_concurrency": 2}], ids=["inline", "threads"])
def test_errors_of_setup_arguments_end_the_run(make, fields, monkeypatch):
    monkeypatch.delenv("TV_FAILING", raising=False)
    table = make(
        raises_for({}),
        on_error="collect",
        python_function="Answering",
        setup_arguments={"key": "~ENV:TV_FAILING~"},
        **fields,
    )
    with pytest.raises((LookupError, tv_errors.TVBuilderError), match="TV_FAILING"):
        table.execute("night")
    assert not table.calls


# --- limits -------------------------------------------------------------------------------------------------------


def run(table, process_id="night"):
    """Execute without the warnings; return the exception that ended the run, if any did."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WARNED)
        try:
            table.execute(process_id)
        except Exception as error:
            return error
    return None


@pytest.mark.parametrize(
    ("fields", "failing", "ends_at"),
    [
        ({"max_failures": 0}, {6}, 6),
        ({"max_failures": 2}, {6, 8, 10}, 10),
        ({"max_failures": 3}, {6, 8, 10}, None),
        ({"max_failures": "10%"}, {0, 1}, None),  # 2 of 20
        ({"max_failures": "10%"}, {0, 1, 2}, 19),  # 3 of 20: counted once 20 were tried
        ({"max_failures": "10%"}, {0, 1, 29}, None),  # 3 of 30
        ({"max_failures": "10%"}, {0, 1, 28}, 28),  # 3 of 29
        ({"max_failures": "10%"}, {0, 1, 19}, 19),
        ({"max_failures": "0%"}, {25}, 25),
        ({"max_failures": "0%"}, {2}, 19),
        ({"max_failures": "100%", "max_consecutive_failures": "none"}, set(range(30)), None),
        ({"max_failures": "100%"}, set(range(30)), 19),
        ({"max_failures": "100%", "max_consecutive_failures": 3}, {1, 2, 4, 5, 7, 8, 9, 10}, 9),
        ({"max_failures": "100%", "max_consecutive_failures": 1}, {7}, 7),
        ({}, {0, 1, 2}, 19),
    ],
)
@pytest.mark.parametrize("return_type", ["row-wise", "batch"])
def test_limits_end_the_run_where_the_contract_says(make, fields, failing, ends_at, return_type):
    by_row = raises_for(failing)
    if return_type == "row-wise":
        table = make(by_row, on_error="collect", **fields)
    else:
        table = make(lambda x: [by_row(x[0])], on_error="collect", return_type="batch", batch_size=1, **fields)
    error = run(table)
    last = max(x for x in failing if ends_at is None or x <= ends_at)
    if ends_at is None:
        assert error is None
    else:
        assert str(error) == f"row {last}"
        assert max(table.calls) >= ends_at
        assert table.vault.get_process("night").status == "paused"
    expected = sorted(x for x in failing if ends_at is None or x <= ends_at)
    assert positions(table.errors("night")) == expected


def test_percentage_never_ends_a_run_of_fewer_than_twenty_rows(make):
    table = make(raises_for(set(range(19))), rows=19, on_error="collect", max_failures="10%")
    assert run(table) is None
    assert positions(table.errors()) == list(range(19))


def test_note_of_an_exceeded_limit_counts_kept_rows_and_points_to_errors(make):
    table = make(raises_for({1, 9, 10, 11}), on_error="collect", max_failures="100%", max_consecutive_failures=3)
    error = run(table)
    assert (
        "3rd consecutive failure in builder 'answer'; 8 rows are kept; get_errors(process_id='night') lists 4 errors of 1 kind"
        in error.__notes__
    )


def test_rows_that_fail_again_after_a_resume_are_not_consecutive_failures(make):
    table = make(raises_for({*range(0, 30, 3)}), on_error="collect", max_failures="100%", max_consecutive_failures=5)
    table.tell(
        raises_for({*range(0, 30, 3)}, lambda x: tv_errors.StopRun("later") if x == 27 else ValueError(f"row {x}"))
    )
    assert isinstance(run(table), tv_errors.StopRun)
    assert positions(table.errors("night")) == list(range(0, 27, 3))
    table.tell(raises_for({*range(0, 30, 3)}))
    assert run(table) is None
    assert positions(table.errors()) == list(range(0, 30, 3))


def test_rows_that_are_reused_or_skipped_do_not_count_for_limits(make):
    table = make(raises_for({}), rows=40, on_error="collect", max_failures=1)
    table.execute()
    table.copy()
    table.build("answers_index", "IndexBuilder", "index", ["x"], {"count": 42}, primary_key=["x"])
    table.tell(raises_for({40, 41}))
    error = run(table)
    assert str(error) == "row 41"


@pytest.mark.parametrize(("failing", "is_exceeded"), [({18, 28}, False), ({27, 28, 29}, True)])
def test_percentage_is_one_of_the_rows_that_were_tried_and_not_skipped(make, failing, is_exceeded):
    def word(answer):
        if int(answer[1:]) in failing:
            raise KeyError(answer)
        return "w"

    table = make(raises_for(set(range(10))), on_error="collect", max_failures="100%", max_consecutive_failures="none")
    # Of 30 rows, 20 are tried: 2 of them are 10 %, and 3 are more than that.
    table.build_word(word, on_error="collect", max_failures="10%")
    assert isinstance(run(table), KeyError) == is_exceeded


def test_consecutive_failures_are_counted_in_order_of_completion(make):
    second_called = []

    async def answer(x):
        deadline = time.monotonic() + PATIENCE
        while x == 0 and not second_called and time.monotonic() < deadline:
            await asyncio.sleep(0)
        if x == 2:
            second_called.append(x)
        if x < 2:
            raise ValueError(f"row {x}")
        return "a"

    limits = {"max_failures": "100%", "max_consecutive_failures": 2}
    table = make(answer, on_error="collect", max_concurrency=3, **limits)
    assert run(table) is None, "row 2 succeeds between the failures of rows 1 and 0"
    assert positions(table.errors()) == [0, 1]


def test_note_of_an_exceeded_number_of_failures_counts_kinds_of_errors(make):
    error = {1: ValueError, 9: KeyError, 12: ValueError}
    table = make(raises_for(set(error), lambda x: error[x](x)), on_error="collect", max_failures=2)
    told = "".join(run(table).__notes__)
    assert "3 of 13 tried rows failed in builder 'answer', whose max_failures allows 2; 10 rows are kept" in told
    assert "get_errors(process_id='night') lists 3 errors of 2 kinds" in told


def test_failed_rows_of_earlier_attempts_count_until_they_are_tried_again(make):
    table = make(raises_for({1, 2, 3}), on_error="collect", max_failures=2)
    assert str(run(table)) == "row 3"
    table.tell(raises_for({2, 3, 20}))
    assert str(run(table)) == "row 20", "three failed before and this one makes four"
    table.tell(raises_for({3}))
    assert run(table) is None, "each was tried again"
    assert positions(table.errors()) == [3]
    assert table.calls[1] == 2


def test_failure_that_is_tried_again_and_fails_again_counts_once(make):
    table = make(
        raises_for({1, 2, 25}, lambda x: tv_errors.StopRun("enough") if x == 25 else ValueError(f"row {x}")),
        on_error="collect",
        max_failures=2,
    )
    assert str(run(table)) == "enough"
    table.tell(raises_for({1, 2}))
    assert run(table) is None
    assert positions(table.errors()) == [1, 2]
    assert (table.calls[1], table.calls[0]) == (2, 1)


# --- what is told about success with failed rows ------------------------------------------------------------------


def test_instance_records_failed_and_skipped_cells(make):
    table = make(raises_for({3, 7}), on_error="collect", max_failures=5)
    table.build_word()
    with pytest.warns(WARNED, match=r"2 failed rows in 'answer' \(2 ValueError\), 2 skipped in 'word'"):
        table.execute()
    described = yaml.safe_load(next(Path(table.vault.db_dir, "answers").glob("base_*/description.yaml")).read_text())
    assert (described["failed_cells"], described["skipped_cells"]) == (2, 2)
    instance_id = table.vault.get_table_instances("answers")[-1]
    shown = table.vault.get_descriptions(instance_id, "answers")
    assert (shown["failed_cells"], shown["skipped_cells"]) == (2, 2)


def test_warning_counts_errors_by_name_and_says_how_to_try_them_again(make):
    error = {1: ValueError, 9: KeyError, 12: ValueError}
    table = make(raises_for(set(error), lambda x: error[x](x)), on_error="collect", max_failures=3)
    told = r"3 failed rows in 'answer' \(2 ValueError, 1 KeyError\); .*, run retry_failed\('answers'\)"
    with pytest.warns(WARNED, match=told):
        table.execute()


def test_instance_with_failed_rows_is_a_success_that_replaces_artifacts(make):
    def answer(x, folder):
        if x == failing[-1]:
            raise ValueError(f"row {x}")
        Path(folder, f"{x}.txt").write_text(f"{x} {len(failing)}")
        return f"{x}.txt"

    failing = [None]
    fields = {"arguments": {"folder": "~ARTIFACT_FOLDER~"}, "dtypes": {"answer": "artifact_string"}}
    table = make(answer, rows=4, on_error="collect", **fields)
    table.execute()
    failing.append(2)
    table.copy()
    with pytest.warns(WARNED, match="1 failed row"):
        table.execute(force_execute=True)
    newest = table.vault.get_table_instances("answers")[-1]
    assert table.vault.get_descriptions(newest, "answers")["success"] is True
    folder = Path(table.vault.get_artifact_folder("answers", is_temp=False))
    assert {path.name: path.read_text() for path in folder.iterdir()} == {f"{x}.txt": f"{x} 2" for x in (0, 1, 3)}


def test_counts_of_an_instance_are_sums_of_rows_over_its_builders(make):
    table = make(raises_for({1}), rows=4, on_error="collect")
    table.build_word(lambda answer: 1 // (answer != "a2"), on_error="collect")
    assert run(table) is None
    newest = table.vault.get_table_instances("answers")[-1]
    described = table.vault.get_descriptions(newest, "answers")
    assert (described["failed_cells"], described["skipped_cells"]) == (2, 1)
    progress = table.progress("night", "word")
    assert (progress.computed, progress.failed, progress.skipped) == (2, 1, 1)


def test_instance_without_failures_says_so_nowhere(make):
    table = make(raises_for({}), on_error="collect")
    table.execute()
    text = next(Path(table.vault.db_dir, "answers").glob("base_*/description.yaml")).read_text()
    assert "failed_cells" not in text
    assert not list(Path(table.vault.db_dir, "answers").glob("base_*/errors.parquet"))


@pytest.mark.slow
def test_command_line_exits_with_5_and_exports_rows_without_failed_ones(make, tmp_path):
    table = make(raises_for({}), on_error="collect", max_failures=5)
    Path(table.vault.db_dir, "code_functions", "m.py").write_text(
        "import pandas as pd\n\ndef index(count):\n    return pd.DataFrame({'x': range(count)})\n\n"
        "def answer(x):\n    if x == 3:\n        raise ValueError('row 3')\n    return 'a'\n"
    )
    command = [sys.executable, "-m", "tablevault.cli", "--db-dir", table.vault.db_dir]
    done = subprocess.run([*command, "execute-instance", "answers"], capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr
    listed = subprocess.run([*command, "get-errors", "answers"], capture_output=True, text=True, check=False)
    assert "row 3" in listed.stdout
    assert listed.returncode == 0
    exporting = [*command, "get-dataframe", "answers", "--output", "rows.csv", "--json", "--failed"]
    for failed, rows in (("null", 30), ("drop", 29)):
        exported = subprocess.run([*exporting, failed], capture_output=True, text=True, check=False, cwd=tmp_path)
        assert json.loads(exported.stdout)["rows"] == rows == len(pd.read_csv(tmp_path / "rows.csv"))
    refused = subprocess.run([*exporting, "raise"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert refused.returncode == 1
    assert "1 row of instance" in refused.stderr


def test_get_dataframe_drops_or_refuses_failed_rows(make):
    table = make(raises_for({3, 7}), on_error="collect", max_failures=5)
    run(table)
    assert len(table.column(failed="drop")) == 28
    with pytest.raises(tv_errors.TVTableError, match="2 rows"):
        table.column(failed="raise")
    assert table.column("x", columns=["x"], failed="raise") == list(range(30))
    with pytest.raises(tv_errors.TVArgumentError, match=r"'rise'; .* did you mean 'raise'\?"):
        table.column(failed="rise")


def test_get_dataframe_drops_or_refuses_skipped_rows_of_the_columns_read(make):
    table = make(raises_for({1}), rows=3, on_error="collect")
    table.build_word()
    run(table)
    assert table.column("word", columns=["x", "word"], failed="drop") == ["wa0", "wa2"]
    assert table.column("x", columns=["x"], failed="drop") == [0, 1, 2]
    with pytest.raises(tv_errors.TVTableError, match="1 row"):
        table.column("word", columns=["x", "word"], failed="raise")


# --- get_errors in all states -------------------------------------------------------------------------------------

COLUMNS = [
    "builder", "index", "key", "kind", "error", "status", "message", "traceback", "result", "calls", "seconds",
    "failed_at", "code", "cause",
]  # fmt: skip


def test_get_errors_has_the_columns_of_the_contract(make):
    table = make(raises_for({3}, lambda x: Refused("too much", status_code=422)), on_error="collect")
    table.build_word()
    run(table)
    failed, skipped = table.errors().to_dict("records")
    assert list(table.errors().columns) == COLUMNS
    assert (failed["builder"], failed["index"], failed["key"]) == ("answer", 3, {"x": 3})
    assert (failed["kind"], failed["error"], failed["status"]) == ("failed", "failing_tables.Refused", 422)
    assert failed["message"] == "too much"
    assert 'told["answer"](**given)' in failed["traceback"], "source lines of the archived code"
    assert failed["calls"] == 1
    assert failed["failed_at"].tzinfo is not None
    assert failed["seconds"] >= 0
    (step,) = [step for step in table.vault.get_lineage("answers").columns if step.column == "answer"]
    assert failed["code"] in [version.version for version in step.code_versions]
    assert (skipped["builder"], skipped["kind"], skipped["cause"]) == ("word", "skipped", "answer.answer")
    assert pd.isna(skipped["error"])


def test_errors_and_usage_are_returned_in_any_format(make):
    table = make(raises_for({3}), on_error="collect")
    run(table)
    for kind, frame in (("pandas", pd.DataFrame), ("polars", pl.DataFrame), ("arrow", pa.Table)):
        errors = table.vault.get_errors("answers", format=kind)
        assert isinstance(errors, frame)
        assert [str(message) for message in errors["message"]] == ["row 3"]
        assert isinstance(table.vault.get_usage("answers", format=kind), frame)


def test_get_errors_on_the_command_line_writes_a_file(make, tmp_path):
    table = make(raises_for({3}), on_error="collect")
    run(table)
    words = ["--db-dir", table.vault.db_dir, "get-errors", "answers", "--output", str(tmp_path / "errors.csv")]
    assert CliRunner().invoke(application, words).exit_code == 0
    written = pd.read_csv(tmp_path / "errors.csv")
    assert written[["builder", "index", "message"]].values.tolist() == [["answer", 3, "row 3"]]


def test_messages_and_refused_results_are_recorded_up_to_a_bound(make):
    def answer(x):
        if x == 0:
            raise ValueError("m" * 100_000)
        return "r" * 100_000

    def check(answer):
        raise ValueError("too long")

    table = make(answer, rows=2, on_error="collect", validate="check", max_failures=2)
    TOLD["check"] = check
    run(table)
    failed, refused = table.errors().to_dict("records")
    assert 4_000 < len(failed["message"].encode()) <= 4 * 1024
    assert 16_000 < len(str(refused["result"]).encode()) <= 16 * 1024


def test_exceptions_are_never_pickled_into_records(make):
    pickled = []

    class Unwilling(Exception):
        def __reduce_ex__(self, protocol):
            pickled.append(protocol)
            raise SystemExit

    def answer(x):
        if x == 3:
            raise Unwilling("no")
        if x == 9 and table.calls[9] == 1:
            raise tv_errors.StopRun("enough")
        return "a"

    table = make(answer, rows=12, on_error="collect")
    assert isinstance(run(table), tv_errors.StopRun)
    assert positions(table.errors("night")) == [3]
    assert run(table) is None
    assert positions(table.errors()) == [3]
    assert pickled == []


def verify_finds_changes_of(table, file):
    assert table.vault.verify().ok
    path = next(Path(table.vault.db_dir, "answers").glob(f"base_*/{file}"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    path.write_bytes(content)
    name = path.relative_to(table.vault.db_dir).as_posix()
    assert [(found.kind, found.path) for found in table.vault.verify().problems] == [("damaged", name)]
    path.parent.chmod(0o755)
    path.unlink()
    assert ("missing", name) in [(found.kind, found.path) for found in table.vault.verify().problems]


def test_verify_finds_changed_and_missing_records_of_failed_rows(make):
    table = make(raises_for({3}), on_error="collect")
    run(table)
    verify_finds_changes_of(table, "errors.parquet")


def test_verify_finds_changed_and_missing_records_of_usage(make):
    def answer(x):
        tablevault.report_usage(tokens=3)
        return "a"

    table = make(answer)
    table.execute()
    verify_finds_changes_of(table, "usage.parquet")


@pytest.mark.slow
def test_wait_process_on_the_command_line_exits_with_5_for_failed_rows(make):
    table = make(raises_for({}), on_error="collect", max_failures=5)
    Path(table.vault.db_dir, "code_functions", "m.py").write_text(
        "import pandas as pd\n\ndef index(count):\n    return pd.DataFrame({'x': range(count)})\n\n"
        "def answer(x):\n    if x == 3:\n        raise ValueError('row 3')\n    return 'a'\n"
    )
    table.execute("night", background=True)
    command = [sys.executable, "-m", "tablevault.cli", "--db-dir", table.vault.db_dir, "wait-process", "night"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 5, done.stderr


@pytest.mark.slow
def test_wait_process_raises_stop_run_as_itself(make):
    table = make(raises_for({}))
    Path(table.vault.db_dir, "code_functions", "m.py").write_text(
        "import pandas as pd\nfrom tablevault import tv_errors\n\n"
        "def index(count):\n    return pd.DataFrame({'x': range(count)})\n\n"
        "def answer(x):\n    raise tv_errors.StopRun('enough')\n"
    )
    table.execute("night", background=True)
    with pytest.raises(tv_errors.StopRun, match="enough"):
        table.vault.wait_process("night", timeout=300)


def test_get_errors_covers_unfinished_processes_and_temporary_instances(make):
    seen = {}

    def answer(x):
        if x in (2, 4):
            raise ValueError(f"row {x}")
        if x == 10:
            raise tv_errors.StopRun("enough")
        return "a"

    table = make(answer, on_error="collect", max_failures=5)
    assert run(table) is not None
    assert positions(table.errors("night")) == [2, 4]
    assert positions(table.errors(instance_id="TEMP_base")) == [2, 4]
    assert [key["x"] for key in table.errors("night")["key"]] == [2, 4]

    def look(x):
        if x == 11:
            seen["running"] = positions(table.vault.get_errors(process_id="night"))
        return "a"

    table.tell(look)
    assert run(table) is None
    assert seen["running"] == [2, 4]
    assert len(table.errors("night")) == 0


def test_get_errors_answers_for_a_reverted_process(make):
    table = make(raises_for({2, 4, 6}), on_error="collect", max_failures=2)
    with pytest.raises(ValueError, match="row 6"):
        table.execute()
    process_id = table.vault.get_history(operation="execute_instance")[0].process_id
    assert positions(table.errors(process_id)) == [2, 4, 6]
    assert positions(table.errors(instance_id="TEMP_base")) == [2, 4, 6]


def test_get_errors_answers_for_a_stopped_process(make):
    table = make(raises_for({2, 4, 6}), on_error="collect", max_failures=2)
    run(table)
    table.vault.stop_process("night")
    assert positions(table.errors("night")) == [2, 4, 6]


# --- provenance -----------------------------------------------------------------------------------------------------


def recorded_policies(table):
    (path,) = Path(table.vault.db_dir).glob("answers/base_*/provenance.json")
    builders = {facts["name"]: facts for facts in json.loads(path.read_text())["builders"]}
    return [(item["attempt"], item["executor"], item["fields"]) for item in builders["answer"]["policies"]]


def test_provenance_has_the_policies_of_the_builder(make):
    table = make(raises_for({}), on_error="collect", retry=2)
    table.execute()
    ((attempt, executor, fields),) = recorded_policies(table)
    assert (attempt, executor, fields["on_error"], fields["retry"]["max_retries"]) == (1, "threads", "collect", 2)


def test_provenance_counts_failed_and_skipped_rows_and_usage(make):
    def answer(x):
        tablevault.report_usage(tokens=3)
        return raises_for({3, 7})(x)

    table = make(answer, on_error="collect", max_failures=5)
    table.build_word()
    run(table)
    (path,) = Path(table.vault.db_dir).glob("answers/base_*/provenance.json")
    builders = {facts["name"]: facts for facts in json.loads(path.read_text())["builders"]}
    assert (builders["answer"]["computed"], builders["answer"]["failed"]) == (28, 2)
    assert builders["answer"]["usage"]["tokens"] == 90
    assert (builders["word"]["computed"], builders["word"]["skipped"]) == (28, 2)


def test_notes_of_an_error_are_recorded(make):
    def error(x):
        failure = ValueError(f"row {x}")
        failure.add_note("the model was asked in French")
        return failure

    table = make(raises_for({3}, error), on_error="collect")
    run(table)
    (record,) = table.errors().to_dict("records")
    lines = record["traceback"].splitlines()
    assert lines[lines.index("ValueError: row 3") + 1] == "the model was asked in French"


def test_provenance_has_the_policies_in_force_by_attempt(make):
    table = make(raises_for({5}), timeout=100)
    for policies in (None, {"answer": {"max_concurrency": 2}}, {"*": {"max_concurrency": 2}}):
        with pytest.raises(ValueError, match="row 5"):
            table.execute("night", policies=policies)
    table.tell(raises_for({}))
    table.execute("night")
    own = {"timeout": 100}
    assert recorded_policies(table) == [(1, "threads", own), (2, "threads", {**own, "max_concurrency": 2})]


# --- functions that read failed cells -----------------------------------------------------------------------------


def read_later(vault, name="later", column="n", arguments=None):
    """Execute a table whose function counts the nulls that it sees in another one; return the messages of warnings."""
    texts = {
        f"{name}_index": {"builder_type": "IndexBuilder", "changed_columns": ["x"], "python_function": "index"},
        column: {"builder_type": "ColumnBuilder", "changed_columns": [column], "python_function": "nulls"},
    }
    texts[f"{name}_index"]["arguments"] = {"count": 2}
    texts[column]["arguments"] = arguments or {"cells": "<<answers.answer>>"}
    builders = {
        builder: yaml.safe_dump({**fields, "code_module": "counting", "is_custom": True})
        for builder, fields in texts.items()
    }
    code = "import pandas as pd\ndef index(count): return pd.DataFrame({'x': range(count)})\n"
    code += "def nulls(cells, others=None): return pd.DataFrame({'n': [int(cells.isna().sum().sum())] * 2})\n"
    vault.create_code_module("counting", text=code)
    vault.create_table(name, exist_ok=True)
    vault.create_instance(name, builders=builders)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        vault.execute_instance(name)
    return [str(item.message) for item in told]


def provenance_of(vault, name):
    instance = vault.get_table_instances(name)[-1]
    facts = json.loads((Path(vault.db_dir) / name / instance / "provenance.json").read_text())
    return {item["name"]: item["failed_cells_read"] for item in facts["builders"]}


@pytest.mark.parametrize("arguments", [{"cells": "<<answers.answer>>"}, {"cells": "<<answers>>"}])
def test_failed_cells_of_another_table_are_told_once_and_counted(make, arguments):
    table = make(raises_for({3, 5}), on_error="collect")
    table.build_word()
    run(table)
    instance = table.vault.get_table_instances("answers")[-1]
    told = read_later(table.vault, arguments=arguments)
    assert len(told) == 1
    assert "2 in 'answers.answer'" in told[0]
    assert f"see get_errors('answers', '{instance}')" in told[0]
    columns = ["answer"] if "." in arguments["cells"] else ["answer", "word"]
    counted = {f"answers({instance}).{column}": 2 for column in columns}
    assert provenance_of(table.vault, "later") == {"later_index": {}, "n": counted}
    assert table.vault.get_dataframe("later")[0]["n"].tolist() == [2 * len(columns)] * 2


def test_failed_cells_of_two_instances_of_a_table_are_counted_apart(make):
    table = make(raises_for({3, 5}), on_error="collect")
    run(table)
    table.vault.create_instance("answers", copy=True)
    table.tell(raises_for({3}))
    run(table, "morning")
    first, second = table.vault.get_table_instances("answers")
    told = read_later(
        table.vault, arguments={"cells": f"<<answers({first}).answer>>", "others": f"<<answers({second}).answer>>"}
    )
    assert len(told) == 1
    for instance, count in ((first, 2), (second, 1)):
        assert f"{count} in 'answers.answer'; see get_errors('answers', '{instance}')" in told[0]
    counted = {f"answers({first}).answer": 2, f"answers({second}).answer": 1}
    assert provenance_of(table.vault, "later") == {"later_index": {}, "n": counted}


def test_failed_cells_that_nothing_reads_are_not_told(make):
    table = make(raises_for({3}), on_error="collect")
    run(table)
    assert read_later(table.vault, arguments={"cells": "<<answers.x>>"}) == []
    assert provenance_of(table.vault, "later") == {"later_index": {}, "n": {}}


@pytest.mark.parametrize(("failed_inputs", "counted"), [("pass", {"self.answer": 2}), ("skip", {})])
def test_own_failed_cells_that_are_read_as_null_are_counted(make, failed_inputs, counted):
    table = make(raises_for({3, 5}), on_error="collect")
    table.build_word(lambda answer: "none" if answer is None else "some", failed_inputs=failed_inputs)
    run(table)
    assert provenance_of(table.vault, "answers") == {"answers_index": {}, "answer": {}, "word": counted}


# --- views --------------------------------------------------------------------------------------------------------


def test_views_of_a_run_name_its_most_frequent_errors_and_waiting_rows(make):
    lost, waiting, go_on = threading.Event(), threading.Event(), threading.Event()

    def answer(x):
        if x in range(6):
            raise (ValueError if x < 3 else KeyError if x < 5 else OSError)(x)
        if x == 6 and not lost.is_set():
            lost.set()
            raise ConnectionError
        if x == 29:
            waiting.set()
            go_on.wait(PATIENCE)
        return "a"

    retry = {"max_retries": 1, "wait": 2, "on": ["ConnectionError"]}
    table = make(answer, on_error="collect", retry=retry, max_failures="100%", max_concurrency=2)
    told = "6 failed (3 ValueError, 2 KeyError)"
    running = threading.Thread(target=run, args=(table, "night"))
    running.start()
    try:
        assert waiting.wait(PATIENCE)
        other = TableVault(table.vault.db_dir, author="bob")
        info = poll(lambda: _info_with(other, "night", failed=6), repeat(0.05), timeout=PATIENCE)
        assert info is not None
        assert info.progress["answer"].errors == {"ValueError": 3, "KeyError": 2}
        assert told in repr(info)
        assert "3 ValueError, 2 KeyError" in info._repr_html_()
        shown = CliRunner().invoke(application, ["--db-dir", str(table.vault.db_dir), "ps", "--json"])
        assert told in json.loads(shown.output)[0]["rows"]
    finally:
        go_on.set()
        running.join()
    info = table.vault.get_process("night")
    assert info.progress["answer"].retried == 1
    assert "1 retried" in repr(info)
    table.copy()
    plan = table.vault.plan_instance("answers", run_index=True)
    assert "6 rows failed in the origin (3 ValueError, 2 KeyError)" in plan.builders["answer"].reasons


def _info_with(vault, process_id, failed):
    info = vault.get_process(process_id)
    return info if "answer" in info.progress and info.progress["answer"].failed == failed else None


@pytest.mark.parametrize("background", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["here", "worker"])
@pytest.mark.parametrize(
    "wrong",
    [{"nothing": {"retry": 1}}, {"answer": {"max_failures": -1}}, {"answer": {"stop_on": ["Nothing"]}}],
    ids=["builder", "value", "class"],
)
def test_refused_policies_change_nothing_of_a_paused_process(make, wrong, background):
    table = make(raises_for({3}))
    with pytest.raises(ValueError, match="row 3"):
        table.execute("night")
    before = table.vault.get_process("night")

    def execute():
        table.execute("night", policies=wrong, background=background)
        table.vault.wait_process("night")

    with pytest.raises(Exception, match="nothing|Nothing|-1|row 3"):
        execute()
    after = table.vault.get_process("night")
    assert (after.status, after.arguments) == ("paused", before.arguments)
    table.tell(raises_for(set()))
    if not background:
        assert table.execute("night") == "night"
