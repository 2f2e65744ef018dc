"""C1: rows in actors of a local Ray cluster, beside a bare pool of as many actors. It needs `tablevault[ray]`."""

from __future__ import annotations

import importlib
import importlib.util
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import processes, vaults
from benchmarks.measuring import Result, Way, interleaved

_BUILDER = """
builder_type: ColumnBuilder
changed_columns: [y]
code_module: burning
is_custom: true
python_function: burn
return_type: row-wise
executor: ray
min_workers: {workers}
max_workers: {workers}
arguments: {{x: "<<self.x[index]>>", seconds: {seconds:f}}}
"""

_WORKERS = 2
_CHUNK = 100
"""Rows of one task of the bare pool, where they are short."""


def computing(rounds: int, count: int | None = None) -> list[Result]:
    """C1: rows of 5 ms of computing, and trivial ones, in two actors. Nothing where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        return []
    with _cluster() as ray:
        return [
            _compared(ray, 0.005, count or 2_000, 1, 1.1, rounds),
            _compared(ray, 0.0, count or 50_000, _CHUNK, 2.5, rounds),
        ]


@contextmanager
def _cluster() -> Iterator[Any]:
    ray = importlib.import_module("ray")
    ray.init(address="local", num_cpus=2 * _WORKERS, include_dashboard=False, log_to_driver=False)
    try:
        yield ray
    finally:
        ray.shutdown()


def _compared(ray: Any, seconds: float, count: int, chunk: int, limit: float, rounds: int) -> Result:
    """Compare with a pool of actors whose tasks are chunks of a fixed size, two for each actor."""
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


def _product(seconds: float, count: int, folder: Path) -> float:
    vault = vaults.new_vault(folder)
    vault.create_code_module("burning", text=processes.CODE)
    builder = _BUILDER.format(workers=_WORKERS, seconds=seconds)
    index = processes.INDEX.format(count=count)
    vault.create_table("burned")
    vault.create_instance("burned", builders={"burned_index": index, "burned": builder})
    start = time.perf_counter()
    vault.execute_instance("burned", process_id="work")
    taken = time.perf_counter() - start
    assert vault.read("burned")["y"].tolist() == list(range(count))
    return taken


class _Burner:
    """An actor of the bare pool."""

    def burn(self, rows: list[int], seconds: float) -> list[int]:
        return [processes.burn(x, seconds) for x in rows]


def _pool(ray: Any, seconds: float, count: int, chunk: int, _: Path) -> float:
    start = time.perf_counter()
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
    return time.perf_counter() - start
