"""Output and exit status of the command `refresh`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable

import pytest
from click.testing import CliRunner, Result
from lab import Lab, column, copied, words

from tablevault import TableVaultWarning
from tablevault.cli.application import application
from tablevault.cli.policies import given_policies

Run = Callable[..., Result]
PICKY = column("picked", "lab.picky", {"word": "<<self.word[index]>>"})


@pytest.fixture
def run(lab: Lab) -> Run:
    def call(*words: str) -> Result:
        return CliRunner().invoke(application, ["--db-dir", str(lab.folder / "vault"), *words])

    return call


@pytest.fixture
def made(lab: Lab) -> Lab:
    """`a`, with a word that its builder refuses, and `b`, which reads it."""
    lab.table("a", {**words("a", "good", "bad"), **PICKY}, execute=False)
    lab.table("b", copied("b", "a"), execute=False)
    return lab


def test_refresh_prints_its_process_id_alone(lab: Lab, run: Run) -> None:
    lab.table("a", words("a", "x"), execute=False)
    result = run("refresh", "--all", "--process-id", "nightly")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "nightly\n", "")
    assert lab.states() == {"a": "fresh"}
    assert run("refresh", "a").exit_code == 0


def test_error_without_an_id_exits_with_3(made: Lab, run: Run) -> None:
    result = run("refresh", "b")
    assert result.exit_code == 3
    assert "ValueError: bad" in result.stderr
    assert "finished steps stay" in result.stderr


def test_pause_exits_with_4_and_the_printed_command_resumes(made: Lab, run: Run) -> None:
    result = run("refresh", "b", "--keep-going", "--downstream", "--process-id", "nightly")
    assert result.exit_code == 4
    assert "Paused as 'nightly'" in result.stderr
    resume = next(line for line in result.stderr.splitlines() if line.startswith("Resume: "))
    words = shlex.split(resume.removeprefix("Resume: "))
    assert words[3:5] == ["refresh", "b"]
    assert {"--keep-going", "--downstream", "--process-id"} <= set(words)
    made.edit_code(('if word == "bad"', "if False"))
    again = run(*words[3:])
    assert (again.exit_code, again.stdout) == (0, "nightly\n")
    assert [len(made.vault.get_table_instances(name)) for name in ("a", "b")] == [1, 1]


def test_resume_command_of_a_refresh_of_all_tables(made: Lab, run: Run) -> None:
    result = run("refresh", "--all", "--no-upstream", "--process-id", "nightly")
    assert "refresh --process-id nightly --all --no-upstream" in result.stderr
    assert run("stop-process", "nightly").exit_code == 0
    assert json.loads(run("ps").output) == []


def test_failed_rows_exit_with_5_and_are_listed(made: Lab, run: Run) -> None:
    policies = ("--policy", "a.picked.on_error=collect", "--policy", "picked.max_failures=100%")
    with pytest.warns(TableVaultWarning, match=r"1 failed row in 'picked' \(1 ValueError\)") as told:
        result = run("refresh", "--all", *policies, "--process-id", "nightly")
    assert (result.exit_code, result.stdout, len(told)) == (5, "nightly\n", 1)
    assert run("wait-process", "nightly").exit_code == 5
    listed = json.loads(run("get-errors", "--process-id", "nightly", "--json").output)
    assert [(row["table"], row["builder"], row["index"]) for row in listed] == [("a", "picked", 1)]


@pytest.mark.parametrize("arguments", [(), ("a", "--all"), ("a", "--run-index")])
def test_wrong_usage_exits_with_2(made: Lab, run: Run, arguments: tuple[str, ...]) -> None:
    assert run("refresh", *arguments).exit_code == 2


@pytest.mark.slow
def test_background_refresh_prints_its_id_at_once(lab: Lab, run: Run) -> None:
    lab.table("a", words("a", "x"), execute=False)
    result = run("refresh", "--all", "--background", "--process-id", "later")
    assert (result.exit_code, result.stdout) == (0, "later\n")
    assert run("wait-process", "later").exit_code == 0


def test_field_of_a_policy_is_the_longest_suffix_that_names_one() -> None:
    given = ("a.answer.retry.wait=2", "a.answer.retry.max_retries=3", "answer.retry=1", "retry.max_failures=5")
    assert given_policies(given) == {
        "a.answer": {"retry": {"wait": 2, "max_retries": 3}},
        "answer": {"retry": 1},
        "retry": {"max_failures": 5},
    }
