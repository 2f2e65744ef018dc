"""Deaths of machines and heads while rows run on them.

The clusters belong to these tests alone.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest
from cluster_work import Work, is_alive
from waiting import PATIENCE, until

from tablevault.rows import ray_executor

pytestmark = [
    pytest.mark.ray,
    pytest.mark.slow,
    # Of the processes that are killed.
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


DRAIN = """
import sys, time
from ray._raylet import GcsClient

GcsClient(address=sys.argv[1]).drain_node(sys.argv[2], 2, "preempted", int((time.time() + 1) * 1000))
"""
"""In an interpreter of its own: it would be ended with the head of the cluster."""


NOTICING = {"health_check_period_ms": 200, "health_check_timeout_ms": 1_000, "health_check_failure_threshold": 3}
"""A machine that does not answer for so long is lost; by itself, Ray takes a minute."""


@pytest.fixture
def machines():
    """A cluster of a head without cores and three machines, all of them here."""
    from ray.cluster_utils import Cluster

    before = set(psutil.Process().children(recursive=True))
    memory = {"object_store_memory": 80 * 2**20}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": NOTICING, **memory}
    cluster = Cluster(initialize_head=True, head_node_args=head)
    nodes = [cluster.add_node(num_cpus=1, wait=False, **memory) for _ in range(3)]
    cluster.wait_for_nodes()
    yield cluster, nodes
    sys.modules["ray"].shutdown()
    for process in set(psutil.Process().children(recursive=True)) - before:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    cluster.shutdown()


def test_rows_of_lost_machines_run_elsewhere_until_the_cluster_is_lost(machines, ray_address, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "PING_SECONDS", 0.5)
    monkeypatch.setattr(ray_executor, "LOST_SECONDS", 2.0)
    cluster, nodes = machines
    work = Work(tmp_path, cluster.address)
    work.build("hold", 40, resources={"cpu": 1}, max_workers=3, min_workers=3)
    work.tell("hold", *range(4, 40))

    def disturb() -> None:
        try:
            until(lambda: len(work.workers()) == 3 and len(work.noted("called")) == 4 + 3)
            nodes[0].all_processes["raylet"][0].process.kill()
            subprocess.run([sys.executable, "-c", DRAIN, cluster.gcs_address, nodes[1].node_id], check=True)
            nodes[1].all_processes["raylet"][0].process.kill()
            work.tell("hold", 30)
            until(lambda: "30" in work.noted("called"))
        finally:
            cluster.head_node.all_processes["gcs_server"][0].process.kill()

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    with pytest.raises(ConnectionError, match="was lost"):
        work.run("nightly")
    disturbing.join()
    paused = work.vault.get_process("nightly")
    assert paused.status == "paused"
    left = 40 - paused.progress["a"].computed
    work.tell("hold")
    # Some of them outlive their machines for a while.
    earlier = work.workers()
    driver = work.elsewhere("nightly", address=ray_address)
    _, errors = driver.communicate(timeout=2 * PATIENCE)
    assert driver.returncode == 0, errors
    assert work.cells() == list(range(40))
    calls = [call.split(":") for call in work.noted("call")]
    again = [row for worker, row in calls if int(worker) not in earlier]
    assert "30" in again
    assert len(again) == left


def test_rows_of_a_disconnected_machine_run_elsewhere_and_its_workers_end(machines, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_executor, "PING_SECONDS", 0.5)
    monkeypatch.setattr(ray_executor, "SILENCE_SECONDS", 3.0)
    cluster, _ = machines
    work = Work(tmp_path, cluster.address)
    work.build("hold", 20, resources={"cpu": 1}, max_workers=2, min_workers=2)
    work.tell("hold", *range(20))
    cut_off = []

    def disturb() -> None:
        try:
            until(lambda: len(work.workers()) == 2)
            worker = sorted(work.workers())[0]
            raylet = psutil.Process(worker).ppid()
            assert psutil.Process(raylet).name() == "raylet"
            os.kill(raylet, signal.SIGSTOP)
            cut_off.extend([worker, raylet])
            # Its row is called again on the third machine, and nothing tells the worker so.
            until(lambda: len(work.workers()) == 3)
            until(lambda: not is_alive(worker))
        finally:
            work.tell("hold")

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    work.run("nightly")
    disturbing.join()
    assert work.cells() == list(range(20))
    assert not is_alive(cut_off[0])
    called = work.noted("called")
    assert len(called) == 21
    assert set(called) == set(map(str, range(20)))
