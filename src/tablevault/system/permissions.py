"""The current user and its file permissions."""

from __future__ import annotations

import getpass
import os
from pathlib import Path

_ACCESS = {"effective_ids": True} if os.access in os.supports_effective_ids else {}


def may_write(path: Path) -> bool:
    """Return whether the current user may write a file or folder; false on a read-only mount."""
    return os.access(path, os.W_OK, **_ACCESS)


def user_name() -> str:
    """Return the name of the current user.

    Without a name, as in some containers, it is `uid-<number>`.
    """
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid-{os.getuid()}" if hasattr(os, "getuid") else "unknown"
