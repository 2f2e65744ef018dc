"""TableVault, this checkout."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import large_cells
import vault_work
import workload

import tablevault.operations.execute
import tablevault.operations.write  # noqa: F401 - peers have imported everything by then, too
from tablevault import TableVault, to_numpy

CODE = f"""
import sys

import benchmark_calls

sys.path.append({str(Path(__file__).parent)!r})
import large_cells


def embed(x):
    benchmark_calls.called(1)
    return large_cells.embed(x)


def embed_batch(x):
    benchmark_calls.called(len(x))
    return large_cells.embed_batch(x)


def write_file(x, folder):
    benchmark_calls.called(1)
    return large_cells.write_file(x, folder)


def long_text(x):
    benchmark_calls.called(1)
    return large_cells.long_text(x)


def judgement(x):
    benchmark_calls.called(1)
    return large_cells.judgement(x)
"""

COLUMN = """
builder_type: ColumnBuilder
changed_columns: [y]
python_function: {function}
code_module: cells
is_custom: true
return_type: {return_type}
arguments: {{x: "<<self.x[index]>>"{more}}}
dtypes: {{y: "{dtype}"}}
"""

VECTOR = f"vector<float32, {large_cells.SIZE}>"


def crash(count: int, folder: Path) -> tuple[float, float, float]:
    """The same call with the same process id (W4)."""
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


def _vault(count: int, folder: Path, column: str) -> TableVault:
    vault = TableVault(folder / "vault", "benchmark", create=True)
    vault.create_code_module("job", text=vault_work.CODE)
    vault.create_code_module("cells", text=CODE)
    vault.create_table("cells")
    index = vault_work.INDEX.format(count=count)
    vault.create_instance("cells", builders={"cells_index": index, "cells_y": column})
    return vault


def _column(function: str, dtype: str, return_type: str = "row-wise", more: str = "") -> str:
    return COLUMN.format(function=function, dtype=dtype, return_type=return_type, more=more)


def _execute(vault: TableVault, process_id: str = "work") -> tuple[float, int]:
    """Return the seconds of an execution, and for how many rows the function was called."""
    calls: list[int] = []
    vault_work.CALLS.called = calls.append  # type: ignore[attr-defined]
    start = time.perf_counter()
    vault.execute_instance("cells", process_id=process_id)
    return time.perf_counter() - start, sum(calls)


def _vectors(count: int, folder: Path, column: str) -> tuple[float, float, float]:
    vault = _vault(count, folder, column)
    seconds, calls = _execute(vault)
    assert calls == count
    start = time.perf_counter()
    frame, _ = vault.get_dataframe("cells", columns=["y"])
    found = to_numpy(frame["y"])
    reading = time.perf_counter() - start
    large_cells.check_vectors(found, range(count))
    return seconds, reading, calls


def vectors(count: int, folder: Path) -> tuple[float, float, float]:
    """W10."""
    return _vectors(count, folder, _column("embed", VECTOR))


def vector_batches(count: int, folder: Path) -> tuple[float, float, float]:
    """W10b."""
    column = _column("embed_batch", VECTOR, "batch") + f"batch_size: {large_cells.BATCH}\n"
    return _vectors(count, folder, column)


def _file_vault(count: int, folder: Path) -> TableVault:
    return _vault(count, folder, _column("write_file", "artifact_string", more=", folder: ~ARTIFACT_FOLDER~"))


def _check_files(vault: TableVault, count: int) -> None:
    frame, _ = vault.get_dataframe("cells")
    large_cells.check_contents((Path(path).read_bytes() for path in frame["y"]), count)


def files(count: int, folder: Path) -> tuple[float, float, float]:
    """W11."""
    vault = _file_vault(count, folder)
    seconds, calls = _execute(vault)
    assert calls == count
    _check_files(vault, count)
    return seconds, 0, calls


def reused_files(count: int, folder: Path) -> tuple[float, float, float]:
    """A new instance of the same table, whose rows have not changed (W11r)."""
    vault = _file_vault(count, folder)
    _execute(vault)
    vault.create_instance("cells", copy=True)
    seconds, calls = _execute(vault, "again")
    _check_files(vault, count)
    return seconds, 0, calls


def _answers(count: int, folder: Path, function: str, dtype: str) -> tuple[list[Any], float]:
    vault = _vault(count, folder, _column(function, dtype))
    seconds, calls = _execute(vault)
    assert calls == count
    return list(vault.get_dataframe("cells")[0]["y"]), seconds


def texts(count: int, folder: Path) -> tuple[float, float, float]:
    """W12."""
    found, seconds = _answers(count, folder, "long_text", "string")
    large_cells.check_texts(found, count)
    return seconds, 0, count


def judgements(count: int, folder: Path) -> tuple[float, float, float]:
    """W12j."""
    found, seconds = _answers(count, folder, "judgement", "json")
    large_cells.check_judgements(found, count)
    return seconds, 0, count


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
            "W10": vectors,
            "W10b": vector_batches,
            "W11": files,
            "W11r": reused_files,
            "W12": texts,
            "W12j": judgements,
            "crash-job": crash_job,
            "write-job": vault_work.write_job,
        }
    )
