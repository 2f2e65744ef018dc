"""One vault's catalog in a SQL database."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from tablevault.catalog.sql import migration
from tablevault.catalog.sql.connection import Database
from tablevault.catalog.sql.contents import Contents
from tablevault.catalog.sql.imported import record_imported
from tablevault.catalog.sql.processes import Processes, unfinished_in
from tablevault.catalog.sql.store import Store
from tablevault.catalog.sql.tidying import TidyingSteps
from tablevault.catalog.sql.transitions import Transitions
from tablevault.layout import FORMAT
from tablevault.values.changes import Imported
from tablevault.values.processes import ProcessRecord


class SqlCatalog:
    """One vault's catalog.

    Parameters
    ----------
    database
        Backend that holds the catalog.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._store = Store(database)
        self.processes = Processes(self._store)
        self.transitions = Transitions(self._store)
        self.tidying = TidyingSteps(self._store)
        self.contents = Contents(self._store)
        self.is_newest = False

    @property
    def url(self) -> str:
        """Database URL without the password."""
        return self._store.url

    def snapshot(self) -> AbstractContextManager[None]:
        """Pin this thread's reads inside the block to one snapshot, which excludes its own writes."""
        return self._store.snapshot()

    def create(self, vault_id: str, created_at: str) -> str:
        """Create missing tables; return the id of the vault that they belong to."""
        self._database.make()
        with self._store.write() as connection:
            is_new = migration.create_tables(connection)
            number, known = (1, None) if is_new else migration.identity_of(connection)
            if number == 1:
                migration.upgrade(connection, vault_id, created_at, migrated_from=None)
            return known or vault_id

    def identity(self) -> tuple[int, str | None]:
        """Return the catalog's format and vault id, which format 1 does not record."""
        with self._store.read() as connection:
            return migration.identity_of(connection)

    def migrate(self, vault_id: str, created_at: str, check: Callable[[Sequence[ProcessRecord]], None]) -> None:
        """Upgrade the catalog to the newest format in one transaction; no-op if it is current.

        Parameters
        ----------
        vault_id, created_at
            Id and creation time of the vault.
        check
            Called with the unfinished processes; raises if one of them blocks the upgrade.
        """
        with self._store.write() as connection:
            number, _ = migration.identity_of(connection)
            if number < FORMAT:
                check(unfinished_in(connection))
                migration.upgrade(connection, vault_id, created_at, migrated_from=number)

    def record_imported(self, imported: Imported) -> None:
        """Copy the content of another catalog into this empty one."""
        record_imported(self._store, imported)

    def faults(self) -> list[str]:
        """Return the problems that the database itself finds."""
        return self._store.faults()

    def backup(self, target: Path) -> None:
        """Write a snapshot of the catalog to a file."""
        self._store.backup(target)

    def close(self) -> None:
        """Close all idle connections."""
        self._store.close()
