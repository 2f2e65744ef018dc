"""Fixtures of the tests of SQL."""

from __future__ import annotations

import pandas as pd
import pytest

from tablevault import TableVault


@pytest.fixture(scope="module")
def vault(tmp_path_factory):
    """A read-only vault with `stories` in two versions and by a tag, and `reviews`."""
    vault = TableVault(tmp_path_factory.mktemp("sql") / "vault", author="ada", create=True)
    vault.write("stories", pd.DataFrame({"title": ["Fox"], "author": ["ann"]}))
    vault.create_tag("paper")
    vault.write("stories", pd.DataFrame({"title": ["Fox", "Owl", "Sea"], "author": ["ann", "bob", "ann"]}))
    vault.write("stories", pd.DataFrame({"title": ["Sea"], "author": ["eve"]}), version="v2")
    vault.write("reviews", pd.DataFrame({"title": ["Fox", "Fox", "Sea"], "stars": [4, 5, 1]}))
    return vault
