"""SQL and lazy frames, against DuckDB and polars on the same files (S1, S2, S3)."""

from __future__ import annotations

from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import polars

from benchmarks import vaults
from benchmarks.measuring import Result, Samples, empty_folder, interleaved, seconds_of, timing
from tablevault import TableVault

_MORE = 0.06
"""Seconds that a brief statement may take longer."""
_LONG = 0.5
"""Seconds from which on a statement is a long one."""
_STATEMENTS = {
    "group by": "SELECT c1, sum(c4), avg(c5) FROM {t} GROUP BY c1",
    "join": "SELECT count(*), sum(a.c4) FROM {t} a JOIN {t} b ON a.c0 = b.c3",
    "one row": "SELECT * FROM {t} WHERE c0 = 777",
    "top 100": "SELECT * FROM {t} ORDER BY c4 DESC LIMIT 100",
}


def statements(rows: int, rounds: int) -> list[Result]:
    """Statements, against the same in DuckDB (S1, S2).

    The first one of a file is compared with reading its bytes.
    """
    with empty_folder() as folder:
        vault = _vault(folder, rows)
        path = vault.get_frame_path("t")
        results = [_against_duckdb(vault, path, name, text, rows, rounds) for name, text in _STATEMENTS.items()]
        return [*results, _first(vault, path, rows, rounds)]


def lazy_frames(rows: int, rounds: int) -> list[Result]:
    """A lazy frame of polars, collected after the content check, against polars on the file (S3)."""
    with empty_folder() as folder:
        vault = _vault(folder, rows)
        path = vault.get_frame_path("t")

        def grouped(lazy: polars.LazyFrame) -> None:
            lazy.group_by("c1").agg(polars.col("c4").sum(), polars.col("c5").mean()).collect()

        samples = interleaved(
            {
                "scan": timing(lambda: grouped(vault.scan("t")[0])),
                "polars": timing(lambda: grouped(polars.scan_parquet(path))),
            },
            rounds,
        )
    ratio = samples["scan"].median / samples["polars"].median
    what = f"scan of {rows:,} × 8, grouped, against polars on the file"
    return [_result("S3", what, samples["scan"], samples["polars"].median, ratio, "≤ 1.05 ×", ratio <= 1.05)]


def _vault(folder: Path, rows: int) -> TableVault:
    vault = vaults.new_vault(folder)
    random = np.random.default_rng(1)
    frame = pd.DataFrame({"c0": np.arange(rows), "c1": random.integers(0, 1_000, rows)})
    frame["c2"] = np.array([f"text {number}" for number in range(1_000)], dtype=object)[frame["c1"]]
    frame["c3"] = random.permutation(rows)
    for number in range(4, 8):
        frame[f"c{number}"] = random.random(rows)
    vault.write("t", frame)
    return vault


def _against_duckdb(vault: TableVault, path: str, name: str, text: str, rows: int, rounds: int) -> Result:
    connection = duckdb.connect()
    ours, theirs = text.format(t="t"), text.format(t=f"read_parquet('{path}')")
    samples = interleaved(
        {
            "query": timing(lambda: vault.query(ours, format="arrow")),
            "duckdb": timing(lambda: connection.sql(theirs).to_arrow_table()),
        },
        rounds,
    )
    connection.close()
    measured, baseline = samples["query"], samples["duckdb"].median
    what = f"query of {rows:,} × 8, {name}, against DuckDB on the file"
    if baseline >= _LONG:
        ratio = measured.median / baseline
        return _result("S1", what, measured, baseline, ratio, "≤ 1.1 ×", ratio <= 1.1)
    more = (measured.median - baseline) * 1e3
    return _result("S1", what, measured, baseline, more, "≤ 60 ms more", more <= _MORE * 1e3, " ms more")


def _first(vault: TableVault, path: str, rows: int, rounds: int) -> Result:
    """The extra duration of a file's first statement (S2).

    It is measured in times of reading the file's bytes.
    """
    statement = "SELECT sum(c4) FROM t"

    def first(_: Path) -> float:
        # What was checked is remembered by the object.
        opened = TableVault(vault.db_dir, author="bench")
        opened.query("SELECT 1")
        return seconds_of(lambda: opened.query(statement)) - seconds_of(lambda: opened.query(statement))

    samples = interleaved({"first": first, "read": timing(lambda: _read(path))}, rounds)
    ratio = samples["first"].median / samples["read"].median
    what = f"first query of {rows:,} × 8 beyond the second, against reading the file"
    return _result("S2", what, samples["first"], samples["read"].median, ratio, "≤ 1.5 ×", ratio <= 1.5)


def _read(path: str) -> None:
    with Path(path).open("rb", buffering=0) as file:
        while file.read(1 << 20):
            pass


def _result(
    work: str,
    what: str,
    measured: Samples,
    baseline: float,
    value: float,
    target: str,
    is_reached: bool,
    unit: str = "×",
) -> Result:
    shown = f"{measured.median:.3f} s", f"{baseline:.3f} s"
    return Result(work, what, *shown, value, target, is_reached, measured.spread, unit)
