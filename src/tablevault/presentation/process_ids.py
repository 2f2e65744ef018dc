"""Unused ids for processes that a server begins for a user or an agent."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from tablevault.errors import TVProcessError

if TYPE_CHECKING:
    from tablevault.vault import TableVault

_MAXIMUM_REMEMBERED = 1_000


class ProcessIds:
    """Unused process ids, each issued once.

    They count as given by the user, so that errors pause.

    Parameters
    ----------
    vault
        The vault.
    door
        Prefix of the ids: `page` or `mcp`.
    """

    def __init__(self, vault: TableVault, door: str) -> None:
        self._vault = vault
        self._door = door
        self._given: dict[str, None] = {}
        self._giving = threading.Lock()

    def take(self) -> str:
        """Return an id that is unused by processes and by other requests of this server."""
        base = f"{self._door}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
        ids = (base if number == 1 else f"{base}-{number}" for number in count(1))
        with self._giving:
            taken = next(name for name in ids if name not in self._given and not has_process(self._vault, name))
            self._given[taken] = None
            # The processes of ids issued long ago have begun.
            while len(self._given) > _MAXIMUM_REMEMBERED:
                del self._given[next(iter(self._given))]
        return taken


def has_process(vault: TableVault, process_id: str) -> bool:
    """Return whether a process has this id."""
    try:
        vault.get_process(process_id)
    except TVProcessError:
        return False
    return True
