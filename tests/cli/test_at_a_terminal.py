"""The command line at a terminal, with Ctrl-C."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from terminals import CTRL_C, Terminal

from tablevault import TableVault
from tablevault.cli.application import application

COMMAND = [sys.executable, "-m", "tablevault.cli"]
HERE = Path(__file__).parent

CODE = """
import time
from pathlib import Path
import pandas as pd
def rows():
    return pd.DataFrame({{"x": range(1000)}})
def slow(x):
    (Path({folder!r}) / "begun").touch()
    time.sleep(0.05)
    return x
"""
INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: rows
code_module: job
is_custom: true
"""
SLOW = """
builder_type: ColumnBuilder
changed_columns: [y]
python_function: slow
code_module: job
is_custom: true
return_type: row-wise
arguments: {x: "<<self.x[index]>>"}
"""


@pytest.mark.slow
def test_watch_follows_a_process_live_and_is_left_without_touching_it(tmp_path):
    vault = TableVault(tmp_path / "vault", create=True, author="ada")
    vault.create_code_module("job", text=CODE.format(folder=str(tmp_path)))
    vault.create_table("stories")
    vault.create_instance("stories", builders={"stories_index": INDEX, "slow_column": SLOW})
    process_id = vault.execute_instance("stories", background=True)
    with Terminal([*COMMAND, "--db-dir", vault.db_dir, "watch", process_id]) as terminal:
        terminal.until(lambda: "left" in terminal.shown)
        terminal.press(CTRL_C)
        shown = terminal.rest()
    assert terminal.status == 130
    for text in ("execute_instance on stories", "running", "slow_column", " of 1,000 rows", "/s", "continues"):
        assert text in shown
    assert vault.get_process(process_id).status == "running"
    assert f"stop_process(&#x27;{process_id}&#x27;, force=True)" in vault._repr_html_()
    listed = CliRunner().invoke(application, ["--db-dir", vault.db_dir, "ps"]).output
    assert list(json.loads(listed)[0]) == ["id", "operation", "table", "state", "rows", "age", "error"]
    vault.stop_process(process_id, force=True)


@pytest.mark.slow
def test_the_whole_tutorial_in_a_shell_with_ctrl_c(tmp_path):
    calls = tmp_path / "calls.log"

    def count() -> int:
        return len(calls.read_text().splitlines()) if calls.exists() else 0

    environment = {"TABLEVAULT": shlex.join(COMMAND), "PYTHONWARNINGS": ""}
    with Terminal(["bash", str(HERE / "tutorial.sh"), str(tmp_path)], environment) as terminal:
        for time in (1, 2):
            terminal.until(lambda time=time: f"Press Ctrl-C ({time})" in terminal.shown)
            before = count()
            terminal.until(lambda before=before: count() >= before + 5)
            terminal.press(CTRL_C)
        shown = terminal.rest()
    assert "The tutorial is done." in shown, shown
    assert terminal.status == 0
