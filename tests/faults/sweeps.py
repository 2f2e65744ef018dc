"""R1, R2 and R4: kills and errors at every call that changes a file, and during recovery."""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from experiment import Budget, Figures, Watch
from faulted_operations import OPERATIONS
from side_by_side import Case, Tried, Trier, try_all
from sweeping import KILL, Fault, Interpreter, Sweep, interpreter

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
Key = tuple[str, str]
"""An operation, and the process id given to it (or nothing)."""


class Sweeps:
    """The sweeps of operations, prepared when they are first needed."""

    def __init__(self, running: Interpreter) -> None:
        self._running = running
        self._sweeps: dict[Key, Sweep] = {}

    def __getitem__(self, key: Key) -> Sweep:
        if key not in self._sweeps:
            self._sweeps[key] = Sweep(self._running, *key)
        return self._sweeps[key]

    def close(self) -> None:
        """Remove what was prepared."""
        for sweep in self._sweeps.values():
            sweep.close()


@contextmanager
def sweeps() -> Iterator[Sweeps]:
    """Make sweeps possible."""
    with interpreter() as running:
        prepared = Sweeps(running)
        try:
            yield prepared
        finally:
            prepared.close()


def keys() -> list[Key]:
    """Return every operation, with and without a process id."""
    return [(operation, process_id) for operation in OPERATIONS for process_id in ("", "mine")]


def points(counts: dict[Key, int], kinds: Iterable[tuple[int, bool]]) -> list[Case]:
    """Return every point of every operation, for faults of these kinds: the error, and whether it lasts."""
    chosen = list(kinds)
    return [
        {"operation": operation, "process_id": process_id, **asdict(Fault(n, error, lasting))}
        for (operation, process_id), count in counts.items()
        for n in range(1, count + 1)
        for error, lasting in chosen
    ]


@contextmanager
def trying_faults() -> Iterator[Trier]:
    """Try cases of R1 and R2."""
    with sweeps() as prepared:

        def trier(case: Case) -> Tried:
            fault = Fault(case["n"], case["error"], case["lasting"])
            return Tried(prepared[case["operation"], case["process_id"]].try_fault(fault))

        yield trier


@contextmanager
def trying_recoveries() -> Iterator[Trier]:
    """Try cases of R4."""
    with sweeps() as prepared:

        def trier(case: Case) -> Tried:
            sweep = prepared[case["operation"], case["process_id"]]
            fault = Fault(case["n"], case["error"], case["lasting"])
            _, seconds, problem = sweep.try_recoveries(fault, case["recoveries"])
            return Tried(problem, {"recovery": seconds})

        yield trier


def _counted() -> dict[Key, int]:
    with sweeps() as prepared:
        return {key: prepared[key].count for key in keys()}


class KillSweep:
    """SIGKILL at every call."""

    code, unit, target, minutes = "R1", "points", 10_000, 10.0
    title = "kill at every call that changes a file"
    kinds: tuple[tuple[int, bool], ...] = ((KILL, False),)

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Try all points, in a random order."""
        cases = points(_counted(), self.kinds)
        random.Random(budget.seed).shuffle(cases)
        return try_all(cases, trying_faults, budget, watch)

    def repeat(self, case: dict[str, Any]) -> str:
        """Try one point again."""
        with trying_faults() as trier:
            return trier(case).problem


class ErrorSweep(KillSweep):
    """Errors at every call, once and from then on."""

    code, minutes = "R2", 30.0
    title = "ENOSPC, EIO and EACCES at every call that changes a file, once and from then on"
    kinds = tuple((error, lasting) for error in ERRORS for lasting in (False, True))


class FaultyRecovery:
    """Faults in the operation, and in three recoveries after it."""

    code, unit, target, minutes = "R4", "cases", 1_000, 5.0
    title = "kills and errors in an operation and in three recoveries or restarts after it"

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Try random points of random operations."""
        choice = random.Random(budget.seed)
        counts = _counted()
        return try_all((_recovery(counts, choice) for _ in range(budget.tries)), trying_recoveries, budget, watch)

    def repeat(self, case: dict[str, Any]) -> str:
        """Try one case again."""
        with trying_recoveries() as trier:
            return trier(case).problem


def _recovery(counts: dict[Key, int], choice: random.Random) -> Case:
    operation, process_id = choice.choice(list(counts))
    n = choice.randint(1, counts[operation, process_id])
    return {
        "operation": operation,
        "process_id": process_id,
        **asdict(Fault(n, *_kind(choice))),
        "recoveries": [_recovery_fault(choice) for _ in range(3)],
    }


def _recovery_fault(choice: random.Random) -> dict[str, Any]:
    error, lasting = _kind(choice)
    action = choice.choice(["open", "restart"])
    return {"action": action, "part": round(choice.random(), 3), "error": error, "lasting": lasting}


def _kind(choice: random.Random) -> tuple[int, bool]:
    error = choice.choice([KILL, KILL, *ERRORS])
    return error, bool(error) and choice.random() < 0.5
