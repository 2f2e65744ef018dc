"""Setting, changing and removing services, and the field that names them."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from tablevault import TableVault, TVArgumentError, TVBuilderError
from tablevault.cli.application import application


def test_a_service_is_set_changed_and_removed(vault):
    limits = {"calls_per_minute": 500, "tokens_per_day": 2.5, "max_concurrency": 50}
    process_id = vault.set_service("openai", limits)
    assert vault.get_process(process_id).operation == "set_service"
    assert TableVault(vault.db_dir).get_services() == {"openai": limits}
    vault.set_service("openai", {})
    vault.set_service("search", {"calls_per_second": 1})
    assert vault.get_services() == {"openai": {}, "search": {"calls_per_second": 1}}
    vault.set_service("openai", None)
    assert vault.get_services() == {"search": {"calls_per_second": 1}}


@pytest.mark.parametrize(
    ("name", "limits", "told"),
    [
        ("a", {"calls_per_minut": 1}, "did you mean 'calls_per_minute'"),
        ("a", {"calls": 1}, "a limit is AMOUNT_per_second"),
        ("a", {"seconds_per_minute": 1}, "'seconds' is not an amount"),
        ("a", {"calls_per_minute": 0.5}, "must be a non-negative integer, not 0.5"),
        ("a", {"calls_per_minute": True}, "not bool"),
        ("a", {"tokens_per_minute": -1}, "must be a non-negative number, not -1"),
        ("a", {"tokens_per_minute": float("nan")}, "not nan"),
        ("a", {"max_concurrency": "5"}, "not str"),
        ("a b", {}, "Forbidden Service Name"),
        ("a", None, "There is no service 'a' to remove"),
    ],
)
def test_a_wrong_service_is_refused(vault, name, limits, told):
    with pytest.raises(TVArgumentError, match=told):
        vault.set_service(name, limits)
    assert vault.get_services() == {}


def test_services_on_the_command_line(vault):
    def call(*words):
        result = CliRunner().invoke(application, ["--db-dir", vault.db_dir, *words])
        return result.exit_code, result.output

    status, _ = call("set-service", "openai", "--limit", "calls_per_minute=500", "--limit", "cost_per_day=2.5")
    assert status == 0
    assert json.loads(call("get-services", "--json")[1]) == {"openai": {"calls_per_minute": 500, "cost_per_day": 2.5}}
    assert call("set-service", "openai")[0] == 2
    assert call("set-service", "openai", "--limit", "calls_per_minute=many")[0] == 2
    assert call("set-service", "openai", "--remove")[0] == 0
    assert vault.get_services() == {}


def test_an_unknown_service_is_refused_before_any_function_runs(vault, make):
    table = make("def answer(x): raise AssertionError", service="opanai")
    vault.set_service("openai", {})
    with pytest.raises(TVBuilderError, match=r"answer.yaml, line \d+.*no service 'opanai'; did you mean 'openai'"):
        table.run()
    with pytest.raises(TVBuilderError, match="no service 'opanai'"):
        vault.plan_instance("answers")
    with pytest.raises(TVBuilderError, match="no service 'other'"):
        table.run(policies={"answer": {"service": ["openai", "other"]}})


def test_a_service_has_no_meaning_for_a_generator(vault, make):
    vault.set_service("openai", {})
    table = make("def answer(x): yield 1", service="openai", return_type="generator", arguments={"x": 1})
    with pytest.raises(TVBuilderError, match="service does not apply to generators"):
        table.run()
