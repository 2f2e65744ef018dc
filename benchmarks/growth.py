"""W5: whether operations slow down as a vault grows."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import pandas as pd

from benchmarks import floors, vaults
from benchmarks.measuring import Result, empty_folder


def latencies(count: int) -> list[Result]:
    """Make many tables and many instances of one, and compare the last with the first."""
    frame = pd.DataFrame({"x": [1, 2, 3]})
    with empty_folder() as folder:
        vault = vaults.new_vault(folder)
        fsync = floors.one_fsync(folder)

        def write(_: int) -> None:
            vault.create_instance("many", external_edit=True)
            vault.write_instance(frame, "many")

        vault.create_table("many")
        writes = [_seconds(write, number) for number in range(count)]
        reads = [_seconds(lambda _: vault.get_dataframe("many"), number) for number in range(5)]
        tables = [_seconds(lambda number: vault.create_table(f"table{number}"), number) for number in range(count)]
        asks = [_seconds(lambda _: vault.get_active_processes(), number) for number in range(5)]
        single = []
        for number in range(15):
            vault.create_instance("many", external_edit=True)
            single.append(_seconds(lambda _: vault.write_instance(frame, "many"), number))
        assert len(vault.get_tables()) == count + 1
        assert len(vault.get_table_instances("many")) == count + 15
        del reads, asks
    return [
        _growth(f"create_table among {count:,}", tables),
        _growth(f"create_instance + write_instance among {count:,}", writes),
        _in_fsyncs("create_table", median(tables), fsync, 10),
        _in_fsyncs("write_instance of 3 rows", median(single), fsync, 25),
    ]


def _growth(what: str, seconds: list[float]) -> Result:
    # The very first operations of an interpreter also pay for what is imported and compiled once.
    first, last = median(seconds[5:10]), median(seconds[-5:])
    return Result(
        "W5",
        what,
        f"{last * 1e3:.1f} ms",
        f"{first * 1e3:.1f} ms at first",
        last / first,
        "≤ 1.3 ×",
        last <= 1.3 * first,
    )


def _in_fsyncs(what: str, seconds: float, fsync: float, limit: int) -> Result:
    ratio = seconds / fsync
    return Result(
        "W5", what, f"{seconds * 1e3:.1f} ms", f"{fsync * 1e3:.2f} ms per fsync", ratio, f"≤ {limit} ×", ratio <= limit
    )


def _seconds(operation: Callable[[int], object], number: int) -> float:
    start = time.perf_counter()
    operation(number)
    return time.perf_counter() - start
