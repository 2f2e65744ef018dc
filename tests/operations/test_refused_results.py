"""A result that cannot be kept counts as an error of the function, in every way of running it."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from operated import build, column_builder, index_builder

from tablevault import TableVault
from tablevault.cli.application import application

CODE = """
import math
from pathlib import Path

import numpy as np
import pandas as pd


def numbers():
    return [1, 2, 3]


def row(number):
    return object() if number == 2 else number


async def later(number):
    return object() if number == 2 else number


class Rows:
    def __call__(self, number):
        return object() if number == 2 else number


def vector(number):
    return np.zeros(3 if number == 2 else 4)


def pair(number):
    return [number] if number == 2 else [number, number]


def mixed(number):
    return b"bytes" if number == 2 else number


def short(numbers):
    return numbers[1:]


def batch(numbers):
    return [object() for _ in numbers]


def stream():
    yield 1
    yield object()
    yield 3


def endless():
    while True:
        yield 1


def no_rows():
    return 5


def frame(numbers):
    return pd.DataFrame({"result": [object() for _ in numbers]})


def short_frame(numbers):
    return pd.DataFrame({"result": [1]})


def parts(number):
    return [object()] if number == 2 else [number]


class Foreign:
    def __array__(self, dtype=None, copy=None):
        raise RuntimeError("on another device")


def foreign(number):
    return Foreign()


def deep(number):
    nested = number
    for _ in range(900 if number == 2 else 1):
        nested = [nested]
    return {"nested": nested}


async def deep_later(number):
    return deep(number)


def keys_with_nan():
    for number in range(4):
        yield [math.nan, number]
        if number == 2 and not Path("corrected").exists():
            raise KeyError(number)
"""

NUMBERS = index_builder("number", "numbers")
OF_ROW = '{number: "<<self.number[index]>>"}'
OF_BATCH = '{numbers: "<<self.number[index]>>"}'
OF_COLUMN = '{numbers: "<<self.number>>"}'
ROW_WISE, BATCH = "return_type: row-wise", "return_type: batch"
VECTOR = "dtypes: {result: 'vector<float32, 4>'}"

BUILDERS = {
    "row": column_builder("result", "row", OF_ROW),
    "row in threads": column_builder("result", "row", OF_ROW, f"{ROW_WISE}\nexecutor: threads\nmax_concurrency: 2"),
    "row in processes": column_builder("result", "row", OF_ROW, f"{ROW_WISE}\nexecutor: processes\nmax_concurrency: 1"),
    "coroutine": column_builder("result", "later", OF_ROW),
    "class": column_builder("result", "Rows", OF_ROW),
    "shape": column_builder("result", "vector", OF_ROW, f"{ROW_WISE}\n{VECTOR}"),
    "dtype": column_builder("result", "mixed", OF_ROW, f"{ROW_WISE}\ndtypes: {{result: Int64}}"),
    "one column": column_builder("result", "mixed", OF_ROW),
    "number of cells": column_builder("result, other", "pair", OF_ROW),
    "number of rows in a batch": column_builder("result", "short", OF_BATCH, BATCH),
    "cell of a batch": column_builder("result", "batch", OF_BATCH, BATCH),
    "yielded cell": column_builder("result", "stream", more="return_type: generator"),
    "number of yielded rows": column_builder("result", "endless", more="return_type: generator"),
    "no generator": column_builder("result", "no_rows", more="return_type: generator"),
    "cell of a frame": column_builder("result", "frame", OF_COLUMN, "return_type: dataframe"),
    "number of rows in a frame": column_builder("result", "short_frame", OF_COLUMN, "return_type: dataframe"),
    "no frame": column_builder("result", "no_rows", more="return_type: dataframe"),
}


NESTED = {
    "row": column_builder("result", "deep", OF_ROW),
    "threads": column_builder("result", "deep", OF_ROW, f"{ROW_WISE}\nexecutor: threads\nmax_concurrency: 2"),
    "processes": column_builder("result", "deep", OF_ROW, f"{ROW_WISE}\nexecutor: processes\nmax_concurrency: 1"),
    "coroutine": column_builder("result", "deep_later", OF_ROW),
}


def made(vault: TableVault, index: str, **builders: str) -> None:
    build(vault, index, CODE, **builders)


def outcome(vault: TableVault) -> tuple[str, str]:
    """Execute the table; return the status of the process and the cause of its error."""
    with pytest.raises((TypeError, ValueError)):
        vault.execute_instance("made", process_id="night")
    process = vault.get_process("night")
    assert process.error is not None
    return process.status, process.error.cause


@pytest.mark.parametrize("builder", BUILDERS.values(), ids=list(BUILDERS))
def test_refused_result_pauses_as_an_error_of_the_function(vault, builder):
    made(vault, NUMBERS, result=builder)
    assert outcome(vault) == ("paused", "function")


@pytest.mark.parametrize("builder", NESTED.values(), ids=list(NESTED))
def test_result_that_is_nested_too_deeply_is_refused_at_its_row(vault, builder):
    made(vault, NUMBERS, result=builder)
    with pytest.raises((TypeError, ValueError)) as refused:
        vault.execute_instance("made", process_id="night")
    assert "row 1" in "".join([str(refused.value), *refused.value.__notes__])


def test_restarted_generator_may_yield_keys_with_nan_again(vault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made(vault, index_builder("key", "keys_with_nan", more="return_type: generator\nprimary_key: [key]"))
    with pytest.raises(KeyError):
        vault.execute_instance("made", process_id="night")
    Path("corrected").touch()
    vault.execute_instance("made", process_id="night")
    assert len(vault.read("made")) == 4


@pytest.mark.parametrize(
    "index",
    [
        index_builder("number", "batch", "{numbers: [1]}"),
        index_builder("number", "stream", more="return_type: generator"),
    ],
    ids=["frame", "generator"],
)
def test_refused_result_of_an_index_builder_is_an_error_of_the_function(vault, index):
    made(vault, index)
    assert outcome(vault) == ("paused", "function")


def test_refused_rows_for_rows_of_another_table_are_errors_of_the_function(vault):
    made(vault, NUMBERS)
    vault.execute_instance("made")
    vault.create_table("parts")
    index = index_builder("part", "parts", '{number: "<<made.number[index]>>"}', f"{ROW_WISE}\nfor_each: made")
    vault.create_instance("parts", builders={"parts_index": index})
    with pytest.raises(TypeError, match="which a cell cannot hold"):
        vault.execute_instance("parts", process_id="night")
    assert vault.get_process("night").error.cause == "function"


@pytest.mark.parametrize(
    "name", ["row", "one column", "yielded cell", "number of yielded rows", "cell of a frame", "no frame"]
)
def test_refused_result_reverts_where_the_builder_says_so(vault, name):
    made(vault, NUMBERS, result=f"{BUILDERS[name]}\non_error: revert\n")
    assert outcome(vault) == ("reverted", "function")


def printed(vault: TableVault) -> str:
    """Execute the table by the command line; return what it prints to standard error."""
    result = CliRunner().invoke(application, ["--db-dir", str(vault.db_dir), "execute-instance", "made"])
    assert result.exit_code == 3
    return result.stderr


@pytest.mark.parametrize("name", ["row", "shape", "yielded cell", "cell of a frame", "number of rows in a batch"])
def test_command_line_shows_a_refused_result_without_frames_of_tablevault(vault, name):
    made(vault, NUMBERS, result=BUILDERS[name])
    text = printed(vault)
    assert text.count("result'") >= 1
    assert "Traceback" not in text
    assert "File " not in text


def test_command_line_shows_the_users_code_that_refuses_to_be_an_array(vault):
    made(vault, NUMBERS, result=column_builder("result", "foreign", OF_ROW, f"{ROW_WISE}\n{VECTOR}"))
    text = printed(vault)
    assert "in __array__" in text
    assert "RuntimeError: on another device" in text


@pytest.mark.parametrize(("stop_on", "status"), [("[]", "reverted"), ("[TypeError, ValueError]", "paused")])
def test_stop_on_wins_over_revert_for_a_refused_result(vault, stop_on, status):
    code = "def rows():\n    return [1, 2]\n\n\ndef more(x):\n    yield from [1, 2, 3]\n"
    more = f"return_type: generator\non_error: revert\nstop_on: {stop_on}"
    build(vault, index_builder("x", "rows"), code, a=column_builder("a", "more", "{x: <<self.x>>}", more))
    with pytest.raises((TypeError, ValueError)):
        vault.execute_instance("made", process_id="night")
    assert vault.get_process("night").status == status
