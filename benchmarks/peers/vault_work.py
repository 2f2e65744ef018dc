"""The work in a vault, by the calls that TableVault 0.1.1 has too."""

from __future__ import annotations

import itertools
import sys
import time
from pathlib import Path
from types import ModuleType

import workload

try:
    from tablevault import TableVault
except ImportError:  # Where version 0.1.1 has it.
    from tablevault.core import TableVault

CALLS = ModuleType("benchmark_calls")
sys.modules["benchmark_calls"] = CALLS

CODE = f"""
import os
import sys
import time

import pandas as pd

sys.path.append({str(Path(__file__).parent)!r})
import workload


def numbers(count):
    return pd.DataFrame({{"x": range(count)}})


def pairs(count):
    return pd.DataFrame({{"key": range(count), "z": [f"{{x}}-there" for x in range(count)]}})


def stream(count):
    for x in range(count):
        yield mark(x)


def mark(x):
    from benchmark_calls import called

    called()
    return workload.mark(x)


def slow_mark(x, log):
    return workload.logged_mark(x, log)


def rest(x):
    time.sleep(0.02)
    return str(x)
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
primary_key: [x]
python_function: numbers
code_module: job
is_custom: true
return_type: dataframe
arguments: {{count: {count}}}
dtypes: {{x: Int64}}
"""

OTHER = """
builder_type: IndexBuilder
changed_columns: [key, z]
primary_key: [key]
python_function: pairs
code_module: job
is_custom: true
return_type: dataframe
arguments: {{count: {count}}}
dtypes: {{key: Int64, z: string}}
"""

STREAM = """
builder_type: IndexBuilder
changed_columns: [y]
python_function: stream
code_module: job
is_custom: true
return_type: generator
arguments: {{count: {count}}}
dtypes: {{y: string}}
"""

COLUMN = """
builder_type: ColumnBuilder
changed_columns: [y]
python_function: {function}
code_module: job
is_custom: true
return_type: row-wise
n_threads: {n_threads}
arguments: {{x: "{argument}"{more}}}
dtypes: {{y: string}}
"""


def _vault(folder: Path) -> TableVault:
    vault = TableVault(str(folder / "vault"), "benchmark", create=True)
    vault.create_code_module("job", text=CODE)
    vault.create_table("marks")
    return vault


def _create(vault: TableVault, count: int, column: str, copy: bool) -> None:
    vault.create_instance("marks", version="base", copy=copy)
    vault.create_builder_file("marks", "marks_index", "base", text=INDEX.format(count=count))
    vault.create_builder_file("marks", "marks_y", "base", text=column)


def _column(function: str = "mark", n_threads: int = 1, argument: str = "<<self.x[index]>>", more: str = "") -> str:
    return COLUMN.format(function=function, n_threads=n_threads, argument=argument, more=more)


def _execute(vault: TableVault, count: int, column: str, copy: bool = False) -> tuple[float, float, float]:
    _create(vault, count, column, copy)
    return _executed(vault, count)


def _executed(vault: TableVault, count: int) -> tuple[float, float, float]:
    counter = itertools.count()
    CALLS.called = counter.__next__  # type: ignore[attr-defined]
    start = time.perf_counter()
    vault.execute_instance("marks", version="base", process_id=f"work{count}")
    seconds = time.perf_counter() - start
    frame, _ = vault.get_dataframe("marks")
    assert len(frame) == count
    return seconds, 0, next(counter)


def rows(count: int, folder: Path) -> tuple[float, float, float]:
    """W1."""
    return _execute(_vault(folder), count, _column())


def look_up(count: int, folder: Path) -> tuple[float, float, float]:
    """W1r."""
    vault = _vault(folder)
    vault.create_table("other")
    vault.create_instance("other", version="base")
    vault.create_builder_file("other", "other_index", "base", text=OTHER.format(count=count))
    vault.execute_instance("other", version="base")
    return _execute(vault, count, _column(argument="<<other.z[key::<<self.x[index]>>]>>"))


def generator(count: int, folder: Path) -> tuple[float, float, float]:
    """W1g."""
    vault = _vault(folder)
    vault.create_instance("marks", version="base")
    vault.create_builder_file("marks", "marks_index", "base", text=STREAM.format(count=count))
    return _executed(vault, count)


def additions(count: int, folder: Path) -> tuple[float, float, float]:
    """W3."""
    vault = _vault(folder)
    column = _column()
    _execute(vault, count, column)
    return _execute(vault, count + 100, column, copy=True)


def frame(count: int, folder: Path) -> tuple[float, float, float]:
    """W2."""
    vault = _vault(folder)
    data = workload.mixed_frame(count)
    vault.create_instance("marks", version="base", external_edit=True)
    start = time.perf_counter()
    vault.write_instance(data, "marks", version="base")
    written = time.perf_counter()
    assert len(vault.get_dataframe("marks")[0]) == count
    return written - start, time.perf_counter() - written, 0


def threads(count: int, folder: Path) -> tuple[float, float, float]:
    """W6."""
    return _execute(_vault(folder), count, _column("rest", n_threads=16))


def prepare_crash(count: int, folder: Path) -> None:
    """Make the instance of W4."""
    more = f', log: "{folder / "calls.log"}"'
    column = _column("slow_mark", more=more)
    _create(_vault(folder), count, column, copy=False)


def growing(count: int, folder: Path) -> tuple[float, float, float]:
    """W5."""
    vault = _vault(folder)

    def write(number: int) -> None:
        _write(vault, "marks", f"version{number}")

    return workload.growing(count, lambda number: vault.create_table(f"table{number}"), write)


def _write(vault: TableVault, table: str, version: str) -> None:
    vault.create_instance(table, version=version, external_edit=True)
    vault.write_instance(workload.small_frame(), table, version=version)


def prepare_writers(folder: Path) -> None:
    """Make the tables of W7."""
    vault = _vault(folder)
    for number in range(workload.WRITERS):
        vault.create_table(f"table{number}")


def write_job(number: int, folder: Path) -> tuple[float, float, float]:
    """Write small instances into one of the tables of W7."""
    vault = TableVault(str(folder / "vault"), f"writer{number}")
    versions = itertools.count()
    start = time.time_ns()
    return workload.writing(lambda: _write(vault, f"table{number}", f"at{start}-{next(versions)}"))
