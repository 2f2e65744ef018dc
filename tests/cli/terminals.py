"""Commands that run at a terminal, where keys are pressed."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from selectors import EVENT_READ, DefaultSelector
from types import TracebackType

from waiting import PATIENCE

CTRL_C = b"\x03"


class Terminal:
    """A command that controls its own terminal.

    Keys reach the process in the foreground.

    Parameters
    ----------
    command
        The command.
    environment
        What is added to the environment.
    columns
        The width of the terminal.
    """

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str] | None = None, columns: int = 120
    ) -> None:
        everything = {**os.environ, "TERM": "xterm", **(environment or {})}
        everything.pop("COLUMNS", None)
        self._process, self._terminal = pty.fork()
        if not self._process:
            os.execvpe(command[0], list(command), everything)
        fcntl.ioctl(self._terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self._selector = DefaultSelector()
        self._selector.register(self._terminal, EVENT_READ)
        self._shown = b""
        self._is_open = True
        self.status: int | None = None
        """The exit status, once it is over."""

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._terminal)  # Hangs up on the processes that are still attached.
        if self.status is None:
            self._wait()

    @property
    def shown(self) -> str:
        """Everything that was shown so far, with control sequences."""
        return self._shown.decode(errors="replace")

    def press(self, keys: bytes) -> None:
        """Press keys."""
        os.write(self._terminal, keys)

    def until(self, condition: Callable[[], bool]) -> None:
        """Read what is shown until a condition holds."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain; shown so far:\n{self.shown}"
            assert self._read(0.05), f"it ended before; shown:\n{self.shown}"

    def rest(self) -> str:
        """Read to the end; return everything that was shown."""
        deadline = time.monotonic() + PATIENCE
        while self._read(0.05):
            assert time.monotonic() < deadline, f"it does not end; shown so far:\n{self.shown}"
        self._wait()
        return self.shown

    def _read(self, seconds: float) -> bool:
        """Read what there is; return whether there may be more."""
        if self._is_open and self._selector.select(seconds):
            try:
                piece = os.read(self._terminal, 65536)
            except OSError:  # The other end is closed.
                piece = b""
            self._shown += piece
            self._is_open = bool(piece)
        return self._is_open

    def _wait(self) -> None:
        _, status = os.waitpid(self._process, 0)
        self.status = os.waitstatus_to_exitcode(status)
