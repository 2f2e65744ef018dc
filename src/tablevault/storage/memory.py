"""Memory that Arrow has freed goes back to the system."""

from __future__ import annotations

import sys

_WORTHWHILE = 2**26
"""Bytes that Arrow must have had at once: below it, taking memory anew would cost more than it is worth."""


def release_memory() -> None:
    """Return freed memory that Arrow's allocator retains to the system.

    Without it a notebook that once read a large frame would hold on to the memory of that frame for good.
    """
    arrow = sys.modules.get("pyarrow")
    if arrow is None:
        return
    pool = arrow.default_memory_pool()
    if (pool.max_memory() or 0) >= _WORTHWHILE:
        pool.release_unused()
