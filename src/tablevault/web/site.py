"""The state that the server of one vault keeps between requests."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tablevault.display.progress import Rates
from tablevault.presentation.process_ids import ProcessIds
from tablevault.web.statuses import Statuses

if TYPE_CHECKING:
    from tablevault.vault import TableVault

_PATIENCE = 10.0
"""Maximum seconds that a statement waits for another one."""
_MAXIMUM_PLACES = 100
"""Maximum number of pages with pending warnings, since some pages are never visited."""


class Busy(Exception):
    """Another request holds an exclusive resource."""


class Site:
    """A vault with the state of its server.

    Parameters
    ----------
    vault
        The vault.
    allow_writes
        Whether pages offer actions.
    """

    def __init__(self, vault: TableVault, allow_writes: bool) -> None:
        self.vault = vault
        self.allow_writes = allow_writes
        self.rates = Rates()
        self.statuses = Statuses(vault)
        self.process_ids = ProcessIds(vault, "page")
        self._heavy = threading.Lock()
        self._acting: TableVault | None = None
        self._opening = threading.Lock()
        self._warnings: dict[str, Sequence[str]] = {}
        self._leaving = threading.Lock()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Run a block exclusively; raises `Busy` if another request takes too long."""
        if not self._heavy.acquire(timeout=_PATIENCE):
            raise Busy("Another statement is still running. Try again in a moment.")
        try:
            yield
        finally:
            self._heavy.release()

    def acting(self) -> TableVault:
        """Return the vault for actions, whose author marks them as coming from the page."""
        with self._opening:
            if self._acting is None:
                self._acting = self.vault._for_author(f"{self.vault.author} via page")
            return self._acting

    def leave_warnings(self, path: str, texts: Sequence[str]) -> None:
        """Keep the warnings of an action for the page that it leads to."""
        with self._leaving:
            self._warnings[path] = (*self._warnings.pop(path, ()), *texts)
            while len(self._warnings) > _MAXIMUM_PLACES:
                del self._warnings[next(iter(self._warnings))]

    def take_warnings(self, path: str) -> Sequence[str]:
        """Remove and return the pending warnings of a page."""
        with self._leaving:
            return self._warnings.pop(path, ())
