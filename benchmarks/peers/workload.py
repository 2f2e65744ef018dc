"""Shared code of the peers' scripts.

It runs in their environments, so it needs only Python and pandas.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

NOT_POSSIBLE = 3
Work = Callable[[int, Path], tuple[float, float, float]]
"""Takes rows and an empty folder; returns seconds, seconds (of reading, for W2) and calls."""

WRITERS = 8
WRITING_SECONDS = 4.0


def run(works: dict[str, Work | str]) -> None:
    """Do the work of the command line, and print its figures.

    If it cannot be done, a text gives the reason.

    The last figure is by how many megabytes the interpreter's peak memory grew meanwhile.
    """
    work = works[sys.argv[1]]
    if isinstance(work, str):
        sys.stdout.write(work + "\n")
        raise SystemExit(NOT_POSSIBLE)
    before = _peak()
    first, second, calls = work(int(sys.argv[2]), Path(sys.argv[3]))
    sys.stdout.write(f"\n{first} {second} {calls} {_peak() - before}\n")


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # Linux counts kilobytes.


def mark(x: object) -> str:
    """Return what the function of W1 returns."""
    return f"{x}-ok"


def logged_mark(x: object, log: str) -> str:
    """Do the same in a millisecond, noting each call in a file."""
    with Path(log).open("a", encoding="utf-8") as file:
        file.write(f"{os.getpid()} {x} {time.time()}\n")
    time.sleep(0.001)
    return mark(x)


def killed_and_resumed(script: str, rows: int, folder: Path) -> tuple[float, float, float]:
    """Run a script's `crash-job` twice, the first time until SIGKILL at half of the rows.

    Returns the seconds to the first new row, 0, and how many rows were computed again that were 50 ms old.
    """
    log = folder / "calls.log"
    command = [sys.executable, script, "crash-job", str(rows), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        while not log.exists() or log.read_text().count("\n") < rows // 2:
            if first.poll() is not None:
                raise SystemExit("the job ended before it was killed")
            time.sleep(0.005)
        killed = time.time()
        os.kill(first.pid, signal.SIGKILL)
    before = _calls(log)
    started = time.time()
    second = subprocess.run(command, check=False, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    if second.returncode:
        raise SystemExit(f"the job does not go on after SIGKILL: {second.stderr.strip().splitlines()[-1]}")
    after = _calls(log)[len(before) :]
    old = {row for _, row, at in before if at + 0.001 < killed - 0.05}
    seen = {row for _, row, _ in before}
    new = min(at for _, row, at in after if row not in seen)
    return new - started, 0.0, len(old & {row for _, row, _ in after})


def _calls(log: Path) -> list[tuple[str, str, float]]:
    lines = [line.split() for line in log.read_text().splitlines()]
    return [(process, row, float(at)) for process, row, at in lines]


def growing(count: int, create: Callable[[int], object], write: Callable[[int], object]) -> tuple[float, float, float]:
    """Create many tables, and write many small instances of one (W5).

    Returns the seconds of the first and of the last.

    The first five of each are left out: they also pay for what an interpreter imports and compiles once.
    """
    creations = [_seconds(create, number) for number in range(count)]
    writings = [_seconds(write, number) for number in range(count)]
    first = median(creations[5:10]) + median(writings[5:10])
    return first, median(creations[-5:]) + median(writings[-5:]), 0


def _seconds(operation: Callable[[int], object], number: int) -> float:
    start = time.perf_counter()
    operation(number)
    return time.perf_counter() - start


def side_by_side(script: str, folder: Path) -> tuple[float, float, float]:
    """Run a script's `write-job` (W7).

    Returns the writes per second of one interpreter, and of all side by side.
    """
    return _writes(script, folder, 1), _writes(script, folder, WRITERS), 0


def _writes(script: str, folder: Path, count: int) -> float:
    writers = [
        subprocess.Popen(
            [sys.executable, script, "write-job", str(number), str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(count)
    ]
    for writer in writers:
        while writer.stdout and (line := writer.stdout.readline()) != "ready\n":
            if not line:
                raise SystemExit(f"a writer ended early: {writer.communicate()[1].strip().splitlines()[-1:]}")
    for writer in writers:
        assert writer.stdin
        writer.stdin.write("\n")
        writer.stdin.flush()
    written = 0.0
    for writer in writers:
        output, errors = writer.communicate()
        if writer.returncode:
            raise SystemExit(f"a writer failed: {errors.strip().splitlines()[-1]}")
        written += float(output.split()[-4])
    return written / WRITING_SECONDS


def writing(write: Callable[[], object]) -> tuple[float, float, float]:
    """Write small instances for some seconds, once all writers are ready; return how many."""
    write()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    written = 0
    end = time.perf_counter() + WRITING_SECONDS
    while time.perf_counter() < end:
        write()
        written += 1
    return written, 0, 0


def small_frame():  # noqa: ANN201 - of whichever pandas the environment has
    """Return the frame of W5 and W7."""
    import pandas as pd

    return pd.DataFrame({"x": [1, 2, 3]})


def mixed_frame(rows: int):  # noqa: ANN201 - of whichever pandas the environment has
    """Return the frame of W2."""
    import numpy as np
    import pandas as pd

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
