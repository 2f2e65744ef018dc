"""A sample of the faults that `make torture` injects at every point."""

from __future__ import annotations

import random
import shutil

import pytest
from faulted_operations import OPERATIONS
from sweeping import KILL, Sweep, interpreter
from torture import all_points

POINTS = 3
"""Of each operation and kind."""


@pytest.fixture(scope="module")
def running():
    assert shutil.which("cc") or shutil.which("gcc"), "install a C compiler (on Debian: apt-get install gcc libc6-dev)"
    with interpreter() as started:
        yield started


def _cases():
    """Yield each operation with and without a process id: in turns in the sample, else among the longer tests."""
    for number, operation in enumerate(OPERATIONS):
        for place, process_id in enumerate(("", "mine")):
            marks = [pytest.mark.slow] if (number + place) % 2 else []
            yield pytest.param(operation, process_id, marks=marks, id=f"{operation}-{process_id or 'reverting'}")


@pytest.mark.parametrize(("operation", "process_id"), list(_cases()))
def test_a_fault_at_any_point_leaves_everything_before_or_everything_after(running, operation, process_id):
    choice = random.Random(f"{operation} {process_id}")
    sweep = Sweep(running, operation, process_id)
    points = list(all_points(sweep, choice))
    try:
        for kind in ("kill", "error", "recovery"):
            chosen = choice.sample([point for of, point in points if of == kind], POINTS if kind != "recovery" else 2)
            for point in chosen:
                problem = sweep.try_point(point)
                assert not problem, f"{problem}\nrepeat it with: {point.command()}"
    finally:
        sweep.close()


@pytest.mark.parametrize(("operation", "n"), [("create_table", 33), ("write_instance", 84)])
def test_a_resumed_operation_leaves_nothing_of_the_attempt_that_was_killed(running, operation, n):
    sweep = Sweep(running, operation, "mine")
    try:
        for near in range(n - 4, n + 5):
            point = next(point for _, point in all_points(sweep, random.Random(0)) if point.n == near)
            assert point.error == KILL
            assert sweep.try_point(point) == "", point.command()
    finally:
        sweep.close()
