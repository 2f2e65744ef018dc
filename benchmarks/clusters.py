"""Rows in actors of a local Ray cluster (C1).

The baseline is a bare pool of as many actors. Needs `tablevault[ray]`.

`python -m benchmarks.clusters EXECUTOR ROWS` prints by how many megabytes the memory of one execution peaks.
"""

from __future__ import annotations

import importlib
import importlib.util
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import processes, vaults
from benchmarks.frames import MEGABYTE, forget_peak, peak_so_far
from benchmarks.measuring import Result, Way, empty_folder, interleaved
from tablevault import TableVault

_BUILDER = """
builder_type: ColumnBuilder
changed_columns: [y]
code_module: burning
is_custom: true
python_function: burn
return_type: row-wise
{executor}
arguments: {{x: "<<self.x[index]>>", seconds: {seconds:f}}}
"""

_WORKERS = 2
_ON_RAY = f"executor: ray\nmin_workers: {_WORKERS}\nmax_workers: {_WORKERS}"
_CHUNK = 100
"""Rows of one task of the bare pool, where they are short."""


def computing(rounds: int, count: int | None = None) -> list[Result]:
    """Rows of 5 ms of computing, and trivial ones, in two actors (C1).

    Returns no figures if Ray is not installed.
    """
    if importlib.util.find_spec("ray") is None:
        return []
    with _cluster() as ray:
        found = [
            _compared(ray, 0.005, count or 2_000, 1, 1.1, rounds),
            _compared(ray, 0.0, count or 50_000, _CHUNK, 2.5, rounds),
            _driver(ray, count or 50_000, rounds),
        ]
    return [*found, _started(rounds), _memory(count or 50_000)]


@contextmanager
def _cluster() -> Iterator[Any]:
    ray = importlib.import_module("ray")
    ray.init(address="local", num_cpus=2 * _WORKERS, include_dashboard=False, log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


def _compared(ray: Any, seconds: float, count: int, chunk: int, limit: float, rounds: int) -> Result:
    """Compare with a pool of actors.

    Its tasks are chunks of a fixed size, two for each actor.
    """
    ways: dict[str, Way] = {
        "product": partial(_product, seconds, count),
        "pool": partial(_pool, ray, seconds, count, chunk),
    }
    samples = interleaved(ways, rounds)
    product, pool = samples["product"].median, samples["pool"].median
    what = f"{seconds * 1e3:g} ms" if seconds else "next to nothing"
    return Result(
        "C1",
        f"{count:,} rows of {what}, {_WORKERS} Ray actors",
        f"{product:.2f} s",
        f"{pool:.2f} s (a pool of actors, {chunk} a task)",
        product / pool,
        f"≤ {limit} ×",
        product <= limit * pool,
        samples["product"].spread,
    )


def _driver(ray: Any, count: int, rounds: int) -> Result:
    """Compare the processor time of the interpreter that submits trivial rows."""
    samples = interleaved(
        {
            "product": partial(_product, 0.0, count, clock=time.process_time),
            "pool": partial(_pool, ray, 0.0, count, _CHUNK, clock=time.process_time),
        },
        rounds,
    )
    product, pool = samples["product"].median, samples["pool"].median
    return Result(
        "C1",
        f"{count:,} rows of next to nothing, processor time of the driver",
        f"{product:.2f} s",
        f"{pool:.2f} s (a pool of actors, {_CHUNK} a task)",
        product / pool,
        "≤ 1.8 ×",
        product <= 1.8 * pool,
        samples["product"].spread,
    )


def _started(rounds: int) -> Result:
    """Measure from the start of a cluster until two actors have computed a row each."""

    def started(folder: Path) -> float:
        vault = _vault(folder, 0.0, _WORKERS, _ON_RAY)
        start = time.perf_counter()
        with _cluster():
            vault.execute_instance("burned", process_id="work")
            return time.perf_counter() - start

    seconds = interleaved({"start": started}, min(rounds, 3))["start"]
    return Result(
        "C1",
        f"from ray.init() to {_WORKERS} rows of {_WORKERS} actors",
        f"{seconds.median:.2f} s",
        "–",
        seconds.median,
        "≤ 6 s",
        seconds.median <= 6.0,
        seconds.spread,
        unit=" s",
    )


def _memory(count: int) -> Result:
    """Compare the growth of the driver's memory for ten times the rows.

    It is measured with and without a cluster.
    """
    grown = {
        executor: _peak(executor, 10 * count) - _peak(executor, count) for executor in ("executor: threads", _ON_RAY)
    }
    more = grown[_ON_RAY] - grown["executor: threads"]
    return Result(
        "C1",
        f"memory of the driver, {10 * count:,} rows beside {count:,}",
        f"{grown[_ON_RAY]:.0f} MB more",
        f"{grown['executor: threads']:.0f} MB more (threads)",
        more,
        "≤ 20 MB more than threads",
        more <= 20,
        unit=" MB",
    )


def _peak(executor: str, count: int) -> float:
    command = [sys.executable, "-m", "benchmarks.clusters", executor, str(count)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(output.split()[-1])


def _vault(folder: Path, seconds: float, count: int, executor: str) -> TableVault:
    vault = vaults.new_vault(folder)
    vault.create_code_module("burning", text=processes.CODE)
    builder = _BUILDER.format(executor=executor, seconds=seconds)
    index = processes.INDEX.format(count=count)
    vault.create_table("burned")
    vault.create_instance("burned", builders={"burned_index": index, "burned": builder})
    return vault


def _product(seconds: float, count: int, folder: Path, clock: Callable[[], float] = time.perf_counter) -> float:
    vault = _vault(folder, seconds, count, _ON_RAY)
    start = clock()
    vault.execute_instance("burned", process_id="work")
    taken = clock() - start
    assert vault.read("burned")["y"].tolist() == list(range(count))
    return taken


class _Burner:
    """An actor of the bare pool."""

    def burn(self, rows: list[int], seconds: float) -> list[int]:
        return [processes.burn(x, seconds) for x in rows]


def _pool(
    ray: Any, seconds: float, count: int, chunk: int, _: Path, clock: Callable[[], float] = time.perf_counter
) -> float:
    start = clock()
    actors = [ray.remote(_Burner).remote() for _ in range(_WORKERS)]
    chunks = [list(range(at, min(at + chunk, count))) for at in range(0, count, chunk)]
    waiting = iter(chunks)
    running = {}
    for actor in actors * 2:
        rows = next(waiting, None)
        if rows is not None:
            running[actor.burn.remote(rows, seconds)] = actor
    done = 0
    while running:
        (reference,), _rest = ray.wait(list(running), num_returns=1)
        actor = running.pop(reference)
        done += len(ray.get(reference))
        rows = next(waiting, None)
        if rows is not None:
            running[actor.burn.remote(rows, seconds)] = actor
    for actor in actors:
        ray.kill(actor)
    assert done == count
    return clock() - start


def main() -> None:
    """Execute once, and print the growth of memory at its peak, in megabytes."""
    executor, count = sys.argv[1], int(sys.argv[2])
    with empty_folder() as folder:
        vault = _vault(folder, 0.0, count, executor)
        if executor == _ON_RAY:
            with _cluster():
                before = forget_peak()
                vault.execute_instance("burned", process_id="work")
                grown = peak_so_far() - before
        else:
            before = forget_peak()
            vault.execute_instance("burned", process_id="work")
            grown = peak_so_far() - before
    sys.stdout.write(f"{grown / MEGABYTE}\n")


if __name__ == "__main__":
    main()
