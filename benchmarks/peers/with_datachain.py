"""A chain of DataChain that maps a function and saves a dataset."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("DATACHAIN_ROOT_DIR", str(Path(sys.argv[3]) / "datachain"))
import datachain as dc
import large_cells
import numpy as np
import workload

CALLS: list[int] = []
CHECKPOINTED = 32
"""Rows of a batch of W4, whose function takes a millisecond."""


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
    """A merge (W1r)."""
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
    """An additional dataset of three rows, and an additional version of one (W5)."""
    del folder
    return workload.growing(count, lambda number: _write(f"table{number}"), lambda _: _write("marks"))


def _write(name: str) -> None:
    dc.read_values(x=[1, 2, 3]).save(name)


def side_by_side(_: int, folder: Path) -> tuple[float, float, float]:
    """Versions of a dataset per interpreter (W7)."""
    return workload.side_by_side(__file__, folder)


def write_job(number: int, folder: Path) -> tuple[float, float, float]:
    """Save versions of one dataset."""
    del folder
    return workload.writing(lambda: _write(f"table{number}"))


def crash(count: int, folder: Path) -> tuple[float, float, float]:
    """Rows of a saved dataset (W4).

    Checkpoints do not recognize values that a script reads again.
    """
    dc.read_values(x=list(range(count))).save("numbers")
    return workload.killed_and_resumed(__file__, count, folder)


def crash_job(_: int, folder: Path) -> tuple[float, float, float]:
    """Run the job of W4 once; its checkpoints recognize the same script with the same chain."""
    del folder
    numbers = dc.read_dataset("numbers").settings(batch_size=CHECKPOINTED)
    numbers.map(y=slow_mark, output=str).save("marks")
    return 0, 0, 0


def slow_mark(x: int) -> str:
    """Do the same in a millisecond, noting each call."""
    return workload.logged_mark(x, str(Path(sys.argv[3]) / "calls.log"))


# DataChain reads annotations, and cannot read postponed ones.
mark.__annotations__ = {"x": int, "return": str}
mark_found.__annotations__ = {"z": str, "return": str}
slow_mark.__annotations__ = {"x": int, "return": str}
mark_all.__annotations__ = {"count": int}


def embed(x: int) -> list[float]:
    """Count a call and return a vector as a list of numbers.

    Columns have such lists.
    """
    CALLS.append(x)
    numbers: list[float] = large_cells.embed(x).tolist()
    return numbers


def write_file(x: int) -> dc.File:
    """Count a call and write a file."""
    with (Path(sys.argv[3]) / "calls.log").open("a", encoding="utf-8") as log:
        log.write(f"{x}\n")
    return dc.File.upload(large_cells.content(x), f"{sys.argv[3]}/files/{x}.bin")


def long_text(x: int) -> str:
    """Count a call and return a text."""
    CALLS.append(x)
    return large_cells.long_text(x)


def judgement(x: int) -> dict[str, Any]:
    """Count a call and return an object."""
    CALLS.append(x)
    return large_cells.judgement(x)


for function, returned in ((embed, list[float]), (write_file, dc.File), (long_text, str), (judgement, dict)):
    function.__annotations__ = {"x": int, "return": returned}


def _saved(function: Callable[[int], object], count: int) -> float:
    """Return the seconds of saving what a function returns for each row."""
    start = time.perf_counter()
    dc.read_values(x=list(range(count))).map(y=function).save("cells")
    return time.perf_counter() - start


def _cells() -> list[Any]:
    found: list[Any] = dc.read_dataset("cells").order_by("x").to_values("y")
    return found


def vectors(count: int, folder: Path) -> tuple[float, float, float]:
    """W10."""
    del folder
    seconds = _saved(embed, count)
    assert len(CALLS) == count
    start = time.perf_counter()
    found = np.array(_cells(), dtype=np.float32)
    reading = time.perf_counter() - start
    large_cells.check_vectors(found, range(count))
    return seconds, reading, count


def files(count: int, folder: Path) -> tuple[float, float, float]:
    """Files that are uploaded to a folder, and a dataset of them (W11)."""
    seconds = _saved(write_file, count)
    assert (folder / "calls.log").read_text().count("\n") == count
    large_cells.check_contents((file.read() for file in _cells()), count)
    return seconds, 0, count


def reused_files(count: int, folder: Path) -> tuple[float, float, float]:
    """The same script again, whose checkpoints recognize the chain (W11r)."""
    dc.read_values(x=list(range(count))).save("numbers")
    first, second = (_file_job(count, folder) for _ in range(2))
    calls = (folder / "calls.log").read_text().count("\n") - count
    assert first > second
    large_cells.check_contents((file.read() for file in _cells()), count)
    return second, 0, calls


def _file_job(count: int, folder: Path) -> float:
    command = [sys.executable, __file__, "file-job", str(count), str(folder)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-4])


def file_job(_: int, folder: Path) -> tuple[float, float, float]:
    """Run the job of W11r once."""
    del folder
    start = time.perf_counter()
    dc.read_dataset("numbers").map(y=write_file).save("cells")
    return time.perf_counter() - start, 0, 0


def texts(count: int, folder: Path) -> tuple[float, float, float]:
    """W12."""
    del folder
    seconds = _saved(long_text, count)
    assert len(CALLS) == count
    large_cells.check_texts(_cells(), count)
    return seconds, 0, count


def judgements(count: int, folder: Path) -> tuple[float, float, float]:
    """W12j."""
    del folder
    seconds = _saved(judgement, count)
    assert len(CALLS) == count
    large_cells.check_judgements(_cells(), count)
    return seconds, 0, count


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
            "W10": vectors,
            "W10b": "`map` calls a function per row; `agg` calls one per group of rows with a common value.",
            "W11": files,
            "W11r": reused_files,
            "W12": texts,
            "W12j": judgements,
            "file-job": file_job,
            "write-job": write_job,
            "crash-job": crash_job,
        }
    )
