"""Progress of executions: counted by row loops, read from any thread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sized

from tablevault.values.processes import BuilderProgress


class BuilderCounter:
    """Counts the rows of one builder."""

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.total: int | None = None
        self.reused = 0
        self.reused_partial = 0
        """Reused rows that an execution computed which was reverted; they count as reused, too."""
        self.failed = 0
        """Rows that failed and are recorded."""
        self.raised = 0
        """Rows whose error ended the run."""
        self.skipped = 0
        """Rows that were not tried, because a cell that they read failed."""
        self.retried = 0
        """Calls that were repeated."""
        self.retrying = 0
        """Calls that wait to be repeated."""
        self.usage: Counter[str] = Counter()
        """Calls, where they are counted, and the amounts that they reported."""
        self.waiting = ""
        """The service that calls wait for, and its limit."""
        self.done = False
        self.errors: Counter[str] = Counter()
        """How often each class of exception stands among the recorded failures."""
        self._computed = 0
        self._running: Sized = ()

    @property
    def computed(self) -> int:
        """How many rows the function has computed."""
        return self._computed + len(self._running)

    @computed.setter
    def computed(self, count: int) -> None:
        self._running = ()
        self._computed = count

    def count_along(self, rows: Sized) -> None:
        """Add the size of `rows`, while it grows, until `computed` is set."""
        self._running = rows

    @property
    def most_frequent_errors(self) -> str:
        """The two most frequent errors, by name and count; empty if no row has failed."""
        # Copied first: the rows may be running in another thread.
        return ", ".join(f"{count:,} {name}" for name, count in self.errors.copy().most_common(2) if count > 0)

    def snapshot(self) -> BuilderProgress:
        """Return the counts of this moment."""
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
        )


class ExecutionProgress:
    """The counters of all builders of one execution, in the order in which they run."""

    def __init__(self) -> None:
        self.builders: dict[str, BuilderCounter] = {}
        self.on_told: Callable[[str], None] = _ignore
        """Shows a sentence to the user."""
        self._outer: ExecutionProgress | None = None
        self._shown_as = ""

    def start(self, builder: str, columns: int) -> BuilderCounter:
        """Begin to count a builder's rows anew."""
        counter = BuilderCounter(columns)
        self._add(builder, counter)
        return counter

    def tell(self, sentence: str) -> None:
        """Show a sentence to the user, where progress is shown."""
        self.on_told(sentence)

    def show_in(self, outer: ExecutionProgress, shown_as: str) -> None:
        """Show these builders also in the progress of a process around this one, as `shown_as/builder`."""
        self._outer, self._shown_as = outer, shown_as
        for builder, counter in self.builders.items():
            outer._add(f"{shown_as}/{builder}", counter)

    def _add(self, builder: str, counter: BuilderCounter) -> None:
        self.builders[builder] = counter
        if self._outer is not None:
            self._outer._add(f"{self._shown_as}/{builder}", counter)

    def restore(self, progress: Mapping[str, BuilderProgress]) -> None:
        """Start from the counts of earlier attempts, until the builders count again."""
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

    @property
    def usage(self) -> dict[str, float]:
        """The usage of all builders together."""
        return summed(counter.usage for counter in list(self.builders.values()))

    @property
    def waiting(self) -> str:
        """The service that calls wait for, and its limit; empty if none waits."""
        return next((counter.waiting for counter in list(self.builders.values()) if counter.waiting), "")

    def snapshot(self) -> Mapping[str, BuilderProgress]:
        """Return the state of this moment."""
        return {name: counter.snapshot() for name, counter in list(self.builders.items())}

    def kept_cells(self, unsaved_rows: int) -> int:
        """Return how many cells functions have computed, but for the last rows that could not be saved."""
        counters = list(self.builders.values())
        computed = sum(counter.computed * counter.columns for counter in counters)
        return max(0, computed - (unsaved_rows * counters[-1].columns if counters else 0))


def summed(usages: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Return the sums of amounts."""
    total: Counter[str] = Counter()
    for usage in usages:
        total.update(usage.copy() if isinstance(usage, Counter) else usage)
    return rounded(total)


def rounded(usage: Mapping[str, float]) -> dict[str, float]:
    """Return amounts without the errors of adding fractions, and whole ones as integers."""
    near = {name: round(value, 9) for name, value in dict(usage).items()}
    return {name: int(value) if value == int(value) else value for name, value in near.items()}


def _ignore(sentence: str) -> None:
    """Show nothing: progress is not watched."""
