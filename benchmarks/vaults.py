"""Vaults and functions shared by baselines and benchmarks."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import tablevault.operations.execute
import tablevault.operations.write  # noqa: F401 - so that no first round pays for imports
from tablevault import TableVault

CALLS = ModuleType("benchmark_calls")
"""What the functions in vaults import, to say that they were called."""
sys.modules["benchmark_calls"] = CALLS

CODE = """
import asyncio
import time

import benchmark_calls
import numpy
import pandas as pd
from benchmark_calls import called


def numbers(count):
    return pd.DataFrame({"x": range(count)})


def mark(x):
    called()
    return f"{x}-ok"


def mark_all(count):
    for x in range(count):
        called()
        yield f"{x}-ok"


def rest(x):
    called()
    time.sleep(0.02)
    return x


async def rest_async(x):
    await asyncio.sleep(0.1)
    return x


def mark_batch(x):
    return [f"{each}-ok" for each in x]


def mark_most(x):
    if x % 100 == 99:
        raise ValueError(x)
    return f"{x}-ok"


def mark_all_but_few(x):
    if benchmark_calls.fails(x):
        raise ValueError(x)
    called()
    return f"{x}-ok"


def fail(x):
    raise ValueError(x)


def write_file(x, folder, size):
    called()
    with open(f"{folder}/{x}.bin", "wb") as file:
        file.write(f"{x:8}".encode() * (size // 8))
    return f"{x}.bin"


def long_text(x):
    called()
    return f"{x:8}" * 512


def judgement(x):
    called()
    reasons = [f"reason {number} of {x}: it says what it is about, and how it is done" for number in range(5)]
    return {"id": x, "verdict": "good", "score": x / 7, "reasons": reasons, "usage": {"input": x % 900, "output": 64}}


def embed(x):
    called()
    return benchmark_calls.templates[x % 64] + numpy.float32(x)


def embed_batch(x):
    called()
    numbers = numpy.asarray(x)
    return benchmark_calls.templates[numbers % 64] + numbers.astype("float32")[:, None]
"""

_BUILDER = """
builder_type: {kind}
changed_columns: [{column}]
code_module: job
is_custom: true
python_function: {function}
return_type: {return_type}
arguments: {arguments}
"""


def mark(x: object) -> str:
    """Return what the function of W1 returns, for the baselines."""
    CALLS.called()
    return f"{x}-ok"


def count_calls() -> Callable[[], int]:
    """Begin to count calls anew; what is returned says how many there have been."""
    counter = itertools.count()
    CALLS.called = counter.__next__  # type: ignore[attr-defined]
    return lambda: next(counter)


def new_vault(folder: Path) -> TableVault:
    """Make a vault with the code that all work uses."""
    vault = TableVault(folder / "vault", create=True, author="benchmark")
    vault.create_code_module("job", text=CODE)
    return vault


def index_builder(count: int) -> str:
    """Return an IndexBuilder that makes the column `x` with the numbers up to `count`."""
    builder = _BUILDER.format(
        kind="IndexBuilder",
        column="x",
        function="numbers",
        return_type="dataframe",
        arguments=f"{{count: {count}}}",
    )
    return builder + "primary_key: [x]\n"


def list_builder(count: int) -> str:
    """Return an IndexBuilder that makes the column `x` from a list of numbers in the builder."""
    return _built_in("create_data_table_from_list", f"{{vals: {list(range(count))}}}")


def copy_builder(table: str) -> str:
    """Return an IndexBuilder that copies the column `x` of another table."""
    return _built_in("create_data_table_from_table", f'{{df: "<<{table}.{{x}}>>"}}')


def _built_in(function: str, arguments: str) -> str:
    builder = _BUILDER.format(
        kind="IndexBuilder", column="x", function=function, return_type="dataframe", arguments=arguments
    )
    return builder.replace("code_module: job\nis_custom: true", "code_module: table_generation") + "primary_key: [x]\n"


def generator_builder(count: int) -> str:
    """Return an IndexBuilder that yields the rows of `y`."""
    return _BUILDER.format(
        kind="IndexBuilder",
        column="y",
        function="mark_all",
        return_type="generator",
        arguments=f"{{count: {count}}}",
    )


def file_builder(size: int) -> str:
    """Return a row-wise builder of the column `y`, whose cells name files of so many bytes."""
    builder = _BUILDER.format(
        kind="ColumnBuilder",
        column="y",
        function="write_file",
        return_type="row-wise",
        arguments=f"{{x: '<<self.x[index]>>', folder: ~ARTIFACT_FOLDER~, size: {size}}}",
    )
    return f"{builder}dtypes: {{y: artifact_string}}\n"


def row_builder(argument: str = "<<self.x[index]>>", function: str = "mark", n_threads: int = 1) -> str:
    """Return a row-wise builder of the column `y`."""
    builder = _BUILDER.format(
        kind="ColumnBuilder",
        column="y",
        function=function,
        return_type="row-wise",
        arguments=f'{{x: "{argument}"}}',
    )
    return builder + f"n_threads: {n_threads}\n"


def vector_builder(dtype: str, batch_size: int | None = None) -> str:
    """Return a builder of the column `e` of vectors, row-wise or in batches."""
    builder = _BUILDER.format(
        kind="ColumnBuilder",
        column="e",
        function="embed" if batch_size is None else "embed_batch",
        return_type="row-wise" if batch_size is None else "batch",
        arguments='{x: "<<self.x[index]>>"}',
    )
    batch = "" if batch_size is None else f"batch_size: {batch_size}\n"
    return f'{builder}dtypes: {{e: "{dtype}"}}\n{batch}'
