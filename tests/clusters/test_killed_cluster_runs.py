"""A small part of `killed_runs.py`; `KILLED_RAY_RUNS=1000` resumes more often."""

import os

import pytest
from killed_runs import killed_runs

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Of the processes that are killed.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


def test_no_row_is_lost_where_drivers_and_workers_are_killed(tmp_path):
    resumes = int(os.environ.get("KILLED_RAY_RUNS", "3"))
    figures = killed_runs(resumes, seed=3, folder=tmp_path)
    assert figures.resumes == resumes
    assert figures.drivers >= resumes
