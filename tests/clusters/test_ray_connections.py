"""Connecting to a Ray cluster, in an interpreter that is not connected."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading

import pytest
from cluster_work import Work
from waiting import until

from tablevault import tv_errors
from tablevault.builders.resources import Resources

pytestmark = pytest.mark.ray


def test_an_address_where_no_cluster_is_pauses(tmp_path):
    work = Work(tmp_path, "127.0.0.1:9")
    work.build("square")
    with pytest.raises(ConnectionError, match="found no Ray cluster at '127.0.0.1:9'"):
        work.run("nightly")
    assert work.vault.get_process("nightly").status == "paused"


def test_ray_that_is_not_installed_is_told(tmp_path, monkeypatch):
    work = Work(tmp_path, "auto")
    work.build("square")
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(tv_errors.TVArgumentError, match=r"'executor: ray' needs ray: run pip install '\.\[ray\]'"):
        work.run()


@pytest.mark.slow
def test_ray_is_not_imported_before_it_is_needed():
    program = "import sys, tablevault, tablevault.vault, tablevault.rows.ray_executor; print('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout == "False\n"


def test_resources_are_read_from_numbers_and_texts():
    found = Resources.parse({"CPU": 2, "gpu": 0.5, "memory": "1.5GiB", "lamp": 3})
    assert found.amounts == {"CPU": 2, "GPU": 0.5, "memory": 1.5 * 2**30, "lamp": 3}
    assert found.text == "2 CPU, 0.5 GPU, 1.5 GiB memory, 3 lamp"
    assert Resources.parse({"memory": "2MB", "cpu": 0}).amounts == {"memory": 2_000_000}
    assert Resources.parse({"cpu": 0}).text == "nothing"


@pytest.mark.slow
def test_a_connection_that_the_user_ends_ends_the_run(ray_address, tmp_path):
    import ray

    work = Work(tmp_path, ray_address)
    work.build("hold", 10)
    work.tell("hold", 7)

    def end() -> None:
        until(lambda: "7" in work.noted("called"))
        ray.shutdown()

    ending = threading.Thread(target=end)
    ending.start()
    handler = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ConnectionError, match=r"ray\.shutdown\(\)"):
        work.run("nightly")
    assert signal.getsignal(signal.SIGTERM) is handler
    ending.join()
    work.tell("hold")
    work.run("nightly")
    assert work.cells() == list(range(10))
    ray.shutdown()
