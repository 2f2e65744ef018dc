"""The file systems that folders are on."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")
_ESCAPED = re.compile(r"\\([0-7]{3})")


def file_system_of(folder: Path) -> str | None:
    """Return the type of the file system that a folder is on: that of the innermost mount point around it.

    Returns `None` where the system does not tell.
    """
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
        # The last of several mounts at one point covers the others.
        if (real == point or real.startswith(point.rstrip("/") + "/")) and len(point) >= innermost:
            found, innermost = described.split(" ")[0], len(point)
    return found
