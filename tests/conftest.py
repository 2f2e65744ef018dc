"""What tests of every part may need."""

import gc
import os
import signal
import sys
import tempfile
from pathlib import Path

import hypothesis
import pytest

sys.path.insert(0, str(Path(__file__).parent / "suite"))
import guardian
from waiting import PATIENCE

# A shell that starts the tests in the background lets them ignore Ctrl-C, which some of them press.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that is busy proves nothing about a test.
hypothesis.settings.register_profile("suite", deadline=None)
hypothesis.settings.load_profile("suite")

_TEMPORARY = "PYTEST_DEBUG_TEMPROOT"
"""Where pytest makes temporary folders, by its documentation."""
_MEMORY = "/dev/shm"
_ENOUGH_MEMORY = 4 * 2**30

_run = pytest.StashKey[str]()


def pytest_configure(config):
    """Mark the processes of this run, and let a guardian end those that outlive it."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    config.stash[_run] = guardian.mark_environment()
    folder = _folder_in_memory(config)
    watching = guardian.start(config.stash[_run], folder)

    def release():
        os.environ.pop(_TEMPORARY, None)
        watching.stdin.close()
        watching.wait()

    config.add_cleanup(release)


def _folder_in_memory(config):
    """Return the folder in memory that is pytest's temporary one for this run.

    Returns `None` if the run has another.

    No test asks whether a disk keeps its promises, and a quarter of the time would go by waiting for one.
    """
    if config.option.basetemp is not None or _TEMPORARY in os.environ or not os.access(_MEMORY, os.W_OK):
        return None
    memory = os.statvfs(_MEMORY)
    if memory.f_bavail * memory.f_frsize < _ENOUGH_MEMORY or memory.f_flag & os.ST_NOEXEC:
        return None
    folder = tempfile.mkdtemp(prefix="tablevault-tests-", dir=_MEMORY)
    os.environ[_TEMPORARY] = folder
    return folder


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session, exitstatus):
    """Fail a run that leaves processes behind."""
    mark = session.config.stash.get(_run, None)
    if mark is None or exitstatus == pytest.ExitCode.INTERRUPTED:
        return
    left = guardian.left_behind(mark, PATIENCE)
    if left:
        print("\nThe tests have left processes behind:", *left, sep="\n  ")
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def no_collections():
    """Disable garbage collection.

    A signal that arrives in a library's callback of the collector is lost.
    """
    gc.disable()
    yield
    gc.enable()
