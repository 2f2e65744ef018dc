"""Ids of calls.

A call that is repeated because its end is unknown has the same id; every other call has another one.
"""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections import defaultdict
from pathlib import Path

import pandas as pd
import pytest
import yaml
from failing_tables import Refused
from test_failure_modes import run

from tablevault import TableVault, tv_errors

CALL_ID = {"call_id": "~CALL_ID~"}


class Seen:
    """The ids of the calls of each row, in order."""

    def __init__(self) -> None:
        self.by_row: dict[int, list[str]] = defaultdict(list)

    def note(self, x, call_id) -> None:
        """Note the call of a row, or of each row of a batch."""
        pairs = zip(x, call_id, strict=True) if isinstance(x, list) else [(x, call_id)]
        for row, name in pairs:
            self.by_row[row].append(name)

    def distinct(self) -> int:
        """Return how many different ids there were."""
        return len({name for names in self.by_row.values() for name in names})


@pytest.fixture
def seen():
    return Seen()


def failing(seen, times, error=lambda x: ConnectionError("down")):
    """Return a function that fails in its first calls for each row."""

    def answer(x, call_id):
        seen.note(x, call_id)
        if len(seen.by_row[x]) <= times:
            raise error(x)
        return f"a{x}"

    return answer


def test_id_is_a_separate_uuid_for_each_row_and_retry(make, seen):
    table = make(failing(seen, 2), rows=5, retry={"max_retries": 2, "wait": 0}, arguments=CALL_ID)
    table.execute()
    assert [len(names) for names in seen.by_row.values()] == [3] * 5
    assert seen.distinct() == 15
    assert all(uuid.UUID(name).version == 8 for names in seen.by_row.values() for name in names)


def test_throttled_call_keeps_its_id(make, seen):
    answer = failing(seen, 2, lambda x: Refused(status_code=429))
    table = make(answer, rows=3, retry={"max_retries": 1, "wait": 0}, arguments=CALL_ID)
    table.execute()
    assert all(len(names) == 3 and len(set(names)) == 1 for names in seen.by_row.values())
    assert seen.distinct() == 3


@pytest.mark.parametrize("mode", ["pause", "collect"])
def test_first_call_of_a_resumed_row_that_had_failed_has_another_id(make, seen, mode):
    table = make(failing(seen, 1), rows=3, on_error=mode, stop_on=["ConnectionError"], arguments=CALL_ID)
    for _ in range(3):
        run(table, "night")
    assert table.execute("night") == "night"
    assert [len(names) for names in seen.by_row.values()] == [2, 2, 2]
    assert seen.distinct() == 6


def test_row_waiting_for_a_retry_at_a_pause_gets_a_new_call_id(make, seen):
    def answer(x, call_id):
        seen.note(x, call_id)
        if len(seen.by_row[x]) == 1:
            raise ConnectionError("down") if x == 0 else RuntimeError("no")
        return f"a{x}"

    table = make(answer, rows=2, retry={"max_retries": 1, "wait": 60}, arguments=CALL_ID)
    run(table, "night")
    assert {row: len(names) for row, names in seen.by_row.items()} == {0: 1, 1: 1}
    table.execute("night")
    assert seen.distinct() == 4


def test_retry_failed_and_any_other_process_use_other_ids(make, seen):
    table = make(failing(seen, 1), rows=3, on_error="collect", max_failures=3, arguments=CALL_ID)
    with pytest.warns(tv_errors.TableVaultWarning, match="3 failed rows"):
        table.execute()
    table.vault.retry_failed("answers")
    table.copy()
    table.execute(force_execute=True)
    assert [len(names) for names in seen.by_row.values()] == [3, 3, 3]
    assert seen.distinct() == 9


def test_each_row_of_a_batch_has_an_id(make, seen):
    def answer(x, call_id):
        seen.note(x, call_id)
        if 4 in x and len(seen.by_row[4]) < 3:
            raise ConnectionError("down")
        return [f"a{item}" for item in x]

    table = make(
        answer, rows=6, return_type="batch", batch_size=3, retry={"max_retries": 2, "wait": 0}, arguments=CALL_ID
    )
    table.execute()
    assert [len(seen.by_row[row]) for row in range(6)] == [1, 1, 1, 3, 3, 3]
    assert seen.distinct() == 12


def test_text_around_placeholders_of_a_batch_is_made_for_each_row(make):
    found = []

    def answer(x, text):
        found.extend(text)
        return list(x)

    make(answer, rows=4, return_type="batch", arguments={"text": "~ATTEMPT~/<<self.x[index]>>"}).execute()
    assert found == ["1/0", "1/1", "1/2", "1/3"]


def test_builder_that_is_called_once_has_one_id_for_a_call(make, seen):
    def answer(x, call_id):
        seen.note(0, call_id)
        if len(seen.by_row[0]) < 3:
            raise ConnectionError("down")
        return pd.DataFrame({"answer": ["a", "b", "c"]})

    arguments = {"x": 0, **CALL_ID}
    retry = {"max_retries": 1, "wait": 0}
    table = make(answer, rows=3, return_type="dataframe", retry=retry, arguments=arguments)
    run(table, "night")
    table.execute("night")
    assert seen.distinct() == 3


def test_resumed_generator_that_failed_while_yielding_has_a_new_call_id(make, seen):
    def answer(x, call_id):
        seen.note(0, call_id)
        yield "a"
        if len(seen.by_row[0]) == 1:
            raise ConnectionError("down")
        yield "b"

    table = make(answer, rows=2, return_type="generator", arguments={"x": 0, **CALL_ID})
    run(table, "night")
    table.execute("night")
    assert table.column() == ["a", "b"]
    assert len(set(seen.by_row[0])) == 2


def test_ids_do_not_count_for_reuse(make, seen):
    table = make(failing(seen, 0), rows=3, arguments=CALL_ID)
    table.execute()
    table.copy()
    table.execute()
    assert [len(names) for names in seen.by_row.values()] == [1, 1, 1]


def test_constructor_gets_no_id(make):
    table = make(
        lambda **given: "a", python_function="Answering", arguments=CALL_ID, setup_arguments={"name": "~CALL_ID~"}
    )
    with pytest.raises(tv_errors.TVBuilderError, match="have no meaning here; give them under arguments"):
        table.execute()


DYING = """
import os
import signal
from pathlib import Path

import pandas as pd


def index():
    return pd.DataFrame({"x": range(3)})


def answer(x, call_id, folder):
    calls = Path(folder) / f"calls-{x}"
    with calls.open("a") as file:
        print(call_id, file=file, flush=True)
    if x == 1 and len(calls.read_text().split()) <= int((Path(folder) / "deaths").read_text()):
        os.kill(os.getpid(), signal.SIGKILL)
    return f"a{x}"
"""


@pytest.mark.slow
@pytest.mark.parametrize("executor", ["inline", "processes"])
def test_call_whose_worker_or_owner_died_is_repeated_under_the_same_id(tmp_path, executor):
    vault = TableVault(tmp_path / "vault", author="ada", create=True)
    vault.create_code_module("m", text=DYING)
    vault.create_table("answers")
    vault.create_instance("answers")
    common = {"python_function": "index", "code_module": "m", "is_custom": True}
    index = {"builder_type": "IndexBuilder", "changed_columns": ["x"], "primary_key": ["x"], **common}
    vault.create_builder_file("answers", text=yaml.safe_dump(index))
    fields = {
        **common,
        "builder_type": "ColumnBuilder",
        "changed_columns": ["answer"],
        "python_function": "answer",
        "return_type": "row-wise",
        "arguments": {"x": "<<self.x[index]>>", "call_id": "~CALL_ID~", "folder": str(tmp_path)},
        **({} if executor == "inline" else {"executor": executor}),
    }
    vault.create_builder_file("answers", "answer", text=yaml.safe_dump(fields))
    Path(tmp_path, "deaths").write_text("1")
    program = (
        "import sys, tablevault; tablevault.TableVault(sys.argv[1]).execute_instance('answers', process_id='night')"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path / "vault"], capture_output=True, timeout=120)
    if executor == "inline":
        vault.execute_instance("answers", process_id="night")
    calls = Path(tmp_path, "calls-1").read_text().split()
    assert len(calls) == 2
    assert len(set(calls)) == 1
