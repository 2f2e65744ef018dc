"""Fixtures of the tests of failing rows."""

from __future__ import annotations

import pytest
from failing_tables import FailingTable

from tablevault import TableVault


@pytest.fixture
def vault(tmp_path):
    """An empty vault."""
    return TableVault(tmp_path / "vault", author="ada", create=True, lock_timeout=2.0)


@pytest.fixture
def make(vault):
    """Return a function that makes the table of a test."""
    return lambda answer, **options: FailingTable(vault, answer, **options)
