"""Watches an interpreter that reads hostile input.

It may run no code of the input, and touch no file outside.
"""

from __future__ import annotations

import os
import sys
import sysconfig
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_NEVER = ("subprocess.", "socket.", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.kill", "pty.", "ftplib.")
_NEVER_EXACTLY = frozenset(
    {"os.system", "os.startfile", "ctypes.dlopen", "sqlite3.load_extension", "pickle.find_class"}
)
_CHANGES = {
    "os.remove": 1,
    "os.rename": 2,
    "os.mkdir": 1,
    "os.rmdir": 1,
    "os.chmod": 1,
    "os.chown": 1,
    "os.link": 2,
    "os.symlink": 2,
    "os.truncate": 1,
    "os.utime": 1,
    "os.setxattr": 1,
}
"""Events of changes, with how many of their first arguments are paths."""
_READS = frozenset({"os.listdir", "os.scandir", "sqlite3.connect"})
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_HARMLESS = frozenset({"socket.gethostname"})
_SYSTEM = ("/dev/null", "/dev/urandom", "/proc/", "/usr/share/zoneinfo", "/etc/localtime", "/sys/")


class Guard:
    """Records forbidden events from its creation on.

    An interpreter can have only one.
    """

    def __init__(self) -> None:
        self._sandbox: str | None = None
        self._found: list[str] = []
        self._ours = tuple({os.path.realpath(path) + "/" for path in self._places_of_python()})
        sys.addaudithook(self._hear)

    @staticmethod
    def _places_of_python() -> list[str]:
        here = [str(Path(__file__).parents[2])]
        return [*here, *sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, *filter(None, sys.path)]

    @contextmanager
    def watching(self, sandbox: Path) -> Iterator[list[str]]:
        """Note what leaves a folder, or runs code; the list is complete when the block ends."""
        self._found = []
        self._sandbox = os.path.realpath(sandbox)
        try:
            yield self._found
        finally:
            self._sandbox = None

    def _hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self._sandbox is None:
            return
        fault = self._fault(event, arguments)
        if fault and len(self._found) < 5:
            self._found.append(fault)

    def _fault(self, event: str, arguments: tuple[Any, ...]) -> str:
        if event == "open":
            return self._fault_of_open(*arguments)
        if event in _CHANGES:
            # What a link leads to is only a text; it is where it is made that counts.
            paths = arguments[1:2] if event == "os.symlink" else arguments[: _CHANGES[event]]
            outside = [path for path in paths if not self._is_inside(path, arguments[-1])]
            return f"{event} of {outside}" if outside else ""
        if event in _READS:
            return "" if self._may_be_read(arguments[0]) else f"{event} of {arguments[0]}"
        if event == "exec":
            return self._fault_of_code(arguments[0])
        if (event.startswith(_NEVER) and event not in _HARMLESS) or event in _NEVER_EXACTLY:
            return f"{event} {arguments!r:.200}"
        return ""

    def _fault_of_open(self, path: Any, _mode: Any, flags: Any) -> str:
        if isinstance(path, int):
            return ""
        if isinstance(flags, int) and flags & _WRITING:
            return "" if self._is_inside(path) or str(path) == "/dev/null" else f"{path} was opened for writing"
        return "" if self._may_be_read(path) else f"{path} was read"

    def _fault_of_code(self, code: types.CodeType) -> str:
        if code.co_filename.startswith("<"):
            return ""
        file = os.path.realpath(code.co_filename)
        foreign = not file.startswith(self._ours)
        return f"code of {code.co_filename} was run" if foreign or self._is_inside(file) else ""

    def _is_inside(self, path: Any, folder_number: Any = -1) -> bool:
        if isinstance(path, int):
            return True
        start = (
            os.readlink(f"/proc/self/fd/{folder_number}") if type(folder_number) is int and folder_number > 2 else ""
        )
        folder, name = os.path.split(os.path.abspath(os.path.join(start, os.fsdecode(path))))
        return self._below(os.path.join(os.path.realpath(folder), name))

    def _may_be_read(self, path: Any) -> bool:
        if isinstance(path, int):
            return True
        text = os.fsdecode(path).removeprefix("file:").partition("?")[0]
        real = os.path.realpath(text)
        return self._below(real) or real.startswith(_SYSTEM) or f"{real}/".startswith(self._ours)

    def _below(self, path: str) -> bool:
        return path == self._sandbox or path.startswith(f"{self._sandbox}/")
