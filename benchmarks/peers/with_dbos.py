"""A workflow of DBOS with a step per row.

Each step's result is in its database before the next one begins.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import large_cells
import numpy as np
import workload
from dbos import DBOS, DBOSConfig, SetWorkflowID

CALLS: list[int] = []


@DBOS.step()
def mark(x: int) -> str:
    """Count a call and return its result."""
    CALLS.append(x)
    return workload.mark(x)


@DBOS.step()
def logged_mark(x: int, log: str) -> str:
    """Return a result after a millisecond."""
    return workload.logged_mark(x, log)


@DBOS.workflow()
def loop(count: int) -> list[str]:
    """Call the step for each row."""
    return [mark(x) for x in range(count)]


@DBOS.workflow()
def slow_loop(count: int, log: str) -> list[str]:
    """Call the slow step for each row."""
    return [logged_mark(x, log) for x in range(count)]


@DBOS.step()
def embed(x: int) -> large_cells.FloatArray:
    """Count a call and return a vector."""
    CALLS.append(x)
    return large_cells.embed(x)


@DBOS.step()
def embed_batch(x: list[int]) -> large_cells.FloatArray:
    """Count the rows and return their vectors."""
    CALLS.extend(x)
    return large_cells.embed_batch(x)


@DBOS.step()
def long_text(x: int) -> str:
    """Count a call and return a text."""
    CALLS.append(x)
    return large_cells.long_text(x)


@DBOS.step()
def judgement(x: int) -> dict[str, Any]:
    """Count a call and return an object."""
    CALLS.append(x)
    return large_cells.judgement(x)


@DBOS.workflow()
def loop_vectors(count: int) -> int:
    """Call the step for each row; the results stay with the steps."""
    return sum(len(embed(x)) > 0 for x in range(count))


@DBOS.workflow()
def loop_batches(count: int) -> int:
    """Call the step for each batch."""
    return sum(len(embed_batch(list(batch))) for batch in large_cells.batches(count))


@DBOS.workflow()
def loop_texts(count: int) -> int:
    """Call the step for each row."""
    return sum(len(long_text(x)) > 0 for x in range(count))


@DBOS.workflow()
def loop_judgements(count: int) -> int:
    """Call the step for each row."""
    return sum(len(judgement(x)) > 0 for x in range(count))


def _launch(folder: Path) -> None:
    DBOS(config=DBOSConfig(name="peer", system_database_url=f"sqlite:///{folder}/dbos.sqlite", run_admin_server=False))
    DBOS.launch()


def rows(count: int, folder: Path) -> tuple[float, float, float]:
    """W1."""
    _launch(folder)
    start = time.perf_counter()
    assert len(loop(count)) == count
    seconds = time.perf_counter() - start
    DBOS.destroy()
    return seconds, 0, len(CALLS)


def crash(count: int, folder: Path) -> tuple[float, float, float]:
    """W4."""
    return workload.killed_and_resumed(__file__, count, folder)


def crash_job(count: int, folder: Path) -> tuple[float, float, float]:
    """Run the job of W4 once."""
    _launch(folder)
    with SetWorkflowID("job"):
        handle = DBOS.start_workflow(slow_loop, count, str(folder / "calls.log"))
    handle.get_result()
    DBOS.destroy()
    return 0, 0, 0


def _steps(workflow: Callable[[int], int], count: int, folder: Path) -> float:
    """Return the seconds of a workflow named "work" that calls a step per row or batch."""
    _launch(folder)
    start = time.perf_counter()
    with SetWorkflowID("work"):
        assert workflow(count) == count
    seconds = time.perf_counter() - start
    assert len(CALLS) == count
    return seconds


def _results() -> list[Any]:
    return [step["output"] for step in DBOS.list_workflow_steps("work")]


def _vectors(workflow: Callable[[int], int], count: int, folder: Path) -> tuple[float, float, float]:
    seconds = _steps(workflow, count, folder)
    start = time.perf_counter()
    found = np.vstack(_results())
    reading = time.perf_counter() - start
    large_cells.check_vectors(found, range(count))
    DBOS.destroy()
    return seconds, reading, count


def vectors(count: int, folder: Path) -> tuple[float, float, float]:
    """W10."""
    return _vectors(loop_vectors, count, folder)


def vector_batches(count: int, folder: Path) -> tuple[float, float, float]:
    """W10b."""
    return _vectors(loop_batches, count, folder)


def texts(count: int, folder: Path) -> tuple[float, float, float]:
    """W12."""
    seconds = _steps(loop_texts, count, folder)
    large_cells.check_texts(_results(), count)
    DBOS.destroy()
    return seconds, 0, count


def judgements(count: int, folder: Path) -> tuple[float, float, float]:
    """W12j."""
    seconds = _steps(loop_judgements, count, folder)
    large_cells.check_judgements(_results(), count)
    DBOS.destroy()
    return seconds, 0, count


if __name__ == "__main__":
    workload.run(
        {
            "W1": rows,
            "W1r": "DBOS has no tables for a look-up.",
            "W1g": "a step returns one result, so each yielded row would be a step, as in W1.",
            "W2": "DBOS stores results of steps, not tables.",
            "W3": "DBOS has no reuse between workflows: a second workflow calls every step again.",
            "W4": crash,
            "W5": "DBOS stores results of steps, not tables.",
            "W6": "the steps of a workflow run sequentially; queues apply to workflows.",
            "W7": "DBOS stores results of steps, not tables.",
            "W10": vectors,
            "W10b": vector_batches,
            "W11": "DBOS stores results of steps; files that a step writes are its own affair.",
            "W11r": "DBOS has no reuse between workflows: a second workflow calls every step again.",
            "W12": texts,
            "W12j": judgements,
            "crash-job": crash_job,
        }
    )
