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
from tablevault.values.contents import CatalogIdentity
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

    def create(self, vault_id: str, created_at: str, address: str | None = None) -> CatalogIdentity:
        """Create the tables in an empty database.

        Returns the vault that they, or the existing tables, belong to.
        """
        self._database.make()
        with self._store.write() as connection:
            if migration.create_tables(connection):
                migration.upgrade(connection, vault_id, created_at, address, migrated_from=None)
            return migration.identity_of(connection)

    def identity(self) -> CatalogIdentity:
        """Return the catalog's format, and the vault that it belongs to."""
        with self._store.read() as connection:
            return migration.identity_of(connection)

    def migrate(
        self,
        vault_id: str,
        created_at: str,
        address: str | None,
        check: Callable[[Sequence[ProcessRecord]], None],
    ) -> None:
        """Upgrade the catalog to the newest format, and record the vault's folder, in one transaction.

        Parameters
        ----------
        vault_id, created_at, address
            Id and creation time of the vault, and its folder if the catalog is outside of it.
        check
            Called with the unfinished processes; raises if one of them blocks the upgrade.
        """
        with self._store.write() as connection:
            known = migration.identity_of(connection)
            if known.format < FORMAT:
                check(unfinished_in(connection))
                migration.upgrade(connection, vault_id, created_at, address, migrated_from=known.format)
            elif known.address != address:
                migration.record_address(connection, address)

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
