"""One small Ray cluster for all tests of a run, whatever interpreters they are spread over."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from cluster_work import Work, is_alive
from filelock import FileLock
from waiting import PATIENCE, until

from tablevault.rows import ray_executor

# Each test interpreter, and each driver that a test starts, is a client of a cluster without tokens.
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


@pytest.fixture(scope="session")
def ray_address(tmp_path_factory):
    """The address of the cluster.

    The first interpreter that asks for it starts the cluster, and the last one ends it.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    state, lock = shared / "ray-cluster.json", FileLock(shared / "ray-cluster.lock")
    with lock:
        if not state.exists():
            _start(state)
        address = _count_users(state, 1)["address"]
    yield address
    with lock:
        facts = _count_users(state, -1)
        if facts["users"] == 0:
            state.unlink()
            psutil.wait_procs([psutil.Process(facts["holder"])], timeout=PATIENCE)


def _start(state: Path) -> None:
    command = [sys.executable, str(Path(__file__).parent / "held_cluster.py"), str(state)]
    with (state.parent / "ray-cluster.log").open("wb") as log:
        holder = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    deadline = time.monotonic() + PATIENCE
    while not state.exists():
        assert holder.poll() is None, (state.parent / "ray-cluster.log").read_text()
        assert time.monotonic() < deadline, "no cluster was started"
        time.sleep(0.05)
    # It may outlive this interpreter, which must not wait for it.
    holder.returncode = 0


def _count_users(state: Path, step: int) -> dict:
    facts = json.loads(state.read_text())
    facts["users"] += step
    state.write_text(json.dumps(facts))
    return facts


@pytest.fixture(scope="module")
def ray(ray_address):
    """Ray, connected to the cluster for one test module.

    Ray ends interpreters that lose their cluster.
    """
    import ray

    ray.init(address=ray_address, log_to_driver=False, logging_level="WARNING")
    yield ray
    ray.shutdown()


@pytest.fixture
def work(ray, ray_address, tmp_path, monkeypatch):
    """A table whose rows run on the cluster; its workers are gone at the end."""
    # On a busy machine, Ray starts a worker only after a minute, and a warning would be an error.
    monkeypatch.setattr(ray_executor, "_UNPLACED_SECONDS", 10 * PATIENCE)
    found = Work(tmp_path, ray_address)
    yield found
    found.end_drivers()
    until(lambda: not any(map(is_alive, found.workers())))
