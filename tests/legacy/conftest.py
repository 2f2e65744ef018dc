from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from legacy_files import DATA

from tablevault import TableVault, import_legacy_vault


@pytest.fixture(scope="module")
def imported_dir(tmp_path_factory):
    """The folder into which the test data were imported; for tests that only read."""
    target = tmp_path_factory.mktemp("imported") / "vault"
    import_legacy_vault(DATA, target)
    return target


@pytest.fixture(scope="module")
def imported(imported_dir):
    return TableVault(imported_dir, author="eve")


@pytest.fixture
def legacy(tmp_path):
    """A copy of the test data that a test may change."""
    return Path(shutil.copytree(DATA, tmp_path / "legacy"))
