"""What an experiment of `make torture` is, and what it gives back."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

TORTURE = Path(__file__).with_name("torture.py")


@dataclass(frozen=True)
class Violation:
    """An invariant that did not hold."""

    case: dict[str, Any]
    """JSON values that repeat it."""
    problem: str


@dataclass(frozen=True)
class Figures:
    """What was tried, and what came of it; two are added with `+`."""

    tried: int = 0
    violations: list[Violation] = field(default_factory=list)
    measures: dict[str, str] = field(default_factory=dict)
    """Whatever else was measured, such as the slowest recovery; of two with the same name the later one counts."""

    def __add__(self, other: Figures) -> Figures:
        return Figures(
            self.tried + other.tried, [*self.violations, *other.violations], {**self.measures, **other.measures}
        )


@dataclass(frozen=True)
class Budget:
    """Limits of an experiment, which stops at the first one reached."""

    seconds: float
    tries: int
    """The target, unless another number was requested. A sweep with more points goes on to its end."""
    seed: int
    workers: int = 1
    """How many interpreters may work side by side; 1: only this one."""


Watch = Callable[[Figures], None]
"""Is told the figures so far, now and then."""


class Experiment(Protocol):
    """Many tries of one kind, each of which ends by checking the invariants."""

    code: str
    """Its name in `ONLY=` and in the table, such as `R7`; parts of one experiment are `R9a`, `R9b`."""
    title: str
    """What is tried."""
    unit: str
    """What is counted."""
    target: int
    """How many are to be tried."""
    minutes: float
    """About how long that takes; a limited time is shared out accordingly."""

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Try until the budget is used up."""
        ...

    def repeat(self, case: dict[str, Any]) -> str:
        """Try one case again; return what is wrong, or nothing."""
        ...


class CannotRunHereError(Exception):
    """Says why an experiment cannot be made on this machine, or by this user."""


def command(code: str, case: dict[str, Any]) -> str:
    """Return the command that repeats one case of an experiment."""
    path = TORTURE.relative_to(TORTURE.parents[2])
    return f".venv/bin/python -W ignore {path} --repeat {code} {shlex.quote(json.dumps(case))}"
