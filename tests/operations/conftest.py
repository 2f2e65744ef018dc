"""Fixtures of the tests of operations."""

from __future__ import annotations

import pytest
from operated import make_table

from tablevault import TableVault


@pytest.fixture
def path(tmp_path):
    """The folder of the vault."""
    return tmp_path / "vault"


@pytest.fixture
def vault(path):
    """An empty vault."""
    return TableVault(path, author="ada", create=True, lock_timeout=0.2)


@pytest.fixture
def stories(vault):
    """A vault with a table `stories` of four rows, not executed yet."""
    make_table(vault)
    return vault
