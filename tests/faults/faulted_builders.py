"""The code and the builders of the vaults that faults are injected into."""

from __future__ import annotations

CODE = """
import asyncio
from pathlib import Path

import numpy as np
import pandas as pd
from tablevault import TableVault
from tablevault.errors import RetryLater


def names():
    return pd.DataFrame({"name": ["a", "b", "c"]})


def more_names():
    return pd.DataFrame({"name": ["a", "b", "c", "d"]})


def file_of(name, folder):
    path = Path(folder) / f"{name}.txt"
    path.write_text(name * 3)
    return path.name


def many_names():
    return pd.DataFrame({"name": [str(n) for n in range(1_000)]})


def arrays_of(name):
    return np.full(300, ord(name), "float32"), np.arange(ord(name) % 4), name.encode() * 100


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


def refuse_c(name, folder):
    if name == "c":
        raise ValueError("no answer")
    return file_of(name, folder)


def files_or_errors(name, folder):
    return [ValueError("no answer") if each == "c" else file_of(each, folder) for each in name]


async def refuse_c_async(name, folder):
    await asyncio.sleep(0)
    return refuse_c(name, folder)


class FileMaker:
    def __init__(self, folder):
        self.folder = folder

    def __call__(self, name, attempt):
        if name == "b" and attempt == 1:
            raise RetryLater
        return refuse_c(name, self.folder)


class JobMaker:
    def __init__(self, folder):
        self.folder = folder

    def submit(self, token, name):
        return ",".join(name)

    def poll(self, job):
        return files_or_errors(job.split(","), self.folder)

    def find(self, token):
        return None

    def cancel(self, job):
        pass


def parts_of(x):
    if x == 3:
        raise ValueError("no answer")
    return [x * 10, x * 10 + 1]


def doubled(part):
    return [2 * each for each in part]


def copied(file):
    return Path(file).read_text()


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

ARRAYS = """
builder_type: ColumnBuilder
changed_columns: [vector, list, bytes]
dtypes: {vector: "vector<float32, 300>", list: list<int16>}
python_function: arrays_of
code_module: job
is_custom: true
return_type: row-wise
arguments: {name: "<<self.name[index]>>"}
"""

COLLECTING = """
builder_type: ColumnBuilder
changed_columns: [file]
dtypes: {{file: artifact_string}}
python_function: {function}
code_module: job
is_custom: true
return_type: {kind}
arguments: {{name: "<<self.name[index]>>", {arguments}}}
on_error: collect
max_failures: 2
stop_on: [OSError]
{more}
"""

DEPENDING = """
builder_type: ColumnBuilder
changed_columns: [copied]
python_function: copied
code_module: job
is_custom: true
return_type: row-wise
arguments: {file: "<<self.file[index]>>"}
"""

PARTS = """
builder_type: IndexBuilder
changed_columns: [part]
primary_key: [part]
python_function: parts_of
code_module: job
is_custom: true
return_type: row-wise
for_each: given
arguments: {x: "<<given.x[index]>>"}
on_error: collect
max_failures: 2
stop_on: [OSError]
"""

DOUBLED = """
builder_type: ColumnBuilder
changed_columns: [doubled]
python_function: doubled
code_module: job
is_custom: true
return_type: batch
arguments: {part: "<<self.part[index]>>"}
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


def collecting(
    function: str = "refuse_c", kind: str = "row-wise", arguments: str = "folder: ~ARTIFACT_FOLDER~", more: str = ""
) -> str:
    """Return the text of a builder that records the error of a row, and goes on."""
    return COLLECTING.format(function=function, kind=kind, arguments=arguments, more=more)


def whole(function: str, kind: str) -> str:
    """Return the text of a builder that is called once."""
    return WHOLE.format(function=function, kind=kind)
