"""R1, R2 and R4, faults at every file-changing call and during recovery.

Faults are kills and errors.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from itertools import count
from typing import Any

from experiment import Budget, Figures, Watch
from faulted_operations import OPERATIONS, VaultOperation
from side_by_side import Case, Tried, Trier, try_all
from sweeping import KILL, KILL_HALF_WAY, Fault, Interpreter, Sweep, interpreter
from warmth import warm_up

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES)
Key = tuple[str, str]
"""An operation, and the process id given to it (or nothing)."""


MANY_TABLES = 1_000
MOMENTS = 20


class Sweeps:
    """The sweeps of operations, prepared when they are first needed."""

    def __init__(self, running: Interpreter) -> None:
        self._running = running
        # Statements that SQLAlchemy has put together for the vaults of this place stay with it.
        self._held = warm_up(running.place)
        self._sweeps: dict[Key, Sweep] = {}

    def __getitem__(self, key: Key) -> Sweep:
        if key not in self._sweeps:
            self._sweeps[key] = Sweep(self._running, *key)
        return self._sweeps[key]

    def large(self, operation: str, tables: int) -> Sweep:
        """Prepare a sweep in a vault of many tables."""
        return Sweep(self._running, operation, further_tables=tables)


@contextmanager
def sweeps() -> Iterator[Sweeps]:
    """Make sweeps possible."""
    with interpreter() as running:
        yield Sweeps(running)


def keys() -> list[Key]:
    """Return every operation, with and without a process id."""
    return [(name, process_id) for name, operation in OPERATIONS.items() for process_id in operation.process_ids]


@dataclass(frozen=True)
class Calls:
    """The calls that change files, in an undisturbed run of an operation."""

    count: int
    writes: tuple[int, ...]
    """Which of them write."""

    def of(self, error: int) -> Iterable[int]:
        """Return those at which this fault makes a difference."""
        return self.writes if error == KILL_HALF_WAY else range(1, self.count + 1)


@cache
def count_calls() -> dict[Key, Calls]:
    """Run every operation undisturbed, and count."""
    with sweeps() as prepared:
        return {key: Calls(prepared[key].count, tuple(prepared[key].writes)) for key in keys()}


def points(kinds: Iterable[tuple[int, bool]]) -> list[Case]:
    """Return every point of every operation, for some kinds of faults.

    A kind is an error, and whether it lasts.
    """
    chosen = list(kinds)
    return [
        {"operation": operation, "process_id": process_id, **asdict(Fault(n, error, lasting))}
        for (operation, process_id), calls in count_calls().items()
        for error, lasting in chosen
        for n in calls.of(error)
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
            hit, seconds, problem = sweep.try_recoveries(fault, case["recoveries"])
            # One that found nothing left to do was not disturbed.
            return Tried(problem, {"recovery": seconds}, count=int(hit == len(case["recoveries"])))

        yield trier


class KillSweep:
    """SIGKILL at every call."""

    code, unit, target, minutes = "R1", "points", 10_000, 16.0
    title = "kill at every call that changes a file, and half-way through every write"
    kinds: tuple[tuple[int, bool], ...] = ((KILL, False), (KILL_HALF_WAY, False))

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Try all points, in a random order."""
        cases = self.chosen(budget.seed)
        random.Random(budget.seed).shuffle(cases)
        return try_all(cases, trying_faults, budget, watch)

    def chosen(self, seed: int) -> list[Case]:
        """Return the points of the sweep with a seed.

        These are all points, except for operations with many similar ones.
        """
        return [
            case for case in points(self.kinds) if not (case["n"] + seed) % OPERATIONS[case["operation"]].kill_stride
        ]

    def repeat(self, case: dict[str, Any]) -> str:
        """Try one point again."""
        with trying_faults() as trier:
            return trier(case).problem


class ErrorSweep(KillSweep):
    """Errors at every call, once and from then on."""

    code, minutes = "R2", 20.0
    title = "ENOSPC, EIO and EACCES at every call that changes a file, once and from then on"
    kinds = tuple((error, lasting) for error in ERRORS for lasting in (False, True))

    def chosen(self, seed: int) -> list[Case]:
        """Return the points that belong to the sweep with a seed.

        Each call meets each error once, each call of a variant one of them. One error in turns goes on from there; and
        what can be called with a process id and without is tried with it and without it in turns. The next seeds take
        the others.
        """
        return [case for case in points(self.kinds) if self._is_chosen(case, seed)]

    def _is_chosen(self, case: Case, seed: int) -> bool:
        operation = OPERATIONS[case["operation"]]
        if (case["n"] + seed) % operation.stride:
            return False
        turn = case["n"] + ERRORS.index(case["error"]) + seed
        if (case["lasting"] or operation.is_variant) and turn % len(ERRORS):
            return False
        return len(operation.process_ids) == 1 or (turn + turn // len(ERRORS)) % 2 == bool(case["process_id"])


class FaultyRecovery:
    """Faults in the operation, and in three recoveries after it."""

    code, unit, target, minutes = "R4", "cases", 1_000, 5.0
    title = "kills and errors in an operation and in three recoveries or restarts after it"

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Try random points of random operations."""
        choice = random.Random(budget.seed)
        counts = {
            key: calls.count for key, calls in count_calls().items() if isinstance(OPERATIONS[key[0]], VaultOperation)
        }
        with sweeps() as prepared:
            measured = recovery_among_many_tables(prepared)
        cases = (_recovery(counts, choice) for _ in count())
        return try_all(cases, trying_recoveries, budget, watch, enough=budget.tries) + Figures(measures=measured)

    def repeat(self, case: dict[str, Any]) -> str:
        """Try one case again."""
        with trying_recoveries() as trier:
            return trier(case).problem


def recovery_among_many_tables(prepared: Sweeps) -> dict[str, str]:
    """Measure how long a vault of many tables takes to open after a kill.

    The moments of the kills are spread over an execution.
    """
    sweep = prepared.large("execute_instance", MANY_TABLES)
    moments = [1 + sweep.count * part // MOMENTS for part in range(MOMENTS)]
    seconds = [sweep.recovery_after(Fault(n)) for n in moments]
    return {f"slowest recovery among {MANY_TABLES:,} tables": f"{max(seconds):.2f} s"}


def _recovery(counts: dict[Key, int], choice: random.Random) -> Case:
    operation, process_id = choice.choice(list(counts))
    n = choice.randint(1, counts[operation, process_id])
    # What fails once has reverted what it did, and leaves nothing to recover from.
    error = choice.choice([KILL, KILL, *ERRORS])
    return {
        "operation": operation,
        "process_id": process_id,
        **asdict(Fault(n, error, lasting=bool(error))),
        "recoveries": [_recovery_fault(choice) for _ in range(3)],
    }


def _recovery_fault(choice: random.Random) -> dict[str, Any]:
    error, lasting = _kind(choice)
    action = choice.choice(["open", "restart"])
    return {"action": action, "part": round(choice.random(), 3), "error": error, "lasting": lasting}


def _kind(choice: random.Random) -> tuple[int, bool]:
    error = choice.choice([KILL, KILL, *ERRORS])
    return error, bool(error) and choice.random() < 0.5
