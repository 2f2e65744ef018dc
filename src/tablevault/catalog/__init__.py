"""The catalog: the truth about a vault's tables, instances, processes and locks."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path

from sqlalchemy import URL, make_url

from tablevault.catalog.contents import Contents
from tablevault.catalog.imported import Imported, record_imported
from tablevault.catalog.processes import Processes
from tablevault.catalog.store import Store, UnknownOutcomeError

__all__ = ["Catalog", "Imported", "UnknownOutcomeError", "file_url"]


def file_url(path: Path) -> URL:
    """Return the URL of a catalog that is one file."""
    return URL.create("sqlite", database=str(path))


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

    def snapshot(self) -> AbstractContextManager[None]:
        """Let all that this thread reads inside see one state, that of now; what it writes meanwhile is not in it."""
        return self._store.snapshot()

    def create(self) -> None:
        """Create the database's tables, where they are missing."""
        self._store.create()

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
