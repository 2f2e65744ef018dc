"""Shared helpers for tests of operations.

They make a table, describe a vault's folder, and start other interpreters.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from waiting import PATIENCE

import tablevault
from tablevault import TableVault

CODE = """
import pandas as pd
from pathlib import Path


def rows(count):
    return pd.DataFrame({"key": range(count), "word": [f"word{number}" for number in range(count)]})


def shout(word):
    return word.upper()


def mark(path, **rest):
    Path(path).write_text("called")
    return rest.get("word", "called")
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [key, word]
python_function: rows
code_module: words
is_custom: true
primary_key: [key]
arguments: {count: 4}
"""

SHOUT = """
builder_type: ColumnBuilder
changed_columns: [loud]
python_function: shout
code_module: words
is_custom: true
return_type: row-wise
arguments: {word: "<<self.word[index]>>"}
"""

_LOG_AND_CATALOG = ("metadata/logs.txt", "metadata/logs.lock", "metadata/catalog.db")


def make_table(vault: TableVault, table_name: str = "stories", **options: object) -> None:
    """Make a table with an instance that can be executed."""
    if "words" not in vault.get_code_modules_list():
        vault.create_code_module("words", text=CODE)
    vault.create_table(table_name, **options)
    vault.create_instance(table_name, builders={f"{table_name}_index": INDEX, "loud": SHOUT})


def build(vault: TableVault, index: str, code: str, table_name: str = "made", **builders: str) -> None:
    """Make a table whose instance has these builders.

    All of their functions are in the module `made`.
    """
    vault.create_code_module("made", text=code)
    vault.create_table(table_name)
    vault.create_instance(table_name, builders={f"{table_name}_index": index, **builders})


def index_builder(columns: str, function: str, arguments: str = "{}", more: str = "") -> str:
    """Return the text of an IndexBuilder of the module `made`."""
    return _builder("IndexBuilder", columns, function, arguments, more)


def column_builder(columns: str, function: str, arguments: str = "{}", more: str = "return_type: row-wise") -> str:
    """Return the text of a ColumnBuilder of the module `made`, row-wise unless told otherwise."""
    return _builder("ColumnBuilder", columns, function, arguments, more)


def _builder(kind: str, columns: str, function: str, arguments: str, more: str) -> str:
    return (
        f"builder_type: {kind}\nchanged_columns: [{columns}]\npython_function: {function}\n"
        f"code_module: made\nis_custom: true\narguments: {arguments}\n{more}\n"
    )


def picture(folder: Path) -> dict[str, tuple[str, object]]:
    """Return the content of a vault's folder, byte for byte.

    The log and the catalog's own files are left out.
    """
    found: dict[str, tuple[str, object]] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.startswith(_LOG_AND_CATALOG):
            continue
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("folder", path.stat().st_mode)
        else:
            found[name] = ("file", (path.stat().st_mode, path.read_bytes()))
    return found


def interpreter(text: str, *arguments: str) -> subprocess.Popen[str]:
    """Start another interpreter that runs a program."""
    source = str(Path(tablevault.__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": source},
    )


def output_of(text: str, *arguments: str) -> str:
    """Run a program in another interpreter to its good end; return what it printed."""
    output, errors = (process := interpreter(text, *arguments)).communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return output
