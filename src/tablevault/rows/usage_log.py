"""Usage of a builder's calls, per row and in total."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tablevault.storage.checkpoints import CheckpointStore
from tablevault.values.processes import Usage
from tablevault.values.progress import BuilderCounter
from tablevault.values.services import CALLS


class UsageLog:
    """Accumulates a builder's usage in one process; durable with the next checkpoint flush.

    Parameters
    ----------
    builder
        Name of the builder.
    counter
        Receives the sums.
    checkpoints
        Must have begun the builder before anything is added.
    saved
        Usage of earlier attempts.
    """

    def __init__(
        self,
        builder: str,
        counter: BuilderCounter,
        checkpoints: CheckpointStore,
        saved: Mapping[int, Usage] | None = None,
    ) -> None:
        self.rows: dict[int, Usage] = {}
        """Usage of all attempts by position."""
        self._builder = builder
        self._counter = counter
        self._checkpoints = checkpoints
        self.restore(saved or {})

    def restore(self, saved: Mapping[int, Usage]) -> None:
        """Restore the usage of earlier attempts."""
        self.rows.update(saved)
        for usage in saved.values():
            self._counter.usage.update({CALLS: usage.calls, **usage.amounts})
        if saved:
            # Undoes the division of batch calls among their rows.
            self._counter.usage[CALLS] = round(self._counter.usage[CALLS])

    def has_calls(self, position: int) -> bool:
        """Return whether calls for a row have been counted."""
        usage = self.rows.get(position)
        return usage is not None and usage.calls > 0

    def begin(self, positions: Sequence[int]) -> None:
        """Count a call for rows that is about to begin."""
        self._count(positions, 1)

    def withdraw(self, positions: Sequence[int]) -> None:
        """Uncount a call that never began."""
        self._count(positions, -1)

    def _count(self, positions: Sequence[int], step: int) -> None:
        share = step / len(positions)
        for position in positions:
            before = self.rows.get(position, Usage())
            self._put(position, Usage(before.calls + share, before.seconds, before.amounts))
        self._counter.usage[CALLS] += step

    def end(self, positions: Sequence[int], seconds: float | None, amounts: Mapping[str, float]) -> None:
        """Add the duration and reported amounts of a call, in equal shares per row."""
        count = len(positions)
        for position in positions:
            before = self.rows.get(position, Usage())
            added = {name: before.amounts.get(name, 0) + value / count for name, value in amounts.items()}
            time = before.seconds if seconds is None else (before.seconds or 0.0) + seconds / count
            self._put(position, Usage(before.calls, time, {**before.amounts, **added}))
        self._counter.usage.update(amounts)

    def _put(self, position: int, usage: Usage) -> None:
        self.rows[position] = usage
        self._checkpoints.add_usage(self._builder, position, usage)
