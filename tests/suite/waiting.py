"""How tests wait for other threads and interpreters.

They wait for a condition and assume no speed: the limit only ends a test that would never end.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable

PATIENCE = 180.0
"""Seconds after which what a test waits for counts as never happening, on a busy machine, too."""


def until(condition: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Wait for a condition, which another interpreter may have to bring about before it ends."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        if process is not None and process.poll() is not None and not condition():
            raise AssertionError(f"the other interpreter has ended: {process.communicate()[1]}")
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
