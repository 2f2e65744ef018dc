"""Functions of Pixeltable's computed columns, which have to stand in a module of their own."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TypedDict

import pixeltable as pxt
import workload

CALLS: list[int] = []


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
