"""A lazy frame of Daft with a column computed by a function.

Its native runner writes Parquet files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypedDict

import daft
import large_cells
import pyarrow as pa
import workload
from daft.functions import upload

VECTOR = daft.DataType.embedding(daft.DataType.float32(), large_cells.SIZE)
CALLS: list[int] = []
"""Rows for which a function was called: all in this interpreter, since `use_process` is off."""


class Usage(TypedDict):
    """A part of a judgement."""

    input: int
    output: int


class Judgement(TypedDict):
    """What `judgement` returns."""

    id: int
    verdict: str
    score: float
    reasons: list[str]
    usage: Usage


def mark(x: int) -> str:
    """Count a call and return its result."""
    CALLS.append(x)
    return workload.mark(x)


def mark_found(z: str) -> str:
    """Do the same with what was looked up."""
    CALLS.append(0)
    return workload.mark(z)


def mark_all(count: int) -> Iterator[str]:
    """Yield all results."""
    for x in range(count):
        yield mark(x)


def embed(x: int) -> large_cells.FloatArray:
    """Count a call and return a vector."""
    CALLS.append(x)
    return large_cells.embed(x)


def embed_batch(x: daft.Series) -> pa.Array:
    """Count the rows and return their vectors as an Arrow array.

    Daft takes it over faster than one of NumPy.
    """
    CALLS.extend(x)
    found = large_cells.embed_batch(x.to_arrow().to_numpy())
    return pa.FixedSizeListArray.from_arrays(pa.array(found.ravel()), large_cells.SIZE)


def content(x: int) -> bytes:
    """Count a call and return the bytes of a file."""
    CALLS.append(x)
    return large_cells.content(x)


def long_text(x: int) -> str:
    """Count a call and return a text."""
    CALLS.append(x)
    return large_cells.long_text(x)


def judgement(x: int) -> Judgement:
    """Count a call and return an object, which Daft stores as a struct."""
    CALLS.append(x)
    return large_cells.judgement(x)  # type: ignore[return-value]


def _applied(function: Any, count: int, **options: Any) -> daft.DataFrame:
    called = daft.func(function, use_process=False, **options)
    return daft.from_pydict({"x": list(range(count))}).with_column("y", called(daft.col("x")))


def _written(function: Any, count: int, folder: Path, **options: Any) -> float:
    """Return the seconds of calling a function for each row and writing the results."""
    start = time.perf_counter()
    _applied(function, count, **options).write_parquet(folder / "marks")
    seconds = time.perf_counter() - start
    assert len(CALLS) == count
    return seconds


def _read(folder: Path, column: str = "y") -> list[Any]:
    found: list[Any] = daft.read_parquet(str(folder / "marks")).select(column).to_pydict()[column]
    return found


def rows(count: int, folder: Path) -> tuple[float, float, float]:
    """W1."""
    seconds = _written(mark, count, folder)
    assert sorted(_read(folder)) == sorted(map(workload.mark, range(count)))
    return seconds, 0, len(CALLS)


def look_up(count: int, folder: Path) -> tuple[float, float, float]:
    """A join (W1r)."""
    other = daft.from_pydict({"key": list(range(count)), "z": [f"{x}-there" for x in range(count)]})
    other.write_parquet(folder / "other")
    called = daft.func(mark_found, use_process=False)
    start = time.perf_counter()
    numbers = daft.from_pydict({"x": list(range(count))})
    joined = numbers.join(daft.read_parquet(str(folder / "other")), left_on="x", right_on="key")
    joined.with_column("y", called(daft.col("z"))).write_parquet(folder / "marks")
    seconds = time.perf_counter() - start
    assert sorted(_read(folder)) == sorted(f"{x}-there-ok" for x in range(count))
    return seconds, 0, len(CALLS)


def generator(count: int, folder: Path) -> tuple[float, float, float]:
    """W1g."""
    called = daft.func(mark_all, use_process=False)
    start = time.perf_counter()
    daft.from_pydict({"count": [count]}).select(called(daft.col("count")).alias("y")).write_parquet(folder / "marks")
    seconds = time.perf_counter() - start
    assert len(_read(folder)) == count
    return seconds, 0, len(CALLS)


def frame(count: int, folder: Path) -> tuple[float, float, float]:
    """W2."""
    data = workload.mixed_frame(count)
    start = time.perf_counter()
    daft.from_pandas(data).write_parquet(folder / "frame")
    written = time.perf_counter()
    found = daft.read_parquet(str(folder / "frame")).to_pandas()
    seconds = time.perf_counter() - written
    assert len(found) == count
    assert found["number"].sum() == data["number"].sum()
    return written - start, seconds, 0


def additions(count: int, folder: Path) -> tuple[float, float, float]:
    """Additional files, without any decision (W3)."""
    rows(count, folder)
    CALLS.clear()
    called = daft.func(mark, use_process=False)
    start = time.perf_counter()
    new = daft.from_pydict({"x": list(range(count, count + 100))}).with_column("y", called(daft.col("x")))
    new.write_parquet(folder / "marks", write_mode="append")
    seconds = time.perf_counter() - start
    assert sorted(_read(folder, "x")) == list(range(count + 100))
    return seconds, 0, len(CALLS)


def vectors(count: int, folder: Path) -> tuple[float, float, float]:
    """W10."""
    return _written(embed, count, folder, return_dtype=VECTOR), _reading(count, folder), count


def vector_batches(count: int, folder: Path) -> tuple[float, float, float]:
    """W10b."""
    called = daft.func.batch(return_dtype=VECTOR, batch_size=large_cells.BATCH, use_process=False)(embed_batch)
    start = time.perf_counter()
    numbers = daft.from_pydict({"x": list(range(count))})
    numbers.with_column("y", called(daft.col("x"))).write_parquet(folder / "marks")
    seconds = time.perf_counter() - start
    assert len(CALLS) == count
    return seconds, _reading(count, folder), count


def _reading(count: int, folder: Path) -> float:
    """Read the vectors with the numbers of their rows, since files are written in any order."""
    start = time.perf_counter()
    table = daft.read_parquet(str(folder / "marks")).to_arrow()
    storage = table["y"].combine_chunks().storage
    found = storage.flatten().to_numpy().reshape(-1, large_cells.SIZE)
    seconds = time.perf_counter() - start
    numbers = table["x"].to_numpy()
    assert sorted(numbers) == list(range(count))
    large_cells.check_vectors(found, numbers)
    return seconds


def files(count: int, folder: Path) -> tuple[float, float, float]:
    """Bytes that Daft writes as files, and a frame of their paths (W11)."""
    (folder / "files").mkdir()
    start = time.perf_counter()
    uploaded = _applied(content, count).with_column("y", upload(daft.col("y"), str(folder / "files")))
    uploaded.write_parquet(folder / "marks")
    seconds = time.perf_counter() - start
    assert len(CALLS) == count
    paths = (Path(path.removeprefix("file://")) for path in _read(folder))
    large_cells.check_contents((path.read_bytes() for path in paths), count)
    return seconds, 0, count


def texts(count: int, folder: Path) -> tuple[float, float, float]:
    """W12."""
    seconds = _written(long_text, count, folder)
    large_cells.check_texts(_read(folder), count)
    return seconds, 0, count


def judgements(count: int, folder: Path) -> tuple[float, float, float]:
    """W12j."""
    seconds = _written(judgement, count, folder)
    large_cells.check_judgements(_read(folder), count)
    return seconds, 0, count


if __name__ == "__main__":
    versions = "Daft writes files; versions of tables come from formats such as Iceberg, Delta Lake and Lance."
    workload.run(
        {
            "W1": rows,
            "W1r": look_up,
            "W1g": generator,
            "W2": frame,
            "W3": additions,
            "W4": "checkpoints need the Ray runner; with the native one, a killed job starts again.",
            "W5": versions,
            "W6": "plain functions run one after another; asynchronous ones run concurrently.",
            "W7": versions,
            "W10": vectors,
            "W10b": vector_batches,
            "W11": files,
            "W11r": "a second job calls the function for all rows again.",
            "W12": texts,
            "W12j": judgements,
        }
    )
