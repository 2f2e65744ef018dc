"""joblib: `Memory` keeps the result of each call in a file of its own; `Parallel` runs calls in threads."""

from __future__ import annotations

import time
from pathlib import Path

import workload
from joblib import Memory, Parallel, delayed

CALLS = []


def mark(x: int) -> str:
    """Count a call and return its result."""
    CALLS.append(x)
    return workload.mark(x)


def _loop(cached, rows: int, folder: Path) -> float:  # noqa: ANN001
    import pandas as pd

    start = time.perf_counter()
    frame = pd.DataFrame({"x": range(rows)})
    frame["y"] = [cached(x) for x in range(rows)]
    frame.to_parquet(folder / "frame.parquet")
    return time.perf_counter() - start


def rows(count: int, folder: Path) -> tuple[float, float, float]:
    """W1."""
    return _loop(Memory(folder / "cache", verbose=0).cache(mark), count, folder), 0, len(CALLS)


def look_up(count: int, folder: Path) -> tuple[float, float, float]:
    """W1r: pandas merges the other frame; each call gets what was found."""
    import pandas as pd

    cached = Memory(folder / "cache", verbose=0).cache(mark)
    pd.DataFrame({"key": range(count), "z": [f"{x}-there" for x in range(count)]}).to_parquet(folder / "other.parquet")
    start = time.perf_counter()
    frame = pd.DataFrame({"x": range(count)})
    other = pd.read_parquet(folder / "other.parquet")
    frame["y"] = [cached(z) for z in frame.merge(other, left_on="x", right_on="key")["z"]]
    frame.to_parquet(folder / "frame.parquet")
    return time.perf_counter() - start, 0, len(CALLS)


def additions(count: int, folder: Path) -> tuple[float, float, float]:
    """W3."""
    cached = Memory(folder / "cache", verbose=0).cache(mark)
    _loop(cached, count, folder)
    CALLS.clear()
    return _loop(cached, count + 100, folder), 0, len(CALLS)


def frame(count: int, folder: Path) -> tuple[float, float, float]:
    """W2: pandas writes and reads Parquet, since joblib keeps results, not tables."""
    import pandas as pd

    data = workload.mixed_frame(count)
    start = time.perf_counter()
    data.to_parquet(folder / "frame.parquet")
    written = time.perf_counter()
    pd.read_parquet(folder / "frame.parquet")
    return written - start, time.perf_counter() - written, 0


def crash(count: int, folder: Path) -> tuple[float, float, float]:
    """W4."""
    return workload.killed_and_resumed(__file__, count, folder)


def threads(count: int, folder: Path) -> tuple[float, float, float]:
    """W6."""
    start = time.perf_counter()
    Parallel(n_jobs=16, prefer="threads")(delayed(time.sleep)(0.02) for _ in range(count))
    return time.perf_counter() - start, 0, count


def crash_job(count: int, folder: Path) -> tuple[float, float, float]:
    """Run the job of W4 once."""
    cached = Memory(folder / "cache", verbose=0).cache(workload.logged_mark)
    for x in range(count):
        cached(x, str(folder / "calls.log"))
    return 0, 0, 0


if __name__ == "__main__":
    workload.run(
        {
            "W1": rows,
            "W1r": look_up,
            "W1g": "`Memory` cannot store the rows of a generator, since generators cannot be pickled.",
            "W2": frame,
            "W3": additions,
            "W4": crash,
            "W5": "joblib has no tables and no versions.",
            "W6": threads,
            "W7": "joblib has no tables and no versions that interpreters could write concurrently.",
            "crash-job": crash_job,
        }
    )
