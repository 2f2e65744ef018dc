"""Kills of interpreters between token, submission and id.

No job is lost, and none is paid for twice.
"""

from __future__ import annotations

import os
import random
import signal

import pytest
from providers import doubled

from tablevault import TableVaultWarning, tv_errors
from tablevault.system import clock

STEPS = ["submit", "submitted", "poll", "polled"]
MONTHS = int(os.environ.get("MONTHS", "12"))
"""More of them with `make test-slow MONTHS=1000`."""


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_each_step_costs_no_second_job(make, provider, step):
    table = make(rows=8)
    provider.be_ready()
    provider.fail(step, "pass", "kill")
    assert table.execute_elsewhere() == -signal.SIGKILL
    table.execute()
    assert table.answers() == doubled(range(8))
    assert set(provider.submitted.values()) == {1}
    assert provider.count("find") == (1 if step in ("submit", "submitted") else 0)


@pytest.mark.slow
def test_kill_around_the_submission_without_find_warns_of_a_second_payment(make, provider):
    table = make(rows=8, python_function="Forgetful")
    provider.be_ready()
    provider.fail("submitted", "pass", "kill")
    assert table.execute_elsewhere() == -signal.SIGKILL
    with pytest.warns(TableVaultWarning, match="submitted again, and may be charged twice"):
        table.execute()
    assert table.answers() == doubled(range(8))
    assert sorted(provider.submitted.values()) == [1] * 4 + [2] * 4


DAY = 86_400.0


class Clock:
    """A clock that goes on by itself, and can be put forward."""

    def __init__(self, monkeypatch):
        self.ahead = 0.0
        for name in ("time", "monotonic"):
            real = getattr(clock, name)
            monkeypatch.setattr(clock, name, lambda real=real: real() + self.ahead)


def simulate(table, provider, chance, later):
    """Simulate a provider until all jobs are done.

    Jobs end, expire and fail; requests fail and are interrupted; runs are resumed.
    """
    paid: dict[int, int] = {}
    for _ in range(500):
        later.ahead += chance.uniform(0.0, DAY / 3)
        for step in ("submit", "submitted", "find", "poll", "polled"):
            faults = chance.choices(["pass", "ConnectionError", "503", "interrupt", "KeyError"], [8, 2, 1, 1, 1], k=3)
            provider.fail(step, *faults)
        for job in provider.jobs:
            is_open = provider.job(job)["results"] is None and job not in provider.cancelled
            if is_open and chance.random() < 0.4:
                rows = provider.job(job)["rows"]
                expired = set(chance.sample(rows, chance.choice([0, 0, 1, len(rows)]))) if rows else set()
                provider.finish(job, expired=expired)
                for x in set(rows) - expired:
                    paid[x] = paid.get(x, 0) + 1
        try:
            table.execute(policies={"answer": {"batch_size": chance.choice([3, 4, 10])}})
        except (tv_errors.JobsPending, ConnectionError, KeyboardInterrupt, KeyError, TimeoutError):
            continue
        except Exception as error:
            if type(error).__name__ not in ("Refused", "Expired"):
                raise
            continue
        return paid
    raise AssertionError("it never ends")


@pytest.mark.parametrize(
    "seed", [*range(3), *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(3, MONTHS))]
)
def test_a_month_of_jobs_that_expire_and_fail_pays_each_row_once(make, provider, monkeypatch, seed):
    chance = random.Random(seed)
    retry = {"max_retries": chance.choice([0, 2]), "wait": 0.001}
    table = make(rows=12, wait=False, poll_seconds=3600, timeout=DAY, retry=retry)
    paid = simulate(table, provider, chance, Clock(monkeypatch))
    assert table.answers() == doubled(range(12))
    assert paid == dict.fromkeys(range(12), 1)
