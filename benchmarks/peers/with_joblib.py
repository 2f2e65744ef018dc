"""Calls cached by joblib.

`Memory` keeps the result of each call in a separate file; `Parallel` runs calls in threads.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import large_cells
import numpy as np
import workload
from joblib import Memory, Parallel, delayed

CALLS: list[object] = []


def mark(x: int) -> str:
    """Count a call and return its result."""
    CALLS.append(x)
    return workload.mark(x)


def _loop(cached: Callable[[int], Any], rows: int, folder: Path) -> float:
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
    """A merge by pandas, whose results are passed to calls (W1r)."""
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
    """Parquet written and read by pandas, since joblib keeps results, not tables (W2)."""
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


def embed(x: int) -> large_cells.FloatArray:
    """Count a call and return a vector."""
    CALLS.append(x)
    return large_cells.embed(x)


def embed_batch(x: list[int]) -> large_cells.FloatArray:
    """Count the rows and return their vectors."""
    CALLS.extend(x)
    return large_cells.embed_batch(x)


def content(x: int) -> bytes:
    """Count a call and return the bytes of a file."""
    CALLS.append(x)
    return large_cells.content(x)


def long_text(x: int) -> str:
    """Count a call and return a text."""
    CALLS.append(x)
    return large_cells.long_text(x)


def judgement(x: int) -> dict[str, Any]:
    """Count a call and return an object."""
    CALLS.append(x)
    return large_cells.judgement(x)


def _cached(function: Callable[..., Any], folder: Path) -> Callable[..., Any]:
    cached: Callable[..., Any] = Memory(folder / "cache", verbose=0).cache(function)
    return cached


def _vectors(stack: Callable[[], large_cells.FloatArray], count: int, folder: Path) -> tuple[float, float, float]:
    start = time.perf_counter()
    joblib.dump(stack(), folder / "vectors.joblib")
    written = time.perf_counter()
    found = joblib.load(folder / "vectors.joblib")
    reading = time.perf_counter() - written
    assert len(CALLS) == count
    large_cells.check_vectors(found, range(count))
    return written - start, reading, count


def vectors(count: int, folder: Path) -> tuple[float, float, float]:
    """A file per vector, and one of all (W10)."""
    cached = _cached(embed, folder)
    return _vectors(lambda: np.stack([cached(x) for x in range(count)]), count, folder)


def vector_batches(count: int, folder: Path) -> tuple[float, float, float]:
    """A file per batch, and one of all (W10b)."""
    cached = _cached(embed_batch, folder)
    return _vectors(lambda: np.vstack([cached(list(x)) for x in large_cells.batches(count)]), count, folder)


def files(count: int, folder: Path) -> tuple[float, float, float]:
    """The file that it makes of each result (W11)."""
    seconds, found = _contents(count, folder)
    assert len(CALLS) == count
    large_cells.check_contents(found, count)
    return seconds, 0, count


def _contents(count: int, folder: Path) -> tuple[float, list[bytes]]:
    cached = _cached(content, folder)
    start = time.perf_counter()
    found = [cached(x) for x in range(count)]
    return time.perf_counter() - start, found


def reused_files(count: int, folder: Path) -> tuple[float, float, float]:
    """The same calls again, which read the files (W11r)."""
    _contents(count, folder)
    CALLS.clear()
    seconds, found = _contents(count, folder)
    large_cells.check_contents(found, count)
    return seconds, 0, len(CALLS)


def _answers(function: Callable[[int], object], count: int, folder: Path) -> tuple[float, list[Any]]:
    import pandas as pd

    seconds = _loop(_cached(function, folder), count, folder)
    assert len(CALLS) == count
    return seconds, list(pd.read_parquet(folder / "frame.parquet")["y"])


def texts(count: int, folder: Path) -> tuple[float, float, float]:
    """W12."""
    seconds, found = _answers(long_text, count, folder)
    large_cells.check_texts(found, count)
    return seconds, 0, count


def judgements(count: int, folder: Path) -> tuple[float, float, float]:
    """Parquet stores the objects as structs (W12j)."""
    seconds, found = _answers(judgement, count, folder)
    large_cells.check_judgements(({**each, "reasons": list(each["reasons"])} for each in found), count)
    return seconds, 0, count


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
            "W10": vectors,
            "W10b": vector_batches,
            "W11": files,
            "W11r": reused_files,
            "W12": texts,
            "W12j": judgements,
            "crash-job": crash_job,
        }
    )
