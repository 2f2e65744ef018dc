"""Fixtures of the tests of services, usage and budgets."""

from __future__ import annotations

import pytest
from limited_tables import LimitedTable

from tablevault import TableVault


@pytest.fixture
def vault(tmp_path):
    """An empty vault."""
    return TableVault(tmp_path / "vault", author="ada", create=True, lock_timeout=2.0)


@pytest.fixture
def make(vault):
    """Return a function that makes the table of a test."""
    return lambda code, **options: LimitedTable(vault, code, **options)
