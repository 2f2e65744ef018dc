"""Measured call durations, and the number of calls to queue ahead."""

from __future__ import annotations

from dataclasses import dataclass

AHEAD_SECONDS = 0.02
"""Target duration of queued calls, so that workers do not wait for their owner."""
_MAXIMUM_AHEAD = 500
_MINIMUM_SECONDS = 1e-6


@dataclass
class CallMeasure:
    """Moving averages of the duration of calls and the size of their arguments."""

    seconds: float | None = None
    size: float = 0.0

    def add(self, seconds: float, size: float = 0.0) -> None:
        """Add the duration and size of a call, or means of a group."""
        if self.seconds is None:
            self.seconds, self.size = seconds, size
        self.seconds += (seconds - self.seconds) / 2
        self.size += (size - self.size) / 2

    def calls_in(self, seconds: float, size: float, most: int) -> int:
        """Return how many calls, from 1 to `most`, fit a duration and size."""
        if self.seconds is None:
            return 1
        return max(1, int(min(seconds / max(self.seconds, _MINIMUM_SECONDS), size / max(self.size, 1.0), most)))

    def calls_ahead(self, workers: int) -> int:
        """Return how many calls to queue ahead; 0 for long calls."""
        if self.seconds is None:
            return 0
        return min(int(workers * AHEAD_SECONDS / max(self.seconds, _MINIMUM_SECONDS)), _MAXIMUM_AHEAD)
