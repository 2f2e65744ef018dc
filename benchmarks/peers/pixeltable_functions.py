"""Functions of Pixeltable's computed columns, which have to stand in a module of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypedDict

import large_cells
import numpy as np
import pixeltable as pxt
import workload
from pixeltable.func import Batch

CALLS: list[int] = []
Vector = pxt.Array[(large_cells.SIZE,), np.float32]  # type: ignore[misc]


@pxt.udf
def mark(x: int) -> str:
    """Count a call and return its result."""
    CALLS.append(x)
    return workload.mark(x)


@pxt.udf
def mark_found(z: str) -> str:
    """Do the same with what was looked up."""
    CALLS.append(0)
    return workload.mark(z)


class Marked(TypedDict):
    """What the generator yields."""

    y: str


@pxt.iterator
def mark_all(count: int) -> Iterator[Marked]:
    """Yield all results."""
    for x in range(count):
        CALLS.append(x)
        yield {"y": workload.mark(x)}


@pxt.udf
def embed(x: int) -> Vector:
    """Count a call and return a vector."""
    CALLS.append(x)
    return large_cells.embed(x)


@pxt.udf(batch_size=large_cells.BATCH)
def embed_batch(x: Batch[int]) -> Batch[Vector]:
    """Count the rows and return their vectors."""
    CALLS.extend(x)
    return list(large_cells.embed_batch(x))


@pxt.udf
def content(x: int) -> bytes:
    """Count a call and return the bytes of a file."""
    CALLS.append(x)
    return large_cells.content(x)


@pxt.udf
def long_text(x: int) -> str:
    """Count a call and return a text."""
    CALLS.append(x)
    return large_cells.long_text(x)


@pxt.udf
def judgement(x: int) -> dict[str, Any]:
    """Count a call and return an object."""
    CALLS.append(x)
    return large_cells.judgement(x)
