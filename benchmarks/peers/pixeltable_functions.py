"""The function of Pixeltable's computed column, which has to stand in a module of its own."""

from __future__ import annotations

import pixeltable as pxt
import workload

CALLS: list[int] = []


@pxt.udf
def mark(x: int) -> str:
    """Count a call and return its result."""
    CALLS.append(x)
    return workload.mark(x)
