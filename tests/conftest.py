"""What tests of every part may need."""

import gc
import os
import signal
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "suite"))
import guardian

# A shell that starts the tests in the background lets them ignore Ctrl-C, which some of them press.
signal.signal(signal.SIGINT, signal.default_int_handler)

_PATIENCE = 60.0
"""Seconds in which processes that the tests have told to end have ended, on a busy machine, too."""

_run = pytest.StashKey[str]()


def pytest_configure(config):
    """Mark the processes of this run, and let a guardian end those that outlive it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    config.stash[_run] = guardian.mark_environment()
    watching = guardian.start(config.stash[_run])

    def release():
        watching.stdin.close()
        watching.wait()

    config.add_cleanup(release)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Fail a run that leaves processes behind."""
    mark = session.config.stash.get(_run, None)
    if mark is None or exitstatus == pytest.ExitCode.INTERRUPTED:
        return
    left = guardian.left_behind(mark, _PATIENCE)
    if left:
        print("\nThe tests have left processes behind:", *left, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def no_collections():
    """Nothing is collected meanwhile: a signal that arrives in a library's callback of the collector is lost there."""
    gc.disable()
    yield
    gc.enable()
