"""Pixeltable: a table with a computed column; rows are computed when they are inserted."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ["PIXELTABLE_HOME"] = str(Path(sys.argv[3]) / "pixeltable")
os.environ["PIXELTABLE_VERBOSITY"] = "0"
import pixeltable as pxt
import workload
from pixeltable_functions import CALLS, mark


def _table():  # noqa: ANN202
    table = pxt.create_table("marks", {"x": pxt.Int})
    table.add_computed_column(y=mark(table.x))
    return table


def rows(count: int, folder: Path) -> tuple[float, float, float]:
    """W1."""
    del folder
    table = _table()
    start = time.perf_counter()
    table.insert([{"x": x} for x in range(count)])
    return time.perf_counter() - start, 0, len(CALLS)


def additions(count: int, folder: Path) -> tuple[float, float, float]:
    """W3: an insert, which has nothing to decide."""
    rows(count, folder)
    CALLS.clear()
    table = pxt.get_table("marks")
    start = time.perf_counter()
    table.insert([{"x": x} for x in range(count, count + 100)])
    return time.perf_counter() - start, 0, len(CALLS)


def frame(count: int, folder: Path) -> tuple[float, float, float]:
    """W2."""
    del folder
    data = workload.mixed_frame(count)
    start = time.perf_counter()
    table = pxt.create_table("frame", source=data)
    written = time.perf_counter()
    assert len(table.collect().to_pandas()) == count
    return written - start, time.perf_counter() - written, 0


if __name__ == "__main__":
    workload.run(
        {
            "W1": rows,
            "W2": frame,
            "W3": additions,
            "W4": "an insert that is killed leaves no rows: all of them are computed again by the next.",
            "W6": "rows of a computed column run in one thread, unless the function is asynchronous.",
        }
    )
