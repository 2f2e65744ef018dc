"""The operations that faults are injected into: what is prepared for each, and the call itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from tablevault import TableVault

CODE = """
from pathlib import Path

import pandas as pd


def names():
    return pd.DataFrame({"name": ["a", "b", "c"]})


def file_of(name, folder):
    path = Path(folder) / f"{name}.txt"
    path.write_text(name * 3)
    return path.name


def fail(name):
    raise ConnectionError("no network")
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [name]
primary_key: [name]
python_function: names
code_module: job
is_custom: true
"""

FILES = """
builder_type: ColumnBuilder
changed_columns: [file]
dtypes: {{file: artifact_string}}
python_function: {function}
code_module: job
is_custom: true
return_type: row-wise
arguments: {{name: "<<self.name[index]>>", folder: ~ARTIFACT_FOLDER~}}
"""

FAILING = """
builder_type: ColumnBuilder
changed_columns: [file]
python_function: fail
code_module: job
is_custom: true
return_type: row-wise
arguments: {name: "<<self.name[index]>>"}
"""


@dataclass(frozen=True)
class Operation:
    """One call that changes a vault."""

    call: Callable[[TableVault, str], object]
    """Takes the vault and the process id (or nothing)."""
    prepare: Callable[[TableVault], object] = lambda vault: None
    """What comes before, undisturbed, beside what `base` makes."""


def base(folder: Path) -> TableVault:
    """Make a vault with a module, a table with an instance and one that is executed."""
    vault = TableVault(folder, create=True, author="a")
    vault.create_code_module("job", text=CODE)
    vault.create_table("given")
    vault.create_instance("given", external_edit=True)
    vault.write_instance(pd.DataFrame({"x": [1, 2, 3]}), "given")
    vault.create_table("made")
    vault.create_instance("made", builders={"made_index": INDEX, "made_file": FILES.format(function="file_of")})
    return vault


def _executed(vault: TableVault) -> None:
    vault.execute_instance("made")


def _paused(vault: TableVault) -> None:
    vault.create_builder_file("made", "made_file", text=FAILING)
    with contextlib.suppress(ConnectionError):
        vault.execute_instance("made", process_id="paused")


def _external(vault: TableVault) -> None:
    vault.create_instance("given", external_edit=True)


def _only(vault: TableVault, table: str) -> str:
    return vault.get_table_instances(table)[0]


OPERATIONS = {
    "create_table": Operation(lambda vault, process: vault.create_table("new", process_id=process)),
    "rename_table": Operation(lambda vault, process: vault.rename_table("renamed", "made", process), _executed),
    "delete_table": Operation(lambda vault, process: vault.delete_table("made", process), _executed),
    "create_instance": Operation(
        lambda vault, process: vault.create_instance("made", copy=True, process_id=process), _executed
    ),
    "delete_instance": Operation(
        lambda vault, process: vault.delete_instance(_only(vault, "made"), "made", process), _executed
    ),
    "write_instance": Operation(
        lambda vault, process: vault.write_instance(pd.DataFrame({"x": [4, 5]}), "given", process_id=process),
        _external,
    ),
    "execute_instance": Operation(lambda vault, process: vault.execute_instance("made", process_id=process)),
    "create_code_module": Operation(
        lambda vault, process: vault.create_code_module("job", text="x = 1\n", process_id=process)
    ),
    "delete_code_module": Operation(lambda vault, process: vault.delete_code_module("job", process)),
    "create_builder_file": Operation(
        lambda vault, process: vault.create_builder_file("made", "made_file", text=FAILING, process_id=process)
    ),
    "delete_builder_file": Operation(
        lambda vault, process: vault.delete_builder_file("made_file", "made", process_id=process)
    ),
    "stop_process": Operation(lambda vault, process: vault.stop_process("paused", own_process_id=process), _paused),
    "stop_and_materialize": Operation(
        lambda vault, process: vault.stop_process("paused", materialize=True, own_process_id=process), _paused
    ),
}
