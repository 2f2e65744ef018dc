"""Progress where standard error is a pipe or a log file."""

import subprocess
import sys
import time

import pytest
from waiting import until

from tablevault import TableVault
from tablevault.display import log

INDEX = """
builder_type: IndexBuilder
changed_columns: [k]
python_function: rows
code_module: job
is_custom: true
"""
COLUMN = """
builder_type: ColumnBuilder
changed_columns: [out]
python_function: wait
code_module: job
is_custom: true
return_type: row-wise
on_error: collect
arguments: {k: '<<self.k[index]>>'}
"""
CODE = """
import time
import pandas as pd

def rows():
    return pd.DataFrame({"k": range(40)})

def wait(k):
    time.sleep(0.1)
    if k == 3:
        raise ValueError(k)
    return k
"""
RUN = """
import sys
from tablevault import TableVault
from tablevault.display import log
log.SECONDS_BETWEEN_LINES = 0.2
TableVault(sys.argv[1]).execute_instance("t")
"""


@pytest.mark.slow
def test_log_gets_a_line_now_and_then(tmp_path):
    vault = TableVault(tmp_path / "vault", author="tester", create=True)
    vault.create_code_module("job", text=CODE)
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": INDEX, "out": COLUMN})
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", RUN, str(tmp_path / "vault")], capture_output=True, text=True, check=True
    )
    lines = done.stderr.splitlines()
    assert lines
    assert all(line.startswith("tablevault: out, ") for line in lines)
    assert any("1 failed (1 ValueError)" in line for line in lines)
    assert done.stdout == ""


def test_lines_of_a_log_are_thirty_seconds_apart():
    assert log.SECONDS_BETWEEN_LINES == 30


def test_log_view_ends_with_its_work(monkeypatch, capsys):
    monkeypatch.setattr(log, "SECONDS_BETWEEN_LINES", 0.01)
    view = log.LogView(lambda: [("first", "done"), ("second", "1 of 2 rows", "", "left")])
    view.start()
    shown: list[str] = []
    until(lambda: shown.append(capsys.readouterr().err) or shown[-1])
    view.stop()
    capsys.readouterr()
    time.sleep(0.05)
    assert shown[-1].splitlines()[0] == "tablevault: second, 1 of 2 rows, left"
    assert capsys.readouterr().err == ""
