"""A table of Pixeltable with a computed column.

Rows are computed when they are inserted.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ["PIXELTABLE_HOME"] = str(Path(sys.argv[3]) / "pixeltable")
os.environ["PIXELTABLE_VERBOSITY"] = "0"
import large_cells
import numpy as np
import pixeltable as pxt
import pixeltable_functions
import workload
from pixeltable_functions import CALLS, mark, mark_all, mark_found


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
    """An insert, without any decision (W3)."""
    rows(count, folder)
    CALLS.clear()
    table = pxt.get_table("marks")
    start = time.perf_counter()
    table.insert([{"x": x} for x in range(count, count + 100)])
    return time.perf_counter() - start, 0, len(CALLS)


def look_up(count: int, folder: Path) -> tuple[float, float, float]:
    """A table made from a join (W1r)."""
    del folder
    table = pxt.create_table("numbers", {"x": pxt.Int})
    table.insert([{"x": x} for x in range(count)])
    other = pxt.create_table("other", {"key": pxt.Int, "z": pxt.String})
    other.insert([{"key": x, "z": f"{x}-there"} for x in range(count)])
    start = time.perf_counter()
    joined = table.join(other, on=table.x == other.key).select(x=table.x, y=mark_found(other.z))
    marks = pxt.create_table("marks", source=joined)
    seconds = time.perf_counter() - start
    assert marks.count() == count
    return seconds, 0, len(CALLS)


def generator(count: int, folder: Path) -> tuple[float, float, float]:
    """A view through an iterator (W1g)."""
    del folder
    table = pxt.create_table("counts", {"rows": pxt.Int})
    table.insert([{"rows": count}])
    start = time.perf_counter()
    view = pxt.create_view("marks", table, iterator=mark_all(table.rows))
    seconds = time.perf_counter() - start
    assert view is not None
    assert view.count() == count
    return seconds, 0, len(CALLS)


def growing(count: int, folder: Path) -> tuple[float, float, float]:
    """An additional table, and three more rows in one, as a version of it (W5)."""
    del folder
    table = pxt.create_table("marks", {"x": pxt.Int})
    return workload.growing(count, lambda number: _small_table(f"table{number}"), lambda _: _write(table))


def _small_table(name: str):  # noqa: ANN202
    return pxt.create_table(name, {"x": pxt.Int})


def _write(table) -> None:  # noqa: ANN001
    table.insert([{"x": x} for x in range(3)])


def side_by_side(_: int, folder: Path) -> tuple[float, float, float]:
    """Rows inserted into a table per interpreter (W7)."""
    for number in range(workload.WRITERS):
        _small_table(f"table{number}")
    return workload.side_by_side(__file__, folder)


def write_job(number: int, folder: Path) -> tuple[float, float, float]:
    """Insert rows into one of the tables."""
    del folder
    table = pxt.get_table(f"table{number}")
    return workload.writing(lambda: _write(table))


def frame(count: int, folder: Path) -> tuple[float, float, float]:
    """W2."""
    del folder
    data = workload.mixed_frame(count)
    start = time.perf_counter()
    table = pxt.create_table("frame", source=data)
    written = time.perf_counter()
    assert len(table.collect().to_pandas()) == count
    return written - start, time.perf_counter() - written, 0


def _computed(function, count: int) -> float:  # noqa: ANN001
    """Return the seconds of inserting rows for which a function computes the column `y`."""
    table = pxt.create_table("cells", {"x": pxt.Int})
    table.add_computed_column(y=function(table.x))
    start = time.perf_counter()
    table.insert([{"x": x} for x in range(count)])
    seconds = time.perf_counter() - start
    assert len(CALLS) == count
    return seconds


def _cells():  # noqa: ANN202
    table = pxt.get_table("cells")
    return table.order_by(table.x).select(table.y).collect()["y"]


def _vectors(function, count: int) -> tuple[float, float, float]:  # noqa: ANN001
    seconds = _computed(function, count)
    start = time.perf_counter()
    found = np.stack(_cells())
    reading = time.perf_counter() - start
    large_cells.check_vectors(found, range(count))
    return seconds, reading, count


def vectors(count: int, folder: Path) -> tuple[float, float, float]:
    """W10."""
    del folder
    return _vectors(pixeltable_functions.embed, count)


def vector_batches(count: int, folder: Path) -> tuple[float, float, float]:
    """W10b."""
    del folder
    return _vectors(pixeltable_functions.embed_batch, count)


def files(count: int, folder: Path) -> tuple[float, float, float]:
    """A column of bytes, since its columns of files are for media (W11)."""
    del folder
    seconds = _computed(pixeltable_functions.content, count)
    large_cells.check_contents(_cells(), count)
    return seconds, 0, count


def texts(count: int, folder: Path) -> tuple[float, float, float]:
    """W12."""
    del folder
    seconds = _computed(pixeltable_functions.long_text, count)
    large_cells.check_texts(_cells(), count)
    return seconds, 0, count


def judgements(count: int, folder: Path) -> tuple[float, float, float]:
    """W12j."""
    del folder
    seconds = _computed(pixeltable_functions.judgement, count)
    large_cells.check_judgements(_cells(), count)
    return seconds, 0, count


if __name__ == "__main__":
    workload.run(
        {
            "W1": rows,
            "W1r": look_up,
            "W1g": generator,
            "W2": frame,
            "W3": additions,
            "W4": "a killed insert leaves no rows; the next one recomputes all of them.",
            "W5": growing,
            "W6": "rows of a computed column run in one thread, unless the function is asynchronous.",
            "W7": side_by_side,
            "W10": vectors,
            "W10b": vector_batches,
            "W11": files,
            "W11r": "computed cells stay in their table, whose versions share them: nothing is executed again.",
            "W12": texts,
            "W12j": judgements,
            "write-job": write_job,
        }
    )
