"""File system types of folders."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def file_system_of(folder: Path) -> str | None:
    """Return the file system type of a folder; `None` if it cannot be determined."""
    real = os.path.realpath(folder)
    found, innermost = None, -1
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    for line in lines:
        mount, _, described = line.partition(" - ")
        escaped = mount.split(" ")[4]
        point = _ESCAPED.sub(lambda escape: chr(int(escape[1], 8)), escaped)
        # Of several mounts at the same point, the last one is visible.
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= innermost:
            found, innermost = described.split(" ")[0], len(point)
    return found
