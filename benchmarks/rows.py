"""W1, W1r, W1g, W3 and W6: functions called row by row."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from benchmarks import baselines, vaults
from benchmarks.measuring import Result, Samples, Way, interleaved
from tablevault import TableVault

LOOK_UP = "<<other.y[key::<<self.x[index]>>]>>"


def per_row(rows: tuple[int, ...], rounds: int) -> list[Result]:
    """W1: a row-wise function, checkpointed."""
    return [_compared("W1", "row-wise", count, rounds, _row_wise(count), _target(count)) for count in rows]


def look_up(rows: int, rounds: int) -> list[Result]:
    """W1r: the same with a look-up in another table."""
    return [_compared("W1r", "row-wise, look-up", rows, rounds, _looking_up(rows), 4.0)]


def generator(rows: int, rounds: int) -> list[Result]:
    """W1g: a generator that yields the rows."""
    return [_compared("W1g", "generator", rows, rounds, _generated(rows), 2.0)]


def additions(rows: int, rounds: int) -> list[Result]:
    """W3: 100 more rows in a copy of an instance; then nothing new at all."""
    ways: Mapping[str, Way] = {
        "100 rows": _row_wise(100),
        "100 more": lambda folder: _add(folder, rows, 100),
        "nothing new": lambda folder: _add(folder, rows, 0),
        "100 more of a million": lambda folder: _add(folder, 1_000_000, 100),
    }
    few = {name: ways[name] for name in list(ways)[:3]}
    samples = interleaved(few, rounds)
    large = interleaved({"large": ways["100 more of a million"]}, 1)["large"]
    base = samples["100 rows"]
    return [
        _against("W3", f"100 rows more than {rows:,}", samples["100 more"], base, 5.0),
        _against("W3", f"nothing new in {rows:,} rows (no calls)", samples["nothing new"], base, 5.0),
        Result(
            "W3",
            "100 rows more than 1,000,000",
            f"{large.median:.2f} s",
            "",
            large.median,
            "≤ 10 s",
            large.median <= 10,
            large.spread,
            "s",
        ),
    ]


def threads(rounds: int, rows: int = 500, n_threads: int = 16) -> list[Result]:
    """W6: a function that waits, in threads."""
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
            "≤ 1.05 ×",
            ratio <= 1.05,
            samples.spread,
        )
    ]


def _target(count: int) -> float | None:
    return {100_000: 3.0, 1_000_000: 2.0}.get(count)


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


def _against(work: str, what: str, product: Samples, base: Samples, target: float) -> Result:
    ratio = product.median / base.median
    return Result(
        work,
        what,
        f"{product.median * 1e3:.0f} ms",
        f"{base.median * 1e3:.0f} ms for 100 rows",
        ratio,
        f"≤ {target:g} ×",
        ratio <= target,
        product.spread,
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
    """Return the seconds for a copy of an instance with more rows, whose old ones are reused."""
    vault = vaults.new_vault(folder)
    prepare(vault, count, vaults.row_builder())
    vault.execute_instance("marks")
    vault.create_instance("marks", copy=True, builders={"marks_index": vaults.index_builder(count + more)})
    return _execute(vault, count + more, more)
