"""Differences, tags, plans of collections and dataset folders (S4, S8, S9, S12).

The baselines are other programs on the same files.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars

from benchmarks import vaults
from benchmarks.measuring import Result, Samples, Way, empty_folder, interleaved, seconds_of, timing
from tablevault import TableVault

_CHANGED = 0.001
"""Of the cells of one column."""
_FILES = 4
"""Artifacts of each instance of which a collection is planned."""
_FILE_BYTES = 5_000_000


def differences(rows: int, rounds: int) -> list[Result]:
    """The differences of two instances, against a full join of their files in polars (S4)."""
    with empty_folder() as folder:
        vault = vaults.new_vault(folder)
        random = np.random.default_rng(1)
        columns = [random.integers(0, 1_000, rows), random.random(rows), random.random(rows)]
        frame = pd.DataFrame({"key": [f"k{number}" for number in range(rows)]})
        for number, column in enumerate([*columns, *(column + 1 for column in columns[:2])]):
            frame[f"c{number}"] = column
        vault.write("t", frame, primary_key="key")
        changed = random.integers(0, rows, max(int(rows * _CHANGED), 1))
        frame.loc[changed, "c0"] += 1
        vault.write("t", frame, primary_key="key")
        paths = [vault.get_frame_path("t", instance) for instance in vault.get_table_instances("t")]

        def joined() -> None:
            before, after = map(polars.read_parquet, paths)
            both = before.join(after, on="key", how="full", suffix="_after")
            both.select(
                polars.col(f"c{number}").ne_missing(polars.col(f"c{number}_after")).sum() for number in range(5)
            )

        ways: dict[str, Way] = {
            "polars": timing(joined),
            "with causes": timing(lambda: vault.diff_instances("t")),
            "without": timing(lambda: vault.diff_instances("t", why=False)),
        }
        samples = interleaved(ways, rounds)
    what = f"diff of {rows:,} × 6, 0.1 % of a column changed"
    return [
        _compared("S4", f"{what}, against a full join in polars", samples["with causes"], samples["polars"], 1.0),
        _compared("S4", f"{what}, without causes", samples["without"], samples["polars"], 0.4),
    ]


def collections(instances: int, rounds: int) -> list[Result]:
    """The plan of a collection of instances with artifacts, against `du -s` (S9)."""
    with empty_folder() as folder:
        vault = vaults.new_vault(folder)
        vault.create_table("t", allow_multiple_artifacts=True)
        _write_with_files(vault, [f"{number}.txt" for number in range(_FILES)], lambda name: name.encode() * 20)
        _multiply(vault, instances)
        root = vault.db_dir
        ways: dict[str, Way] = {
            "du": timing(lambda: subprocess.run(["du", "-s", root], check=True, stdout=subprocess.DEVNULL)),
            "plan": timing(lambda: vault.plan_gc(keep_last=1)),
        }
        samples = interleaved(ways, rounds)
    what = f"plan_gc of {instances:,} instances with {_FILES} artifacts each, against du -s"
    return [_compared("S9", what, samples["plan"], samples["du"], 2.0)]


def tags(tables: int, many: int, rounds: int) -> list[Result]:
    """A tag of all tables (S8).

    It is compared with making one table, and the last of many tags with the first.
    """
    with empty_folder() as folder:
        vault = vaults.new_vault(folder)
        frame = pd.DataFrame({"x": [1]})
        for number in range(tables):
            vault.write(f"table{number}", frame)
        numbers = itertools.count()
        samples = interleaved(
            {
                "tag": timing(lambda: vault.create_tag(f"all-{next(numbers)}")),
                "table": timing(lambda: vault.create_table(f"new{next(numbers)}")),
            },
            rounds,
        )
        several = max(rounds, 5) * 4

        def one() -> float:
            name = f"one-{next(numbers)}"
            return seconds_of(lambda: vault.create_tag(name, "table0"))

        first = Samples(tuple(one() for _ in range(several)))
        for _ in range(many):
            one()
        last = Samples(tuple(one() for _ in range(several)))
    what = f"create_tag over {tables:,} tables, against create_table"
    return [
        _compared("S8", what, samples["tag"], samples["table"], 5.0),
        _compared("S8", f"create_tag after {many:,} tags, against the first", last, first, 1.3),
    ]


def datasets(files: int, rounds: int) -> list[Result]:
    """A dataset folder of large artifacts (S12).

    The baseline copies them and computes their digests.
    """
    with empty_folder() as folder:
        vault = vaults.new_vault(folder)
        vault.create_table("t", allow_multiple_artifacts=True)
        _write_with_files(vault, [f"{number}.bin" for number in range(files)], lambda name: os.urandom(_FILE_BYTES))
        source = Path(vault.get_artifact_folder("t", is_temp=False))

        def copied(target: Path) -> float:
            start = time.perf_counter()
            shutil.copytree(source, target / "copy")
            subprocess.run(
                ["sha256sum", *(str(path) for path in (target / "copy").iterdir())],
                check=True,
                stdout=subprocess.DEVNULL,
            )
            os.sync()
            return time.perf_counter() - start

        def exported(target: Path) -> float:
            start = time.perf_counter()
            vault.export_table("t", target / "made", format="dataset")
            return time.perf_counter() - start

        samples = interleaved({"copied": copied, "exported": exported}, rounds)
    what = f"dataset folder with {files} artifacts of 5 MB, against cp -r, sha256sum and sync"
    return [_compared("S12", what, samples["exported"], samples["copied"], 1.3)]


def _write_with_files(vault: TableVault, names: list[str], content: Callable[[str], bytes]) -> None:
    vault.create_instance("t", external_edit=True)
    folder = Path(vault.get_artifact_folder("t"))
    for name in names:
        (folder / name).write_bytes(content(name))
    vault.write_instance(pd.DataFrame({"file": names}), "t", dtypes={"file": "artifact_string"})


def _multiply(vault: TableVault, count: int) -> None:
    """Multiply the one instance of a table.

    Plans read rows and files, however they were made.
    """
    (instance_id,) = vault.get_table_instances("t")
    source = Path(vault.db_dir, "t", instance_id)
    catalog = Path(vault.db_dir, "metadata", "catalog.db")
    with contextlib.closing(sqlite3.connect(catalog)) as connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(instances)")]
        copied = ", ".join(name for name in names if name not in ("row_id", "instance_id", "folder"))
        for number in range(1, count):
            name = f"base_{1_700_000_000 + number}_{number:032x}"
            shutil.copytree(source, source.with_name(name))
            connection.execute(
                f"INSERT INTO instances (instance_id, folder, {copied}) SELECT ?, ?, {copied} FROM instances "
                "WHERE instance_id = ?",
                (name, name, instance_id),
            )
        connection.commit()


def _compared(work: str, what: str, measured: Samples, baseline: Samples, most: float) -> Result:
    ratio = measured.median / baseline.median
    return Result(
        work,
        what,
        f"{measured.median:.3g} s",
        f"{baseline.median:.3g} s",
        ratio,
        f"≤ {most} ×",
        ratio <= most,
        measured.spread,
    )
