"""Fixtures of the tests of the page."""

from __future__ import annotations

import pytest
from asking import Client
from shown_vault import ShownVault


@pytest.fixture(scope="session")
def shown(tmp_path_factory):
    """A vault with one of everything; tests of this package may add to it."""
    made = ShownVault(tmp_path_factory.mktemp("shown"))
    yield made
    made.finish()


@pytest.fixture(scope="session")
def reader(shown):
    """A client of a server without actions."""
    server = shown.vault.serve(block=False)
    yield Client(server.url)
    server.close()


@pytest.fixture(scope="session")
def writer(shown):
    """A client of a server with actions."""
    server = shown.vault.serve(block=False, allow_writes=True)
    yield Client(server.url)
    server.close()
