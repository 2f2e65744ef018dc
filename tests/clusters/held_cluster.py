"""A Ray cluster that runs until this process is told to end.

It also ends when the file of its users is removed.

    python held_cluster.py STATE

It writes the cluster's address, and the processes that it consists of, into the file STATE.
"""

import json
import os
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import psutil
from ray.cluster_utils import Cluster

MEMORY = 100 * 2**20
"""Bytes of the object store."""


def main(state: Path) -> None:
    resources = {"num_cpus": 8, "resources": {"slot": 2, "lamp": 1}, "object_store_memory": MEMORY}
    # Paths of sockets are short.
    folder = tempfile.mkdtemp(prefix="tv-", dir="/tmp")
    # As an argument, it would not be the place of the file with the cluster's address.
    os.environ["RAY_TMPDIR"] = folder
    cluster = Cluster(initialize_head=True, head_node_args={**resources, "include_dashboard": False})
    facts = {"address": cluster.address, "holder": psutil.Process().pid, "users": 0}
    new = state.with_suffix(".new")
    new.write_text(json.dumps(facts))
    new.replace(state)

    def end(*_: object) -> None:
        raise SystemExit

    signal.signal(signal.SIGTERM, end)
    try:
        while state.exists():
            time.sleep(0.2)
    finally:
        # Its own way of ending takes several seconds, or a minute on a busy machine.
        for child in psutil.Process().children(recursive=True):
            child.kill()
        shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)


main(Path(sys.argv[1]))
