"""Progress while somebody waits: one line per builder, on a terminal or in a notebook, silent everywhere else.

Nothing is done per row: a thread looks at the counters a few times a second. What functions print meanwhile appears
above the lines.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tablevault.progress import BuilderCounter, ExecutionProgress

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

SECONDS_BEFORE_IT_SHOWS = 0.5
_LOOKS_PER_SECOND = 4

_alone = threading.Lock()
"""A vault that a function opens while it runs shows nothing of its own."""


@contextmanager
def shown(progress: ExecutionProgress) -> Iterator[None]:
    """Show the progress of what the block executes, if somebody is looking and it takes longer than a moment."""
    if not _somebody_looks() or not _alone.acquire(blocking=False):
        yield
        return
    try:
        lines = _Lines(progress)
        timer = threading.Timer(SECONDS_BEFORE_IT_SHOWS, lines.start)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()
            lines.stop()
    finally:
        _alone.release()


def rows_done(computed: int, reused: int, total: int | None) -> str:
    """Return how many rows are there, of how many if that is known."""
    done = computed + reused
    return f"{done:,}" if total is None else f"{done:,} of {total:,}"


def time_left(missing: int, rows_per_second: float) -> str:
    """Return how long the missing rows will take; nothing if that cannot be told."""
    return duration(missing / rows_per_second) if rows_per_second > 0 else ""


def duration(seconds: float) -> str:
    """Return seconds in the two largest units that they fill.

    >>> duration(3725)
    '1 h 2 min'
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = ((days, "d"), (hours, "h"), (minutes, "min"), (rest, "s"))
    return " ".join([f"{number} {unit}" for number, unit in parts if number][:2]) or "0 s"


def _somebody_looks() -> bool:
    if "ipykernel" in sys.modules:
        return True
    try:
        return sys.stderr is not None and sys.stderr.isatty()
    except ValueError:  # It was closed.
        return False


class _Lines:
    """The lines of one execution, from when they first show until they are left as they are."""

    def __init__(self, progress: ExecutionProgress) -> None:
        self._progress = progress
        self._lock = threading.Lock()
        self._live: Live | None = None
        self._is_over = False
        self._first: dict[str, tuple[float, int]] = {}

    def start(self) -> None:
        """Begin to show them, unless it is over already."""
        from rich.console import Console
        from rich.live import Live

        with self._lock:
            if self._is_over:
                return
            self._live = Live(
                console=Console(stderr=True),
                get_renderable=self._table,
                refresh_per_second=_LOOKS_PER_SECOND,
                # What goes elsewhere must go on doing so.
                redirect_stdout=sys.stdout.isatty() or "ipykernel" in sys.modules,
            )
            self._live.start()

    def stop(self) -> None:
        """Leave them as they are."""
        with self._lock:
            self._is_over = True
            if self._live is not None:
                self._live.stop()

    def _table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False, show_header=False)
        for column in range(5):
            table.add_column(justify="left" if column == 0 else "right")
        now = time.monotonic()
        for name, counter in list(self._progress.builders.items()):
            table.add_row(name, *self._cells(name, counter, now))
        return table

    def _cells(self, name: str, counter: BuilderCounter, now: float) -> tuple[str, ...]:
        item = counter.snapshot()
        began, before = self._first.setdefault(name, (now, item.computed))
        rate = (item.computed - before) / (now - began) if now > began else 0.0
        missing = 0 if item.total is None else item.total - item.computed - item.reused
        return (
            f"{rows_done(item.computed, item.reused, item.total)} rows",
            f"{item.reused:,} reused" if item.reused else "",
            f"{rate:,.1f}/s" if rate and not item.done else "",
            "done" if item.done else time_left(missing, rate),
        )
