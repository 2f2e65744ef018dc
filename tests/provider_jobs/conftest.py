"""Fixtures of the tests of jobs."""

from __future__ import annotations

import pytest
from providers import JobTable, Provider

from tablevault import TableVault


@pytest.fixture
def vault(tmp_path):
    """An empty vault."""
    return TableVault(tmp_path / "vault", author="ada", create=True)


@pytest.fixture
def provider(tmp_path):
    """A provider without jobs."""
    return Provider(tmp_path / "provider")


@pytest.fixture
def make(vault, provider):
    """Return a function that makes the table of a test."""
    return lambda **options: JobTable(vault, provider, **options)
