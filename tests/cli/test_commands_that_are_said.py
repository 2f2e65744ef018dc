"""The calls and commands that a paused process's message holds work as they stand."""

from __future__ import annotations

import inspect
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tablevault
from tablevault import TableVault
from tablevault.cli.application import application
from tablevault.operations.base import operation_named
from tablevault.operations.remedies import SOURCE_ARGUMENTS, RecordedCall
from tablevault.values.outcomes import command_of

CODE = """
from pathlib import Path
import pandas as pd
def rows():
    if not (Path({folder!r}) / "fixed").exists():
        raise ConnectionError("no network")
    return pd.DataFrame({{"x": [1, 2]}})
"""
INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
python_function: rows
code_module: job
is_custom: true
"""

RECORDED = {
    "apply": {"source": "FILE", "version": "two", "overwrite": True},
    "create_builder_file": {"table_name": "t", "builder_name": "b", "version": "two", "text": {"sha256": "0"}},
    "create_code_module": {"module_name": "m", "text": {"sha256": "0"}},
    "create_instance": {"table_name": "t", "version": "two", "copy": True, "builders": {"sha256": "0"}},
    "create_table": {"table_name": "-t", "has_side_effects": True, "description": "it's\nmine"},
    "create_tag": {"tag": "paper", "instances": ["t", "u(v2)"], "move": True, "description": "-d"},
    "delete_tag": {"tag": "paper", "table_names": ["t"]},
    "delete_builder_file": {"builder_name": "b", "table_name": "t", "version": "two"},
    "delete_code_module": {"module_name": "m"},
    "delete_instance": {"instance_id": "base_1_0", "table_name": "t"},
    "delete_table": {"table_name": "t"},
    "execute_instance": {"table_name": "t", "version": "two", "force_execute": True, "reuse_partial": True},
    "gc": {
        "instances": [1],
        "paths": [],
        "policy": "keep_last=1",
        "keep_inputs": True,
        "vault_id": "v",
        "logs_before": "",
    },
    "import_instances": {"source": "FILE", "tables": {"t": "u"}},
    "rename_table": {"new_table_name": "u", "table_name": "t"},
    "run": {"source": "FILE", "version": "two"},
    "stop_process": {"to_stop_process_id": "other", "force": True, "timeout": 3.0},
    "write_instance": {"table_df": {"sha256": "0"}, "table_name": "t", "version": "two", "dtypes": {"x": "Int64"}},
}


class Calls:
    """Fake vault that records calls."""

    def __init__(self, db_dir: str) -> None:
        self.db_dir = db_dir

    def __getattr__(self, name: str):
        signature = inspect.signature(getattr(TableVault, name))
        return lambda *args, **kwargs: (name, dict(signature.bind(self, *args, **kwargs).arguments))


@pytest.mark.parametrize("operation", RECORDED)
def test_remedies_that_resume_a_process_are_valid(operation, tmp_path, monkeypatch):
    (tmp_path / "FILE").touch()
    monkeypatch.chdir(tmp_path)
    given = RECORDED[operation]
    arguments = {**operation_named(operation).default_arguments(), **given}
    # The source of definitions is recorded relative to the vault.
    sources = {SOURCE_ARGUMENTS[operation]: str(tmp_path / "FILE")} if operation in SOURCE_ARGUMENTS else {}
    arguments |= dict.fromkeys(sources, "../FILE")
    expected = {**given, **sources}
    resume = RecordedCall(tmp_path / "it's mine", operation, arguments, "nightly").resume

    name, called = eval(resume.python, {"TableVault": Calls, "frame": None})
    assert name == operation
    # A run is found by its source.
    process_id = "" if operation == "run" else "nightly"
    assert called.pop("process_id", "") == process_id
    # A collection is continued with the plan that it recorded.
    for argument in set(called) - {"self", "table_df", "plan"}:
        assert called[argument] == expected[argument]

    program, *words = shlex.split(resume.command)
    context = application.make_context(program, words)
    assert str(context.params["db_dir"]) == str(tmp_path / "it's mine")
    name, command, rest = application.resolve_command(context, context._protected_args + context.args)
    assert name == command_of(operation)
    parsed = command.make_context(name, rest, parent=context).params
    assert parsed["process_id"] == process_id
    for argument in set(parsed) & {argument for argument, value in given.items() if isinstance(value, str | bool)}:
        assert str(parsed[argument]) == str(expected[argument])


def run(words: list[str], folder: Path) -> None:
    environment = {
        **os.environ,
        "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(tablevault.__file__).parents[1]),
    }
    subprocess.run(words, check=True, env=environment, capture_output=True, timeout=120, cwd=folder)


@pytest.mark.slow
def test_the_lines_of_a_paused_process_can_be_pasted(tmp_path):
    (tmp_path / "tablevault").write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m tablevault.cli "$@"\n')
    (tmp_path / "tablevault").chmod(0o755)
    vault = TableVault(tmp_path / 'it\'s "a" $HOME vault', create=True, author="ada")
    vault.create_code_module("job", text=CODE.format(folder=str(tmp_path)))

    def paused(table: str) -> list[str]:
        (tmp_path / "fixed").unlink(missing_ok=True)
        vault.create_table(table)
        vault.create_instance(table, builders={f"{table}_index": INDEX})
        with pytest.raises(ConnectionError) as caught:
            vault.execute_instance(table, process_id=f"of-{table}")
        (tmp_path / "fixed").touch()
        note = caught.value.__notes__[-1].splitlines()
        assert [line.strip() for line in vault.get_process(f"of-{table}").hint.splitlines()] == [
            line.strip() for line in note[1:]
        ]
        return [line.strip() for line in note if line.startswith("    ")]

    resume_call, _, _, _ = paused("one")
    run([sys.executable, "-c", f"from tablevault import TableVault\n{resume_call}"], tmp_path)
    _, resume_command, _, _ = paused("two")
    run(["bash", "-c", resume_command], tmp_path)
    _, _, stop_call, _ = paused("three")
    exec(stop_call, {"TableVault": TableVault})
    _, _, _, stop_command = paused("four")
    run(["bash", "-c", stop_command], tmp_path)
    found = [vault.get_process(f"of-{table}").status for table in ("one", "two", "three", "four")]
    assert found == ["succeeded", "succeeded", "stopped", "stopped"]
