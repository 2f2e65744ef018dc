from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tablevault import TableVault, import_legacy_vault

DATA = Path(__file__).parent / "vault-0.1.1"
"""A vault as tablevault 0.1.1 left it."""


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    """The vault of the test data, imported; for tests that only read."""
    target = tmp_path_factory.mktemp("imported") / "vault"
    import_legacy_vault(DATA, target)
    return TableVault(target, author="eve")


@pytest.fixture
def legacy(tmp_path):
    """A copy of the test data that a test may change."""
    return Path(shutil.copytree(DATA, tmp_path / "legacy"))
