"""TableVault, this checkout."""

from __future__ import annotations

from pathlib import Path

import vault_work
import workload

import tablevault.operations.execute
import tablevault.operations.write  # noqa: F401 - peers have imported everything by then, too
from tablevault import TableVault


def crash(count: int, folder: Path) -> tuple[float, float, float]:
    """W4: the same call with the same process id goes on."""
    vault_work.prepare_crash(count, folder)
    return workload.killed_and_resumed(__file__, count, folder)


def crash_job(_: int, folder: Path) -> tuple[float, float, float]:
    """Run the job of W4 once."""
    TableVault(folder / "vault").execute_instance("marks", process_id="job")
    return 0, 0, 0


def side_by_side(_: int, folder: Path) -> tuple[float, float, float]:
    """W7."""
    vault_work.prepare_writers(folder)
    return workload.side_by_side(__file__, folder)


if __name__ == "__main__":
    workload.run(
        {
            "W1": vault_work.rows,
            "W1r": vault_work.look_up,
            "W1g": vault_work.generator,
            "W2": vault_work.frame,
            "W3": vault_work.additions,
            "W4": crash,
            "W5": vault_work.growing,
            "W6": vault_work.threads,
            "W7": side_by_side,
            "crash-job": crash_job,
            "write-job": vault_work.write_job,
        }
    )
