"""Sweeps over the file-changing calls of an operation.

Each injects a fault at the n-th call, and checks the invariants afterwards.
"""

from __future__ import annotations

import gc
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

from experiment import CannotRunHereError
from faulted_operations import OPERATIONS
from invariants import Expected

from tablevault import TableVault

HERE = Path(__file__).parent
KILL = 0
KILL_HALF_WAY = -1
"""In the middle of what it writes. Any other negative number is that of a signal."""
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

    place: str
    action: str
    """`call`: the operation; `open`: only open the vault, which recovers; `restart`: open it with `restart=True`."""
    operation: str
    process_id: str
    fault: Fault


class Interpreter:
    """The zygote, and the folder of all its vaults.

    The vaults are there one after the other.
    """

    def __init__(self, library: Path, root: Path) -> None:
        self.root = root
        self.place = root / "place"
        paths = os.pathsep.join([str(Path(sys.modules["tablevault"].__path__[0]).parent), *sys.path[:1]])
        environment = {**os.environ, "LD_PRELOAD": str(library), "PYTHONPATH": paths, "ARROW_IO_THREADS": "1"}
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "zygote.py"), str(self.place)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

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


def build_library(folder: Path) -> Path:
    """Compile the library of faulty calls into a folder."""
    library = folder / "faulty_calls.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise CannotRunHereError("there is no C compiler; install one (on Debian: apt-get install gcc libc6-dev)")
    source = str(HERE / "faulty_calls.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), source, "-ldl"], check=True)
    return library


@contextmanager
def interpreter() -> Iterator[Interpreter]:
    """Build the library of faulty calls, and start the interpreter that has it."""
    # Durability is not what is tried here, so that memory will do for a disk.
    memory = SHARED_MEMORY if SHARED_MEMORY.is_dir() else None
    with tempfile.TemporaryDirectory(prefix="tablevault-faults-", dir=memory, ignore_cleanup_errors=True) as root:
        running = Interpreter(build_library(Path(root)), Path(root))
        try:
            yield running
        finally:
            running.close()


class Sweep:
    """The faults of one operation.

    Each is injected in a fresh copy of the prepared vault.
    """

    def __init__(self, running: Interpreter, operation: str, process_id: str = "", further_tables: int = 0) -> None:
        self._running = running
        self._further_tables = further_tables
        self.place = running.place
        self.name, self.process_id = operation, process_id
        self._operation = OPERATIONS[operation]
        self._template = Path(tempfile.mkdtemp(dir=running.root)) / "template"
        self._prepare()
        undisturbed = self._ask("call", NO_FAULT)
        assert undisturbed["returned"], undisturbed
        self.count: int = undisturbed["count"]
        """How many calls change files in an undisturbed run."""
        self.writes: list[int] = undisturbed["writes"]
        """Which of them write."""
        self.after = self._operation.look(self.place, process_id)

    def disturb(self, fault: Fault) -> dict[str, Any]:
        """Inject a fault, and return the result of the call.

        The vault is left in its state.
        """
        self._renew()
        return self._ask("call", fault)

    def problem_after(self, answer: dict[str, Any]) -> str:
        """Return what is wrong with the vault after a disturbed call, or nothing."""
        return _hung(answer) or self._problem(answer["returned"])

    def try_fault(self, fault: Fault) -> str:
        """Inject a fault; return what is wrong afterwards, or nothing."""
        self._renew()
        answer = self._ask("call", fault)
        problem = _hung(answer) or self._problem(answer["returned"])
        return f"{problem}; the call: {answer}" if problem else ""

    def try_recoveries(self, fault: Fault, recoveries: list[dict[str, Any]]) -> tuple[int, float, str]:
        """Inject a fault into the operation, and one into each recovery.

        Returns the number of faults that hit a call.

        Also returns how long the last recovery took, which is left alone, and what is wrong afterwards. A recovery is
        described by its action, by how far it gets (of 1) before the fault, and by the error.
        """
        self._renew()
        answers = [self._ask("call", fault)]
        hit = 0
        for recovery in recoveries:
            action, calls = self._action_with_calls(recovery["action"])
            if not calls:
                break
            n = 1 + int(recovery["part"] * calls)
            answers.append(self._ask(action, Fault(n, recovery["error"], recovery["lasting"])))
            hit += 1
        seconds = self._time_of_recovery()
        problem = next(filter(None, map(_hung, answers)), "") or self._problem(answers[0]["returned"])
        return hit, seconds, f"{problem}; the calls: {answers}" if problem else ""

    def recovery_after(self, fault: Fault) -> float:
        """Inject a fault; return how many seconds the vault then takes to open."""
        self._renew()
        self._ask("call", fault)
        return self._time_of_recovery()

    def _time_of_recovery(self) -> float:
        begun = time.monotonic()
        TableVault(self.place / "vault", author="b")
        return time.monotonic() - begun

    def _prepare(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        self.place.mkdir()
        self._operation.make(self.place)
        for number in range(self._further_tables):
            TableVault(self.place / "vault", author="a").create_table(f"further{number}")
        gc.collect()  # Catalogs of the vault are closed with the last vault object.
        self.place.rename(self._template)
        self._renew()
        self.before = self._operation.look(self.place, self.process_id)
        self._between = self._operation.between(self.place)
        self._renew()

    def _action_with_calls(self, wanted: str) -> tuple[str, int]:
        """Return a recovery that changes files, and its number of calls.

        The wanted recovery is preferred.

        Only a restart has anything to do for what is paused.
        """
        for action in (wanted, "restart"):
            calls = self._count_calls(action)
            if calls:
                return action, calls
        return wanted, 0

    def _count_calls(self, action: str) -> int:
        """Count the calls of a recovery by running it.

        The vault is restored afterwards.
        """
        kept = self.place.with_name("kept")
        shutil.copytree(self.place, kept, symlinks=True)
        calls: int = self._ask(action, NO_FAULT)["count"]
        shutil.rmtree(self.place)
        kept.rename(self.place)
        return calls

    def _ask(self, action: str, fault: Fault) -> dict[str, Any]:
        return self._running.ask(Request(str(self.place), action, self.name, self.process_id, fault))

    def _problem(self, acknowledged: bool) -> str:
        expected = Expected(self.before, self.after, self._between, acknowledged, process_id=self.process_id)
        return self._operation.problem(self.place, expected)

    def _renew(self) -> None:
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self._template, self.place, symlinks=True)


def _hung(answer: dict[str, Any]) -> str:
    return f"it hung, or died of signal {answer['signal']}" if answer["signal"] not in (0, signal.SIGKILL) else ""
