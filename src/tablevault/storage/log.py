"""The log file, with one JSON line per ended process, derived from the catalog."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tablevault.system.kernel_locks import KernelLock
from tablevault.texts.plain import shown_json

Entry = dict[str, Any]


def append_ended(path: Path, ended_after: Callable[[int], Sequence[Entry]]) -> None:
    """Append the processes of any interpreter that have ended since the last line.

    Parameters
    ----------
    path
        The log file, created if missing.
    ended_after
        Returns the entries after a position, in order of their end; each has its position as `"end"`.
    """
    with KernelLock.take(path.with_suffix(".lock")), path.open("a+b") as log:
        entries = ended_after(_last_end(log))
        lines = "".join(shown_json(json.dumps(entry, ensure_ascii=False)) + "\n" for entry in entries)
        log.write(lines.encode("utf-8", "backslashreplace"))


def _last_end(log: Any) -> int:
    """Return the position of the last complete line, and truncate a torn line after it."""
    size = log.seek(0, os.SEEK_END)
    start, tail = size, b""
    while start > 0 and tail.count(b"\n") < 2:
        # Doubles each time, since the line of an operation on all tables is long.
        start = max(0, size - max(4096, 2 * len(tail)))
        log.seek(start)
        tail = log.read(size - start)
    whole, newline, torn = tail.rpartition(b"\n")
    if torn:
        log.truncate(size - len(torn))
    if not newline:
        return 0
    try:
        return int(json.loads(whole.rpartition(b"\n")[2])["end"])
    except (ValueError, KeyError, TypeError, RecursionError):
        # The log was edited. Write all entries again, so that no line is lost.
        return 0
