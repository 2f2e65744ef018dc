"""What each policy field means for each kind of builder and way of running."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import threading
import warnings
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from failing_tables import TOLD, Refused, positions, raises_first, raises_for
from test_failure_modes import WARNED, run

import tablevault
from tablevault import tv_errors
from tablevault.cli.application import application
from tablevault.rows.error_names import is_transient

EVERYTHING = {"on_error": "collect", "max_failures": "100%", "max_consecutive_failures": "none"}


def provenance_of(table, builder="answer"):
    """Return what provenance records of a builder of the only instance."""
    (path,) = Path(table.vault.db_dir).glob("answers/base_*/provenance.json")
    return next(facts for facts in json.loads(path.read_text())["builders"] if facts["name"] == builder)


def assert_ended(table, kind, calls_of=None):
    """Assert that an error ends the run, which pauses and records no failed row."""
    with pytest.raises(kind):
        table.execute("night")
    assert table.vault.get_process("night").status == "paused"
    assert len(table.errors("night")) == 0
    if calls_of is not None:
        assert table.calls[calls_of] == 1


# --- stop_on ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("stop_on", "status"), [(["ConnectionError"], "paused"), ([], "reverted")])
def test_stop_on_applies_to_an_index_builder(make, stop_on, status):
    table = make(raises_for({}))

    def lose():
        raise ConnectionError("lost")

    TOLD["word"] = lose
    table.build("answers_index", "IndexBuilder", "word", ["x"], {}, on_error="revert", stop_on=stop_on)
    with pytest.raises(ConnectionError, match="lost"):
        table.execute("night")
    assert table.vault.get_process("night").status == status


@pytest.mark.parametrize("return_type", ["row-wise", "batch"])
def test_stop_on_applies_to_coroutines(make, return_type):
    async def answer(x):
        if x in (4, [4]):
            raise Refused(status_code=403)
        return ["a"] if isinstance(x, list) else "a"

    fields = {"batch_size": 1} if return_type == "batch" else {}
    retry = {"max_retries": 3, "on": ["4xx"], "wait": 0}
    table = make(answer, return_type=return_type, stop_on=[403], retry=retry, **EVERYTHING, **fields)
    assert_ended(table, Refused, calls_of=4)


@pytest.mark.parametrize("return_type", ["row-wise", "batch"])
def test_stop_on_may_name_refused_results(make, return_type):
    def answer(x):
        cells = ["many" if row == 4 else row for row in (x if isinstance(x, list) else [x])]
        return cells if isinstance(x, list) else cells[0]

    fields = {"batch_size": 1} if return_type == "batch" else {}
    table = make(
        answer,
        return_type=return_type,
        dtypes={"answer": "int64"},
        stop_on=["invalid"],
        retry={"max_retries": 3, "on": ["invalid"], "wait": 0},
        **EVERYTHING,
        **fields,
    )
    assert_ended(table, (TypeError, ValueError), calls_of=4)


def test_stop_on_may_name_timeouts_of_threads(make):
    over = threading.Event()

    def answer(x):
        if x == 4:
            over.wait()
        return "a"

    table = make(answer, rows=5, timeout=2, stop_on=["timeout"], retry=3, **EVERYTHING)
    try:
        assert_ended(table, TimeoutError, calls_of=4)
    finally:
        over.set()


def test_stop_on_may_name_timeouts_of_coroutines(make):
    async def answer(x):
        if x == 4:
            await asyncio.Event().wait()
        return "a"

    table = make(answer, rows=5, timeout=2, stop_on=["timeout"], retry=3, **EVERYTHING)
    assert_ended(table, TimeoutError, calls_of=4)


def test_stop_on_does_not_take_other_errors_for_timeouts_or_refused_results(make):
    def answer(x):
        if x == 4:
            raise TimeoutError("raised by the function")
        if x == 5:
            raise ValueError("raised by the function")
        return "a"

    table = make(answer, stop_on=["invalid", "died"], **EVERYTHING)
    assert run(table) is None
    assert positions(table.errors()) == [4, 5]


# --- retry and timeout --------------------------------------------------------------------------------------------


def test_retry_of_zero_in_a_mapping_is_no_retry(make):
    table = make(raises_first(1, lambda x: ConnectionError("lost")), rows=3, retry={"max_retries": 0}, **EVERYTHING)
    assert run(table) is None
    assert positions(table.errors()) == [0, 1, 2]
    assert table.calls == Counter({0: 1, 1: 1, 2: 1})
    assert list(table.errors()["calls"]) == [1, 1, 1]


@pytest.mark.parametrize("way", ["threads", "async"])
def test_retry_may_name_timeouts(make, way):
    over, seen = threading.Event(), []

    def answer(x):
        seen.append(x)
        if len(seen) == 1:
            over.wait()
        return "a"

    async def answer_async(x):
        seen.append(x)
        if len(seen) == 1:
            await asyncio.Event().wait()
        return "a"

    retry = {"max_retries": 5, "on": ["timeout"], "wait": 0}
    table = make(answer if way == "threads" else answer_async, rows=1, timeout=2, retry=retry)
    try:
        table.execute()
    finally:
        over.set()
    assert len(seen) > 1
    assert table.column() == ["a"]


def test_batch_that_exceeds_its_timeout_is_halved(make):
    async def answer(x):
        if 1 in x:
            await asyncio.Event().wait()
        return [f"a{row}" for row in x]

    table = make(answer, rows=4, return_type="batch", batch_size=2, timeout=3, **EVERYTHING)
    assert run(table) is None
    assert positions(table.errors()) == [1]
    assert table.errors()["error"].tolist() == ["TimeoutError"]
    assert table.column() == ["a0", None, "a2", "a3"]


def test_batch_that_exceeds_its_timeout_pauses(make):
    async def answer(x):
        if 2 in x:
            await asyncio.Event().wait()
        return ["a" for _ in x]

    table = make(answer, rows=4, return_type="batch", batch_size=2, max_concurrency=1, timeout=3)
    with pytest.raises(TimeoutError):
        table.execute("night")
    assert table.progress("night").computed == 2


# --- functions that are called once -------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", [{}, {"executor": "async"}])
def test_dataframe_function_may_be_a_coroutine(make, executor):
    seen = []

    async def answer(x, attempt):
        seen.append(attempt)
        await asyncio.sleep(0)
        if attempt == 1:
            raise ConnectionError("lost")
        return pd.DataFrame({"answer": range(3)})

    arguments = {"x": 7, "attempt": "~ATTEMPT~"}
    retry = {"max_retries": 1, "wait": 0}
    table = make(answer, rows=3, return_type="dataframe", arguments=arguments, retry=retry, **executor)
    table.execute()
    assert seen == [1, 2]
    assert table.column() == [0, 1, 2]
    assert provenance_of(table)["policies"][0]["executor"] == "async"


def test_dataframe_coroutine_that_takes_too_long_is_cancelled(make):
    ended = []

    async def answer(x):
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    table = make(answer, rows=3, return_type="dataframe", arguments={"x": 7}, timeout=1)
    with pytest.raises(TimeoutError):
        table.execute("night")
    assert ended == [True]
    assert table.vault.get_process("night").status == "paused"


def test_dataframe_function_in_a_thread_that_takes_too_long_is_abandoned(make):
    over = threading.Event()

    def answer(x):
        over.wait()
        return pd.DataFrame({"answer": range(3)})

    table = make(answer, rows=3, return_type="dataframe", arguments={"x": 7}, timeout=1)
    try:
        with pytest.raises(TimeoutError):
            table.execute("night")
    finally:
        over.set()
    table.tell(lambda x: pd.DataFrame({"answer": [3, 4, 5]}))
    table.execute("night")
    assert table.column() == [3, 4, 5]


# --- budgets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whose", ["builder", "process"])
@pytest.mark.parametrize("return_type", ["row-wise", "batch", "dataframe", "generator"])
def test_budget_of_zero_calls_allows_no_call(make, return_type, whose):
    nothing = {"calls": 0}
    fields = {} if return_type in ("row-wise", "batch") else {"arguments": {"x": 7}}
    own = {"budget": nothing} if whose == "builder" else {}
    table = make(raises_for({}), rows=3, return_type=return_type, **fields, **own)
    # The IndexBuilder of a process without calls cannot run either.
    options = {"budget": nothing} if whose == "process" else {}
    with pytest.raises(tv_errors.BudgetSpent, match="0 of 0 calls"):
        table.execute("night", **options)
    assert table.vault.get_process("night").status == "paused"
    assert not table.calls


# --- policies of a call and edited files --------------------------------------------------------------------------


def test_policy_of_a_call_may_not_collect_failures_in_the_key(make):
    table = make(raises_for({}), changed_columns=["x"])
    with pytest.raises(tv_errors.TVArgumentError, match=r"^policies\['answer'\]: 'collect' would leave nulls in the"):
        table.execute("night", policies={"answer": {"on_error": "collect"}})
    assert table.vault.get_active_processes() == {}
    assert not table.calls


def test_policies_edited_in_the_file_of_a_paused_process_are_ignored(make):
    table = make(raises_for({5}))
    with pytest.raises(ValueError, match="row 5"):
        table.execute("night")
    path = Path(table.vault.db_dir, "answers", "TEMP_base", "builders", "answer.yaml")
    path.write_text(path.read_text() + "on_error: collect\n")
    with pytest.raises(ValueError, match="row 5"), pytest.warns(WARNED, match=r"were edited .*\(answer\)"):
        table.execute("night")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WARNED)
        table.execute("night", policies={"answer": {"on_error": "collect"}})
    assert positions(table.errors()) == [5]


# --- errors that are not collected --------------------------------------------------------------------------------


def test_variable_that_is_gone_when_rows_are_computed_ends_the_run(make, monkeypatch):
    monkeypatch.setenv("TV_FAILING", "set for now")
    table = make(lambda x, key: "a", arguments={"key": "~ENV:TV_FAILING~"}, **EVERYTHING)
    table.execute()
    # The variables of a copy are not checked beforehand, since all its cells might be reused.
    table.copy()
    table.build_answer(arguments={"key": "~ENV:TV_FAILING~", "more": 1}, **EVERYTHING)
    table.tell(lambda x, key, more: "b")
    monkeypatch.delenv("TV_FAILING")
    with pytest.raises((LookupError, tv_errors.TableVaultError), match="TV_FAILING"):
        table.execute("night")
    assert table.vault.get_process("night").status == "paused"
    assert len(table.errors("night")) == 0
    assert not table.vault.get_process("night").progress["answer"].failed


@pytest.mark.parametrize("fields", [{}, {"max_concurrency": 3}], ids=["inline", "threads"])
def test_full_disk_is_neither_collected_nor_retried(make, monkeypatch, fields):
    write, full = os.writev, threading.Event()

    def write_unless_full(file, pieces):
        if full.is_set():
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(file, pieces)

    def answer(x):
        if x == 4:
            full.set()
        return "a"

    retry = {"max_retries": 3, "on": ["OSError"], "wait": 0}
    table = make(answer, rows=8, retry=retry, **EVERYTHING, **fields)
    monkeypatch.setattr(os, "writev", write_unless_full)
    with pytest.raises(OSError, match="No space left"):
        table.execute("night")
    full.clear()
    assert table.vault.get_process("night").status == "paused"
    assert len(table.errors("night")) == 0
    assert max(table.calls.values()) == 1
    table.tell(raises_for({}))
    table.execute("night")
    assert len(table.errors()) == 0
    assert None not in table.column()


# --- naming errors ------------------------------------------------------------------------------------------------


def test_transient_errors_of_clients_are_known_without_importing_anything():
    code = (
        "import sys\nfrom tablevault.rows.error_names import is_transient\n"
        "kind = type('ReadTimeout', (type('TransportError', (Exception,), {'__module__': 'httpx'}),), {})\n"
        "before = set(sys.modules)\nassert is_transient(kind())\nassert not is_transient(KeyError())\n"
        "print(sorted(set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert is_transient(ConnectionError())


# --- records ------------------------------------------------------------------------------------------------------


def test_provenance_counts_failed_and_skipped_rows_and_usage_by_builder(make):
    def answer(x):
        tablevault.report_usage(tokens=10)
        if x in (1, 3):
            raise ValueError(f"row {x}")
        return f"a{x}"

    table = make(answer, rows=5, **EVERYTHING)
    table.build_word()
    assert run(table) is None
    found = {name: provenance_of(table, name) for name in ("answers_index", "answer", "word")}
    assert {name: (facts["failed"], facts["skipped"]) for name, facts in found.items()} == {
        "answers_index": (0, 0),
        "answer": (2, 0),
        "word": (0, 2),
    }
    assert found["answer"]["usage"] == {"calls": 5, "tokens": 50}
    assert found["word"]["usage"].get("tokens", 0) == 0
    assert (found["answer"]["computed"], found["word"]["computed"]) == (3, 3)


@pytest.mark.parametrize("change", ["damaged", "missing"])
def test_verify_finds_changed_and_missing_usage(make, change):
    def answer(x):
        tablevault.report_usage(tokens=x)
        return "a"

    table = make(answer, rows=3)
    table.execute()
    assert table.vault.verify().ok
    (path,) = Path(table.vault.db_dir).glob("answers/base_*/usage.parquet")
    path.parent.chmod(0o755)
    path.chmod(0o644)
    if change == "missing":
        path.unlink()
    else:
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    name = path.relative_to(table.vault.db_dir).as_posix()
    assert (change, name) in [(found.kind, found.path) for found in table.vault.verify().problems]


def test_wait_process_on_the_command_line_exits_with_5_after_failed_rows(make):
    table = make(raises_for({3}), **EVERYTHING)
    assert run(table) is None
    waited = CliRunner().invoke(application, ["--db-dir", table.vault.db_dir, "wait-process", "night"])
    assert waited.exit_code == 5
    assert "night" in waited.stdout
    table.copy()
    table.tell(raises_for({}))
    table.execute("day")
    waited = CliRunner().invoke(application, ["--db-dir", table.vault.db_dir, "wait-process", "day"])
    assert waited.exit_code == 0


def test_retry_failed_completes_a_stopped_instance_with_failed_rows(make):
    def answer(x):
        if x == 2:
            raise ValueError("row 2")
        if x == 5:
            raise tv_errors.StopRun("enough")
        return f"a{x}"

    table = make(answer, rows=8, **EVERYTHING)
    table.build_word()
    with pytest.raises(tv_errors.StopRun):
        table.execute("night")
    table.vault.stop_process("night", materialize=True)
    assert positions(table.errors()) == [2]
    assert table.column() == ["a0", "a1", None, "a3", "a4", None, None, None]
    table.calls.clear()
    table.tell(raises_for({}))
    table.vault.retry_failed("answers")
    assert table.calls == Counter({2: 1, 5: 1, 6: 1, 7: 1})
    assert len(table.errors()) == 0
    assert table.column() == [f"a{x}" for x in range(8)]
    assert table.column("word") == [f"wa{x}" for x in range(8)]
