"""Whole frames, and the memory that work takes (W2 and W8)."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import baselines, vaults
from benchmarks.measuring import Result, Way, interleaved

MEGABYTE = 2**20


def mixed_frame(rows: int) -> pd.DataFrame:
    """Return a frame with mixed columns, always the same.

    It has 2 columns of whole numbers, 2 of fractions, 3 of short texts and 1 of times.
    """
    random = np.random.default_rng(1)
    numbers = random.integers(0, rows, rows)
    return pd.DataFrame(
        {
            "position": np.arange(rows),
            "number": numbers,
            "fraction": random.random(rows),
            "other": random.normal(size=rows),
            "name": [f"name-{number}" for number in numbers],
            "group": [f"group-{number % 1000}" for number in numbers],
            "kind": [("alpha", "beta", "gamma")[number % 3] for number in numbers],
            "time": pd.Timestamp("2024-01-01") + pd.to_timedelta(numbers, unit="s"),
        }
    )


def whole_frames(rows: int, rounds: int) -> list[Result]:
    """A frame written and read back (W2)."""
    frame = mixed_frame(rows)

    def write(folder: Path) -> float:
        vault = vaults.new_vault(folder)
        vault.create_table("frames")
        vault.create_instance("frames", external_edit=True)
        start = time.perf_counter()
        vault.write_instance(frame, "frames")
        return time.perf_counter() - start

    def read(folder: Path) -> float:
        write(folder)
        vault = vaults.TableVault(folder / "vault")
        start = time.perf_counter()
        found, _ = vault.get_dataframe("frames")
        seconds = time.perf_counter() - start
        pd.testing.assert_frame_equal(found.astype(frame.dtypes), frame)
        return seconds

    def write_parquet(folder: Path) -> float:
        start = time.perf_counter()
        baselines.write_parquet(frame, folder / "frame.parquet")
        return time.perf_counter() - start

    def read_parquet(folder: Path) -> float:
        baselines.write_parquet(frame, folder / "frame.parquet")
        start = time.perf_counter()
        baselines.read_parquet(folder / "frame.parquet")
        return time.perf_counter() - start

    writing = _compared(f"write {rows:,} × 8", {"product": write, "baseline": write_parquet}, rounds, 1.3)
    reading = _compared(f"read {rows:,} × 8", {"product": read, "baseline": read_parquet}, rounds, 1.1)
    return [writing, reading]


def _compared(what: str, ways: dict[str, Way], rounds: int, target: float) -> Result:
    samples = interleaved(ways, rounds)
    product, baseline = samples["product"], samples["baseline"]
    ratio = product.median / baseline.median
    return Result(
        "W2",
        what,
        f"{product.median:.3f} s",
        f"{baseline.median:.3f} s",
        ratio,
        f"≤ {target:g} ×",
        ratio <= target,
        product.spread,
    )


def memory(rows: int) -> list[Result]:
    """Peak memory of W1 and W2, each in a separate interpreter (W8)."""
    loop, loop_frame = _peak("loop", rows)
    frames, frame = _peak("frame", rows)
    return [
        Result(
            "W8",
            f"memory of W1, {rows:,} rows",
            f"{loop:.0f} MB",
            f"{loop_frame:.0f} MB frame",
            loop - 2 * loop_frame,
            "≤ 2 × frame + 150 MB",
            loop <= 2 * loop_frame + 150,
            unit=" MB more than 2 × frame",
        ),
        Result(
            "W8",
            f"memory of W2, {rows:,} rows",
            f"{frames:.0f} MB",
            f"{frame:.0f} MB frame",
            frames / frame,
            "≤ 3 ×",
            frames <= 3 * frame,
        ),
    ]


def _peak(kind: str, rows: int) -> tuple[float, float]:
    """Return an interpreter's peak beyond its imports, and the frame's size, in MB."""
    command = [sys.executable, "-m", "benchmarks.frames", kind, str(rows)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    peak, frame = map(float, output.split())
    return peak, frame


def _run(kind: str, rows: int) -> None:
    from benchmarks import rows as loops
    from benchmarks.measuring import empty_folder

    with empty_folder() as folder:
        vault = vaults.new_vault(folder)
        if kind == "loop":
            loops.prepare(vault, rows, vaults.row_builder())
            vaults.count_calls()
            before = forget_peak()
            vault.execute_instance("marks", process_id="work")
            peak = peak_so_far() - before
            frame, _ = vault.get_dataframe("marks")
            size = frame.memory_usage(deep=True).sum()
        else:
            vault.create_table("frames")
            vault.create_instance("frames", external_edit=True)
            given = mixed_frame(rows)
            size = given.memory_usage(deep=True).sum()
            before = forget_peak() - size
            vault.write_instance(given, "frames")
            del given
            vault.get_dataframe("frames")
            peak = peak_so_far() - before
    sys.stdout.write(f"{peak / MEGABYTE} {size / MEGABYTE}\n")


def forget_peak() -> float:
    """Let the peak begin anew, and return what is in use."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    return peak_so_far()


def peak_so_far() -> float:
    """Return the most memory that this interpreter has had in use, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(float(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))


if __name__ == "__main__":
    _run(sys.argv[1], int(sys.argv[2]))
