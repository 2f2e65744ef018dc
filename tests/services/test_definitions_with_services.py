"""Services and budgets of definitions files, refreshes and runs."""

from __future__ import annotations

import pytest

from tablevault import TableVaultWarning, TVBuilderError, tv_errors

SOURCE = """
import os
from tablevault.define import Service, Table

llm = Service("openai", calls_per_minute=10_000, max_concurrency=50)

first = Table("first")
second = Table("second")
third = Table("third")


def note(table):
    with open(os.environ["CALLED"], "a") as file:
        file.write(f"{table}\\n")


@first.index("x")
def numbers():
    note("first")
    return list(range(40))


@first.column("answer", service=llm, budget={"calls": 1000})
def ask(x):
    note("first")
    return x


@second.index("x", rows_of="first")
@second.column("again", service=[llm], arguments={"x": "<<self.x[index]>>"})
def ask_again(x):
    note("second")
    return x


@third.index("x", rows_of="second")
@third.column("last", service="openai")
def ask_last(x):
    note("third")
    return x
"""

PLAIN = SOURCE.replace('@second.index("x", rows_of="first")\n', "").replace('@third.index("x", rows_of="second")\n', "")
PLAIN = PLAIN.replace(
    'third = Table("third")\n',
    'third = Table("third")\nsecond.index("x", rows_of="first")\nthird.index("x", rows_of="second")\n',
)


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("CALLED", str(tmp_path / "called"))
    path = tmp_path / "questions.py"
    path.write_text(PLAIN)
    return path


def called(source):
    path = source.with_name("called")
    return len(path.read_text().split()) if path.exists() else 0


def test_service_of_a_source_is_set_if_missing_in_the_vault(vault, source):
    assert vault.plan_apply(source).services == {"openai": "new"}
    vault.apply(source)
    assert vault.get_services() == {"openai": {"calls_per_minute": 10_000, "max_concurrency": 50}}
    assert "service: openai\n" in vault.get_builder_str("first", "answer")
    assert "service: [openai]\n" in vault.get_builder_str("second", "again")
    assert "budget: {calls: 1000}\n" in vault.get_builder_str("first", "answer")
    assert vault.plan_apply(source).services == {"openai": "same"}
    vault.set_service("openai", {"calls_per_minute": 5})
    plan = vault.plan_apply(source)
    assert plan.services == {"openai": "other limits"}
    assert "keeps its own limits" in repr(plan)
    with pytest.warns(TableVaultWarning, match="keeps its limits, {'calls_per_minute': 5}, although .*10000"):
        vault.apply(source)
    assert vault.get_services() == {"openai": {"calls_per_minute": 5}}
    vault.set_service("openai", None)
    vault.apply(source)
    assert vault.get_services() == {"openai": {"calls_per_minute": 10_000, "max_concurrency": 50}}


def test_an_unknown_service_of_a_source_is_refused_when_it_runs(vault, source):
    source.write_text(PLAIN.replace('service="openai"', 'service="opanai"'))
    with pytest.raises(TVBuilderError, match="no service 'opanai'; did you mean 'openai'"):
        vault.run(source, process_id="night")
    vault.stop_process("night") if "night" in vault.get_active_processes() else None


@pytest.mark.slow
def test_a_budget_of_a_run_is_for_all_tables_and_exact(vault, source, capsys):
    with pytest.raises(tv_errors.BudgetSpent, match="process 'night' allows no further call: 100 of 100 calls"):
        vault.run(source, process_id="night", budget={"calls": 100})
    assert "new service openai" in capsys.readouterr().err
    info = vault.get_process("night")
    assert info.status == "paused"
    assert info.usage == {"calls": 100}
    with pytest.raises(tv_errors.BudgetSpent):
        vault.run(source, process_id="night")
    assert vault.get_process("night").usage == {"calls": 100}
    vault.run(source, process_id="night", budget={"calls": 200})
    assert len(vault.get_dataframe("third")[0]) == 40
    # Beside these, the copying IndexBuilders of two tables were called.
    assert called(source) == vault.get_process("night").usage["calls"] - 2 == 121
    frame = vault.get_usage(process_id="night")
    assert frame.columns[0] == "table"
    assert frame.calls.sum() == 123


def test_a_budget_of_a_refresh_is_for_all_tables(vault, source):
    vault.apply(source)
    with pytest.raises(tv_errors.BudgetSpent):
        vault.refresh(process_id="night", budget={"calls": 50})
    assert vault.get_process("night").usage == {"calls": 50}
    vault.refresh(process_id="night", budget={"calls": 123})
    assert called(source) == 121
    source.write_text(PLAIN.replace("return x", "return -x"))
    vault.apply(source)
    plan = {step.table_name: step.usage for step in vault.plan_refresh(run_index=True).steps}
    assert plan["first"] == {"calls": 40}
