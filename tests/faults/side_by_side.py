"""Cases tried by several interpreters side by side."""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from itertools import islice
from multiprocessing import get_context
from multiprocessing.util import Finalize
from typing import Any

from experiment import Budget, Figures, Violation, Watch

Case = dict[str, Any]
BATCH = 10
"""Cases that an interpreter is handed at a time."""


@dataclass
class Tried:
    """What came of one case."""

    problem: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long something took; the longest of each is kept."""
    count: int = 1
    """As how many tries it counts."""


Trier = Callable[[Case], Tried]
Opening = Callable[[], AbstractContextManager[Trier]]
"""A function of a module: called once in each interpreter, for what all of its cases share."""


def try_all(cases: Iterable[Case], opening: Opening, budget: Budget, watch: Watch, enough: float = math.inf) -> Figures:
    """Try cases until they or the budget's seconds are used up, or enough were tried."""
    total = _Total(watch, enough)
    end = time.monotonic() + budget.seconds
    if budget.workers == 1:
        with opening() as trier:
            for case in cases:
                if time.monotonic() > end or total.is_enough:
                    break
                total.add(_try_batch(trier, [case]))
        return total.figures
    with ProcessPoolExecutor(budget.workers, get_context("spawn"), _open, (opening,)) as executor:
        _share_out(executor, iter(cases), end, total, 2 * budget.workers)
    return total.figures


class _Total:
    def __init__(self, watch: Watch, enough: float) -> None:
        self.figures = Figures()
        self._enough = enough
        self._seconds: dict[str, float] = {}
        self._watch = watch

    @property
    def is_enough(self) -> bool:
        return self.figures.tried >= self._enough

    def add(self, results: list[tuple[Case, Tried]]) -> None:
        for _, tried in results:
            for name, seconds in tried.seconds.items():
                self._seconds[name] = max(seconds, self._seconds.get(name, 0.0))
        violations = [Violation(case, tried.problem) for case, tried in results if tried.problem]
        measures = {f"slowest {name}": f"{seconds:.2f} s" for name, seconds in self._seconds.items()}
        self.figures += Figures(sum(tried.count for _, tried in results), violations, measures)
        self._watch(self.figures)


def _share_out(executor: ProcessPoolExecutor, cases: Iterator[Case], end: float, total: _Total, limit: int) -> None:
    running: set[Future[list[tuple[Case, Tried]]]] = set()
    while True:
        while len(running) < limit and time.monotonic() < end and not total.is_enough:
            batch = list(islice(cases, BATCH))
            if not batch:
                break
            running.add(executor.submit(_try_in_worker, batch, end))
        if not running:
            return
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            total.add(future.result())


def _try_batch(trier: Trier, batch: list[Case], end: float | None = None) -> list[tuple[Case, Tried]]:
    return [(case, _try(trier, case)) for case in batch if end is None or time.monotonic() < end]


def _try(trier: Trier, case: Case) -> Tried:
    """Try a case.

    A vault that cannot be read at all is a violation like any other.
    """
    try:
        return trier(case)
    except Exception as error:
        return Tried("".join(traceback.format_exception(error, limit=-6)))


# --- in the interpreters ----------------------------------------------------------------------------------------------

_trier: Trier | None = None


def _open(opening: Opening) -> None:
    global _trier
    opened = opening()
    _trier = opened.__enter__()
    # Interpreters that multiprocessing started leave without their exit handlers, but for these.
    Finalize(None, opened.__exit__, (None, None, None), exitpriority=1)


def _try_in_worker(batch: list[Case], end: float) -> list[tuple[Case, Tried]]:
    assert _trier is not None
    return _try_batch(_trier, batch, end)
