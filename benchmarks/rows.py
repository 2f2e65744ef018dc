"""Functions called row by row (W1, W1r, W1g, W3, W6 and P7)."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pandas as pd

from benchmarks import baselines, vaults
from benchmarks.measuring import Result, Way, interleaved
from tablevault import TableVault

LOOK_UP = "<<other.y[key::<<self.x[index]>>]>>"


def per_row(rows: tuple[int, ...], rounds: int) -> list[Result]:
    """A row-wise function, checkpointed (W1)."""
    return [_compared("W1", "row-wise", count, rounds, _row_wise(count), _target(count)) for count in rows]


def look_up(rows: int, rounds: int) -> list[Result]:
    """The same with a look-up in another table (W1r)."""
    return [_compared("W1r", "row-wise, look-up", rows, rounds, _looking_up(rows), 4.0)]


def generator(rows: int, rounds: int) -> list[Result]:
    """A generator that yields the rows (W1g)."""
    return [_compared("W1g", "generator", rows, rounds, _generated(rows), 2.0)]


def additions(rows: int, rounds: int) -> list[Result]:
    """100 more rows in a copy of an instance, and then no new rows (W3)."""
    return [
        _bounded("W3", f"{more:,} rows more than {count:,}", count, more, rounds, partial(_add, count=count, more=more))
        for count, more in ((rows, 100), (rows, 0), (1_000_000, 100))
    ]


def failed_again(rows: int, rounds: int, failed: int = 37) -> list[Result]:
    """The few rows of an instance that have failed (P7)."""
    what = f"{failed} rows that failed of {rows:,}"
    return [_bounded("P7", what, rows, failed, rounds, partial(_retry, count=rows, failed=failed))]


def threads(rounds: int, rows: int = 500, n_threads: int = 16) -> list[Result]:
    """A function that waits, in threads (W6)."""
    ideal = -(-rows // n_threads) * 0.02

    def product(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        prepare(vault, rows, vaults.row_builder(function="rest", n_threads=n_threads))
        return _execute(vault, rows)

    samples = interleaved({"product": product}, rounds)["product"]
    ratio = samples.median / ideal
    return [
        Result(
            "W6",
            f"{rows} rows that sleep 20 ms, {n_threads} threads",
            f"{samples.median:.3f} s",
            f"{ideal:.3f} s",
            ratio,
            "≤ 1.03 ×",
            ratio <= 1.03,
            samples.spread,
        )
    ]


def _target(count: int) -> float | None:
    return {1_000: 5.0, 10_000: 3.0, 100_000: 1.8, 1_000_000: 1.4}.get(count)


def _compared(work: str, what: str, count: int, rounds: int, product: Way, target: float | None) -> Result:
    def baseline(folder: Path) -> float:
        called = vaults.count_calls()
        start = time.perf_counter()
        results = baselines.group_commit(vaults.mark, range(count), folder / "baseline.parquet")
        seconds = time.perf_counter() - start
        assert called() == count == len(results)
        return seconds

    samples = interleaved({"product": product, "baseline": baseline}, rounds)
    ratio = samples["product"].median / samples["baseline"].median
    return Result(
        work,
        f"{what}, {count:,} rows",
        f"{samples['product'].median / count * 1e6:.2f} µs/row",
        f"{samples['baseline'].median / count * 1e6:.2f} µs/row",
        ratio,
        "" if target is None else f"≤ {target:g} ×",
        target is None or ratio <= target,
        samples["product"].spread,
    )


def _bounded(work: str, what: str, count: int, more: int, rounds: int, product: Way) -> Result:
    """Compare some calls in a large frame with their minimal cost.

    The cost is the frame read and written, and their share of W1.
    """
    row_wise = _row_wise(more)

    def bound(folder: Path) -> float:
        frame = pd.DataFrame({"x": range(count), "y": [f"{x}-ok" for x in range(count)]})
        baselines.write_parquet(frame, folder / "old.parquet")
        start = time.perf_counter()
        baselines.write_parquet(baselines.read_parquet(folder / "old.parquet"), folder / "new.parquet")
        return time.perf_counter() - start + row_wise(folder)

    samples = interleaved({"product": product, "bound": bound}, rounds)
    seconds, least = samples["product"].median, samples["bound"].median
    baseline = f"{least * 1e3:.0f} ms to read and write the frame, and for {more} rows"
    measured = f"{seconds * 1e3:.0f} ms"
    return Result(
        work, what, measured, baseline, seconds / least, "≤ 2 ×", seconds <= 2 * least, samples["product"].spread
    )


def _row_wise(count: int) -> Way:
    def product(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        prepare(vault, count, vaults.row_builder())
        return _execute(vault, count)

    return product


def _looking_up(count: int) -> Way:
    def product(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        vault.create_table("other")
        vault.create_instance("other", external_edit=True)
        vault.write_instance(pd.DataFrame({"key": range(count), "y": range(count)}), "other")
        prepare(vault, count, vaults.row_builder(LOOK_UP))
        return _execute(vault, count)

    return product


def _generated(count: int) -> Way:
    def product(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        vault.create_table("marks")
        vault.create_instance("marks", builders={"marks_index": vaults.generator_builder(count)})
        return _execute(vault, count)

    return product


def prepare(vault: TableVault, count: int, builder: str) -> None:
    """Make the instance that W1 executes."""
    vault.create_table("marks")
    vault.create_instance("marks", builders={"marks_index": vaults.index_builder(count), "mark": builder})


def _execute(vault: TableVault, count: int, calls: int | None = None) -> float:
    """Execute, and compare what comes out with what a plain loop gives."""
    called = vaults.count_calls()
    start = time.perf_counter()
    vault.execute_instance("marks", process_id="work")
    seconds = time.perf_counter() - start
    assert called() == (count if calls is None else calls)
    _check(vault, count)
    return seconds


def _check(vault: TableVault, count: int) -> None:
    frame, _ = vault.get_dataframe("marks")
    marks: Callable[[object], object] = (lambda x: x) if frame["y"].dtype == "Int64" else (lambda x: f"{x}-ok")
    assert frame["y"].tolist() == [marks(x) for x in range(count)]


def _add(folder: Path, count: int, more: int) -> float:
    """Return the seconds for a copy of an instance with more rows.

    Its old rows are reused.
    """
    vault = vaults.new_vault(folder)
    prepare(vault, count, vaults.row_builder())
    vaults.count_calls()
    vault.execute_instance("marks")
    vault.create_instance("marks", copy=True, builders={"marks_index": vaults.index_builder(count + more)})
    return _execute(vault, count + more, more)


def _retry(folder: Path, count: int, failed: int) -> float:
    """Return the seconds for a retry of an instance in which some rows have failed."""
    vault = vaults.new_vault(folder)
    step = count // failed
    vaults.CALLS.fails = lambda x: x % step == 0 and x < step * failed  # type: ignore[attr-defined]
    prepare(
        vault, count, vaults.row_builder(function="mark_all_but_few").replace("n_threads: 1\n", "on_error: collect\n")
    )
    vaults.count_calls()
    with warnings.catch_warnings():
        # That rows fail is what is prepared.
        warnings.simplefilter("ignore")
        vault.execute_instance("marks")
    vaults.CALLS.fails = lambda x: False  # type: ignore[attr-defined]
    called = vaults.count_calls()
    start = time.perf_counter()
    vault.retry_failed("marks")
    seconds = time.perf_counter() - start
    assert called() == failed
    _check(vault, count)
    return seconds
