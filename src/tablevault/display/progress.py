"""Progress display on terminals, in notebooks and in logs.

There is no per-row overhead: a background thread polls the counters. Output of functions appears above the progress
lines, unchanged.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol

from tablevault.display.processes import failed_text, retrying_text, usage_text
from tablevault.system import clock
from tablevault.texts.plain import duration, shown
from tablevault.values.processes import BuilderProgress
from tablevault.values.progress import ExecutionProgress
from tablevault.values.services import CALLS

SECONDS_BEFORE_IT_SHOWS = 0.5
_RATE_SECONDS = 30.0
_BYTES_PER_MEGABYTE = 1_000_000

Line = tuple[str, ...]
"""The cells of a line; the first is its name."""

_alone = threading.Lock()
"""Suppresses nested displays, such as of a vault that a running function opens."""


class View(Protocol):
    """A target for progress lines."""

    def start(self) -> None:
        """Start showing the lines."""

    def stop(self) -> None:
        """Stop updating the lines; the last state remains visible."""


class ProgressDisplay:
    """Shows the progress of executions, after a short delay."""

    @contextmanager
    def working(self, progress: ExecutionProgress) -> Iterator[None]:
        """Show the progress of an execution for the duration of the block."""
        rates = Rates()
        progress.on_told = _say

        def lines() -> list[Line]:
            counters = list(progress.builders.items())
            raised = {name: counter.raised for name, counter in counters}
            waiting = {name: counter.waiting for name, counter in counters}
            return builder_lines(progress.snapshot(), rates, raised, waiting)

        with _shown(lines):
            yield


def _say(sentence: str) -> None:
    """Write a sentence to standard error, if available."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stderr.write(f"{shown(sentence)}\n")
        sys.stderr.flush()


@contextmanager
def shown_bytes(name: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the number of bytes processed, which the block reports to the yielded function."""
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
    """Show the number of files processed; the block calls the yielded function for each."""
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
    """Starts a view after a short delay, unless the work is done by then."""

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
        """Cancel the timer, or stop the view."""
        self._timer.cancel()
        with self._lock:
            self._is_over = True
            if self._is_shown:
                self._view.stop()


def _view(lines: Callable[[], Sequence[Line]]) -> View | None:
    """Return a view for the notebook, terminal or log; `None` without standard error."""
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
    """Return whether IPython runs in a kernel, as it does in every notebook."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", lambda: None)()
    return getattr(shell, "kernel", None) is not None


# --- lines --------------------------------------------------------------------------------------------------------


class Rates:
    """Growth rates over a sliding window, which discards old waits and bursts."""

    def __init__(self) -> None:
        self._samples: dict[str, deque[tuple[float, int]]] = {}
        self._lock = threading.Lock()

    def rate(self, name: str, count: int) -> float:
        """Add a sample of a count; return its growth per second."""
        with self._lock:
            now = clock.monotonic()
            samples = self._samples.setdefault(name, deque())
            if samples and count < samples[-1][1]:
                # The counter was reset.
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
    waiting: Mapping[str, str] | None = None,
) -> list[Line]:
    """Return a line for each builder.

    Its cells are the name, the rows done, reused, failed, skipped and retrying, the current and expected usage, the
    rate, the awaited services, and the time left.

    Parameters
    ----------
    progress
        Progress by builder.
    rates
        Receives a sample for each builder.
    raised
        Number of rows whose error ended the run, by builder; known only to the interpreter that runs it.
    waiting
        The services that calls wait for, by builder.
    """
    return [
        _builder_line(name, item, rates, (raised or {}).get(name, 0), (waiting or {}).get(name, ""))
        for name, item in progress.items()
    ]


def _builder_line(name: str, item: BuilderProgress, rates: Rates, raised: int, waiting: str) -> Line:
    rate = rates.rate(name, item.computed)
    processed = item.computed + item.reused + item.failed + item.skipped
    missing = 0 if item.total is None else item.total - processed
    return (
        name,
        f"{rows_done(item)} rows",
        f"{item.reused:,} reused" if item.reused else "",
        failed_text(item, raised),
        f"{item.skipped:,} skipped" if item.skipped else "",
        retrying_text(item),
        _usage(item, missing),
        f"{rate:,.1f}/s" if rate and not item.done else "",
        f"waiting for {waiting}" if waiting else "",
        "done" if item.done else _left(missing, rate),
    )


def rows_done(item: BuilderProgress) -> str:
    """Return the number of finished rows, and the total if known."""
    done = item.computed + item.reused
    return f"{done:,}" if item.total is None else f"{done:,} of {item.total:,}"


def _usage(item: BuilderProgress, missing: int) -> str:
    """Return the current usage, and an extrapolation to the missing rows from the attempted ones."""
    tried = item.computed + item.failed
    reported = {name: value for name, value in item.usage.items() if name != CALLS}
    if item.done or missing <= 0 or not tried or not reported:
        return usage_text(item.usage)
    expected = {name: float(f"{value * missing / tried:.2g}") for name, value in reported.items()}
    return f"{usage_text(item.usage)}; about {usage_text(expected)} more"


def _left(missing: int, per_second: float) -> str:
    """Return the remaining time as text; empty if unknown."""
    return f"{duration(missing / per_second)} left" if missing > 0 and per_second > 0 else ""


def _megabytes(size: float) -> str:
    return f"{size / _BYTES_PER_MEGABYTE:,.1f}"
