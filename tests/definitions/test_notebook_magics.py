"""Magics that apply a notebook cell as a file, or run it as SQL."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

import pandas as pd
import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from tablevault import TableVault, tv_errors

CELL = """\
from tablevault.define import Table

words = Table("words")


@words.index("word", primary_key=["word"])
def read_words():
    return ["fig", "kiwi"]


@words.column()
def loud(word):
    return word.upper()
"""


@pytest.fixture
def shell(vault, tmp_path, monkeypatch):
    """A notebook whose variable `vault` holds the vault."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    shell = InteractiveShell(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_line_magic("load_ext", "tablevault")
    shell.push({"vault": vault})
    return shell


def test_cell_is_applied_as_a_file_of_that_name(shell, vault):
    plan = shell.run_cell_magic("vault_module", "answers", CELL)
    assert {item.state for item in plan.files} == {"new"}
    assert plan.tables == ("words",)
    assert vault.get_builder_str("words", "loud").startswith("# from answers.py, applied ")
    assert "def loud(word):" in vault.get_code_module_str("answers")
    assert "loud" not in shell.user_ns
    vault.execute_instance("words")
    assert vault.get_dataframe("words")[0]["loud"].tolist() == ["FIG", "KIWI"]
    assert {item.state for item in shell.run_cell_magic("vault_module", "answers", CELL).files} == {"same"}
    changed = shell.run_cell_magic("vault_module", "answers", CELL.replace("upper", "title"))
    assert [(item.path, item.state) for item in changed.files if item.state != "same"] == [
        ("code_functions/answers.py", "changed")
    ]


def test_cell_without_definitions_becomes_a_module(shell, vault):
    shell.run_cell_magic("vault_module", "helpers", "def shout(word):\n    return word.upper()\n")
    assert vault.get_code_modules_list() == ["helpers"]
    assert vault.get_tables() == []


def test_options_are_those_of_apply(shell, vault):
    shell.run_cell_magic("vault_module", "answers --version two", CELL)
    assert vault.get_builders_list("words", version="two") == ["loud", "words_index"]
    vault.create_code_module("answers", text="x = 1\n")
    with pytest.raises(tv_errors.TVArgumentError, match="edited since"):
        shell.run_cell_magic("vault_module", "answers", CELL)
    shell.run_cell_magic("vault_module", "answers --overwrite --version two", CELL)
    assert "def loud" in vault.get_code_module_str("answers")


def test_errors_of_a_cell_name_its_line(shell, vault):
    with pytest.raises(tv_errors.TVBuilderError, match="answers.py, line 11, retries: there is no field 'retries'"):
        shell.run_cell_magic("vault_module", "answers", CELL.replace("@words.column()", "@words.column(retries=1)"))
    with pytest.raises(SyntaxError):
        shell.run_cell_magic("vault_module", "answers", "x = = 1")
    with pytest.raises(ZeroDivisionError):
        shell.run_cell_magic("vault_module", "answers", "x = 1 / 0")
    with pytest.raises(tv_errors.TVArgumentError, match="Forbidden Code Module Name: a b"):
        shell.run_cell_magic("vault_module", "'a b'", "x = 1")
    for line in ("", "a b", "a --versions b", "'a"):
        with pytest.raises(tv_errors.TVArgumentError, match="write %%vault_module NAME"):
            shell.run_cell_magic("vault_module", line, "x = 1")
    assert vault.get_history() == []


def test_vault_is_the_only_one_or_the_one_that_is_named(shell, vault, tmp_path):
    shell.push({"again": vault, "_1": TableVault(tmp_path / "kept", create=True)})
    shell.run_cell_magic("vault_module", "one", "x = 1\n")
    other = TableVault(tmp_path / "other", create=True)
    shell.push({"other": other})
    with pytest.raises(tv_errors.TVArgumentError, match="again, other, vault. Name one with %vault NAME"):
        shell.run_cell_magic("vault_module", "two", "x = 1\n")
    with pytest.raises(tv_errors.TVArgumentError, match="No variable 'othr' holds a vault; did you mean 'other'"):
        shell.run_line_magic("vault", "othr")
    shell.run_line_magic("vault", "other")
    shell.run_cell_magic("vault_module", "two", "x = 1\n")
    assert (vault.get_code_modules_list(), other.get_code_modules_list()) == (["one"], ["two"])
    shell.user_ns.pop("other")
    with pytest.raises(tv_errors.TVArgumentError, match="No variable 'other' holds a vault"):
        shell.run_cell_magic("vault_module", "two", "x = 1\n")


def test_notebook_without_a_vault_is_told_to_open_one(shell):
    shell.user_ns.pop("vault")
    with pytest.raises(tv_errors.TVArgumentError, match=r"open one with vault = TableVault\(…\)"):
        shell.run_cell_magic("vault_module", "one", "x = 1\n")


@pytest.mark.slow
def test_magics_need_no_ipython_to_be_imported():
    program = "import sys, tablevault.magics; print('IPython' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_a_statement_is_displayed_or_assigned(shell, vault):
    vault.write("words", pd.DataFrame({"word": ["fig", "kiwi"]}))
    shown = shell.run_cell_magic("vault_sql", "", "SELECT count(*) AS n FROM words")
    assert shown["n"].tolist() == [2]
    before = datetime.now(UTC).isoformat()
    vault.write("words", pd.DataFrame({"word": ["pear"]}))
    assert shell.run_cell_magic("vault_sql", "found", "SELECT word FROM words") is None
    assert shell.user_ns["found"]["word"].tolist() == ["pear"]
    earlier = shell.run_cell_magic("vault_sql", f"--as-of '{before}'", "SELECT word FROM words ORDER BY word")
    assert earlier["word"].tolist() == ["fig", "kiwi"]


@pytest.mark.parametrize("line", ["class", "two names", "9lives", "--as of"])
def test_a_wrong_line_of_a_statement_is_refused(shell, line):
    with pytest.raises(tv_errors.TVArgumentError, match=r"write %%vault_sql \[NAME\]"):
        shell.run_cell_magic("vault_sql", line, "SELECT 1")
