"""A vault in which every kind of file occurs, made once and copied for each test."""

from __future__ import annotations

import shutil

import pytest
from damaged import make_vault

from tablevault import TableVault


@pytest.fixture(scope="session")
def whole_vault(tmp_path_factory):
    """The folder of a vault that no test damages."""
    return make_vault(tmp_path_factory.mktemp("whole") / "vault")


@pytest.fixture
def db_dir(whole_vault, tmp_path):
    """The folder of a copy."""
    return shutil.copytree(whole_vault, tmp_path / "vault", symlinks=True)


@pytest.fixture
def vault(db_dir):
    """The copy, open."""
    return TableVault(db_dir, author="ada")
