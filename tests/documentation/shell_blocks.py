"""Run blocks of shell commands in a terminal."""

from __future__ import annotations

import errno
import os
import pty
import re
import select
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 120
COLUMNS = 120
_MADE = re.compile(r"^make .*$", re.MULTILINE)
_CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\^C")


class Shell:
    """The shell of a page.

    Each block starts with the variables and folder of the previous one.
    """

    def __init__(self) -> None:
        self._environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "TABLEVAULT"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "TERM": "xterm",
            "NO_COLOR": "1",
            "COLUMNS": str(COLUMNS),
        }
        self._folder = Path.cwd()

    def run(self, commands: str, interrupt: str | None = None) -> tuple[int, str]:
        """Run commands; return their exit status and terminal output.

        Parameters
        ----------
        commands
            Lines of shell code; a failing command ends the block.
        interrupt
            Text in the output that triggers Ctrl-C.
        """
        for line in _MADE.findall(commands):
            subprocess.run(["bash", "-c", f"exec {line}\n"], cwd=ROOT, env=self._dry_run(), check=True)
        with tempfile.TemporaryDirectory() as folder:
            left = Path(folder)
            script = f"set -e\ntrap 'env -0 > {left}/variables; pwd > {left}/folder' EXIT\n{_MADE.sub(':', commands)}"
            status, printed = self._at_a_terminal(script, interrupt)
            variables = (left / "variables").read_text(encoding="utf-8").rstrip("\0").split("\0")
            self._environment = dict(variable.split("=", 1) for variable in variables)
            self._folder = Path((left / "folder").read_text(encoding="utf-8").rstrip("\n"))
        return status, printed

    def _dry_run(self) -> dict[str, str]:
        return {**self._environment, "MAKEFLAGS": "ns", "PYTHON": sys.executable}

    def _at_a_terminal(self, script: str, interrupt: str | None) -> tuple[int, str]:
        screen, terminal = pty.openpty()
        termios.tcsetwinsize(terminal, (40, COLUMNS))
        process = subprocess.Popen(
            ["setsid", "--ctty", "bash", "-c", script],
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            cwd=self._folder,
            env=self._environment,
        )
        os.close(terminal)
        try:
            printed = _read_all(screen, interrupt)
            return process.wait(SECONDS), _CONTROL.sub("", printed)
        finally:
            os.close(screen)
            process.kill()
            process.wait()


def _read_all(screen: int, interrupt: str | None) -> str:
    read, deadline = b"", time.monotonic() + SECONDS
    while True:
        ready, _, _ = select.select([screen], [], [], deadline - time.monotonic())
        assert ready, f"still running after {SECONDS} s:\n{read.decode()}"
        try:
            part = os.read(screen, 65536)
        except OSError as error:
            # Linux reports a terminal without open ends in this way.
            if error.errno == errno.EIO:
                return read.decode()
            raise
        read += part
        if interrupt is not None and interrupt.encode() in read:
            os.write(screen, b"\x03")
            interrupt = None
