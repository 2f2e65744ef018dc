"""Experiments in separate interpreters.

Each has imported everything, opens no vault, and forks for every try.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NoReturn, TextIO

from experiment import Budget, Figures, Violation, Watch

from tablevault import operations

# Forks inherit it.
operations.load()

HANGS = 180.0
"""Seconds after which a try counts as one that hangs."""

_LARGEST = ("slowest", "most")
"""How the names of numbers begin whose largest counts; of all others it is their sum."""


@dataclass
class Counts:
    """What one interpreter tried, in numbers that can be added up."""

    tried: int = 0
    violations: list[dict[str, Any]] = field(default_factory=list)
    numbers: dict[str, float] = field(default_factory=dict)

    def violate(self, case: dict[str, Any], problem: str) -> None:
        """Note an invariant that did not hold."""
        self.violations.append({"case": case, "problem": problem})

    def count(self, name: str, number: float = 1) -> None:
        """Note a number under a name."""
        before = self.numbers.get(name, 0)
        self.numbers[name] = max(before, number) if name.startswith(_LARGEST) else before + number

    def add(self, other: Counts) -> None:
        """Take what another interpreter found."""
        self.tried += other.tried
        self.violations += other.violations
        for name, number in other.numbers.items():
            self.count(name, number)

    def figures(self) -> Figures:
        """Return them as every experiment does."""
        violations = [Violation(**found) for found in self.violations]
        return Figures(
            self.tried,
            violations,
            {
                name: f"{number:,.3g}" if number % 1 else f"{number:,.0f}"
                for name, number in sorted(self.numbers.items())
            },
        )


@dataclass(frozen=True)
class Share:
    """One interpreter's part of an experiment."""

    seconds: float
    tries: int
    seed: int

    def rounds(self, counts: Counts) -> Iterator[int]:
        """Yield a seed for each round, until the time is over or enough has been tried."""
        end = time.monotonic() + self.seconds
        number = 0
        while time.monotonic() < end and counts.tried < self.tries:
            yield self.seed * 1_000_003 + number
            number += 1


def run_side_by_side(script: str, budget: Budget, watch: Watch) -> Figures:
    """Run a module's `serve` in as many interpreters as allowed.

    Returns the sum of their findings.
    """
    workers = max(1, budget.workers)
    shares = [
        Share(budget.seconds, -(-budget.tries // workers), budget.seed * 64 + number) for number in range(workers)
    ]
    lines: queue.Queue[str | None] = queue.Queue()
    running = [_start(script, {"share": asdict(share)}) for share in shares]
    for process in running:
        threading.Thread(target=_forward, args=(process, lines), daemon=True).start()
    total, open_ends = Counts(), len(running)
    try:
        while open_ends:
            line = lines.get()
            if line is None:
                open_ends -= 1
            else:
                total.add(Counts(**json.loads(line)))
                watch(total.figures())
    finally:
        for process in running:
            if open_ends:
                process.terminate()
            if process.wait() != 0:
                total.violate({}, f"an interpreter of the experiment ended with status {process.returncode}")
    return total.figures()


def repeat_alone(script: str, case: dict[str, Any]) -> str:
    """Try one case again, in an interpreter of its own; return what is wrong."""
    output, _ = _start(script, {"case": case}).communicate()
    found = Counts()
    for line in output.splitlines():
        found.add(Counts(**json.loads(line)))
    return "\n".join(violation["problem"] for violation in found.violations)


def serve(one_round: Callable[[dict[str, Any], Counts], None]) -> None:
    """Run the command of the command line.

    It asks for rounds over some time, or for one case again.
    """
    request = json.loads(sys.argv[1])
    reports = sys.stdout
    # What libraries print is not to stand among the reports.
    sys.stdout = sys.stderr
    if "case" in request:
        report(_one(one_round, request["case"]), reports)
        return
    share, sofar = Share(**request["share"]), Counts()
    for seed in share.rounds(sofar):
        found = _one(one_round, {"seed": seed})
        report(found, reports)
        sofar.add(found)


def _one(one_round: Callable[[dict[str, Any], Counts], None], case: dict[str, Any]) -> Counts:
    found = Counts()
    one_round(case, found)
    return found


def report(found: Counts, stream: TextIO = sys.stdout) -> None:
    """Tell the experiment what was found since the last time."""
    stream.write(json.dumps(asdict(found)) + "\n")
    stream.flush()


def _start(script: str, request: dict[str, Any]) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(Path(sys.modules["tablevault"].__path__[0]).parent), str(Path(script).parent)])
    command = [sys.executable, "-W", "ignore", script, json.dumps(request)]
    environment = {**os.environ, "PYTHONPATH": paths, "ARROW_IO_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


def _forward(process: subprocess.Popen[str], lines: queue.Queue[str | None]) -> None:
    assert process.stdout is not None
    with process.stdout:
        for line in process.stdout:
            lines.put(line)
    lines.put(None)


# --- inside the interpreters --------------------------------------------------------------------------------------


def fork(work: Callable[[], object]) -> int:
    """Call a function in a fork, and return the fork's number.

    The fork ends afterwards, with status 0 unless the function raised.
    """
    child = os.fork()
    if not child:
        work_and_exit(work)
    return child


def work_and_exit(work: Callable[[], object]) -> NoReturn:
    """Do something, and end this interpreter, with status 0 if nothing was raised."""
    status = 1
    try:
        signal.alarm(int(HANGS))
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def asked(question: Callable[[], Any]) -> Any:
    """Return a function's result in a fork, by way of JSON.

    An exception becomes a text that begins with "raised".
    """
    ours, theirs = os.pipe()

    def answer() -> None:
        try:
            found = question()
        except BaseException:
            found = f"raised {traceback.format_exc()}"
        with os.fdopen(theirs, "w") as stream:
            json.dump(found, stream)

    child = fork(answer)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        content = stream.read()
    status = ended(child)
    return json.loads(content) if content else f"raised nothing, but ended with {status}"


def ended(child: int) -> int:
    """Wait for a fork; return its status, negative if a signal ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def append(descriptor: int, *words: object) -> None:
    """Append a line to a log that several write."""
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())


def opened_log(path: Path) -> int:
    """Open a log that several append to."""
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)


@contextmanager
def ram_folder() -> Iterator[Path]:
    """Make a folder in memory, if possible.

    These experiments do not test power losses.
    """
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="tablevault-torture-", dir=place, ignore_cleanup_errors=True) as folder:
        yield Path(folder)
