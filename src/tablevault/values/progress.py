"""Progress of executions, counted by row loops and read from any thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sized

from tablevault.values.processes import BuilderProgress

SHOWN_ERRORS = 2
"""Number of kinds of errors that progress and reasons name."""


class BuilderCounter:
    """Counts the rows of one builder."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.total: int | None = None
        self.reused = 0
        self.reused_partial = 0
        """Rows reused from a reverted execution; included in `reused`."""
        self.failed = 0
        """Rows recorded as failed."""
        self.raised = 0
        """Rows whose error ended the run."""
        self.skipped = 0
        """Rows not tried, because a cell that they read failed."""
        self.retried = 0
        """Calls retried so far."""
        self.retrying = 0
        """Calls waiting to be retried."""
        self.usage: Counter[str] = Counter()
        """Calls, if counted, and the amounts that they reported."""
        self.waiting = ""
        """The service that calls wait for, and its limit."""
        self.done = False
        self.errors: Counter[str] = Counter()
        """Number of recorded failures by exception class."""
        self._computed = 0
        self._running: Sized = ()

    @property
    def computed(self) -> int:
        """Number of rows computed by the function."""
        return self._computed + len(self._running)

    @computed.setter
    def computed(self, count: int) -> None:
        self._running = ()
        self._computed = count

    def count_along(self, rows: Sized) -> None:
        """Include the growing size of `rows` in `computed` until that is set."""
        self._running = rows

    def snapshot(self) -> BuilderProgress:
        """Return the current counts."""
        return BuilderProgress(
            self.total,
            self.computed,
            self.reused,
            self.done,
            self.failed,
            self.skipped,
            self.retried,
            self.retrying,
            rounded(self.usage),
            # Copied first, because another thread may be running the rows.
            {name: count for name, count in self.errors.copy().most_common(SHOWN_ERRORS) if count > 0},
        )


class ExecutionProgress:
    """Counters of all builders of one execution, in run order."""

    def __init__(self) -> None:
        self.builders: dict[str, BuilderCounter] = {}
        self.on_told: Callable[[str], None] = _ignore
        """Shows a sentence to the user."""
        self._outer: ExecutionProgress | None = None
        self._shown_as = ""

    def start(self, builder: str, columns: int) -> BuilderCounter:
        """Start a new count of a builder's rows."""
        counter = BuilderCounter(columns)
        self._add(builder, counter)
        return counter

    def tell(self, sentence: str) -> None:
        """Show a sentence to the user, if progress is shown."""
        self.on_told(sentence)

    def show_in(self, outer: ExecutionProgress, shown_as: str) -> None:
        """Include these builders in the progress of an outer process, as `shown_as/builder`."""
        self._outer, self._shown_as = outer, shown_as
        for builder, counter in self.builders.items():
            outer._add(f"{shown_as}/{builder}", counter)

    def _add(self, builder: str, counter: BuilderCounter) -> None:
        self.builders[builder] = counter
        if self._outer is not None:
            self._outer._add(f"{self._shown_as}/{builder}", counter)

    def restore(self, progress: Mapping[str, BuilderProgress]) -> None:
        """Show the counts of earlier attempts until the builders count again."""
        for name, item in progress.items():
            counter = self.start(name, 1)
            counter.total, counter.computed, counter.reused, counter.done = (
                item.total,
                item.computed,
                item.reused,
                item.done,
            )
            counter.failed, counter.skipped = item.failed, item.skipped
            counter.usage.update(item.usage)
            counter.errors.update(item.errors)

    @property
    def usage(self) -> dict[str, float]:
        """Total usage of all builders."""
        return summed(counter.usage for counter in list(self.builders.values()))

    @property
    def waiting(self) -> str:
        """The service that calls wait for, and its limit; empty if no call waits."""
        return next((counter.waiting for counter in list(self.builders.values()) if counter.waiting), "")

    def snapshot(self) -> Mapping[str, BuilderProgress]:
        """Return the current progress."""
        return {name: counter.snapshot() for name, counter in list(self.builders.items())}

    def kept_cells(self, unsaved_rows: int) -> int:
        """Return the number of computed cells, without those of the last, unsaved rows."""
        counters = list(self.builders.values())
        computed = sum(counter.computed * counter.columns for counter in counters)
        return max(0, computed - (unsaved_rows * counters[-1].columns if counters else 0))


def summed(usages: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the total of each amount."""
    total: Counter[str] = Counter()
    for usage in usages:
        total.update(usage.copy() if isinstance(usage, Counter) else usage)
    return rounded(total)


def rounded(usage: Mapping[str, float]) -> dict[str, float]:
    """Return amounts without floating-point noise, and whole ones as integers."""
    near = {name: round(value, 9) for name, value in dict(usage).items()}
    return {name: int(value) if value == int(value) else value for name, value in near.items()}


def _ignore(sentence: str) -> None:
    """Discard a sentence; progress is not shown."""
