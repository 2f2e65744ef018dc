"""Fixtures of the tests of artifacts."""

from __future__ import annotations

import pytest
from gallery import Gallery


@pytest.fixture
def gallery(tmp_path):
    """A table with one set of artifacts."""
    return Gallery(tmp_path)


@pytest.fixture
def archive(tmp_path):
    """A table whose instances each keep their artifacts."""
    return Gallery(tmp_path, multiple=True)
