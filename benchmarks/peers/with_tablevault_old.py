"""TableVault 0.1.1."""

from __future__ import annotations

from pathlib import Path

import vault_work
import workload
from tablevault.core import TableVault


def crash(count: int, folder: Path) -> tuple[float, float, float]:
    """Unfinished work, continued by opening the vault with `restart=True` (W4)."""
    vault_work.prepare_crash(count, folder)
    return workload.killed_and_resumed(__file__, count, folder)


def crash_job(_: int, folder: Path) -> tuple[float, float, float]:
    """Run the job of W4 once."""
    has_begun = (folder / "calls.log").exists()
    vault = TableVault(str(folder / "vault"), "benchmark", restart=has_begun)
    if not has_begun:
        vault.execute_instance("marks", version="base", process_id="job")
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
            "W1g": "generators are described under `return_type`, but not accepted.",
            "W2": "a frame with a column of times cannot be read back: get_dataframe raises TVTableError.",
            "W3": vault_work.additions,
            "W4": crash,
            "W5": vault_work.growing,
            "W6": vault_work.threads,
            "W7": side_by_side,
            **dict.fromkeys(("W10", "W10b"), "0.1.1 has no columns of vectors."),
            **dict.fromkeys(("W11", "W11r", "W12", "W12j"), "not measured: see W1 for what a row costs."),
            "crash-job": crash_job,
            "write-job": vault_work.write_job,
        }
    )
