"""A vault with a table whose execution fails, holds and counts on request."""

from __future__ import annotations

import pytest
from jobs import Job

from tablevault import TableVault


@pytest.fixture
def vault(tmp_path):
    """An empty vault."""
    return TableVault(tmp_path / "vault", author="ada", create=True, lock_timeout=2.0)


@pytest.fixture
def job(vault, tmp_path):
    """A table `stories` of ten rows with one row-wise builder, not executed yet."""
    return Job(vault, tmp_path)
