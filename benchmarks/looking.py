"""S4, S9, S12: differences, plans of collections and dataset folders, against other programs on the same files."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import polars

from benchmarks import vaults
from benchmarks.measuring import Result, Samples, Way, empty_folder, interleaved
from tablevault import TableVault

_CHANGED = 0.001
"""Of the cells of one column."""
_FILES = 4
"""Artifacts of each instance of which a collection is planned."""
_FILE_BYTES = 5_000_000


def differences(rows: int, rounds: int) -> list[Result]:
    """S4: the differences of two instances, against a full join of their files in polars."""
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
            "polars": _timed(joined),
            "with causes": _timed(lambda: vault.diff_instances("t")),
            "without": _timed(lambda: vault.diff_instances("t", why=False)),
        }
        samples = interleaved(ways, rounds)
    what = f"diff of {rows:,} × 6, 0.1 % of a column changed"
    return [
        _compared("S4", f"{what}, against a full join in polars", samples["with causes"], samples["polars"], 1.0),
        _compared("S4", f"{what}, without causes", samples["without"], samples["polars"], 0.4),
    ]


def collections(instances: int, rounds: int) -> list[Result]:
    """S9: the plan of a collection of instances with artifacts, against `du -s`."""
    with empty_folder() as folder:
        vault = vaults.new_vault(folder)
        vault.create_table("t", allow_multiple_artifacts=True)
        names = [f"{number}.txt" for number in range(_FILES)]
        for _ in range(instances):
            _write_with_files(vault, names, lambda name: name.encode() * 20)
        root = vault.db_dir
        ways: dict[str, Way] = {
            "du": _timed(lambda: subprocess.run(["du", "-s", root], check=True, stdout=subprocess.DEVNULL)),
            "plan": _timed(lambda: vault.plan_gc(keep_last=1)),
        }
        samples = interleaved(ways, rounds)
    what = f"plan_gc of {instances:,} instances with {_FILES} artifacts each, against du -s"
    return [_compared("S9", what, samples["plan"], samples["du"], 2.0)]


def datasets(files: int, rounds: int) -> list[Result]:
    """S12: a dataset folder of large artifacts, against copying them and computing their digests."""
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


def _timed(work: Callable[[], object]) -> Way:
    def way(_: Path) -> float:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start

    return way


def _compared(work: str, what: str, measured: Samples, baseline: Samples, most: float) -> Result:
    ratio = measured.median / baseline.median
    return Result(
        work,
        what,
        f"{measured.median:.2f} s",
        f"{baseline.median:.2f} s",
        ratio,
        f"≤ {most} ×",
        ratio <= most,
        measured.spread,
    )
