"""What the owner of a long attempt looks at now and then: whether it is asked to stop; and what it shows others."""

from __future__ import annotations

from tablevault import clock
from tablevault.transaction import Transaction

_STOP_SECONDS = 0.2
_PROGRESS_SECONDS = 1.0
_FIRST_PROGRESS_SECONDS = 0.2
"""Sooner than later on, so that who kills a run at its beginning sees how far it was."""


class OwnerWatch:
    """Called at every interval of the checkpoints, on their background thread.

    Parameters
    ----------
    transaction
        The attempt that is watched.
    """

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._processes = transaction.context.catalog.processes
        self._stop_looked = clock.monotonic()
        self._progress_saved = self._stop_looked - _PROGRESS_SECONDS + _FIRST_PROGRESS_SECONDS
        self._shown = transaction.progress.snapshot()

    def look(self) -> None:
        """Note a request to stop, and record how far the execution is."""
        now = clock.monotonic()
        if now - self._stop_looked >= _STOP_SECONDS:
            self._stop_looked = now
            record = self._processes.get(self._transaction.serial)
            if record is None or record.attempt != self._transaction.attempt or record.stop_requested:
                self._transaction.stop_requested = True
        if now - self._progress_saved >= _PROGRESS_SECONDS:
            self._progress_saved = now
            self._save_progress()

    def _save_progress(self) -> None:
        progress = self._transaction.progress.snapshot()
        if progress != self._shown and not self._transaction.stop_requested:
            self._shown = progress
            self._processes.save_progress(self._transaction.serial, self._transaction.attempt, progress)
