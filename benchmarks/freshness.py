"""S10: a refresh of tables that are up to date, against planning the execution of each."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from benchmarks import vaults
from benchmarks.measuring import Result, Way, empty_folder, interleaved
from tablevault import TableVault

ROWS = 100
"""Rows of each table."""

_MOST_ROUNDS = 3
"""Each takes seconds, and its spread is small."""


def fresh_tables(tables: int, rounds: int) -> list[Result]:
    """S10: a refresh of tables that are all fresh, against as many calls of `plan_instance`."""
    with empty_folder() as folder:
        vault = _vault(folder, tables)
        ways: dict[str, Way] = {
            "plans": _timed(lambda: [vault.plan_instance(name) for name in vault.get_tables()]),
            "refresh": _timed(vault.refresh),
        }
        samples = interleaved(ways, min(rounds, _MOST_ROUNDS))
        states = {status.state for status in vault.get_status().values()}
    if states != {"fresh"}:
        raise AssertionError(f"the tables were to be fresh, and are {states}")
    refresh, plans = samples["refresh"], samples["plans"]
    return [
        Result(
            "S10",
            f"refresh of {tables} fresh tables, against as many plan_instance",
            f"{refresh.median:.2f} s",
            f"{plans.median:.2f} s",
            refresh.median / plans.median,
            "≤ 1.5 ×",
            refresh.median <= 1.5 * plans.median,
            refresh.spread,
        )
    ]


def _timed(work: Callable[[], object]) -> Way:
    def way(_: Path) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return way


def _vault(folder: Path, tables: int) -> TableVault:
    """Make a vault whose tables, but for the first, each read another one."""
    vault = vaults.new_vault(folder)
    vaults.count_calls()
    for number in range(tables):
        name = f"t{number:03}"
        index = vaults.list_builder(ROWS) if not number else vaults.copy_builder(f"t{(number - 1) // 2:03}")
        vault.create_table(name)
        vault.create_instance(name, builders={f"{name}_index": index, "y": vaults.row_builder()})
        vault.execute_instance(name)
        # `plan_instance` plans a temporary instance; a refresh passes over one that was not edited.
        vault.create_instance(name, copy=True)
    return vault
