"""Owners in memory, for attempts within one interpreter."""

from __future__ import annotations

import os
import uuid


class MemoryOwners:
    """The owners of attempts within one interpreter, as `Owners`."""

    host = "memory"

    def __init__(self) -> None:
        self._alive: dict[str, bool] = {}

    def claim(self, kind: str = "owner") -> MemoryLease:
        """Return the lease of a new owner."""
        name = f"{kind}-{uuid.uuid4().hex}"
        self._alive[name] = True
        return MemoryLease(name, self._alive)

    def is_alive(self, name: str | None) -> bool:
        """Return whether an owner holds its lease."""
        return name is not None and self._alive.get(name, False)

    def process_number(self, name: str) -> int:
        """Return the number of this process for an owner."""
        return os.getpid() if name in self._alive else 0

    def forget(self, name: str | None) -> None:
        """Forget a dead owner."""
        if name is not None:
            self._alive.pop(name, None)

    def names(self) -> list[str]:
        """Return the names of all owners that are not forgotten."""
        return sorted(self._alive)

    def forget_dead(self) -> None:
        """Forget all dead owners."""
        for name, is_alive in list(self._alive.items()):
            if not is_alive:
                del self._alive[name]


class MemoryLease:
    """Lease of an owner in memory.

    Parameters
    ----------
    name
        Name of the owner.
    alive
        Whether each owner is alive, by name.
    """

    descriptor = -1
    is_inherited = False

    def __init__(self, name: str, alive: dict[str, bool]) -> None:
        self.name = name
        self._alive = alive

    def release(self) -> None:
        """End the lease."""
        self._alive.pop(self.name, None)
