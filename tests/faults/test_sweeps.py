"""A sample of the faults that `make torture` injects at every point."""

from __future__ import annotations

import random

import pytest
from experiment import command
from faulted_operations import OPERATIONS
from sweeping import KILL, Fault
from sweeps import ERRORS, Sweeps, sweeps

KINDS = [(KILL, False), *((error, lasting) for error in ERRORS for lasting in (False, True))]
POINTS = 4
"""Of each operation, and of each kind of fault in the longer test."""


@pytest.fixture(scope="module")
def prepared():
    with sweeps() as made:
        yield made


def _try(prepared: Sweeps, operation: str, process_id: str, fault: Fault) -> None:
    case = {"operation": operation, "process_id": process_id, **vars(fault)}
    problem = prepared[operation, process_id].try_fault(fault)
    assert not problem, f"{problem}\nrepeat it with: {command('R1', case)}"


@pytest.mark.parametrize(
    ("operation", "process_id"),
    [(operation, ("", "mine")[number % 2]) for number, operation in enumerate(OPERATIONS)],
)
def test_a_fault_at_any_point_leaves_everything_before_or_everything_after(prepared, operation, process_id):
    choice = random.Random(operation)
    for error, lasting in choice.sample(KINDS, POINTS):
        n = choice.randint(1, prepared[operation, process_id].count)
        _try(prepared, operation, process_id, Fault(n, error, lasting))


@pytest.mark.parametrize(("operation", "n"), [("create_table", 33), ("write_instance", 84)])
def test_a_resumed_operation_leaves_nothing_of_the_attempt_that_was_killed(prepared, operation, n):
    for near in range(n - 4, n + 5):
        _try(prepared, operation, "mine", Fault(near))


@pytest.mark.parametrize("number", range(3))
def test_recovery_converges_whatever_happens_to_it(prepared, number):
    choice = random.Random(number)
    operation = choice.choice(list(OPERATIONS))
    sweep = prepared[operation, "mine"]
    recoveries = [
        {"action": action, "part": choice.random(), "error": choice.choice([KILL, *ERRORS]), "lasting": False}
        for action in ("open", "restart", "open")
    ]
    _, _, problem = sweep.try_recoveries(Fault(choice.randint(1, sweep.count)), recoveries)
    assert not problem, recoveries
