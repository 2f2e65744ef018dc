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


mark.__annotations__ = {"x": int, "return": str}  # DataChain reads them, and cannot read postponed ones.


def rows(count: int, folder: Path) -> tuple[float, float, float]:
    """W1."""
    del folder
    start = time.perf_counter()
    saved = dc.read_values(x=list(range(count))).map(y=mark, output=str).save("marks")
    seconds = time.perf_counter() - start
    assert saved.count() == count
    return seconds, 0, len(CALLS)


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
            "W2": frame,
            "W3": "saving a chain anew calls the function for all rows; `delta=True` is for files in storage.",
            "W4": "a chain over values in memory cannot go on after a SIGKILL; its checkpoints are for whole chains.",
            "W6": "`parallel` starts processes, not threads.",
        }
    )
