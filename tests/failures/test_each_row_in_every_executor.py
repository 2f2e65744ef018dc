"""Many rows with random latencies, values, exceptions and exception objects.

Each cell and each error belongs to its row, in every executor and return type.
"""

from __future__ import annotations

import random
import warnings

import pandas as pd
import pytest

from made_builders import builder_text
from tablevault import tv_errors

ROWS = [2_000, pytest.param(10_000, marks=pytest.mark.slow)]

CODE = """
import asyncio
import random
import time

import pandas as pd


def outcome(x):
    return random.Random(x).choice(["raise", "object", *["value"] * 6])


def latency(x):
    return random.Random(-x).choice([0, 0, 0, 0.0005])


def of_row(x, has_objects, value):
    what = outcome(x)
    if what == "raise" or (what == "object" and not has_objects):
        raise ValueError(f"row {x}")
    return ValueError(f"row {x}") if what == "object" else value


def of_batch(x, values):
    if len(x) > 1 and any(outcome(row) == "raise" for row in x):
        # The batch is halved until the row is alone.
        raise ValueError(f"rows {x}")
    return [of_row(row, True, value) for row, value in zip(x, values, strict=True)]


def index(count):
    return pd.DataFrame({"x": range(count)})


def answer(x):
    time.sleep(latency(x))
    return of_row(x, False, f"a{x}")


async def answer_async(x):
    await asyncio.sleep(latency(x))
    return of_row(x, False, f"a{x}")


def answers(x):
    time.sleep(latency(x[0]))
    return of_batch(x, [f"a{row}" for row in x])


async def answers_async(x):
    await asyncio.sleep(latency(x[0]))
    return of_batch(x, [f"a{row}" for row in x])


def yielded(count):
    for x in range(count):
        yield f"a{x}" if outcome(x) == "value" else ValueError(f"row {x}")


def parts(x):
    time.sleep(latency(x))
    return of_row(x, False, [(x, part) for part in range(x % 4)])


async def parts_async(x):
    await asyncio.sleep(latency(x))
    return of_row(x, False, [(x, part) for part in range(x % 4)])


def many_parts(x):
    time.sleep(latency(x[0]))
    return of_batch(x, [[(row, part) for part in range(row % 4)] for row in x])


async def many_parts_async(x):
    await asyncio.sleep(latency(x[0]))
    return of_batch(x, [[(row, part) for part in range(row % 4)] for row in x])
"""

WAYS = {
    "inline": {"executor": "threads", "max_concurrency": 1},
    "threads": {"executor": "threads", "max_concurrency": 4},
    "async": {"executor": "async", "max_concurrency": 16},
    "processes": {"executor": "processes", "max_concurrency": 2},
}
FORMS = {"row-wise": {}, "batch": {"batch_size": 16}}
POLICIES = {
    "code_module": "mixed",
    "is_custom": True,
    "on_error": "collect",
    "max_failures": "100%",
    "max_consecutive_failures": "none",
}


def is_value(x):
    """Return whether a row has a value; as `outcome` in the code."""
    return random.Random(x).choice(["raise", "object", *["value"] * 6]) == "value"


def executed(vault, name, builders):
    """Execute a table without the warning; return its frame and the failed rows."""
    vault.create_table(name)
    vault.create_instance(name, builders=builders)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tv_errors.TableVaultWarning)
        vault.execute_instance(name)
    return vault.get_dataframe(name)[0], vault.get_errors(name)


def check_errors(errors, rows):
    """Check that the rows without a value have failed, each with its own message and key."""
    failed = [x for x in range(rows) if not is_value(x)]
    assert list(errors["index"]) == failed
    assert list(errors["message"]) == [f"row {x}" for x in failed]
    assert [key["x"] for key in errors["key"]] == failed
    assert set(errors["kind"]) == {"failed"}


@pytest.fixture
def mixed(vault):
    """A vault with the code."""
    vault.create_code_module("mixed", text=CODE)
    return vault


def index_of(name, rows):
    fields = {"changed_columns": ["x"], "primary_key": ["x"], "python_function": "index", "arguments": {"count": rows}}
    return {f"{name}_index": builder_text("IndexBuilder", code_module="mixed", **fields)}


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_each_cell_and_each_error_belongs_to_its_row(mixed, way, form, rows):
    function = {"row-wise": "answer", "batch": "answers"}[form] + ("_async" if way == "async" else "")
    fields = {"changed_columns": ["answer"], "python_function": function, "arguments": {"x": "<<self.x[index]>>"}}
    policies = {**POLICIES, **WAYS[way], **FORMS[form]}
    builders = index_of("answers", rows)
    builders["answer"] = builder_text("ColumnBuilder", return_type=form, **fields, **policies)
    frame, errors = executed(mixed, "answers", builders)
    assert frame["answer"].isna().tolist() == [not is_value(x) for x in range(rows)]
    assert frame["answer"].dropna().tolist() == [f"a{x}" for x in range(rows) if is_value(x)]
    check_errors(errors, rows)


@pytest.mark.parametrize("rows", ROWS)
def test_each_yielded_cell_and_error_belongs_to_its_row(mixed, rows):
    fields = {"changed_columns": ["answer"], "python_function": "yielded", "arguments": {"count": rows}}
    builders = index_of("answers", rows)
    builders["answer"] = builder_text("ColumnBuilder", return_type="generator", **fields, **POLICIES)
    frame, errors = executed(mixed, "answers", builders)
    assert frame["answer"].isna().tolist() == [not is_value(x) for x in range(rows)]
    assert frame["answer"].dropna().tolist() == [f"a{x}" for x in range(rows) if is_value(x)]
    check_errors(errors, rows)


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("way", WAYS)
def test_each_part_and_each_error_belongs_to_its_input_row(mixed, way, form, rows):
    mixed.write("documents", pd.DataFrame({"x": range(rows)}), primary_key=["x"])
    function = {"row-wise": "parts", "batch": "many_parts"}[form] + ("_async" if way == "async" else "")
    fields = {"changed_columns": ["x", "part"], "primary_key": ["x", "part"], "python_function": function}
    fields |= {"for_each": "documents", "arguments": {"x": "<<documents.x[index]>>"}}
    policies = {**POLICIES, **WAYS[way], **FORMS[form]}
    builders = {"parts_index": builder_text("IndexBuilder", return_type=form, **fields, **policies)}
    frame, errors = executed(mixed, "parts", builders)
    expected = [(x, part) for x in range(rows) if is_value(x) for part in range(x % 4)]
    assert list(frame[["x", "part"]].itertuples(index=False, name=None)) == expected
    check_errors(errors, rows)
