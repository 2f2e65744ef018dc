"""Rows under policies, in async functions, in batches, and failing (P1, P2, P4 and P5)."""

from __future__ import annotations

import asyncio
import time
import warnings
from itertools import chain
from pathlib import Path

from benchmarks import baselines, vaults
from benchmarks.measuring import Result, Samples, Way, interleaved
from benchmarks.rows import prepare

LATENCY = 0.1
"""Seconds that a call of the async function waits."""

BATCH = 1_000


def nothing_fails(rows: int, rounds: int) -> list[Result]:
    """`collect` and `retry` without failures, against the same without them (P1)."""
    samples = interleaved(
        {"policies": _execution(rows, "on_error: collect\nretry: 3\n"), "plain": _execution(rows)}, rounds
    )
    return [_ratio("P1", f"collect and retry, nothing fails, {rows:,} rows", samples, "policies", "plain", 1.05)]


def waiting(rows: int, rounds: int, concurrency: int = 500) -> list[Result]:
    """An async function that waits, against a bare crew of coroutines (P2)."""

    def crew(folder: Path) -> float:
        start = time.perf_counter()
        asyncio.run(_crew(rows, concurrency))
        return time.perf_counter() - start

    builder = f"max_concurrency: {concurrency}\n"
    samples = interleaved({"product": _execution(rows, builder, function="rest_async"), "crew": crew}, rounds)
    ideal = rows / concurrency * LATENCY
    what = f"{rows:,} rows of {LATENCY * 1e3:.0f} ms, {concurrency} at a time"
    product = samples["product"]
    return [
        Result(
            "P2",
            f"{what}, against the ideal",
            f"{product.median:.2f} s",
            f"{ideal:.2f} s",
            product.median / ideal,
            "≤ 1.1 ×",
            product.median <= 1.1 * ideal,
            product.spread,
        ),
        _ratio("P2", f"{what}, against bare asyncio", samples, "product", "crew", 1.05),
    ]


def batches(rows: int, rounds: int) -> list[Result]:
    """A function of batches (P4).

    It is compared with a plain loop over slices with group commit, and with row-wise calls.
    """

    def baseline(folder: Path) -> float:
        start = time.perf_counter()
        values = range(rows)
        slices = (values[first : first + BATCH] for first in range(0, rows, BATCH))
        marks = chain.from_iterable([f"{x}-ok" for x in part] for part in slices)
        baselines.group_commit(lambda _: next(marks), values, folder / "baseline.parquet")
        return time.perf_counter() - start

    ways: dict[str, Way] = {
        "batch": _execution(rows, f"batch_size: {BATCH}\n", function="mark_batch", return_type="batch"),
        "row-wise": _execution(rows),
        "slices": baseline,
    }
    samples = interleaved(ways, rounds)
    return [
        _ratio("P4", f"batches of {BATCH:,} over {rows:,} rows", samples, "batch", "slices", 1.5),
        _ratio("P4", "the same, against row-wise", samples, "batch", "row-wise", 1.0),
    ]


def failing(rows: int, rounds: int) -> list[Result]:
    """One failing row in a hundred, against none (P5).

    Also reading as many failure records as there are rows.
    """
    ways: dict[str, Way] = {
        "failing": _execution(rows, "on_error: collect\n", function="mark_most"),
        "plain": _execution(rows),
        "errors": lambda folder: _read_errors(folder, rows),
    }
    samples = interleaved(ways, rounds)
    errors = samples["errors"]
    return [
        _ratio("P5", f"1 % of {rows:,} rows fail", samples, "failing", "plain", 1.5),
        Result(
            "P5",
            f"get_errors of {rows:,} records",
            f"{errors.median:.2f} s",
            "",
            errors.median,
            "≤ 2 s",
            errors.median <= 2,
            errors.spread,
            "s",
        ),
    ]


async def _crew(rows: int, concurrency: int) -> None:
    numbers = iter(range(rows))

    async def work() -> None:
        for _ in numbers:
            await asyncio.sleep(LATENCY)

    await asyncio.gather(*(work() for _ in range(concurrency)))


def _execution(rows: int, policies: str = "", function: str = "mark", return_type: str = "row-wise") -> Way:
    def product(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        builder = vaults.row_builder(function=function).replace("n_threads: 1\n", policies)
        prepare(vault, rows, builder.replace("return_type: row-wise", f"return_type: {return_type}"))
        vaults.count_calls()
        start = time.perf_counter()
        with warnings.catch_warnings():
            # That rows fail is what is measured.
            warnings.simplefilter("ignore")
            vault.execute_instance("marks", process_id="work")
        return time.perf_counter() - start

    return product


def _read_errors(folder: Path, rows: int) -> float:
    vault = vaults.new_vault(folder)
    policies = 'on_error: collect\nmax_failures: "100%"\nmax_consecutive_failures: none\n'
    prepare(vault, rows, vaults.row_builder(function="fail").replace("n_threads: 1\n", policies))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        vault.execute_instance("marks", process_id="work")
    start = time.perf_counter()
    assert len(vault.get_errors("marks")) == rows
    return time.perf_counter() - start


def _ratio(work: str, what: str, samples: dict[str, Samples], product: str, base: str, target: float) -> Result:
    ratio = samples[product].median / samples[base].median
    return Result(
        work,
        what,
        f"{samples[product].median:.2f} s",
        f"{samples[base].median:.2f} s",
        ratio,
        f"≤ {target:g} ×",
        ratio <= target,
        samples[product].spread,
    )
