"""Sweeps: an operation with a fault at its n-th call that changes a file, and the invariants afterwards."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from faulted_operations import OPERATIONS, base
from invariants import Content, check

from tablevault import TableVault

HERE = Path(__file__).parent
KILL = 0
SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th call that changes a file."""

    n: int
    error: int = KILL
    """Number of the error that the call fails with."""
    lasting: bool = False
    """Whether all later calls fail too."""


NO_FAULT = Fault(0)


@dataclass(frozen=True)
class Request:
    """What the zygote is to do in a fork."""

    folder: str
    action: str
    """`call`: the operation; `open`: only open the vault, which recovers; `restart`: open it with `restart=True`."""
    operation: str
    process_id: str
    fault: Fault


class Interpreter:
    """The zygote, for as long as it lives."""

    def __init__(self, library: Path) -> None:
        paths = os.pathsep.join([str(Path(sys.modules["tablevault"].__path__[0]).parent), *sys.path[:1]])
        environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": paths, "ARROW_IO_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "zygote.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def ask(self, request: Request) -> dict[str, Any]:
        """Let a fork do something; return what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asdict(request)) + "\n")
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
        # Durability is not what is tried here, so that memory will do for a disk.
        self._root = Path(
            tempfile.mkdtemp(prefix="tablevault-faults-", dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
        )
        self._template = self._root / "template"
        OPERATIONS[operation].prepare(base(self._template))
        self.before = Content.of(TableVault(self._copy(), author="check"))
        undisturbed = self._copy()
        answer = self._ask(undisturbed, "call", NO_FAULT)
        assert answer["returned"], answer
        self.count: int = answer["count"]
        """How many calls change files in an undisturbed run."""
        self.after = Content.of(TableVault(undisturbed, author="check"))

    def try_fault(self, fault: Fault) -> str:
        """Inject a fault; return what is wrong afterwards, or nothing."""
        folder = self._copy()
        answer = self._ask(folder, "call", fault)
        problem = _hung(answer) or self._check(folder, answer["returned"])
        return self._told(folder, problem, answer)

    def try_recoveries(self, fault: Fault, recoveries: list[dict[str, Any]]) -> tuple[int, float, str]:
        """Inject a fault into the operation, and one into each recovery; return how many of these hit something.

        Also returns how long the last recovery took, which is left alone, and what is wrong afterwards. A recovery is
        described by its action, by how far it gets (of 1) before the fault, and by the error.
        """
        folder = self._copy()
        answers = [self._ask(folder, "call", fault)]
        problem = _hung(answers[0])
        hit = 0
        for recovery in recoveries:
            # How many calls it makes can only be told by letting it happen, elsewhere.
            calls = self._ask(self._copy(folder), recovery["action"], NO_FAULT)["count"]
            if calls:
                n = 1 + int(recovery["part"] * calls)
                answers.append(self._ask(folder, recovery["action"], Fault(n, recovery["error"], recovery["lasting"])))
                problem = problem or _hung(answers[-1])
                hit += 1
        begun = time.monotonic()
        TableVault(folder, author="b")
        seconds = time.monotonic() - begun
        problem = problem or self._check(folder, answers[0]["returned"])
        return hit, seconds, self._told(folder, problem, answers)

    def close(self) -> None:
        """Remove all copies."""
        shutil.rmtree(self._root, ignore_errors=True)

    def _ask(self, folder: Path, action: str, fault: Fault) -> dict[str, Any]:
        return self._running.ask(Request(str(folder), action, self.operation, self.process_id, fault))

    def _check(self, folder: Path, acknowledged: bool) -> str:
        return check(folder, self.before, self.after, acknowledged, self.process_id) or self._resumed(folder)

    def _resumed(self, folder: Path) -> str:
        """Make the same call again, if it is paused: it must give what an undisturbed one gives."""
        if not self.process_id:
            return ""
        vault = TableVault(folder, author="b")
        if self.process_id not in vault.get_active_processes():
            return ""
        OPERATIONS[self.operation].call(vault, self.process_id)
        return check(folder, self.after, self.after, acknowledged=True, process_id="")

    def _told(self, folder: Path, problem: str, answers: object) -> str:
        shutil.rmtree(folder, ignore_errors=True)
        return f"{problem}; the calls: {answers}" if problem else ""

    def _copy(self, source: Path | None = None) -> Path:
        folder = Path(tempfile.mkdtemp(dir=self._root)) / "vault"
        shutil.copytree(source or self._template, folder, symlinks=True)
        return folder


def _hung(answer: dict[str, Any]) -> str:
    return f"it hung, or died of signal {answer['signal']}" if answer["signal"] not in (0, signal.SIGKILL) else ""
