"""Interleaved rounds of different ways to do the same work.

A disturbance affects all ways.
"""

from __future__ import annotations

import gc
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

Way = Callable[[Path], float]
"""Does the work in an empty folder and returns the seconds that count."""


@dataclass(frozen=True)
class Samples:
    """The seconds of one way to do some work, round by round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The median of all rounds."""
        return median(self.seconds)

    @property
    def spread(self) -> float:
        """Half the distance between the fastest and the slowest round, as a part of the median."""
        return (max(self.seconds) - min(self.seconds)) / 2 / self.median if self.median else 0.0


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    work: str
    what: str
    measured: str
    """The product's figure in its own unit."""
    baseline: str
    """What it is compared with, in the same unit."""
    value: float
    """The figure that the target limits."""
    target: str
    is_reached: bool
    spread: float = 0.0
    unit: str = "×"


def interleaved(ways: Mapping[str, Way], rounds: int) -> dict[str, Samples]:
    """Return the seconds of each way to do the same work.

    A first round does not count.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            with empty_folder() as folder:
                taken = way(folder)
            if number:
                seconds[name].append(taken)
    return {name: Samples(tuple(taken)) for name, taken in seconds.items()}


@contextmanager
def empty_folder() -> Iterator[Path]:
    """Give an empty folder that is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tablevault-benchmark-"))
    gc.collect()
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def seconds_of(work: Callable[[], object]) -> float:
    """Return the seconds that some work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def timing(work: Callable[[], object]) -> Way:
    """Return the way of work that needs no folder."""
    return lambda _: seconds_of(work)


@contextmanager
def timed(taken: list[float]) -> Iterator[None]:
    """Append the seconds that the block takes."""
    start = time.perf_counter()
    yield
    taken.append(time.perf_counter() - start)
