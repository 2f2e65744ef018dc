"""Minimal cost of the same work, as plain code without TableVault."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tablevault.storage.file_systems import FileSystem

FLUSH_SECONDS = 0.05


def loop(function: Callable[[Any], object], values: Sequence[object], path: Path) -> list[object]:
    """Call a function for each row, then write one Parquet file.

    An error or a kill loses everything.
    """
    results = [function(value) for value in values]
    _write_parquet(values, results, path)
    return results


def group_commit(function: Callable[[Any], object], values: Iterable[object], path: Path) -> list[object]:
    """Call a function for each row, with group commit.

    Each result is appended to one file, which a thread makes durable at most every 50 ms.
    """
    results = []
    with durable_log(path) as log:
        append, write = results.append, log.write
        for value in values:
            result = function(value)
            append(result)
            write(f"{result}\n".encode())
    _write_parquet(values, results, path)
    return results


@contextmanager
def durable_log(path: Path) -> Iterator[BinaryIO]:
    """Open a log beside a file.

    A thread makes it durable at most every 50 ms, and at the end.
    """
    stopped = threading.Event()
    with path.with_suffix(".log").open("wb", buffering=1 << 20) as log:

        def keep_durable() -> None:
            while not stopped.wait(FLUSH_SECONDS):
                log.flush()
                os.fdatasync(log.fileno())

        thread = threading.Thread(target=keep_durable)
        thread.start()
        try:
            yield log
        finally:
            stopped.set()
            thread.join()
        log.flush()
        os.fdatasync(log.fileno())


def commit_per_row(
    function: Callable[[Any], object], values: Sequence[object], path: Path, synchronous: str
) -> list[object]:
    """Do the same with one committed insert into SQLite per row, `synchronous` being NORMAL or FULL."""
    connection = sqlite3.connect(path.with_suffix(".db"), isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute(f"PRAGMA synchronous={synchronous}")
    connection.execute("CREATE TABLE row (position INTEGER PRIMARY KEY, result TEXT)")
    results = []
    for position, value in enumerate(values):
        result = function(value)
        results.append(result)
        connection.execute("INSERT INTO row VALUES (?, ?)", (position, result))
    connection.close()
    _write_parquet(values, results, path)
    return results


def files_together(count: int, size: int, folder: Path) -> None:
    """Write and hash files, and make them durable with one `syncfs` at most every 50 ms."""
    file_system = FileSystem(os.open(folder, os.O_RDONLY))
    synced = time.monotonic()
    for number in range(count):
        _write_file(folder / f"{number}.bin", number, size)
        if time.monotonic() - synced >= FLUSH_SECONDS:
            file_system.sync()
            synced = time.monotonic()
    file_system.sync()


def files_one_by_one(count: int, size: int, folder: Path) -> None:
    """Write and hash files, each with an fsync of its own."""
    for number in range(count):
        path = folder / f"{number}.bin"
        _write_file(path, number, size)
        fsync(path)
    fsync(folder)


def _write_file(path: Path, number: int, size: int) -> None:
    path.write_bytes(f"{number:8}".encode() * (size // 8))
    hashlib.sha256(path.read_bytes()).hexdigest()


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame with pyarrow (zstd) and make it durable."""
    pq.write_table(pa.Table.from_pandas(frame), path, compression="zstd")
    fsync(path)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a frame into pandas."""
    return pq.read_table(path).to_pandas()


def fsync(path: Path) -> None:
    """Make a file durable."""
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def one_fsync(folder: Path, count: int = 50) -> float:
    """Return the median duration of one fsync on this machine, in seconds.

    The file is small and freshly written.
    """
    seconds = []
    for number in range(count):
        with (folder / f"fsync-{number}").open("wb") as file:
            file.write(b"x" * 4096)
            file.flush()
            start = time.perf_counter()
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - start)
    return sorted(seconds)[count // 2]


def _write_parquet(values: Iterable[object], results: Sequence[object], path: Path) -> None:
    pq.write_table(pa.table({"x": list(values), "y": results}), path, compression="zstd")
