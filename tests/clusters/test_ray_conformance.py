"""The executor for Ray keeps the promises of the port."""

import time
from functools import partial

import numpy
import pytest
from waiting import PATIENCE

from tablevault.builders.resources import Resources
from tablevault.rows.opened import PlainFunction
from tablevault.rows.ray_cluster import RayCluster
from tablevault.rows.ray_executor import RayExecutor, RayJob
from tablevault.testing import EXECUTOR_CHECKS, Awaited

pytestmark = pytest.mark.ray


@pytest.fixture
def cluster(ray, ray_address):
    return RayCluster(ray, ray_address)


def job(open_function, **fields) -> RayJob:
    usual = {"resources": Resources(cpu=0.1), "min_workers": 2, "max_workers": 2, "rows_per_worker": 1, "places": 2}
    return RayJob(open_function, **{**usual, **fields})


@pytest.mark.slow
def test_large_arguments_and_results_are_sent(cluster):
    executor = RayExecutor(cluster, job(partial(PlainFunction, numpy.tile)))
    executor.start(0, {"A": numpy.ones(20_000_000, "uint8"), "reps": 10})
    deadline = time.monotonic() + PATIENCE
    while not executor.ended:
        assert time.monotonic() < deadline
        executor.wait(1.0)
    (ended,) = executor.ended
    executor.close()
    assert ended.error is None
    assert ended.value.sum() == 200_000_000


@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_ray_executor_conforms(check, cluster, tmp_path):
    check(lambda open_function: RayExecutor(cluster, job(open_function)), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_ray_executor_of_async_functions_conforms(check, cluster, tmp_path):
    fields = {"rows_per_worker": 4, "places": 4, "is_async": True}
    check(lambda open_function: RayExecutor(cluster, job(Awaited(open_function), **fields)), tmp_path)
