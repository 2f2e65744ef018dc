"""Descendants left by a killed interpreter.

The process that adopts them can wait for their end.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from pathlib import Path

ADOPT_ORPHANS = 36
"""`PR_SET_CHILD_SUBREAPER`."""

PATIENCE = 30.0
"""Seconds within which they have to end by themselves."""


def adopt_orphans() -> None:
    """Make this interpreter adopt orphaned descendants, if the system supports it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(ADOPT_ORPHANS, 1, 0, 0, 0)


def wait_for_orphans() -> None:
    """Wait for all children."""
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def left_orphans() -> str:
    """Return the children that have not ended after a while, and kill them."""
    end = time.monotonic() + PATIENCE
    while _are_there():
        if time.monotonic() > end:
            return f"processes are left behind: {_killed()}"
        time.sleep(0.01)
    return ""


def _are_there() -> bool:
    """Return whether there are children, and bury those that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        return False
    return True


def _killed() -> list[str]:
    """Kill all children; return what they were."""
    children = [
        int(number) for path in Path("/proc/self/task").glob("*/children") for number in path.read_text().split()
    ]
    commands = [Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ") for child in children]
    for child in children:
        os.kill(child, signal.SIGKILL)
    wait_for_orphans()
    return commands
