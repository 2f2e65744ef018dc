"""R9, hostile input.

It goes to the parser of references, builder files, archives, received vaults, the web page, and `query`.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import hostile_targets
from experiment import Budget, Figures, Violation, Watch

import tablevault

HERE = Path(__file__).parent
_PATIENCE = 60.0
"""Seconds that a worker may go on beyond its time, for what it is at."""


@dataclass(frozen=True)
class Fuzzing:
    """Hostile input to one target, by as many interpreters as are allowed."""

    code: str
    title: str
    target_name: str
    target: int
    minutes: float
    unit: str = "cases"

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Try until the budget is used up."""
        root = Path(tempfile.mkdtemp(prefix="tablevault-fuzzing-", dir=_memory()))
        try:
            return self._run(root, budget, watch)
        finally:
            _remove(root)

    def repeat(self, case: dict[str, Any]) -> str:
        """Try one input again."""
        root = Path(tempfile.mkdtemp(prefix="tablevault-fuzzing-", dir=_memory()))
        try:
            return hostile_targets.TARGETS[self.target_name](hostile_targets.Sandbox(root))(
                bytes.fromhex(case["input"])
            )
        finally:
            _remove(root)

    def _run(self, root: Path, budget: Budget, watch: Watch) -> Figures:
        end = time.monotonic() + budget.seconds
        done = Figures()
        round_number = 0
        while done.tried < budget.tries and time.monotonic() < end and len(done.violations) < 20:
            missing = budget.tries - done.tried
            # A worker that a case has killed leaves the rest to another one, with other choices.
            seed = budget.seed + 1_000 * round_number
            workers = [
                _Worker(
                    root / f"{round_number}-{n}", self.target_name, math.ceil(missing / budget.workers), end, seed + n
                )
                for n in range(budget.workers)
            ]
            try:
                while any(worker.is_running for worker in workers):
                    time.sleep(0.2)
                    watch(sum((worker.figures() for worker in workers), done))
            finally:
                for worker in workers:
                    worker.end()
            tried, done = done.tried, sum((worker.figures() for worker in workers), done)
            round_number += 1
            if done.tried == tried:
                break
        guided = "by coverage" if find_spec("atheris") else "not at all: atheris is not installed"
        return done + Figures(measures={"guided": guided})


class _Worker:
    def __init__(self, folder: Path, target: str, tries: int, end: float, seed: int) -> None:
        folder.mkdir()
        self._folder = folder
        seconds = min(end - time.monotonic(), 10_000_000.0)
        request = {"folder": str(folder), "target": target, "tries": tries, "seconds": seconds, "seed": seed}
        paths = os.pathsep.join([str(HERE), str(Path(tablevault.__file__).parents[1])])
        environment = {**os.environ, "PYTHONPATH": paths, "ARROW_IO_THREADS": "1", "OMP_NUM_THREADS": "1"}
        with (folder / "output").open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-W", "ignore", str(HERE / "fuzz_worker.py"), json.dumps(request)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
            )
        self._latest = time.monotonic() + seconds + _PATIENCE

    @property
    def is_running(self) -> bool:
        """Whether it still tries."""
        if self._process.poll() is None and time.monotonic() > self._latest:
            self.end()
        return self._process.poll() is None

    def end(self) -> None:
        """End it, whatever it is at."""
        self._process.kill()
        self._process.wait()

    def figures(self) -> Figures:
        """Return what it has tried so far, and what did harm."""
        count = self._folder / "count"
        tried = struct.unpack("<Q", count.read_bytes())[0] if count.exists() else 0
        written = self._folder / "violations"
        lines = written.read_text().splitlines() if written.exists() else []
        violations = [Violation({"input": data}, problem) for data, problem in map(json.loads, lines)]
        for path in self._folder.glob("crash-*"):
            problem = f"it died or hung ({path.name}): {self._last_words()}"
            violations.append(Violation({"input": path.read_bytes().hex()}, problem))
        if self._process.poll() not in (None, 0) and not violations:
            violations.append(
                Violation({"input": ""}, f"a worker ended with {self._process.poll()}: {self._last_words()}")
            )
        return Figures(tried, violations)

    def _last_words(self) -> str:
        return (self._folder / "output").read_text(errors="replace")[-600:]


def _memory() -> str | None:
    """Return a RAM disk, if available.

    These experiments do not test durability.
    """
    return "/dev/shm" if Path("/dev/shm").is_dir() and os.access("/dev/shm", os.W_OK) else None


def _remove(root: Path) -> None:
    for folder, _, _ in os.walk(root):
        os.chmod(folder, 0o755)
    shutil.rmtree(root, ignore_errors=True)


FUZZING = (
    Fuzzing("R9a", "hostile input: references", "references", 1_000_000, 2),
    Fuzzing("R9b", "hostile input: builder files", "builders", 1_000_000, 6),
    Fuzzing("R9c", "hostile input: archives", "archives", 50_000, 2),
    Fuzzing("R9d", "hostile input: vaults received from elsewhere", "vaults", 50_000, 25),
    Fuzzing("R9e", "hostile input: requests to the web page", "requests", 50_000, 10),
    Fuzzing("R9f", "hostile input: SQL statements to query", "statements", 100_000, 7),
    Fuzzing("R9g", "hostile input: SQL statements to query, by an ordinary user", "statements-of-user", 100_000, 7),
    Fuzzing("R9h", "hostile input: calls of agents' tools", "calls", 20_000, 10),
)
