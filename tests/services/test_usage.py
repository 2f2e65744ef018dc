"""Sums of reported usage by row, builder and process.

They are exact for every executor and every end of a call.
"""

from __future__ import annotations

import json

import pandas as pd
import pytest
from click.testing import CliRunner

import tablevault
from tablevault import TVArgumentError
from tablevault.cli.application import application

REPORTING = """
import asyncio
import pandas as pd
import tablevault


def answer(x):
    tablevault.report_usage(tokens=10 * x, cost=0.5)
    tablevault.report_usage(tokens=1)
    return x


async def answer_async(x):
    await asyncio.to_thread(tablevault.report_usage, tokens=10 * x)
    tablevault.report_usage(tokens=1, cost=0.5)
    return x


def answer_batch(x):
    tablevault.report_usage(tokens=sum(10 * each + 1 for each in x), cost=0.5 * len(x))
    return x


def answer_frame():
    tablevault.report_usage(tokens=7)
    return pd.DataFrame({"answer": range(4)})


def answer_generator():
    for number in range(4):
        tablevault.report_usage(tokens=2)
        yield number


def failing(x):
    tablevault.report_usage(tokens=3)
    if x == 1:
        raise ConnectionError("lost")
    return x


def slow(x):
    import time

    tablevault.report_usage(tokens=5)
    if x == 1:
        time.sleep(600)
    return x
"""

WAYS = {
    "inline": {},
    "threads": {"max_concurrency": 3},
    "async": {"python_function": "answer_async"},
    "processes": {"executor": "processes", "max_concurrency": 2},
    "counted": {"service": "api"},
    "retrying": {"retry": 2},
}


def usage_of(vault, *args, **options):
    frame = vault.get_usage(*args, **options)
    return frame[frame.builder == "answer"].set_index("index")


@pytest.mark.parametrize("fields", WAYS.values(), ids=WAYS)
def test_usage_is_summed_by_row_builder_and_process(vault, make, fields):
    vault.set_service("api", {})
    process_id = make(REPORTING, rows=4, **fields).run()
    frame = usage_of(vault, "answers")
    assert list(frame.tokens) == [1, 11, 21, 31]
    assert list(frame.cost) == [0.5] * 4
    assert list(frame.calls) == [1] * 4
    assert usage_of(vault, process_id=process_id).equals(frame)
    info = vault.get_process(process_id)
    expected = {"calls": 4, "tokens": 64, "cost": 2}
    assert info.progress["answer"].usage == expected
    assert info.usage == expected
    assert "usage: 4 calls, 2 cost, 64 tokens" in repr(info)
    assert "64 tokens" in info._repr_html_()
    assert vault.verify().ok


def test_usage_of_a_batch_is_divided_equally(vault, make):
    fields = {"python_function": "answer_batch", "return_type": "batch", "batch_size": 2}
    process_id = make(REPORTING, rows=4, **fields).run()
    frame = usage_of(vault, "answers")
    assert list(frame.tokens) == [6, 6, 26, 26]
    assert list(frame.calls) == [0.5] * 4
    assert vault.get_process(process_id).usage == {"calls": 2, "tokens": 64, "cost": 2}


@pytest.mark.parametrize(("function", "kind", "tokens"), [("frame", "dataframe", 7), ("generator", "generator", 8)])
def test_usage_of_a_function_that_is_called_once(vault, make, function, kind, tokens):
    make(REPORTING, rows=4, python_function=f"answer_{function}", return_type=kind, arguments={}).run()
    frame = vault.get_usage("answers")
    assert frame["index"].isna().all()
    assert list(frame.tokens) == [tokens]
    assert list(frame.calls) == [1]


def test_a_process_without_reports_has_no_usage(vault, make):
    process_id = make("def answer(x): return x", rows=4).run()
    assert list(vault.get_usage("answers").columns) == ["builder", "index", "calls", "seconds"]
    assert len(vault.get_usage("answers")) == 0
    assert vault.get_process(process_id).usage == {}
    assert vault.get_process(process_id).waiting == ""


@pytest.mark.parametrize("fields", [{}, {"max_concurrency": 3}, {"executor": "processes"}], ids=str)
def test_usage_of_failed_and_retried_calls_counts(vault, make, fields):
    table = make(
        REPORTING,
        rows=3,
        python_function="failing",
        on_error="collect",
        retry={"max_retries": 2, "wait": 0.001},
        **fields,
    )
    with pytest.warns(match="1 failed row"):
        process_id = table.run()
    frame = usage_of(vault, "answers")
    assert list(frame.tokens) == [3, 9, 3]
    assert list(frame.calls) == [1, 3, 1]
    assert vault.get_process(process_id).usage == {"calls": 5, "tokens": 15}


def test_usage_of_a_call_that_takes_too_long_counts(vault, make):
    table = make(REPORTING, rows=2, python_function="slow", on_error="collect", timeout=1.0, max_concurrency=2)
    with pytest.warns(match="1 failed row"):
        table.run()
    assert list(usage_of(vault, "answers").tokens) == [5, 5]


def test_usage_of_a_paused_process_is_kept_and_added_to(vault, make):
    table = make(REPORTING, rows=3, python_function="failing")
    with pytest.raises(ConnectionError):
        table.run("night")
    assert list(usage_of(vault, process_id="night").tokens) == [3, 3]
    assert list(usage_of(vault, "answers", "TEMP_base").tokens) == [3, 3]
    vault.create_code_module(
        "answers", text=(REPORTING + "\n\ndef rows(count): ...").replace("if x == 1:", "if False:")
    )
    table.run("night")
    frame = usage_of(vault, "answers")
    assert list(frame.tokens) == [3, 6, 3]
    assert list(frame.calls) == [1, 2, 1]
    assert vault.get_process("night").usage == {"calls": 4, "tokens": 12}


def test_retry_failed_has_the_usage_of_its_own_calls(vault, make):
    table = make(REPORTING, rows=3, python_function="failing", on_error="collect")
    with pytest.warns(match="1 failed row"):
        table.run()
    with pytest.warns(match="1 failed row"):
        process_id = vault.retry_failed("answers")
    assert vault.get_process(process_id).usage == {"calls": 1, "tokens": 3}
    assert list(vault.get_usage("answers")["index"]) == [1]


def test_a_plan_estimates_usage_by_the_mean_of_the_origin(vault, make):
    table = make(REPORTING, rows=4)
    assert vault.plan_instance("answers").builders["answer"].usage == {}
    table.run()
    table.again()
    assert vault.plan_instance("answers", run_index=True).builders["answer"].usage == {}
    table.build("answers_index", "IndexBuilder", "rows", ["x"], {"count": 6}, primary_key=["x"])
    plan = vault.plan_instance("answers", run_index=True)
    assert plan.builders["answer"].usage == {"calls": 2, "tokens": 32, "cost": 1}
    assert "32 tokens" in repr(plan)
    # Instances between them that took all cells over do not matter.
    vault.delete_builder_file("answers_index", "answers")
    table.build("answers_index", "IndexBuilder", "rows", ["x"], {"count": 4}, primary_key=["x"])
    table.run()
    table.again()
    assert vault.plan_instance("answers", force_execute=True, run_index=True).builders["answer"].usage["tokens"] == 64


def test_get_usage_on_the_command_line(vault, make):
    make(REPORTING, rows=2).run()
    result = CliRunner().invoke(application, ["--db-dir", vault.db_dir, "get-usage", "answers", "--json"])
    assert [row["tokens"] for row in json.loads(result.output)] == [1, 11]


def test_arguments_of_get_usage_are_checked(vault):
    with pytest.raises(TVArgumentError, match="get_usage needs a table_name or a process_id"):
        vault.get_usage()


def test_report_usage_does_nothing_outside_a_call_and_checks_its_arguments():
    tablevault.report_usage(tokens=1)
    tablevault.report_usage(tokens=pd.Series([1]).sum())
    tablevault.report_usage(tokens=10**18)
    for value in (-1, "5", float("nan"), None, True, float("inf"), 1.1e18, 10**400):
        with pytest.raises(TVArgumentError, match="tokens"):
            tablevault.report_usage(tokens=value)
    with pytest.raises(TVArgumentError, match="calls"):
        tablevault.report_usage(calls=1)
