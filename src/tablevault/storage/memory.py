"""Return of memory freed by Arrow to the system."""

from __future__ import annotations

import sys

_WORTHWHILE = 2**26
"""Minimum peak of Arrow's memory in bytes; below it, a release would cost more than it saves."""


def release_memory() -> None:
    """Return freed memory that Arrow's allocator retains to the system.

    Without this, a notebook that once read a large frame would retain its memory indefinitely.
    """
    arrow = sys.modules.get("pyarrow")
    if arrow is None:
        return
    pool = arrow.default_memory_pool()
    if (pool.max_memory() or 0) >= _WORTHWHILE:
        pool.release_unused()
