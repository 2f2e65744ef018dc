"""A limit taken, against a bare transaction; and several interpreters under one limit (P6)."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from bisect import bisect_left
from pathlib import Path

from benchmarks.measuring import Result, Way, empty_folder, interleaved
from tablevault import TableVault
from tablevault.ports import Permit
from tablevault.storage.service_counters import ServiceCounters

INTERPRETERS = 4
LIMIT = 200
"""Calls per second of the service."""

CODE = """
import os
import time


def call(x, log):
    with open(log, "a") as file:
        file.write(f"{time.monotonic()!r}\\n")
    return x


def numbers(count):
    import pandas as pd

    return pd.DataFrame({"x": range(count)})
"""

INDEX = """
builder_type: IndexBuilder
changed_columns: [x]
code_module: calling
is_custom: true
python_function: numbers
arguments: {{count: {count}}}
"""

CALL = """
builder_type: ColumnBuilder
changed_columns: [y]
code_module: calling
is_custom: true
python_function: call
return_type: row-wise
max_concurrency: 4
service: api
arguments: {{x: "<<self.x[index]>>", log: "{log}"}}
"""

RUN = "import sys; from tablevault import TableVault; TableVault(sys.argv[1]).execute_instance(sys.argv[2])"


def taken(calls: int, rounds: int) -> list[Result]:
    """Permits of a service with a rate and slots (P6).

    The baseline inserts and commits a row without syncing.
    """

    def product(folder: Path) -> float:
        limits = {"api": {"calls_per_day": 10**9, "max_concurrency": 10**6}}
        counters = ServiceCounters(folder / "limits.db", "owner", lambda: limits, lambda _: True)
        start = time.perf_counter()
        for _ in range(calls):
            permit = counters.take(["api"], {})
            assert isinstance(permit, Permit)
            counters.settle(permit, {})
        return time.perf_counter() - start

    ways: dict[str, Way] = {"product": product, "sqlite": lambda folder: _transactions(folder / "bare.db", calls)}
    samples = interleaved(ways, rounds)
    took, bare = samples["product"], samples["sqlite"]
    ratio = took.median / bare.median
    return [
        Result(
            "P6",
            "a limit taken and settled, against one SQLite transaction without syncing",
            f"{took.median / calls * 1e6:.0f} µs",
            f"{bare.median / calls * 1e6:.0f} µs",
            ratio,
            "≤ 2 ×",
            ratio <= 2,
            took.spread,
        )
    ]


def shared(rows: int) -> list[Result]:
    """Interpreters that call one service as fast as allowed (P6)."""
    with empty_folder() as folder:
        vault, log = TableVault(folder / "vault", create=True), folder / "calls"
        vault.set_service("api", {"calls_per_second": LIMIT})
        vault.create_code_module("calling", text=CODE)
        names = [f"table-{number}" for number in range(INTERPRETERS)]
        for name in names:
            vault.create_table(name)
            builders = {f"{name}_index": INDEX.format(count=rows // INTERPRETERS), "call": CALL.format(log=log)}
            vault.create_instance(name, builders=builders)
        running = [subprocess.Popen([sys.executable, "-c", RUN, vault.db_dir, name]) for name in names]
        assert not any(process.wait() for process in running)
        stamps = sorted(map(float, log.read_text().split()))
    most = max(bisect_left(stamps, at + 1.0) - place for place, at in enumerate(stamps))
    used = (len(stamps) - LIMIT) / (stamps[-1] - stamps[0]) / LIMIT
    what = f"{INTERPRETERS} interpreters, {LIMIT} calls per second"
    return [
        Result("P6", f"{what}: part that is used", f"{used:.1%}", "", used * 100, "≥ 97 %", used >= 0.97, unit="%"),
        Result("P6", f"{what}: most in any second", f"{most}", f"{LIMIT}", most / LIMIT, "≤ 1 ×", most <= LIMIT),
    ]


def _transactions(path: Path, count: int) -> float:
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE uses (at REAL, amount REAL)")
    start = time.perf_counter()
    for number in range(count):
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("INSERT INTO uses VALUES (?, 1)", (float(number),))
        connection.execute("COMMIT")
    seconds = time.perf_counter() - start
    connection.close()
    return seconds
