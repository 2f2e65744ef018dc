"""A sample of the power losses of `make torture`."""

from __future__ import annotations

import pytest
from experiment import CannotRunHereError, command
from power_loss import check_means, losing_power


@pytest.fixture
def trier():
    try:
        check_means()
        with losing_power() as made:
            yield made
    except CannotRunHereError as error:
        pytest.skip(str(error))


@pytest.mark.slow
def test_acknowledged_writes_survive_a_power_loss(trier):
    case = {"seed": "sample"}
    tried = trier(case)
    assert tried.count > 1
    assert not tried.problem, f"{tried.problem}\nrepeat it with: {command('R3', case)}"
