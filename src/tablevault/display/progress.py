"""Progress on a terminal or in a notebook; silent everywhere else.

Nothing is done per row: a thread reads the counters a few times a second. Output of functions appears above the
progress lines, unchanged.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from tablevault.display.processes import usage_text
from tablevault.system import clock
from tablevault.texts.plain import duration, shown
from tablevault.values.processes import BuilderProgress
from tablevault.values.progress import ExecutionProgress
from tablevault.values.services import CALLS

SECONDS_BEFORE_IT_SHOWS = 0.5
_RATE_SECONDS = 30.0
_BYTES_PER_MEGABYTE = 1_000_000

Line = tuple[str, ...]
"""The cells of one line; the first is its name."""

_alone = threading.Lock()
"""A vault that a function opens while it runs shows nothing of its own."""


class View(Protocol):
    """Where lines are shown."""

    def start(self) -> None:
        """Begin to show them."""

    def stop(self) -> None:
        """Leave them as they are."""


class ProgressDisplay:
    """Shows executions that take longer than a moment, on a terminal or in a notebook."""

    @contextmanager
    def working(self, progress: ExecutionProgress) -> Iterator[None]:
        """Show the progress of the execution inside the block."""
        rates = Rates()
        progress.on_told = _say

        def lines() -> list[Line]:
            counters = list(progress.builders.items())
            errors = {name: counter.most_frequent_errors for name, counter in counters}
            raised = {name: counter.raised for name, counter in counters}
            waiting = {name: counter.waiting for name, counter in counters}
            return builder_lines(progress.snapshot(), rates, raised, errors, waiting)

        with _shown(lines):
            yield


def _say(sentence: str) -> None:
    """Show a sentence on standard error, if there is one."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{shown(sentence)}\n")
        sys.stderr.flush()


@contextmanager
def shown_bytes(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how many bytes the block has dealt with, which it tells the function that it is given."""
    rates, count = Rates(), 0

    def advance(size: int) -> None:
        nonlocal count
        count += size

    def lines() -> list[Line]:
        done = min(count, total)
        rate = rates.rate(name, done)
        left = "done" if done == total else _left(total - done, rate)
        return [(name, f"{_megabytes(done)} of {_megabytes(total)} MB", f"{_megabytes(rate)} MB/s", left)]

    with _shown(lines):
        yield advance


@contextmanager
def shown_files(name: str) -> Iterator[Callable[[], None]]:
    """Show how many files the block has dealt with: it calls the function that it is given for each."""
    rates, count = Rates(), 0

    def advance() -> None:
        nonlocal count
        count += 1

    def lines() -> list[Line]:
        return [(name, f"{count:,} files", f"{rates.rate(name, count):,.0f}/s")]

    with _shown(lines):
        yield advance


@contextmanager
def _shown(lines: Callable[[], Sequence[Line]]) -> Iterator[None]:
    view = _view(lines)
    if view is None or not _alone.acquire(blocking=False):
        yield
        return
    try:
        showing = _DelayedView(view)
        try:
            yield
        finally:
            showing.end()
    finally:
        _alone.release()


class _DelayedView:
    """Starts a view after a short delay, unless the work has ended by then."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._lock = threading.Lock()
        self._is_over = self._is_shown = False
        self._timer = threading.Timer(SECONDS_BEFORE_IT_SHOWS, self._start)
        self._timer.daemon = True
        self._timer.start()

    def _start(self) -> None:
        with self._lock:
            if not self._is_over:
                self._view.start()
                self._is_shown = True

    def end(self) -> None:
        """Leave the view as it is."""
        self._timer.cancel()
        with self._lock:
            self._is_over = True
            if self._is_shown:
                self._view.stop()


def _view(lines: Callable[[], Sequence[Line]]) -> View | None:
    """Return a view for the terminal, the notebook or the log; `None` if there is no standard error."""
    if in_notebook():
        from tablevault.display.notebook import NotebookView

        return NotebookView(lines)
    if on_terminal():
        from tablevault.display.terminal import TerminalView

        return TerminalView(lines)
    if sys.stderr is not None:
        from tablevault.display.log import LogView

        return LogView(lines)
    return None


def on_terminal() -> bool:
    """Return whether standard error is a terminal."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # It was closed.
        return False


def in_notebook() -> bool:
    """Return whether IPython runs with a kernel, which is how every notebook does."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


# --- lines --------------------------------------------------------------------------------------------------------


class Rates:
    """Growth rates, over a sliding window so that a long wait or a quick start is forgotten."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, int]]] = {}
        self._lock = threading.Lock()

    def rate(self, name: str, count: int) -> float:
        """Add a sample of a count; return its growth per second."""
        with self._lock:
            now = clock.monotonic()
            samples = self._samples.setdefault(name, deque())
            if samples and count < samples[-1][1]:
                # It is counted anew.
                samples.clear()
            samples.append((now, count))
            while len(samples) > 2 and now - samples[0][0] > _RATE_SECONDS:
                samples.popleft()
            began, before = samples[0]
        return (count - before) / (now - began) if now > began else 0.0


def builder_lines(
    progress: Mapping[str, BuilderProgress],
    rates: Rates,
    raised: Mapping[str, int] | None = None,
    errors: Mapping[str, str] | None = None,
    waiting: Mapping[str, str] | None = None,
) -> list[Line]:
    """Return a line for each builder.

    Its cells are the name, rows done, reused, failed, skipped and retrying, the usage so far and to be expected, the
    rate, the reason why it waits, and the time left.

    Parameters
    ----------
    progress
        The builders.
    rates
        Takes a sample of each.
    raised
        Rows whose error ended the run, by builder; only known to the interpreter that runs it.
    errors
        The most frequent errors, by builder; likewise.
    waiting
        The services that calls wait for, by builder.
    """
    return [
        _builder_line(
            name, item, rates, (raised or {}).get(name, 0), (errors or {}).get(name, ""), (waiting or {}).get(name, "")
        )
        for name, item in progress.items()
    ]


def _builder_line(name: str, item: BuilderProgress, rates: Rates, raised: int, errors: str, waiting: str) -> Line:
    rate = rates.rate(name, item.computed)
    settled = item.computed + item.reused + item.failed + item.skipped
    missing = 0 if item.total is None else item.total - settled
    failed = item.failed + raised
    return (
        name,
        f"{rows_done(item)} rows",
        f"{item.reused:,} reused" if item.reused else "",
        f"{failed:,} failed{f' ({errors})' if errors else ''}" if failed else "",
        f"{item.skipped:,} skipped" if item.skipped else "",
        f"{item.retrying:,} waiting to be retried" if item.retrying else "",
        _usage(item, missing),
        f"{rate:,.1f}/s" if rate and not item.done else "",
        f"waiting for {waiting}" if waiting else "",
        "done" if item.done else _left(missing, rate),
    )


def rows_done(item: BuilderProgress) -> str:
    """Return how many rows are there, of how many if that is known."""
    done = item.computed + item.reused
    return f"{done:,}" if item.total is None else f"{done:,} of {item.total:,}"


def _usage(item: BuilderProgress, missing: int) -> str:
    """Return what calls have used, and how much more the missing rows are expected to, by the mean of those tried."""
    tried = item.computed + item.failed
    reported = {name: value for name, value in item.usage.items() if name != CALLS}
    if item.done or missing <= 0 or not tried or not reported:
        return usage_text(item.usage)
    expected = {name: float(f"{value * missing / tried:.2g}") for name, value in reported.items()}
    return f"{usage_text(item.usage)}; about {usage_text(expected)} more"


def _left(missing: int, per_second: float) -> str:
    """Return the remaining time as text; empty if it is not known."""
    return f"{duration(missing / per_second)} left" if missing > 0 and per_second > 0 else ""


def _megabytes(size: float) -> str:
    return f"{size / _BYTES_PER_MEGABYTE:,.1f}"
