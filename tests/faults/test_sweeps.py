"""A sample of the faults that `make torture` injects at every point."""

from __future__ import annotations

import errno
import random

import pytest
from experiment import command
from faulted_operations import OPERATIONS
from sweeping import KILL, Fault
from sweeps import ERRORS, Sweeps, sweeps

# Rows that fail on purpose are told of by warnings.
pytestmark = pytest.mark.filterwarnings("ignore::tablevault.errors.TableVaultWarning")

KINDS = [(KILL, False), *((error, lasting) for error in ERRORS for lasting in (False, True))]
POINTS = 4
"""Of each operation."""
SAMPLE = {
    "execute_copy": "mine",
    "execute_failing": "mine",
    "create_table": "",
    "write_with_artifacts": "mine",
    "delete_table_with_artifacts": "",
    "apply": "mine",
    "decompress_vault": "",
}
"""What is tried in the short tests, and with which process id."""


@pytest.fixture(scope="module")
def prepared():
    with sweeps() as made:
        yield made


def _try(prepared: Sweeps, operation: str, process_id: str, fault: Fault) -> None:
    case = {"operation": operation, "process_id": process_id, **vars(fault)}
    problem = prepared[operation, process_id].try_fault(fault)
    assert not problem, f"{problem}\nrepeat it with: {command('R1', case)}"


def _cases():
    """Yield every operation; those that are not in the sample are for the longer tests."""
    for number, (name, operation) in enumerate(OPERATIONS.items()):
        if name in SAMPLE:
            yield pytest.param(name, SAMPLE[name])
        else:
            yield pytest.param(name, operation.process_ids[-1 - number % 2 :][0], marks=pytest.mark.slow)


@pytest.mark.parametrize(("operation", "process_id"), list(_cases()))
def test_a_fault_at_any_point_leaves_everything_before_or_everything_after(prepared, operation, process_id):
    choice = random.Random(operation)
    for error, lasting in choice.sample(KINDS, POINTS):
        n = choice.randint(1, prepared[operation, process_id].count)
        _try(prepared, operation, process_id, Fault(n, error, lasting))


@pytest.mark.parametrize(
    ("operation", "process_id", "points"),
    [
        ("create_table", "mine", range(29, 38)),
        ("write_instance", "mine", range(80, 89)),
        ("execute_instance", "mine", range(40, 60, 2)),  # Among them, while builders and code are being pinned.
        pytest.param("apply", "mine", range(30, 90, 6), marks=pytest.mark.slow),
        # Among them, while superseded artifacts are removed.
        pytest.param("execute_copy", "mine", (277, 279, 281), marks=pytest.mark.slow),
        ("compress_vault", "", (11, 33)),
        pytest.param("decompress_vault", "", (14, 53), marks=pytest.mark.slow),
    ],
)
def test_repeated_call_leaves_nothing_of_the_killed_attempt(prepared, operation, process_id, points):
    for n in points:
        _try(prepared, operation, process_id, Fault(n))


@pytest.mark.slow
def test_disk_full_while_checkpoints_are_read_leaves_the_process_paused(prepared):
    for n in range(44, 54):
        _try(prepared, "resume", "mine", Fault(n, errno.ENOSPC))


@pytest.mark.parametrize(
    ("operation", "process_id", "points"),
    [
        # The folder of a deleted table cannot be moved at first; its frames have to go all the same, once it can be.
        ("delete_table_with_artifacts", "", range(50, 60)),
        # Artifacts cannot be moved to the partial results at first, which then have to wait for them.
        ("stop_process", "mine", range(43, 48)),
    ],
)
def test_tidying_step_waits_for_a_failed_step_it_needs(prepared, operation, process_id, points):
    for n in points:
        _try(prepared, operation, process_id, Fault(n, errno.EACCES))


def test_a_deletion_that_failed_in_its_last_steps_can_be_repeated(prepared):
    last = prepared["delete_vault", ""].count
    for n in range(last - 3, last + 1):
        _try(prepared, "delete_vault", "", Fault(n, errno.EIO))


def test_leftover_mark_of_creation_is_removed_when_the_vault_is_opened(prepared):
    last = prepared["create_vault", ""].count
    for n in range(last - 3, last + 1):
        _try(prepared, "create_vault", "", Fault(n, errno.EIO))


@pytest.mark.parametrize("operation", ["create_table", "write_instance", "execute_instance"])
def test_recovery_converges_after_any_fault(prepared, operation):
    choice = random.Random(operation)
    sweep = prepared[operation, "mine"]
    recoveries = [
        {"action": action, "part": choice.random(), "error": choice.choice([KILL, *ERRORS]), "lasting": False}
        for action in ("open", "restart", "open")
    ]
    _, _, problem = sweep.try_recoveries(Fault(choice.randint(1, sweep.count)), recoveries)
    assert not problem, recoveries


@pytest.mark.parametrize("operation", ["create_code_module", "create_builder_file", "create_instance_with_builders"])
def test_restart_does_not_resume_without_unstaged_texts(prepared, operation):
    sweep = prepared[operation, "mine"]
    restart = {"action": "restart", "part": 0.999, "error": KILL, "lasting": False}
    for n in range(26, 38, 2):
        _, _, problem = sweep.try_recoveries(Fault(n, errno.ENOSPC), [restart])
        assert not problem, n
