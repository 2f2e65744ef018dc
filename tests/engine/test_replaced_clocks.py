"""Changes by programs to the interpreter are never reported as damage.

Examples are frozen clocks, seeds, and warnings as errors.
"""

from __future__ import annotations

import datetime
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

import tablevault

real_datetime = datetime.datetime


class _Meta(type):
    def __instancecheck__(cls, value):
        return isinstance(value, real_datetime)


class FrozenDatetime(real_datetime, metaclass=_Meta):
    """A subclass that replaces the library's class, like that of freezegun.

    It replaces the class in modules that imported it, too.
    """

    @classmethod
    def now(cls, tz=None):
        return cls(2020, 1, 1, tzinfo=tz)


@pytest.fixture
def frozen(monkeypatch):
    """Clocks that stand still."""
    fakes = {
        id(real_datetime): FrozenDatetime,
        id(time.time): lambda: 1577836800.0,
        id(time.monotonic): lambda: 100.0,
        id(time.time_ns): lambda: 1577836800 * 10**9,
    }
    monkeypatch.setattr(datetime, "datetime", FrozenDatetime)
    for name in ("time", "monotonic", "time_ns"):
        monkeypatch.setattr(time, name, fakes[id(getattr(time, name))])
    for module_name, module in list(sys.modules.items()):
        if module_name.partition(".")[0] == "tablevault":
            for name, value in list(vars(module).items()):
                if id(value) in fakes:
                    monkeypatch.setattr(module, name, fakes[id(value)])


def test_vault_works_while_clocks_stand_still(job, frozen):
    vault = job.vault
    job.tell("fail", 4)
    with pytest.raises(RuntimeError):
        job.execute("nightly")
    assert vault.get_process("nightly").started_at == real_datetime(2020, 1, 1, tzinfo=datetime.UTC)
    job.tell("fail")
    job.execute("nightly")
    assert job.answers() == job.complete()
    assert vault.get_lineage("stories")
    assert "2020-01-01" in repr(vault.get_history()[0])
    assert vault.verify().ok, vault.verify().problems


def test_rows_are_durable_while_clocks_stand_still(job, frozen):
    vault = job.vault
    vault.create_code_module(
        "jobs",
        text=(
            "import pandas as pd, subprocess, sys\n"
            "def index(count):\n    return pd.DataFrame({'x': range(count)})\n"
            "def answer(x, control):\n"
            "    import glob, sqlite3, time\n"
            "    for _ in range(3000):\n"
            "        if x < 2 or any(glob.glob(control + '/../vault/_temp/*/partial/checkpoints/segment-*.log')):\n"
            "            return str(x)\n"
            "        time.sleep(0.01)\n"
            "    raise TimeoutError('nothing was written')\n"
        ),
    )
    job.execute("nightly")
    assert len(job.answers()) == 10


FIRST = """
import sys, pandas, pyarrow, sqlalchemy, msgspec, datetime
real = datetime.datetime
class Meta(type):
    def __instancecheck__(cls, value):
        return isinstance(value, real)
class Frozen(real, metaclass=Meta):
    pass
datetime.datetime = Frozen
from tablevault import TableVault
vault = TableVault(sys.argv[1], create=True)
datetime.datetime = real
vault.create_table("t")
print(vault.verify().ok, vault.get_history()[0].started_at.year > 2000)
"""


@pytest.mark.slow
def test_vault_imported_while_a_clock_stands_still(tmp_path):
    source = str(Path(tablevault.__file__).parents[1])
    output = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FIRST, str(tmp_path / "vault")],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": source},
    ).stdout
    assert output.split() == ["True", "True"]


def test_numbers_of_a_seeded_program_stay_its_own(vault):
    random.seed(7)
    expected = random.getstate()
    vault.create_table("t")
    vault.get_tables()
    assert random.getstate() == expected


def test_functions_may_change_folder_and_umask(job, monkeypatch, tmp_path):
    vault = job.vault
    vault.create_code_module(
        "jobs",
        text=(
            "import os, pandas as pd\n"
            "def index(count):\n    os.chdir('/')\n    return pd.DataFrame({'x': range(count)})\n"
            "def answer(x, control):\n    os.umask(0o077)\n    return str(x)\n"
        ),
    )
    monkeypatch.chdir(tmp_path)
    before = os.umask(0o022)
    try:
        job.execute()
        assert vault.verify().ok
        assert len(job.answers()) == 10
    finally:
        os.umask(before)
    assert json.dumps(vault.get_tables()) == '["stories"]'
