"""Machines and heads of Ray clusters die while rows run there. The clusters are those of the tests alone."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import psutil
import pytest
from cluster_work import PATIENCE, Work, until

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


@pytest.fixture
def machines():
    """A cluster of a head without cores and three machines, all of them here."""
    from ray.cluster_utils import Cluster

    before = set(psutil.Process().children(recursive=True))
    memory = {"object_store_memory": 80 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False, **memory})
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
    work.tell("hold", 4, 5, 6, 7, 30)

    def disturb() -> None:
        until(lambda: len(work.workers()) == 3)
        nodes[0].all_processes["raylet"][0].process.kill()
        subprocess.run([sys.executable, "-c", DRAIN, cluster.gcs_address, nodes[1].node_id], check=True)
        nodes[1].all_processes["raylet"][0].process.kill()
        work.tell("hold", 30)
        until(lambda: work.vault.get_process("nightly").progress["a"].computed == 39)
        cluster.head_node.all_processes["gcs_server"][0].process.kill()

    disturbing = threading.Thread(target=disturb)
    disturbing.start()
    with pytest.raises(ConnectionError, match="is gone"):
        work.run("nightly")
    disturbing.join()
    assert work.vault.get_process("nightly").status == "paused"
    work.tell("hold")
    before = len(work.noted("called"))
    driver = work.elsewhere("nightly", address=ray_address)
    _, errors = driver.communicate(timeout=2 * PATIENCE)
    assert driver.returncode == 0, errors
    assert work.cells() == list(range(40))
    assert work.noted("called")[before:] == ["30"]
