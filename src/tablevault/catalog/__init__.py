"""The catalog: the truth about a vault's tables, instances, processes and locks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from tablevault.catalog import format_2
from tablevault.catalog.contents import Contents
from tablevault.catalog.format_2 import FORMAT
from tablevault.catalog.imported import Imported, record_imported
from tablevault.catalog.processes import Processes
from tablevault.catalog.store import Store, UnknownOutcomeError
from tablevault.errors import TVArgumentError
from tablevault.values import ProcessRecord

__all__ = ["FORMAT", "Catalog", "Imported", "UnknownOutcomeError", "file_url", "sqlite_url"]


def file_url(path: Path) -> URL:
    """Return the URL of a catalog that is one file."""
    return URL.create("sqlite", database=str(path))


def sqlite_url(text: str) -> URL:
    """Return the URL of a catalog that a caller, or the marker of a vault, names.

    Raises
    ------
    TVArgumentError
        If it is not the URL of a SQLite file. Other databases are refused: locks are exclusive in SQLite only.
    """
    try:
        url = make_url(text)
        backend = url.get_backend_name()
    except ArgumentError as error:
        raise TVArgumentError(f"catalog_url is not the URL of a database: {error}.") from None
    if backend != "sqlite" or not url.database or url.database == ":memory:" or url.query:
        raise TVArgumentError(
            f"catalog_url names a {backend} database that TableVault does not support. Leave it out: the catalog is "
            "then a SQLite file in the vault."
        )
    return url.set(database=str(Path(url.database).absolute()))


class Catalog:
    """One vault's catalog.

    Parameters
    ----------
    url
        SQLAlchemy URL of the database.
    """

    def __init__(self, url: str | URL) -> None:
        self._store = Store(make_url(url))
        self.processes = Processes(self._store)
        self.contents = Contents(self._store)
        self.is_newest = False
        """Whether catalog and marker are known to have the newest format."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all that this thread reads inside see one state, that of now; what it writes meanwhile is not in it."""
        return self._store.snapshot()

    def create(self, vault_id: str, created_at: str) -> str:
        """Create the database's tables, where they are missing; return the id of the vault that they are of."""
        return self._store.create(vault_id, created_at)

    def identity(self) -> tuple[int, str | None]:
        """Return the format that the catalog has, and the id of its vault, which format 1 does not say."""
        with self._store.read() as connection:
            return format_2.identity_of(connection)

    def migrate(self, vault_id: str, created_at: str, check: Callable[[Sequence[ProcessRecord]], None]) -> None:
        """Bring an older catalog to the newest format, in one transaction; nothing happens to one that has it.

        Parameters
        ----------
        vault_id, created_at
            Of the vault.
        check
            Is given the processes that are not over, and raises if one of them is in the way.
        """
        with self._store.write() as connection:
            number, _ = format_2.identity_of(connection)
            if number < FORMAT:
                check(self.processes.unfinished_in(connection))
                format_2.upgrade(connection, vault_id, created_at, migrated_from=number)

    def record_imported(self, imported: Imported) -> None:
        """Put the content of another catalog into this one, which is empty."""
        record_imported(self._store, imported)

    def faults(self) -> list[str]:
        """Return what the database itself finds wrong with its file."""
        return self._store.faults()

    def backup(self, target: Path) -> None:
        """Write a copy of the catalog as it is at this moment; only of one that is a file."""
        self._store.backup(target)

    def close(self) -> None:
        """Close all idle connections."""
        self._store.close()
