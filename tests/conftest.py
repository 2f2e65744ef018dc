"""What tests of every part may need."""

import gc

import pytest


@pytest.fixture
def no_collections():
    """Nothing is collected meanwhile: a signal that arrives in a library's callback of the collector is lost there."""
    gc.disable()
    yield
    gc.enable()
