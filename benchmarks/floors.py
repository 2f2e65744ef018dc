"""Loops that do the same work with the same durability.

They are the baselines for columns other than text.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.baselines import durable_log, fsync

FloatArray = np.ndarray[Any, np.dtype[np.float32]]


def vector_loop(function: Callable[[Any], FloatArray], values: Sequence[Any], path: Path) -> FloatArray:
    """Call a function, log its arrays, and write synced Parquet.

    The bytes of arrays are appended to a log that a thread syncs.
    """
    results = []
    with durable_log(path) as log:
        for value in values:
            result = function(value)
            results.append(result)
            log.write(result.data)
    stacked = np.vstack(results)
    write_vectors(stacked, path)
    return stacked


def write_vectors(stacked: FloatArray, path: Path) -> None:
    """Write vectors like TableVault.

    Items are not null, uncompressed, and without a dictionary.
    """
    items = pa.field("item", pa.float32(), nullable=False)
    column = pa.FixedSizeListArray.from_arrays(pa.array(stacked.reshape(-1)), type=pa.list_(items, stacked.shape[1]))
    table = pa.table([pa.array(range(len(stacked))), column], names=["x", "e"])
    pq.write_table(table, path, compression={"x": "zstd", "e": "none"}, use_dictionary=["x"])
    fsync(path)


def read_vectors(path: Path, size: int) -> FloatArray:
    """Read the column of vectors into a 2-D array."""
    column = pq.read_table(path, columns=["e"]).column(0)
    chunks = [chunk.flatten().to_numpy().reshape(-1, size) for chunk in column.chunks]
    return chunks[0] if len(chunks) == 1 else np.concatenate(chunks)
