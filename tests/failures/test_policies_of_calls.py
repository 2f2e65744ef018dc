"""Policies of a call, judged together with those of the builder and with its function."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from tablevault import tv_errors

CODE = """
import asyncio
import functools
import time
from pathlib import Path

import pandas as pd


def index(count):
    return pd.DataFrame({"x": range(count)})


def plain(x):
    return x


async def awaited(x):
    return x


@functools.wraps(awaited)
async def wrapped(x):
    return x


class Plain:
    def __call__(self, x):
        return x


class Awaited:
    async def __call__(self, x):
        return x


class Nothing:
    pass


class Jobs:
    def submit(self, token, x):
        return token

    def poll(self, job):
        return [0, 1]


def frame(x):
    return pd.DataFrame({"out": x["x"]})


def keep(x, folder):
    Path(folder, f"{x}.txt").write_text(str(x))
    return f"{x}.txt"


def keep_late(x, folder):
    time.sleep(600)
    return keep(x, folder)


async def keep_awaited(x, folder):
    return keep(x, folder)


class Keep:
    def __call__(self, x, folder):
        return keep(x, folder)


class KeepAwaited:
    async def __call__(self, x, folder):
        return keep(x, folder)
"""
FILES = {
    "arguments": {"x": "<<self.x[index]>>", "folder": "~ARTIFACT_FOLDER~"},
    "dtypes": {"out": "artifact_string"},
}
LATE = "a late call could still write an artifact"


@pytest.fixture
def build(vault):
    """Return a function that writes a table with a column `out` of a given function."""
    vault.create_code_module("m", text=CODE)
    vault.create_table("t")
    vault.create_instance("t")

    def write(name, kind, function, columns, arguments, **fields):
        content = {
            "builder_type": kind,
            "changed_columns": columns,
            "python_function": function,
            "code_module": "m",
            "is_custom": True,
            "arguments": arguments,
            **fields,
        }
        vault.create_builder_file("t", name, text=yaml.safe_dump(content))

    def build(function, **fields):
        fields = {"arguments": {"x": "<<self.x[index]>>"}, "return_type": "row-wise", **fields}
        write("t_index", "IndexBuilder", "index", ["x"], {"count": 2})
        write("out", "ColumnBuilder", function, ["out"], **fields)

    return build


def recorded(vault):
    """Return the executor and the policies recorded for the column."""
    (instance,) = vault.get_table_instances("t")
    facts = json.loads((Path(vault.db_dir) / "t" / instance / "provenance.json").read_text())
    ((policies,),) = (item["policies"] for item in facts["builders"] if item["name"] == "out")
    return policies["executor"], policies["fields"]


# --- timeouts of functions that write artifacts -------------------------------------------------------------------


@pytest.mark.parametrize("function", ["keep", "Keep"])
@pytest.mark.parametrize("executor", [{}, {"executor": "threads"}])
def test_timeout_in_threads_with_artifacts_is_refused(vault, build, function, executor):
    build(function, timeout=30, **executor, **FILES)
    with pytest.raises(tv_errors.TVBuilderError, match=rf"^out\.yaml, line \d+, timeout: .*{LATE}"):
        vault.execute_instance("t")
    assert vault.get_table_instances("t") == []


@pytest.mark.parametrize("function", ["keep_awaited", "KeepAwaited"])
@pytest.mark.parametrize("executor", [{}, {"executor": "async"}])
def test_timeout_of_an_async_function_may_be_used_with_artifacts(vault, build, function, executor):
    build(function, timeout=30, **executor, **FILES)
    vault.execute_instance("t")
    assert recorded(vault)[0] == "async"


@pytest.mark.parametrize("name", ["out", "*"])
def test_timeout_for_artifacts_of_an_async_function_is_taken(vault, build, name):
    build("keep_awaited", **FILES)
    vault.execute_instance("t", policies={name: {"timeout": 30}})
    assert recorded(vault) == ("async", {"timeout": 30})


@pytest.mark.parametrize("name", ["out", "*"])
def test_timeout_for_artifacts_of_processes_is_in_force(vault, build, name):
    build("keep_late", executor="processes", max_concurrency=1, **FILES)
    with pytest.raises(TimeoutError):
        vault.execute_instance("t", policies={name: {"timeout": 0.2}})


@pytest.mark.parametrize(
    ("fields", "policies"),
    [
        ({"executor": "processes", "timeout": 30}, {"executor": "threads"}),
        ({"executor": "processes"}, {"executor": "threads", "timeout": 30}),
        ({"executor": "threads"}, {"timeout": 30}),
        ({}, {"timeout": 30}),
    ],
)
@pytest.mark.parametrize("function", ["keep", "Keep"])
def test_policies_of_a_call_that_let_threads_write_late_are_refused(vault, build, function, fields, policies):
    build(function, **fields, **FILES)
    with pytest.raises(tv_errors.TVArgumentError, match=rf"^policies\['out'\]: .*{LATE}"):
        vault.execute_instance("t", policies={"out": policies})
    assert vault.get_table_instances("t") == []


def test_policies_for_all_builders_let_no_thread_write_late(vault, build):
    build("keep", executor="processes", max_concurrency=1, timeout=30, **FILES)
    vault.execute_instance("t", policies={"*": {"executor": "threads"}})
    assert recorded(vault) == ("processes", {"executor": "processes", "max_concurrency": 1, "timeout": 30})


def test_policies_for_one_builder_are_judged_with_those_for_all(vault, build):
    build("plain")
    with pytest.raises(tv_errors.TVArgumentError, match="min_workers is larger than max_workers, which is 2"):
        vault.execute_instance("t", policies={"*": {"executor": "ray", "max_workers": 2}, "out": {"min_workers": 3}})


@pytest.mark.parametrize(
    ("fields", "policies", "message"),
    [
        ({"max_workers": 2}, {"min_workers": 3}, "min_workers is larger than max_workers, which is 2"),
        ({"min_workers": 3}, {"max_workers": 2}, "max_workers is smaller than min_workers, which is 3"),
    ],
)
def test_numbers_of_workers_are_compared_with_those_of_the_builder(vault, build, fields, policies, message):
    build("plain", executor="ray", **fields)
    with pytest.raises(tv_errors.TVArgumentError, match=message):
        vault.execute_instance("t", policies={"out": policies})


@pytest.mark.parametrize("name", ["out", "*"])
def test_class_that_cannot_be_called_is_refused_as_such(vault, build, name):
    build("Nothing")
    with pytest.raises(tv_errors.TVBuilderError, match="the class Nothing has no __call__"):
        vault.execute_instance("t", policies={name: {"executor": "threads"}})


# --- executors that do not suit a function ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "fields", "executor", "used"),
    [
        ("awaited", {}, "threads", "async"),
        ("awaited", {}, "processes", "async"),
        ("wrapped", {}, "processes", "async"),
        ("Awaited", {}, "threads", "async"),
        ("plain", {}, "async", "threads"),
        ("Plain", {}, "async", "threads"),
        ("Plain", {"return_type": "batch"}, "jobs", "threads"),
        ("Jobs", {"return_type": "batch", "executor": "jobs"}, "threads", "jobs"),
        ("frame", {"return_type": "dataframe", "arguments": {"x": "<<self.x>>"}}, "async", "threads"),
    ],
)
def test_executor_for_all_builders_is_ignored_where_it_does_not_suit(vault, build, function, fields, executor, used):
    build(function, **fields)
    vault.execute_instance("t", policies={"*": {"executor": executor, "on_error": "revert"}})
    own = {"executor": "jobs"} if used == "jobs" else {}
    assert recorded(vault) == (used, {**own, "on_error": "revert"})
    assert vault.get_dataframe("t")[0]["out"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("function", "executor", "suitable"),
    [
        ("awaited", "threads", "async or ray"),
        ("Awaited", "processes", "async or ray"),
        ("plain", "async", "processes or ray or threads"),
    ],
)
def test_executor_that_does_not_suit_is_refused_for_a_named_builder(vault, build, function, executor, suitable):
    build(function)
    message = rf"^policies\['out'\]: executor {executor} does not suit the function, which needs {suitable}; remove it"
    with pytest.raises(tv_errors.TVArgumentError, match=message):
        vault.execute_instance("t", policies={"out": {"executor": executor}})
