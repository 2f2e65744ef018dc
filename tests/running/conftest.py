"""Fixtures of the tests of running a definitions file."""

from __future__ import annotations

import pytest
from sources import Source

from tablevault import TableVault


@pytest.fixture
def source(tmp_path):
    """Three tables in a definitions file, and the files that tell its functions what to do."""
    return Source(tmp_path / "quiz")


@pytest.fixture
def vault(source):
    """An empty vault beside the source."""
    return TableVault(source.vault, author="ada", create=True, lock_timeout=2.0)
