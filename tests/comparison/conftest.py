"""Fixtures of the tests of comparing runs."""

from __future__ import annotations

import pytest

from tablevault import TableVault


@pytest.fixture
def vault(tmp_path):
    """An empty vault."""
    return TableVault(tmp_path / "vault", author="ada", create=True, lock_timeout=2.0)
