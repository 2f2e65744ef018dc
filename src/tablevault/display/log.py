"""Periodic progress lines for pipes and log files."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress

SECONDS_BETWEEN_LINES = 30.0


class LogView:
    """Writes the progress of the running builder to standard error, once every 30 seconds.

    Parameters
    ----------
    lines
        Returns the current lines; the last one is that of the running builder.
    """

    def __init__(self, lines: Callable[[], Sequence[Sequence[str]]]) -> None:
        self._lines = lines
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_now_and_then, name="tablevault-progress", daemon=True)

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def stop(self) -> None:
        """Stop writing."""
        self._ended.set()
        self._thread.join()

    def _write_now_and_then(self) -> None:
        while not self._ended.wait(SECONDS_BETWEEN_LINES):
            lines = self._lines()
            if lines:
                text = ", ".join(part for part in lines[-1] if part)
                # Best effort: the disk may be full, or the pipe closed.
                with suppress(OSError, ValueError):
                    print(f"tablevault: {text}", file=sys.stderr, flush=True)
