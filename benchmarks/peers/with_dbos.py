"""DBOS: a workflow that calls a step per row; each step's result is in its database before the next one begins."""

from __future__ import annotations

import time
from pathlib import Path

import workload
from dbos import DBOS, DBOSConfig, SetWorkflowID

CALLS = []


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
            "crash-job": crash_job,
        }
    )
