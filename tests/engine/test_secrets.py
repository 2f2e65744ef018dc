"""Values of the environment and of untracked arguments are told nowhere, however an error quotes them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
from waiting import PATIENCE

import tablevault
from tablevault import TableVault, tv_errors

SECRET, KEY, TOKEN = "sk-ENV'\"\\-e9f1c2", "sk-untracked-77aa", "token-of-row-"

CODE = """
import pandas as pd


def rows():
    return pd.DataFrame({"x": [1, 2, 3], "token": [f"token-of-row-{x}" for x in (1, 2, 3)]})


class KeyError_(Exception):
    pass


def f(x, **given):
    if x == 2 or x is None:
        HOW
    return str(x)


def whole(**given):
    return pd.DataFrame({"out": [f(None, **given)] * 3})


def some(**given):
    for x in (1, 2, 3):
        yield f(x, **given)
"""
INDEX = (
    "builder_type: IndexBuilder\nchanged_columns: [x, token]\npython_function: rows\ncode_module: m\nis_custom: true\n"
)
ROW = "x: '<<self.x[index]>>', token: '<<self.token[index]>>', "
WHOLE = "token: '<<self.token>>', "
OUT = (
    "builder_type: ColumnBuilder\nchanged_columns: [out]\npython_function: {function}\ncode_module: m\nis_custom: true\n"
    "return_type: {kind}\nuntracked: [key, token, settings]\n"
    "arguments: {{{more}auth: 'Bearer ~ENV:TV_TEST_SECRET~', key: sk-untracked-77aa, settings: {{deep: [sk-deep-0001]}}}}\n"
)
SHAPES = {"row-wise": ("f", ROW), "dataframe": ("whole", WHOLE), "generator": ("some", WHOLE)}
QUOTING = {
    "message": "raise ValueError(f'refused: {given}')",
    "plain": "raise ValueError(' '.join(map(str, [given['auth'], given['key'], given['token'], *given['settings']['deep']])))",
    "cause": "raise RuntimeError('outer') from ValueError(repr(given))",
    "note": "error = ValueError('noted'); error.add_note(repr(given)); raise error",
    "class": "raise type(given['key'] + str(given['token']), (Exception,), {})(given['auth'])",
    "exit": "raise SystemExit(repr(given))",
    "group": "raise ExceptionGroup('several', [ValueError(repr(given))])",
    "url": "import urllib.parse; raise OSError('https://x/?' + urllib.parse.urlencode({k: str(v) for k, v in given.items()}))",
    "result": "return {'a': [given, object()]} if False else object.__new__(type(repr(given), (), {}))",
}


@pytest.fixture
def vault(tmp_path, monkeypatch):
    monkeypatch.setenv("TV_TEST_SECRET", SECRET)
    return TableVault(tmp_path / "vault", author="ada", create=True)


def prepare(vault, how, kind):
    function, more = SHAPES[kind]
    vault.create_code_module("m", text=CODE.replace("HOW", how))
    vault.create_table("t")
    vault.create_instance("t", builders={"t_index": INDEX})
    write(vault, OUT.format(function=function, kind=kind, more=more))


def write(vault, text):
    """Write the builder into the folder.

    Texts that the API is given are recorded, like all arguments.
    """
    Path(vault.db_dir, "t", "TEMP_base", "builders", "out.yaml").write_text(text)


def told(text):
    """Return a text in which no secret stands."""
    for secret in (SECRET, KEY, "sk-deep-0001", TOKEN + "2"):
        for form in (secret, repr(secret)[1:-1], json.dumps(secret)[1:-1], urllib.parse.quote(secret)):
            place = text.find(form)
            assert place < 0, ascii(text[max(0, place - 200) : place + 100])
    return text


def everything(vault, process_id):
    """Yield every text that shows a process's error.

    The caller's own exception is left out.
    """
    info = vault.get_process(process_id)
    yield from (info.error.type, info.error.message, info.error.traceback, info.error_line)
    yield from (repr(info), info._repr_html_(), repr(vault), vault._repr_html_())
    yield Path(vault.db_dir, "metadata", "logs.txt").read_text()
    yield Path(vault.db_dir, "metadata", "catalog.db").read_bytes().decode("latin-1")
    wal = Path(vault.db_dir, "metadata", "catalog.db-wal")
    yield wal.read_bytes().decode("latin-1") if wal.exists() else ""
    if info.status == "paused":
        with pytest.raises(tv_errors.TVLockError) as locked:
            vault.delete_table("t")
        yield str(locked.value)
    with pytest.raises(BaseException) as waited:
        vault.wait_process(process_id)
    yield str(waited.value)
    yield from waited.value.__notes__


@pytest.mark.parametrize(
    ("kind", "how"),
    [
        pytest.param(
            kind, how, marks=() if "message" in how or (kind, how) == ("row-wise", "cause") else pytest.mark.slow
        )
        for kind in SHAPES
        for how in QUOTING
    ],
)
def test_error_that_quotes_secrets_is_recorded_without_them(vault, kind, how):
    prepare(vault, QUOTING[how], kind)
    with pytest.raises(BaseException) as caught:
        vault.execute_instance("t", process_id="night")
    own = [
        str(caught.value),
        type(caught.value).__name__,
        *getattr(caught.value, "__notes__", ()),
        repr(caught.value.__cause__),
    ]
    if how not in ("result", "group"):
        assert any(KEY in text for text in own), "the caller's exception is as it was"
    for text in everything(vault, "night"):
        told(text)
    if how in ("message", "plain"):
        message = vault.get_process("night").error.message
        assert "[~ENV:TV_TEST_SECRET~]" in message
        assert "[untracked: key]" in message
        assert "[untracked: settings]" in message


def test_error_without_a_process_id_is_recorded_without_secrets(vault):
    prepare(vault, QUOTING["message"], "row-wise")
    with pytest.raises(ValueError, match="refused"):
        vault.execute_instance("t")
    for text in everything(vault, vault.get_history(operation="execute_instance")[0].process_id):
        told(text)


def test_rows_in_threads_are_recorded_without_secrets(vault):
    prepare(vault, QUOTING["message"], "row-wise")
    write(vault, OUT.format(function="f", kind="row-wise", more=ROW) + "n_threads: 3\n")
    with pytest.raises(ValueError, match="refused"):
        vault.execute_instance("t", process_id="night")
    for text in everything(vault, "night"):
        told(text)


def test_background_worker_tells_no_secrets(vault):
    prepare(vault, QUOTING["message"], "row-wise")
    vault.execute_instance("t", process_id="night", background=True)
    with pytest.raises(ValueError, match="refused"):
        vault.wait_process("night", timeout=PATIENCE)
    for text in everything(vault, "night"):
        told(text)
    told(Path(vault.db_dir, "metadata", "worker_logs", "night.log").read_text())


def test_restart_warns_without_secrets(vault):
    prepare(vault, QUOTING["message"], "row-wise")
    with pytest.raises(ValueError, match="refused"):
        vault.execute_instance("t", process_id="night")
    with pytest.warns(tv_errors.TableVaultWarning, match="failed") as warned:
        TableVault(vault.db_dir, restart=True)
    for warning in warned:
        told(str(warning.message))


@pytest.mark.slow
@pytest.mark.parametrize("process_id", ["", "night"])
def test_command_line_tells_no_secrets(vault, process_id):
    prepare(vault, QUOTING["message"], "row-wise")
    own = ["--process-id", process_id] if process_id else []
    for words, status in (
        (["execute-instance", "t", *own], 4 if process_id else 3),
        (["ps"], 0),
        (["log"], 0),
        (["get-history"], 0),
    ):
        ended = subprocess.run(
            [sys.executable, "-m", "tablevault.cli", "--db-dir", vault.db_dir, *words],
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(Path(tablevault.__file__).parents[1])},
        )
        assert ended.returncode == status, ended.stderr
        told(ended.stdout + ended.stderr)


def test_short_settings_are_not_treated_as_secrets(vault):
    prepare(vault, "raise ValueError('row 30 of 2')", "row-wise")
    text = OUT.format(function="f", kind="row-wise", more=ROW).replace(
        "settings: {deep: [sk-deep-0001]}", "settings: 30"
    )
    write(vault, text)
    with pytest.raises(ValueError, match="row 30"):
        vault.execute_instance("t", process_id="night")
    assert vault.get_process("night").error.message == "row 30 of 2"
