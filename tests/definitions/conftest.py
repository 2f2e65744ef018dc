"""Fixtures of the tests of definitions files."""

from __future__ import annotations

from textwrap import dedent

import pytest

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
def save(tmp_path):
    """Writes a definitions file, and returns its path."""

    def save(text, name="answers.py", folder="source"):
        file = tmp_path / folder / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(dedent(text).lstrip("\n"), encoding="utf-8")
        return file

    return save
