"""Transactional catalog of a vault's tables, instances, processes and locks."""

from __future__ import annotations

from pathlib import Path

from tablevault.catalog.sql.catalog import SqlCatalog
from tablevault.catalog.sqlite import SqliteDatabase, sqlite_path

__all__ = ["SqlCatalog", "sqlite_catalog", "sqlite_path"]


def sqlite_catalog(path: Path) -> SqlCatalog:
    """Return the catalog stored in a SQLite file."""
    return SqlCatalog(SqliteDatabase(path))
