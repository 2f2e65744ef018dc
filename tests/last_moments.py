"""Rows that may be computed again after a kill.

They ended in the last moments before it; the next checkpoint would have included them.

Beside the rows, a thread writes and syncs a byte every 50 ms. What it achieves on this machine at this moment is the
measure of the last moments: on a disk that is busy a checkpoint takes longer, and so do the beats.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from typing import TypeVar

USUAL_BEATS = 3
"""A row that ended so many beats before a kill is durable, as a rule: a checkpoint begins every 50 ms."""
MAXIMUM_BEATS = 12
"""A checkpoint syncs more than one file, and may wait for the one before it, while a beat syncs once."""

Kill = TypeVar("Kill")


def check_last_moments(late: Mapping[Kill, int]) -> None:
    """Check the rows that were computed again after kills.

    Parameters
    ----------
    late
        For each kill, how many beats before it the earliest of these rows had ended; 0 if there was none.
    """
    assert all(beats < MAXIMUM_BEATS for beats in late.values()), late
    if late:
        assert statistics.median_low(late.values()) < USUAL_BEATS, late
