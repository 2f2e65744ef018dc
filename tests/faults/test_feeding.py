"""A sample of R11, values of foreign classes in every operation on values."""

from __future__ import annotations

import pytest
from experiment import Budget
from feeding import ForeignValues

from tablevault.storage import plain


@pytest.mark.parametrize(
    ("columns", "values"),
    [pytest.param(6, 1, id="some"), pytest.param(12, 100_000, id="many", marks=pytest.mark.slow)],
)
def test_each_value_is_read_back_equal_or_refused_at_its_row(columns, values):
    figures = ForeignValues(columns).run(Budget(600.0, values, seed=3), lambda figures: None)
    assert figures.violations == []
    assert figures.tried >= values


@pytest.mark.slow
def test_the_experiment_sees_a_value_that_becomes_another(monkeypatch):
    contents = [(kind, str if kind is str else content) for kind, content in plain._CONTENTS]
    monkeypatch.setattr(plain, "_CONTENTS", tuple(contents))
    figures = ForeignValues().run(Budget(600.0, 5_000, seed=3), lambda figures: None)
    assert any("***" in violation.problem for violation in figures.violations)
