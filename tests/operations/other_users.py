"""Running a function as another user of the system, with a umask, in a forked child."""

from __future__ import annotations

import os
import pickle
import shutil
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import pytest

GROUP = 5000
OWNER, COLLEAGUE = 2001, 2002


def needs_root() -> None:
    """Skip a test that takes on other users' ids, where this user may not."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can act as other users")


def shared_folder(mode: int = 0o2775) -> Path:
    """Make a folder of the owner's and the group's; the caller removes it."""
    # Not below pytest's own folder, which only this user may enter.
    folder = Path(tempfile.mkdtemp(prefix="tablevault-test-"))
    os.chown(folder, OWNER, GROUP)
    folder.chmod(mode)
    return folder


def as_user(user: int, call: Callable[[], object], umask: int = 0o002, environment: dict[str, str] | None = None):
    """Return what a call returns, or raise what it raises, to a user of the group."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reading)
            os.setgroups([])
            os.setgid(GROUP)
            os.setuid(user)
            os.umask(umask)
            os.chdir("/")
            if environment is not None:
                os.environ.clear()
                os.environ.update(environment)
            with os.fdopen(writing, "wb") as pipe:
                pipe.write(pickle.dumps(_outcome(call)))
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        content = pipe.read()
    os.waitpid(child, 0)
    assert content, "the child ended without an answer"
    returned, error = pickle.loads(content)
    if error is not None:
        raise error
    return returned


def _outcome(call: Callable[[], object]) -> tuple[object, BaseException | None]:
    try:
        return call(), None
    except BaseException as error:
        try:
            pickle.loads(pickle.dumps(error))
        except Exception:
            error = RuntimeError(traceback.format_exc())
        return None, error


def tree(folder: Path) -> dict[str, tuple[int, int, int, int]]:
    """Return the files of a folder with mode, owner, size and time."""
    found = {}
    for path in sorted(folder.rglob("*")):
        state = path.lstat()
        found[path.relative_to(folder).as_posix()] = (state.st_mode, state.st_uid, state.st_size, state.st_mtime_ns)
    return found


def remove(folder: Path) -> None:
    """Remove a shared folder."""
    shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.flush()
