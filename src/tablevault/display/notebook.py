"""Progress lines below a running notebook cell."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from tablevault.display.html import Sheet

_SECONDS_BETWEEN_UPDATES = 0.5


class NotebookView:
    """Shows lines as an output of the cell, and updates them.

    Parameters
    ----------
    lines
        Returns the current lines.
    """

    def __init__(self, lines: Callable[[], Sequence[Sequence[str]]]) -> None:
        self._lines = lines
        self._ended = threading.Event()
        self._display: Any = None
        self._thread = threading.Thread(target=self._refresh, name="tablevault-progress", daemon=True)

    def start(self) -> None:
        """Show the lines and start updating them."""
        from IPython.display import display

        self._display = display(_Lines(self._lines()), display_id=True)
        self._thread.start()

    def stop(self) -> None:
        """Update the lines a last time, and stop."""
        self._ended.set()
        self._thread.join()
        self._display.update(_Lines(self._lines()))

    def _refresh(self) -> None:
        while not self._ended.wait(_SECONDS_BETWEEN_UPDATES):
            self._display.update(_Lines(self._lines()))


class _Lines:
    """A snapshot of the lines."""

    def __init__(self, lines: Sequence[Sequence[str]]) -> None:
        self._lines = lines

    def __repr__(self) -> str:
        return "\n".join("  ".join(cell for cell in line if cell) for line in self._lines)

    def _repr_html_(self) -> str:
        sheet = Sheet()
        sheet.table((), self._lines)
        return sheet.html
