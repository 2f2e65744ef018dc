"""Functions that return vectors, one row or a batch at a time (W10).

Also reading them, and their memory.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import floors, frames, vaults
from benchmarks.measuring import Result, Samples, Way, interleaved
from tablevault import TableVault, to_numpy

SIZE = 768
BATCH = 256
DTYPE = f"vector<float32, {SIZE}>"
MEGABYTE = 2**20
_TEMPLATES = np.random.default_rng(7).standard_normal((64, SIZE)).astype(np.float32)


def embed(x: int) -> floors.FloatArray:
    """Return a new vector, as the function in the vault does."""
    vaults.CALLS.called()
    return _TEMPLATES[x % 64] + np.float32(x)


def embed_batch(x: Any) -> floors.FloatArray:
    """Return the vectors of some rows, as the function in the vault does."""
    vaults.CALLS.called()
    numbers = np.asarray(x)
    return _TEMPLATES[numbers % 64] + numbers.astype(np.float32)[:, None]


def vectors(rows: int, rounds: int) -> list[Result]:
    """Row-wise, in batches, reading, memory (W10)."""
    return [
        _compared("row-wise", rows, rounds, 1, _one_by_one(rows), 2.0),
        _compared(f"batch of {BATCH}", rows, rounds, BATCH, _in_batches(rows), 1.3),
        _reading(rows, rounds),
        _memory(rows),
    ]


def _compared(what: str, rows: int, rounds: int, batch: int, baseline: Way, target: float) -> Result:
    builder = vaults.vector_builder(DTYPE, batch if batch > 1 else None)
    calls = -(-rows // batch)

    def product(folder: Path) -> float:
        vault = _prepared(folder, rows, builder)
        called = vaults.count_calls()
        seconds = _execute(vault)
        assert called() == calls
        _check(vault, rows)
        return seconds

    samples = interleaved({"product": product, "baseline": baseline}, rounds)
    ratio = samples["product"].median / samples["baseline"].median
    return Result(
        "W10",
        f"{rows:,} × {SIZE} float32, {what}",
        f"{samples['product'].median / rows * 1e6:.1f} µs/row",
        f"{samples['baseline'].median / rows * 1e6:.1f} µs/row",
        ratio,
        f"≤ {target:g} ×",
        ratio <= target,
        samples["product"].spread,
    )


def _one_by_one(rows: int) -> Way:
    return _floor(lambda path: floors.vector_loop(embed, range(rows), path))


def _in_batches(rows: int) -> Way:
    starts = range(0, rows, BATCH)
    batches = [list(range(start, min(start + BATCH, rows))) for start in starts]
    return _floor(lambda path: floors.vector_loop(embed_batch, batches, path))


def _floor(run: Callable[[Path], object]) -> Way:
    def baseline(folder: Path) -> float:
        vaults.count_calls()
        start = time.perf_counter()
        run(folder / "baseline.parquet")
        return time.perf_counter() - start

    return baseline


def _prepared(folder: Path, rows: int, builder: str) -> TableVault:
    vault = vaults.new_vault(folder)
    vaults.CALLS.templates = _TEMPLATES  # type: ignore[attr-defined]
    vault.create_table("vectors")
    vault.create_instance("vectors", builders={"vectors_index": vaults.index_builder(rows), "embed": builder})
    return vault


def _execute(vault: TableVault) -> float:
    start = time.perf_counter()
    vault.execute_instance("vectors", process_id="work")
    return time.perf_counter() - start


def _check(vault: TableVault, rows: int) -> None:
    """Raise `AssertionError` unless the vault has the vectors of a plain loop."""
    found = to_numpy(vault.read("vectors", format="arrow")["e"])
    for start in range(0, rows, 8_192):
        part = range(start, min(start + 8_192, rows))
        assert (found[part.start : part.stop] == embed_batch(part)).all()


def _reading(rows: int, rounds: int) -> Result:
    from benchmarks.measuring import empty_folder

    with empty_folder() as folder:
        vault = _prepared(folder, rows, vaults.vector_builder(DTYPE, BATCH))
        vaults.count_calls()
        _execute(vault)
        path = next((folder / "vault" / "vectors").glob("*/table.parquet"))

        def product(_: Path) -> float:
            start = time.perf_counter()
            frame, _instance = vault.get_dataframe("vectors", columns=["e"])
            found = to_numpy(frame["e"])
            seconds = time.perf_counter() - start
            assert found.shape == (rows, SIZE)
            assert (found[-1] == embed_batch([rows - 1])[0]).all()
            return seconds

        def baseline(_: Path) -> float:
            start = time.perf_counter()
            found = floors.read_vectors(path, SIZE)
            seconds = time.perf_counter() - start
            assert found.shape == (rows, SIZE)
            return seconds

        samples: dict[str, Samples] = interleaved({"product": product, "baseline": baseline}, rounds)
    ratio = samples["product"].median / samples["baseline"].median
    return Result(
        "W10",
        f"{rows:,} × {SIZE} float32, reading into a 2-D array",
        f"{samples['product'].median * 1e3:.0f} ms",
        f"{samples['baseline'].median * 1e3:.0f} ms",
        ratio,
        "≤ 1.2 ×",
        ratio <= 1.2,
        samples["product"].spread,
    )


def _memory(rows: int) -> Result:
    command = [sys.executable, "-m", "benchmarks.vectors", str(rows)]
    peak = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    raw = rows * SIZE * 4 / MEGABYTE
    return Result(
        "W10",
        f"{rows:,} × {SIZE} float32, peak memory",
        f"{peak:.0f} MB",
        f"{raw:.0f} MB raw data",
        peak - 2 * raw,
        "≤ 2 × raw + 400 MB",
        peak <= 2 * raw + 400,
        unit=" MB more than 2 × raw",
    )


def _run(rows: int) -> None:
    from benchmarks.measuring import empty_folder

    with empty_folder() as folder:
        vault = _prepared(folder, rows, vaults.vector_builder(DTYPE))
        called = vaults.count_calls()
        before = frames.forget_peak()
        _execute(vault)
        peak = frames.peak_so_far() - before
        assert called() == rows
    sys.stdout.write(f"{peak / MEGABYTE}\n")


if __name__ == "__main__":
    _run(int(sys.argv[1]))
