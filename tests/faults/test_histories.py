"""Samples of the experiments that `make torture` makes with random calls, several interpreters, and random moments."""

from __future__ import annotations

import pytest
from concurrent_history import ConcurrentHistory
from experiment import Budget, command
from model_checking import ModelCheck
from racing import Racing
from resuming import Resuming

# Rows that fail on purpose are told of by warnings.
pytestmark = pytest.mark.filterwarnings("ignore::tablevault.errors.TableVaultWarning")

SAMPLES = [
    pytest.param(ModelCheck(), 100, id="as-a-model-says"),
    pytest.param(ConcurrentHistory(), 300, id="many-at-one-vault"),
    pytest.param(Resuming(), 5, id="resumed-by-the-dozen"),
    pytest.param(Racing(), 12, id="raced-for-one-process-id"),
    pytest.param(ModelCheck(), 1_000, marks=pytest.mark.slow, id="as-a-model-says-for-longer"),
    pytest.param(ConcurrentHistory(), 2_000, marks=pytest.mark.slow, id="many-at-one-vault-for-longer"),
    pytest.param(Resuming(), 100, marks=pytest.mark.slow, id="resumed-by-the-hundred"),
    pytest.param(Racing(), 100, marks=pytest.mark.slow, id="raced-by-the-hundred"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("experiment", "tries"), SAMPLES)
def test_concurrent_operations_killed_at_any_moment_keep_all_guarantees(experiment, tries):
    figures = experiment.run(Budget(seconds=60, tries=tries, seed=1), lambda figures: None)
    found = [f"{command(experiment.code, each.case)}\n{each.problem}" for each in figures.violations]
    assert not found, "\n\n".join(found)
    assert figures.tried > 0
