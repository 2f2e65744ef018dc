"""DataChain: a chain that maps a function over rows and saves the result as a dataset."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.setdefault("DATACHAIN_ROOT_DIR", str(Path(sys.argv[3]) / "datachain"))
import datachain as dc
import workload

CALLS = []


def mark(x: int) -> str:
    """Count a call and return its result."""
    CALLS.append(x)
    return workload.mark(x)


def mark_found(z: str) -> str:
    """Do the same with what was looked up."""
    return mark(z)


def mark_all(count: int):  # noqa: ANN201 - given as `output`
    """Yield all results."""
    for x in range(count):
        yield mark(x)


def rows(count: int, folder: Path) -> tuple[float, float, float]:
    """W1."""
    del folder
    start = time.perf_counter()
    saved = dc.read_values(x=list(range(count))).map(y=mark, output=str).save("marks")
    seconds = time.perf_counter() - start
    assert saved.count() == count
    return seconds, 0, len(CALLS)


def look_up(count: int, folder: Path) -> tuple[float, float, float]:
    """W1r: a merge."""
    del folder
    keys = list(range(count))
    dc.read_values(key=keys, z=[f"{x}-there" for x in keys]).save("other")
    start = time.perf_counter()
    chain = dc.read_values(x=keys).merge(dc.read_dataset("other"), on="x", right_on="key")
    saved = chain.map(y=mark_found, output=str).save("marks")
    seconds = time.perf_counter() - start
    assert saved.count() == count
    return seconds, 0, len(CALLS)


def generator(count: int, folder: Path) -> tuple[float, float, float]:
    """W1g."""
    del folder
    start = time.perf_counter()
    saved = dc.read_values(count=[count]).gen(y=mark_all, output=str).save("marks")
    seconds = time.perf_counter() - start
    assert saved.count() == count
    return seconds, 0, len(CALLS)


def growing(count: int, folder: Path) -> tuple[float, float, float]:
    """W5: a dataset of three rows more, and a version of one more."""
    del folder
    return workload.growing(count, lambda number: _write(f"table{number}"), lambda _: _write("marks"))


def _write(name: str) -> None:
    dc.read_values(x=[1, 2, 3]).save(name)


def side_by_side(_: int, folder: Path) -> tuple[float, float, float]:
    """W7: versions of a dataset per interpreter."""
    return workload.side_by_side(__file__, folder)


def write_job(number: int, folder: Path) -> tuple[float, float, float]:
    """Save versions of one dataset."""
    del folder
    return workload.writing(lambda: _write(f"table{number}"))


def crash(count: int, folder: Path) -> tuple[float, float, float]:
    """W4."""
    return workload.killed_and_resumed(__file__, count, folder)


def crash_job(count: int, folder: Path) -> tuple[float, float, float]:
    """Run the job of W4 once; its checkpoints recognize the same script with the same chain."""
    del folder
    dc.read_values(x=list(range(count))).map(y=slow_mark, output=str).save("marks")
    return 0, 0, 0


def slow_mark(x: int) -> str:
    """Do the same in a millisecond, noting each call."""
    return workload.logged_mark(x, str(Path(sys.argv[3]) / "calls.log"))


# DataChain reads annotations, and cannot read postponed ones.
mark.__annotations__ = {"x": int, "return": str}
mark_found.__annotations__ = {"z": str, "return": str}
slow_mark.__annotations__ = {"x": int, "return": str}
mark_all.__annotations__ = {"count": int}


def frame(count: int, folder: Path) -> tuple[float, float, float]:
    """W2."""
    del folder
    data = workload.mixed_frame(count)
    data["time"] = data["time"].dt.to_pydatetime().astype(object)  # It takes Python's times, not those of pandas.
    start = time.perf_counter()
    dc.read_pandas(data).save("frame")
    written = time.perf_counter()
    assert len(dc.read_dataset("frame").to_pandas()) == count
    return written - start, time.perf_counter() - written, 0


if __name__ == "__main__":
    workload.run(
        {
            "W1": rows,
            "W1r": look_up,
            "W1g": generator,
            "W2": frame,
            "W3": "saving a chain again calls the function for all rows; `delta=True` applies to files in storage.",
            "W4": crash,
            "W5": growing,
            "W6": "`parallel` starts processes, not threads.",
            "W7": side_by_side,
            "write-job": write_job,
            "crash-job": crash_job,
        }
    )
