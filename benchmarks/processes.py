"""Functions that compute, in worker processes (P3)."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import joblib
import loky
from joblib.externals.loky import get_reusable_executor

from benchmarks import vaults
from benchmarks.measuring import Result, Way, interleaved

CODE = """
import time

import pandas as pd


def numbers(count):
    return pd.DataFrame({"x": range(count)})


def burn(x, seconds):
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return x
"""

_BUILDER = """
builder_type: ColumnBuilder
changed_columns: [y]
code_module: burning
is_custom: true
python_function: burn
return_type: row-wise
executor: processes
max_concurrency: {workers}
arguments: {{x: "<<self.x[index]>>", seconds: {seconds:f}}}
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
code_module: burning
is_custom: true
python_function: numbers
arguments: {{count: {count}}}
"""

_WORKERS = 2


def computing(rounds: int, count: int | None = None) -> list[Result]:
    """Rows of 1 ms and of 10 µs of computing, in two worker processes (P3)."""
    return [
        _compared(0.001, count or 5_000, (1, 10, 100, 1_000), rounds),
        # A round trip costs each pool many times such a row: chunks of one row would take minutes and win nowhere.
        _compared(0.00001, count or 100_000, (100, 1_000, 10_000), rounds),
    ]


def burn(x: int, seconds: float) -> int:
    """Compute for so many seconds."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
    return x


def _compared(seconds: float, count: int, chunks: tuple[int, ...], rounds: int) -> Result:
    """Compare with the best of the pools at its best chunk size; each starts its workers within the measured time."""
    ways: dict[str, Way] = {"product": _product(seconds, count)}
    for chunk in chunks:
        ways[f"concurrent.futures, chunks of {chunk:,}"] = _timed(partial(_futures, seconds, count, chunk))
        ways[f"loky, chunks of {chunk:,}"] = _timed(partial(_loky, seconds, count, chunk))
        ways[f"joblib, batches of {chunk:,}"] = _timed(partial(_joblib, seconds, count, chunk))
    samples = interleaved(ways, rounds)
    product = samples.pop("product")
    best = min(samples, key=lambda name: samples[name].median)
    ratio = product.median / samples[best].median
    return Result(
        "P3",
        f"{count:,} rows of {seconds * 1e6:,.0f} µs, {_WORKERS} processes",
        f"{product.median:.2f} s",
        f"{samples[best].median:.2f} s ({best})",
        ratio,
        "≤ 1.1 ×",
        ratio <= 1.1,
        product.spread,
    )


def _product(seconds: float, count: int) -> Way:
    def product(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        vault.create_code_module("burning", text=CODE)
        builder = _BUILDER.format(workers=_WORKERS, seconds=seconds)
        vault.create_table("burned")
        vault.create_instance("burned", builders={"burned_index": INDEX.format(count=count), "burned": builder})
        start = time.perf_counter()
        vault.execute_instance("burned", process_id="work")
        taken = time.perf_counter() - start
        assert vault.read("burned")["y"].tolist() == list(range(count))
        return taken

    return product


def _timed(work: Callable[[], list[int]]) -> Way:
    def way(_: Path) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return way


def _futures(seconds: float, count: int, chunk: int) -> list[int]:
    with ProcessPoolExecutor(_WORKERS, get_context("spawn")) as pool:
        return list(pool.map(partial(burn, seconds=seconds), range(count), chunksize=chunk))


def _loky(seconds: float, count: int, chunk: int) -> list[int]:
    with loky.ProcessPoolExecutor(_WORKERS) as pool:
        return list(pool.map(partial(burn, seconds=seconds), range(count), chunksize=chunk))


def _joblib(seconds: float, count: int, chunk: int) -> list[int]:
    calls = (joblib.delayed(burn)(x, seconds) for x in range(count))
    results: list[int] = joblib.Parallel(_WORKERS, batch_size=chunk)(calls)
    # Joblib keeps its workers for the next call, where they would be started already.
    get_reusable_executor().shutdown(wait=True)
    return results
