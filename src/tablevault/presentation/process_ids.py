"""Ids of processes, and free ones for those that a server begins for a person or an agent."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING

from tablevault.errors import TVProcessError

if TYPE_CHECKING:
    from tablevault.vault import TableVault


def new_process_id(vault: TableVault, door: str) -> str:
    """Return a free id that counts as a user's own, so that errors pause.

    Parameters
    ----------
    vault
        The vault.
    door
        What the id begins with: `page` or `mcp`.
    """
    base = f"{door}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    ids = (base if number == 1 else f"{base}-{number}" for number in count(1))
    return next(name for name in ids if not has_process(vault, name))


def has_process(vault: TableVault, process_id: str) -> bool:
    """Return whether there is a process of this id."""
    try:
        vault.get_process(process_id)
    except TVProcessError:
        return False
    return True
