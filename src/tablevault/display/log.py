"""Progress lines where standard error is a pipe or a log file: one now and then."""

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
        Returns the lines of the moment; the last one is of the running builder.
    """

    def __init__(self, lines: Callable[[], Sequence[Sequence[str]]]) -> None:
        self._lines = lines
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write_now_and_then, name="tablevault-progress", daemon=True)

    def start(self) -> None:
        """Begin to write."""
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
                # The log may be on a full disk, or its reader gone: the work goes on.
                with suppress(OSError, ValueError):
                    print(f"tablevault: {text}", file=sys.stderr, flush=True)
