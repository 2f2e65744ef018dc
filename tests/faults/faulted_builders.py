"""The code and the builders of the vaults that faults are injected into."""

from __future__ import annotations

CODE = """
from pathlib import Path

import pandas as pd
from tablevault import TableVault


def names():
    return pd.DataFrame({"name": ["a", "b", "c"]})


def more_names():
    return pd.DataFrame({"name": ["a", "b", "c", "d"]})


def file_of(name, folder):
    path = Path(folder) / f"{name}.txt"
    path.write_text(name * 3)
    return path.name


def stray_file_of(name, folder):
    (Path(folder) / "stray.txt").write_text(name)
    return file_of(name, folder)


def files_of(names, folder):
    for name in names["name"]:
        yield file_of(name, folder)


def frame_of(names, folder):
    return pd.DataFrame({"file": [file_of(name, folder) for name in names["name"]]})


def fail(name):
    raise ConnectionError("no network")


def fail_at_c(name, folder):
    if name == "c":
        raise ConnectionError("no network")
    return file_of(name, folder)


def nested(name, folder, parent):
    vault = TableVault(Path(folder).parents[2], author="child", parent_id=parent)
    if name == "b" and "child" not in vault.get_tables():
        vault.create_table("child")
    return file_of(name, folder)
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [name]
primary_key: [name]
python_function: {function}
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
n_threads: {threads}
arguments: {{name: "<<self.name[index]>>", folder: ~ARTIFACT_FOLDER~{more}}}
"""

WHOLE = """
builder_type: ColumnBuilder
changed_columns: [file]
dtypes: {{file: artifact_string}}
python_function: {function}
code_module: job
is_custom: true
return_type: {kind}
arguments: {{names: "<<self.{{name}}>>", folder: ~ARTIFACT_FOLDER~}}
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


def index(function: str = "names") -> str:
    """Return the text of an IndexBuilder."""
    return INDEX.format(function=function)


def row_wise(function: str = "file_of", threads: int = 1, more: str = "") -> str:
    """Return the text of a builder that is called once for each row."""
    return FILES.format(function=function, threads=threads, more=more)


def whole(function: str, kind: str) -> str:
    """Return the text of a builder that is called once."""
    return WHOLE.format(function=function, kind=kind)
