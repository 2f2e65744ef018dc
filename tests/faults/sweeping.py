"""Sweeps: an operation with a fault at its n-th call that changes a file, and the invariants afterwards."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faulted_operations import OPERATIONS, base
from invariants import Content, check

from tablevault import TableVault

HERE = Path(__file__).parent
KILL = 0
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EACCES": errno.EACCES}


@dataclass(frozen=True)
class Point:
    """One experiment."""

    operation: str
    n: int
    """Which of the calls that change files."""
    error: int = KILL
    for_ever: bool = False
    """Whether all later calls fail too."""
    process_id: str = ""
    recoveries: tuple[int, ...] = ()
    """Where the recoveries that follow are killed, each by the n-th call of its own."""

    def command(self) -> str:
        """Return the command that repeats it."""
        return f"python {HERE.relative_to(HERE.parent.parent) / 'torture.py'} --point '{json.dumps(vars(self))}'"


@dataclass
class Figures:
    """What was tried."""

    points: int = 0
    violations: list[str] = field(default_factory=list)


class Interpreter:
    """The zygote, for as long as it lives."""

    def __init__(self, library: Path) -> None:
        paths = os.pathsep.join([str(Path(sys.modules["tablevault"].__path__[0]).parent), *sys.path[:1]])
        environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": paths, "ARROW_IO_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def operate(self, folder: Path, point: Point, recovers: bool = False) -> dict[str, Any]:
        """Run an operation in a fork; return what came of it."""
        request = {**vars(point), "folder": str(folder), "recovers": recovers}
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def close(self) -> None:
        """End it."""
        self._process.communicate()


@contextmanager
def interpreter() -> Iterator[Interpreter]:
    """Build the library of faulty calls, and start the interpreter that has it."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "faulty_calls.so"
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            raise RuntimeError("There is no C compiler; install one (on Debian: apt-get install gcc libc6-dev).")
        source = str(HERE / "faulty_calls.c")
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), source, "-ldl"], check=True)
        running = Interpreter(library)
        try:
            yield running
        finally:
            running.close()


class Sweep:
    """The faults of one operation, each in a fresh copy of the vault that was prepared for it."""

    def __init__(self, running: Interpreter, operation: str, process_id: str = "") -> None:
        self._running = running
        self.operation = operation
        self.process_id = process_id
        self._root = Path(tempfile.mkdtemp(prefix="tablevault-faults-"))
        self._template = self._root / "template"
        OPERATIONS[operation].prepare(base(self._template))
        self.before = Content.of(TableVault(self._copy(), author="check"))
        undisturbed = self._copy()
        answer = running.operate(undisturbed, Point(operation, 0, process_id=process_id))
        assert answer["returned"], answer
        self.count: int = answer["count"]
        """How many calls change files in an undisturbed run."""
        self.after = Content.of(TableVault(undisturbed, author="check"))

    def try_point(self, point: Point) -> str:
        """Inject a fault; return what is wrong afterwards, or nothing."""
        folder = self._copy()
        answer = self._running.operate(folder, point)
        if answer["signal"] not in (0, signal.SIGKILL):
            return f"it hung, or died of signal {answer['signal']}"
        for n in point.recoveries:
            self._running.operate(folder, Point(point.operation, n), recovers=True)
        problem = check(folder, self.before, self.after, answer["returned"], point.process_id)
        if not problem and point.process_id:
            problem = self._resumed(folder, point)
        if problem:
            return f"{problem}; the call: {answer}"
        shutil.rmtree(folder, ignore_errors=True)
        return ""

    def close(self) -> None:
        """Remove all copies."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _resumed(self, folder: Path, point: Point) -> str:
        """Make the same call again, if it is paused: it must give what an undisturbed one gives."""
        vault = TableVault(folder, author="b")
        if point.process_id not in vault.get_active_processes():
            return ""
        OPERATIONS[point.operation].call(vault, point.process_id)
        return check(folder, self.after, self.after, acknowledged=True, process_id="")

    def _copy(self) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self._root)) / "vault"
        shutil.copytree(self._template, folder, symlinks=True)
        return folder
