"""Duration of operations as a vault grows, and their number of fsyncs (W5)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import pandas as pd

from benchmarks import baselines, vaults
from benchmarks.measuring import Result, empty_folder
from tablevault import TableVault

FRAME = pd.DataFrame({"x": [1, 2, 3]})
TIMES = 5
"""How often each kind of operation is measured, before and after the vault grows."""

WARM_UP = 5
"""How often before that: the very first operations of an interpreter also pay for what is imported and compiled."""


def latencies(count: int) -> list[Result]:
    """Measure each kind of operation, make many tables and many instances of one, and measure again."""
    with empty_folder() as folder:
        vault = _prepared(folder)
        fsync = baselines.one_fsync(folder)
        Kinds(vault, "warm-up").measured(WARM_UP)
        first = Kinds(vault, "first").measured(TIMES)
        for number in range(count):
            vault.create_table(f"table{number}")
            vault.create_instance("many", external_edit=True)
            vault.write_instance(FRAME, "many")
        assert len(vault.get_tables()) >= count
        assert len(vault.get_table_instances("many")) >= count
        last = Kinds(vault, "last").measured(TIMES)
    growth = [_growth(f"{kind} among {count:,}", first[kind], last[kind]) for kind in first]
    return [
        *growth,
        _in_fsyncs("create_table", last["create_table"], fsync, 10),
        _in_fsyncs("write_instance of 3 rows", last["write_instance"], fsync, 25),
        _small(last["execute_instance"]),
    ]


def _prepared(folder: Path) -> TableVault:
    vault = vaults.new_vault(folder)
    vault.create_table("many")
    vault.create_table("made")
    vault.create_instance("many", external_edit=True)
    vault.write_instance(FRAME, "many")
    vaults.count_calls()
    return vault


class Kinds:
    """Each kind of operation, some times; the median seconds of each.

    Parameters
    ----------
    vault
        Where.
    phase
        What the names of the tables begin with.
    """

    def __init__(self, vault: TableVault, phase: str) -> None:
        self._vault = vault
        self._phase = phase
        self._seconds: dict[str, list[float]] = {}

    def measured(self, times: int) -> dict[str, float]:
        """Return the median seconds of each kind."""
        for number in range(times):
            self._all(f"{self._phase}-{number}")
        return {kind: median(seconds) for kind, seconds in self._seconds.items()}

    def _all(self, table: str) -> None:
        vault = self._vault
        with self._timed("create_table"):
            vault.create_table(table)
        with self._timed("create_instance"):
            vault.create_instance(table, external_edit=True)
        with self._timed("write_instance"):
            vault.write_instance(FRAME, table)
        vault.create_instance("made", builders={"made_index": vaults.index_builder(4), "mark": vaults.row_builder()})
        with self._timed("execute_instance"):
            vault.execute_instance("made")
        with self._timed("get_dataframe"):
            vault.get_dataframe("many")
        with self._timed("get_active_processes"):
            vault.get_active_processes()
        with self._timed("opening"):
            TableVault(vault.db_dir, author="benchmark")
        instance = vault.get_table_instances(table)[0]
        with self._timed("rename_table"):
            vault.rename_table(f"{table}-renamed", table)
        with self._timed("delete_instance"):
            vault.delete_instance(instance, f"{table}-renamed")
        with self._timed("delete_table"):
            vault.delete_table(f"{table}-renamed")

    @contextmanager
    def _timed(self, kind: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self._seconds.setdefault(kind, []).append(time.perf_counter() - start)


def _growth(what: str, first: float, last: float) -> Result:
    at_first = f"{first * 1e3:.1f} ms at first"
    return Result("W5", what, f"{last * 1e3:.1f} ms", at_first, last / first, "≤ 1.3 ×", last <= 1.3 * first)


def _small(seconds: float) -> Result:
    milliseconds = seconds * 1e3
    return Result(
        "W5",
        "execute_instance of 2 builders and 4 rows",
        f"{milliseconds:.1f} ms",
        "",
        milliseconds,
        "≤ 10 ms",
        milliseconds <= 10,
        unit=" ms",
    )


def _in_fsyncs(what: str, seconds: float, fsync: float, limit: int) -> Result:
    ratio = seconds / fsync
    return Result(
        "W5", what, f"{seconds * 1e3:.1f} ms", f"{fsync * 1e3:.2f} ms per fsync", ratio, f"≤ {limit} ×", ratio <= limit
    )
