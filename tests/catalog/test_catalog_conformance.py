"""Every catalog keeps the promises of the interface."""

import pytest

from tablevault.catalog import sqlite_catalog
from tablevault.ports import Catalog
from tablevault.testing import CATALOG_CHECKS, MemoryCatalog

each_check = pytest.mark.parametrize("check", CATALOG_CHECKS, ids=lambda check: check.__name__)


@each_check
def test_sqlite_catalog_conforms(check, tmp_path):
    check(lambda: sqlite_catalog(tmp_path / "catalog.db"))


@each_check
def test_memory_catalog_conforms(check):
    check(MemoryCatalog)
