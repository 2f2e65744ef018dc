"""One vault's catalog in memory."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tablevault.layout import FORMAT
from tablevault.testing.memory.arrivals import add_whole_catalog
from tablevault.testing.memory.contents import Contents
from tablevault.testing.memory.processes import Processes
from tablevault.testing.memory.state import State
from tablevault.testing.memory.steps import TidyingSteps
from tablevault.testing.memory.store import URL, Store
from tablevault.testing.memory.transitions import Transitions
from tablevault.values.changes import Imported
from tablevault.values.contents import CatalogIdentity
from tablevault.values.processes import ProcessRecord

if TYPE_CHECKING:
    from tablevault.ports import Catalog


class MemoryCatalog:
    """Adapter of `tablevault.ports.Catalog` in plain Python, for the threads of one interpreter.

    It is the shortest complete adapter, and shows the effect of every method without SQL. Reads and writes take time
    in proportion to the whole content, and nothing is durable: use it to check other catalogs and in tests.
    """

    def __init__(self) -> None:
        self._store = Store()
        self.contents = Contents(self._store)
        self.processes = Processes(self._store)
        self.transitions = Transitions(self._store)
        self.tidying = TidyingSteps(self._store)
        self.is_newest = False

    @classmethod
    def of_backup(cls, source: Path) -> MemoryCatalog:
        """Return a catalog with the content of a backup, which must be trusted: it is a pickle."""
        catalog = cls()
        catalog._store.create(pickle.loads(source.read_bytes()))
        return catalog

    @property
    def url(self) -> str:
        """A fixed text, by which no other program can find the catalog."""
        return URL

    def snapshot(self) -> AbstractContextManager[None]:
        """Pin the reads of this thread in the block to the present state."""
        return self._store.snapshot()

    def create(self, vault_id: str, created_at: str, address: str | None = None) -> CatalogIdentity:
        """Create an empty catalog, a no-op if one exists; return the vault that it belongs to."""
        return self._store.create(State(CatalogIdentity(FORMAT, vault_id, address), created_at)).identity

    def identity(self) -> CatalogIdentity:
        """Return the newest format, and the vault that the catalog belongs to."""
        return self._store.state.identity

    def migrate(
        self,
        vault_id: str,
        created_at: str,
        address: str | None,
        check: Callable[[Sequence[ProcessRecord]], None],
    ) -> None:
        """Record the vault's folder; no catalog in memory is older than the newest format."""
        with self._store.write() as state:
            state.identity = replace(state.identity, address=address)

    def record_imported(self, imported: Imported) -> None:
        """Copy the content of another catalog into this empty one."""
        with self._store.write() as state:
            add_whole_catalog(imported, state)

    def faults(self) -> list[str]:
        """Return no problems: there is no database that could be damaged."""
        return []

    def backup(self, target: Path) -> None:
        """Write a pickle of the newest state to a file, for `of_backup`."""
        target.write_bytes(pickle.dumps(self._store.newest))

    def close(self) -> None:
        """Do nothing: there are no connections."""


if TYPE_CHECKING:
    # Nothing else would show that a method differs from the port.
    _IS_CATALOG: type[Catalog] = MemoryCatalog
