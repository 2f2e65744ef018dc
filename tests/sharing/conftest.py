"""Fixtures of the tests of exports and imports."""

from __future__ import annotations

import pytest
from PIL import Image
from shared_vault import make_gallery

from tablevault import TableVault


@pytest.fixture
def vault(tmp_path):
    """An empty vault."""
    return TableVault(tmp_path / "vault", author="ada", create=True)


@pytest.fixture(scope="module")
def gallery(tmp_path_factory):
    """A vault with pictures that were drawn, and captions that were written; it is only read."""
    folder = tmp_path_factory.mktemp("gallery")
    Image.new("RGB", (2, 2)).save(folder / "blank.png")
    return make_gallery(TableVault(folder / "vault", author="ada", create=True), folder)
