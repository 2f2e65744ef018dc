"""What tests of every part may need."""

import gc
import signal

import pytest

# Whoever starts the tests in the background of a shell lets them ignore Ctrl-C, which some of them press.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def no_collections():
    """Nothing is collected meanwhile: a signal that arrives in a library's callback of the collector is lost there."""
    gc.disable()
    yield
    gc.enable()
