"""Budgets of builders and processes.

They are exact for calls, reserved before use, and can be raised to continue.
"""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from tablevault import TVArgumentError, TVBuilderError, tv_errors
from tablevault.cli.application import application

COUNTED = """
import threading
from tablevault import report_usage

called = []
lock = threading.Lock()


def answer(x, folder):
    with lock, open(folder + "/calls", "a") as file:
        file.write(f"{x}\\n")
    report_usage(cost=0.25, tokens=10)
    return x


async def answer_async(x, folder):
    import asyncio
    await asyncio.sleep(0.001)
    return answer(x, folder)


def answer_batch(x, folder):
    return [answer(each, folder) for each in x]
"""


def calls(folder):
    path = folder / "calls"
    return len(path.read_text().split()) if path.exists() else 0


def arguments(folder):
    return {"x": "<<self.x[index]>>", "folder": str(folder)}


WAYS = {
    "inline": {},
    "threads": {"max_concurrency": 5},
    "async": {"python_function": "answer_async", "max_concurrency": 5},
    "processes": {"executor": "processes", "max_concurrency": 2},
}


@pytest.mark.parametrize("fields", WAYS.values(), ids=WAYS)
def test_a_budget_of_calls_is_exact_over_all_attempts(vault, make, tmp_path, fields):
    table = make(COUNTED, rows=30, arguments=arguments(tmp_path), **fields)
    with pytest.raises(tv_errors.BudgetSpent, match="process 'night' allows no further call: 8 of 8 calls are spent"):
        table.run("night", budget={"calls": 8})
    assert calls(tmp_path) == 7
    assert vault.get_process("night").status == "paused"
    with pytest.raises(tv_errors.BudgetSpent):
        table.run("night", budget={"calls": 8})
    assert calls(tmp_path) == 7
    with pytest.raises(tv_errors.BudgetSpent):
        table.run("night", budget={"calls": 21})
    assert calls(tmp_path) == 20
    assert vault.get_process("night").usage["calls"] == 21
    table.run("night", budget={"calls": 31})
    assert calls(tmp_path) == 30
    assert table.cells == list(range(30))


def test_a_budget_of_a_builder_counts_its_own_calls(vault, make, tmp_path):
    table = make(COUNTED, rows=10, arguments=arguments(tmp_path), budget={"calls": 4})
    with pytest.raises(tv_errors.BudgetSpent, match="builder 'answer' allows no further call"):
        table.run("night")
    assert calls(tmp_path) == 4
    table.run("night", policies={"answer": {"budget": {"calls": 10}}})
    assert calls(tmp_path) == 10


def test_other_amounts_are_reserved_by_their_mean(vault, make, tmp_path):
    table = make(COUNTED, rows=30, arguments=arguments(tmp_path))
    with pytest.raises(tv_errors.BudgetSpent, match="1.25 of 1.3 cost"):
        table.run("night", budget={"cost": 1.3})
    assert calls(tmp_path) == 5
    table.run("night", budget={"cost": 7.5})
    assert calls(tmp_path) == 30


def test_a_spent_budget_without_an_id_reverts_and_keeps_its_cells(vault, make, tmp_path):
    table = make(COUNTED, rows=10, arguments=arguments(tmp_path), budget={"calls": 6})
    with pytest.raises(tv_errors.BudgetSpent):
        table.run()
    table.run(reuse_partial=True)
    assert calls(tmp_path) == 10


def test_calls_of_index_builders_count_and_a_generator_needs_a_call_too(vault, make, tmp_path):
    code = "def answer():\n    yield from range(3)\n"
    table = make(code, rows=3, arguments={}, return_type="generator")
    with pytest.raises(tv_errors.BudgetSpent):
        table.run("night", budget={"calls": 1})
    table.run("night", budget={"calls": 2})
    assert vault.get_process("night").usage == {"calls": 2}


def test_retried_calls_count(vault, make, tmp_path):
    code = (
        COUNTED
        + """

def failing(x, folder):
    answer(x, folder)
    raise ConnectionError
"""
    )
    table = make(
        code,
        rows=10,
        python_function="failing",
        retry={"max_retries": 50, "wait": 0.001, "max_wait": 0.001},
        arguments=arguments(tmp_path),
    )
    with pytest.raises(tv_errors.BudgetSpent):
        table.run("night", budget={"calls": 10})
    assert calls(tmp_path) == 9
    assert vault.get_process("night").usage == {"calls": 10, "cost": 2.25, "tokens": 90}


@pytest.mark.parametrize("budget", [{"calls": -1}, {"calls": float("nan")}, {"calls": True}, {"seconds": 5}])
def test_a_wrong_budget_of_a_call_is_refused(vault, make, tmp_path, budget):
    table = make(COUNTED, arguments=arguments(tmp_path))
    with pytest.raises(TVArgumentError, match="calls"):
        table.run(budget=budget)


@pytest.mark.parametrize(
    "given",
    [
        {"budget": {"calls": float("nan")}},
        {"budget": {"calls": -1}},
        {"budget": {"seconds": 5}},
        {"policies": {"answer": {"service": "opnai"}}},
    ],
    ids=["no number", "negative", "no amount", "unknown service"],
)
def test_a_limit_that_is_refused_leaves_a_paused_process_as_it_was(vault, make, tmp_path, given):
    table = make(COUNTED, arguments=arguments(tmp_path), rows=4)
    with pytest.raises(tv_errors.BudgetSpent):
        table.run("night", budget={"calls": 3})
    with pytest.raises((TVArgumentError, TVBuilderError)):
        table.run("night", **given)
    info = vault.get_process("night")
    assert (info.status, info.arguments["budget"], info.arguments["policies"]) == ("paused", {"calls": 3}, None)
    assert calls(tmp_path) == 2
    table.run("night", budget={"calls": 5})
    assert calls(tmp_path) == 4


@pytest.mark.parametrize("budget", [{"calls": "many"}, {"seconds": 5}])
def test_a_wrong_budget_of_a_builder_is_refused(vault, make, tmp_path, budget):
    table = make(COUNTED, arguments=arguments(tmp_path), budget=budget)
    with pytest.raises(TVBuilderError, match="budget must be a mapping of amounts|it must be a mapping of amounts"):
        table.run()


def test_a_budget_of_the_command_line_ends_the_run_when_it_is_spent(vault, make, tmp_path):
    make(COUNTED, rows=10, arguments=arguments(tmp_path))
    command = ["--db-dir", vault.db_dir, "execute-instance", "answers", "--process-id", "night", "--budget"]
    ended = CliRunner().invoke(application, [*command, "cost=1"])
    assert ended.exit_code == 4
    assert "BudgetSpent" in ended.stderr
    assert calls(tmp_path) == 4
    assert CliRunner().invoke(application, [*command, "cost=100"]).exit_code == 0
    assert calls(tmp_path) == 10


def test_a_policy_of_the_command_line_replaces_that_of_the_builder(vault, make, tmp_path):
    make(COUNTED, rows=10, arguments=arguments(tmp_path), budget={"calls": 1})
    command = ["--db-dir", vault.db_dir, "execute-instance", "answers", "--policy", "answer.budget={calls: 10}"]
    ended = CliRunner().invoke(application, command)
    assert ended.exit_code == 0, ended.output
    assert calls(tmp_path) == 10


def test_wait_process_raises_the_spent_budget_as_itself(vault, make, tmp_path):
    make(COUNTED, rows=10, arguments=arguments(tmp_path))
    vault.execute_instance("answers", process_id="night", background=True, budget={"calls": 4})
    with pytest.raises(tv_errors.BudgetSpent, match="4 of 4 calls"):
        vault.wait_process("night", timeout=120)
