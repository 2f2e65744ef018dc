"""Every catalog keeps the promises of the interface."""

import pytest

from tablevault.catalog import sqlite_catalog
from tablevault.errors import TVFileError
from tablevault.testing import CATALOG_CHECKS, MemoryCatalog
from tablevault.values.plans import Unplanned
from tablevault.values.processes import NewProcess, Owner

each_check = pytest.mark.parametrize("check", CATALOG_CHECKS, ids=lambda check: check.__name__)


@each_check
def test_sqlite_catalog_conforms(check, tmp_path):
    check(lambda: sqlite_catalog(tmp_path / "catalog.db"))


@each_check
def test_memory_catalog_conforms(check):
    check(MemoryCatalog)


def test_backup_of_memory_catalog_is_independent(tmp_path):
    catalog = MemoryCatalog()
    catalog.create("vault", "2026-01-01T00:00:00+00:00")
    begin(catalog, "first")
    catalog.backup(tmp_path / "catalog")
    begin(catalog, "second")
    copy = MemoryCatalog.of_backup(tmp_path / "catalog")
    assert copy.identity() == catalog.identity()
    assert copy.processes.unfinished() == catalog.processes.unfinished()[:1]


def begin(catalog, process_id):
    new = NewProcess(process_id, "create_table", "me", {"table_name": "a"}, None, True, False)
    catalog.transitions.begin(new, Unplanned(), Owner("lock", "host", 1))


def test_memory_catalog_must_be_created():
    catalog = MemoryCatalog()
    for use in (catalog.identity, catalog.contents.tables, catalog.processes.begun, lambda: begin(catalog, "first")):
        with pytest.raises(TVFileError, match="it was not created"):
            use()
