"""A dataset of Lance with a column added by a function of batches.

Row-wise functions are called in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lance
import large_cells
import numpy as np
import pyarrow as pa
import workload

VECTOR = pa.list_(pa.float32(), large_cells.SIZE)
USAGE = pa.struct({"input": pa.int64(), "output": pa.int64()})
JUDGEMENT = pa.struct(
    {
        "id": pa.int64(),
        "verdict": pa.string(),
        "score": pa.float64(),
        "reasons": pa.list_(pa.string()),
        "usage": USAGE,
    }
)
CHECKPOINTED = 32
"""Rows of a batch of W4, whose function takes a millisecond."""

CALLS: list[int] = []
"""Rows for which a function was called."""


def mark(x: object) -> str:
    """Count a call and return its result."""
    CALLS.append(0)
    return workload.mark(x)


def _each(function: Callable[[Any], Any], values: pa.Array, kind: pa.DataType) -> pa.Array:
    """Return what a row-wise function returns for some rows."""
    found: list[Any] = []
    for x in values.to_pylist():
        CALLS.append(0)
        found.append(function(x))
    return _vector_array(np.stack(found)) if kind == VECTOR else pa.array(found, kind)


def _vector_array(found: large_cells.FloatArray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), large_cells.SIZE)


def _batch(values: pa.Array) -> pa.Array:
    CALLS.extend([0] * len(values))
    return _vector_array(large_cells.embed_batch(values.to_numpy()))


def _add_column(
    count: int,
    folder: Path,
    field: pa.Field,
    compute: Callable[[pa.Array], pa.Array],
    checkpoints: Path | None = None,
    **options: Any,
) -> float:
    """Return the seconds of writing the rows and adding a column to them."""
    start = time.perf_counter()
    dataset = lance.write_dataset(pa.table({"x": range(count)}), folder / "marks")

    def transform(batch: pa.RecordBatch) -> pa.RecordBatch:
        return pa.record_batch([compute(batch["x"])], schema=pa.schema([field]))

    dataset.add_columns(lance.batch_udf(pa.schema([field]), checkpoints)(transform), read_columns=["x"], **options)
    seconds = time.perf_counter() - start
    assert len(CALLS) == count
    return seconds


def _column(folder: Path, name: str = "y") -> pa.Array:
    return lance.dataset(folder / "marks").to_table(columns=[name])[name].combine_chunks()


def _added(function: Callable[[Any], object], count: int, folder: Path, kind: pa.DataType) -> float:
    return _add_column(count, folder, pa.field("y", kind), lambda values: _each(function, values, kind))


def rows(count: int, folder: Path) -> tuple[float, float, float]:
    """W1."""
    seconds = _added(workload.mark, count, folder, pa.string())
    assert _column(folder).to_pylist() == [workload.mark(x) for x in range(count)]
    return seconds, 0, len(CALLS)


def _marked(batches: Iterator[range]) -> Iterator[pa.RecordBatch]:
    for numbers in batches:
        yield pa.record_batch({"y": [mark(x) for x in numbers]})


def generator(count: int, folder: Path) -> tuple[float, float, float]:
    """A dataset from a generator of batches (W1g)."""
    start = time.perf_counter()
    batches = _marked(iter(large_cells.batches(count)))
    lance.write_dataset(batches, folder / "marks", schema=pa.schema({"y": pa.string()}))
    seconds = time.perf_counter() - start
    assert len(_column(folder)) == count
    return seconds, 0, len(CALLS)


def frame(count: int, folder: Path) -> tuple[float, float, float]:
    """W2."""
    data = workload.mixed_frame(count)
    start = time.perf_counter()
    lance.write_dataset(data, folder / "frame")
    written = time.perf_counter()
    found = lance.dataset(folder / "frame").to_table().to_pandas()
    seconds = time.perf_counter() - written
    assert len(found) == count
    assert found["number"].sum() == data["number"].sum()
    return written - start, seconds, 0


def additions(count: int, folder: Path) -> tuple[float, float, float]:
    """Rows appended with their results, without any decision (W3)."""
    rows(count, folder)
    CALLS.clear()
    start = time.perf_counter()
    numbers = range(count, count + 100)
    lance.write_dataset(pa.table({"x": numbers, "y": [mark(x) for x in numbers]}), folder / "marks", mode="append")
    seconds = time.perf_counter() - start
    assert len(_column(folder)) == count + 100
    return seconds, 0, len(CALLS)


def crash(count: int, folder: Path) -> tuple[float, float, float]:
    """A checkpoint file, which has the results of each batch (W4)."""
    lance.write_dataset(pa.table({"x": range(count)}), folder / "marks")
    return workload.killed_and_resumed(__file__, count, folder)


def crash_job(_: int, folder: Path) -> tuple[float, float, float]:
    """Run the job of W4 once."""
    schema = pa.schema({"y": pa.string()})

    @lance.batch_udf(schema, checkpoint_file=folder / "checkpoints.sqlite")
    def slow_mark(batch: pa.RecordBatch) -> pa.RecordBatch:
        log = str(folder / "calls.log")
        return pa.record_batch([[workload.logged_mark(x, log) for x in batch["x"].to_pylist()]], schema=schema)

    lance.dataset(folder / "marks").add_columns(slow_mark, read_columns=["x"], batch_size=CHECKPOINTED)
    return 0, 0, 0


def growing(count: int, folder: Path) -> tuple[float, float, float]:
    """An additional dataset, and an additional version of one (W5)."""
    return workload.growing(
        count,
        lambda number: lance.write_dataset(workload.small_frame(), folder / f"table{number}"),
        lambda _: _write(folder / "marks"),
    )


def _write(path: Path) -> None:
    lance.write_dataset(workload.small_frame(), path, mode="overwrite")


def side_by_side(_: int, folder: Path) -> tuple[float, float, float]:
    """Versions of a dataset per interpreter (W7)."""
    return workload.side_by_side(__file__, folder)


def write_job(number: int, folder: Path) -> tuple[float, float, float]:
    """Write versions of one dataset."""
    return workload.writing(lambda: _write(folder / f"table{number}"))


def _reading(count: int, folder: Path) -> float:
    start = time.perf_counter()
    found = _column(folder).flatten().to_numpy().reshape(-1, large_cells.SIZE)
    seconds = time.perf_counter() - start
    large_cells.check_vectors(found, range(count))
    return seconds


def vectors(count: int, folder: Path) -> tuple[float, float, float]:
    """W10."""
    return _added(large_cells.embed, count, folder, VECTOR), _reading(count, folder), count


def vector_batches(count: int, folder: Path) -> tuple[float, float, float]:
    """W10b."""
    seconds = _add_column(count, folder, pa.field("y", VECTOR), _batch, batch_size=large_cells.BATCH)
    return seconds, _reading(count, folder), count


def checkpointed_batches(count: int, folder: Path) -> tuple[float, float, float]:
    """The same, each batch durable in a checkpoint file before the next is computed (W10c)."""
    field = pa.field("y", VECTOR)
    checkpoints = folder / "checkpoints.sqlite"
    seconds = _add_column(count, folder, field, _batch, checkpoints, batch_size=large_cells.BATCH)
    return seconds, _reading(count, folder), count


def _with_files(batches: Iterator[range], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for numbers in batches:
        contents = []
        for x in numbers:
            CALLS.append(x)
            contents.append(large_cells.content(x))
        yield pa.record_batch([pa.array(numbers), lance.blob_array(contents)], schema=schema)


def files(count: int, folder: Path) -> tuple[float, float, float]:
    """Bytes in a column of blobs (W11)."""
    schema = pa.schema([pa.field("x", pa.int64()), lance.blob_field("y")])
    start = time.perf_counter()
    batches = _with_files(iter(large_cells.batches(count)), schema)
    dataset = lance.write_dataset(batches, folder / "marks", schema=schema, data_storage_version="2.2")
    seconds = time.perf_counter() - start
    assert len(CALLS) == count
    large_cells.check_contents((found for _, found in dataset.read_blobs("y", indices=range(count))), count)
    return seconds, 0, count


def texts(count: int, folder: Path) -> tuple[float, float, float]:
    """W12."""
    seconds = _added(large_cells.long_text, count, folder, pa.string())
    large_cells.check_texts(_column(folder).to_pylist(), count)
    return seconds, 0, count


def judgements(count: int, folder: Path) -> tuple[float, float, float]:
    """A column of structs (W12j)."""
    seconds = _added(large_cells.judgement, count, folder, JUDGEMENT)
    large_cells.check_judgements(_column(folder).to_pylist(), count)
    return seconds, 0, count


if __name__ == "__main__":
    workload.run(
        {
            "W1": rows,
            "W1r": "Lance stores datasets; it does not join them.",
            "W1g": generator,
            "W2": frame,
            "W3": additions,
            "W4": crash,
            "W5": growing,
            "W6": "the function gets one batch after another.",
            "W7": side_by_side,
            "W10": vectors,
            "W10b": vector_batches,
            "W10c": checkpointed_batches,
            "W11": files,
            "W11r": "a second job calls the function for all rows again; versions of one dataset share its blobs.",
            "W12": texts,
            "W12j": judgements,
            "crash-job": crash_job,
            "write-job": write_job,
        }
    )
