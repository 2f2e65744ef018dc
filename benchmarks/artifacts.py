"""Rows that write a file each, and files that are reused (W11)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import baselines, vaults
from benchmarks.measuring import Result, Samples, Way, interleaved
from benchmarks.rows import prepare
from tablevault import TableVault

SIZE = 10_000
"""Of a file, in bytes."""


def new_files(rows: int, rounds: int) -> list[Result]:
    """A row-wise function that writes a file per row (W11).

    The baselines are two loops that write and hash the same files.
    """
    samples = interleaved(
        {
            "product": _execution(rows),
            "together": _loop(rows, baselines.files_together),
            "each": _loop(rows, baselines.files_one_by_one),
        },
        rounds,
    )
    what = f"{rows:,} artifacts of {SIZE // 1000} kB"
    return [
        _compared("W11", f"{what}, against one sync per 50 ms", rows, samples["product"], samples["together"], 3.0),
        _compared("W11", f"{what}, against one fsync per file", rows, samples["product"], samples["each"], 1.0),
    ]


def reused_files(rows: int, rounds: int) -> list[Result]:
    """An execution that reuses the files of all rows, against bare links (W11r)."""
    samples = interleaved({"product": _reuse(rows), "links": _links(rows)}, rounds)
    product, links = samples["product"], samples["links"]
    result = _compared("W11r", f"reuse of {rows:,} artifacts, against bare links", rows, product, links, 3.0)
    is_reached = result.is_reached or product.median / rows <= 0.2e-3
    return [
        Result(
            result.work,
            result.what,
            result.measured,
            result.baseline,
            result.value,
            "≤ 3 × or 0.2 ms each",
            is_reached,
            result.spread,
        )
    ]


def _compared(work: str, what: str, rows: int, product: Samples, base: Samples, most: float) -> Result:
    ratio = product.median / base.median
    return Result(
        work,
        what,
        f"{product.median / rows * 1e3:.3f} ms/file",
        f"{base.median / rows * 1e3:.3f} ms/file",
        ratio,
        f"≤ {most:g} ×",
        ratio <= most,
        product.spread,
    )


def _execution(rows: int) -> Way:
    def product(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        prepare(vault, rows, vaults.file_builder(SIZE))
        return _executed(vault, rows, calls=rows)

    return product


def _reuse(rows: int) -> Way:
    def product(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        vaults.count_calls()
        prepare(vault, rows, vaults.file_builder(SIZE))
        vault.execute_instance("marks")
        vault.create_instance("marks", copy=True)
        return _executed(vault, rows, calls=0)

    return product


def _executed(vault: TableVault, rows: int, calls: int) -> float:
    """Execute the instance; return the seconds, after comparing calls and files with those of a plain loop."""
    called = vaults.count_calls()
    start = time.perf_counter()
    vault.execute_instance("marks", process_id="work")
    seconds = time.perf_counter() - start
    assert called() == calls
    paths = vault.read("marks")["y"]
    assert len(paths) == rows
    assert all(Path(path).read_bytes() == f"{x:8}".encode() * (SIZE // 8) for x, path in enumerate(paths))
    return seconds


def _loop(rows: int, loop: Callable[[int, int, Path], None]) -> Way:
    def baseline(folder: Path) -> float:
        start = time.perf_counter()
        loop(rows, SIZE, folder)
        return time.perf_counter() - start

    return baseline


def _links(rows: int) -> Way:
    def baseline(folder: Path) -> float:
        baselines.files_together(rows, SIZE, folder)
        target = folder / "links"
        target.mkdir()
        start = time.perf_counter()
        for number in range(rows):
            os.link(folder / f"{number}.bin", target / f"{number}.bin")
        baselines.fsync(target)
        return time.perf_counter() - start

    return baseline
