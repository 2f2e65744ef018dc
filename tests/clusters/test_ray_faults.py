"""Faults of Ray clusters.

Workers, machines, head and driver die, stop, or are interrupted.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from cluster_work import Work, is_alive
from waiting import PATIENCE, until

import tablevault
from tablevault import tv_errors
from tablevault.rows import ray_executor, received_files
from tablevault.storage import files

pytestmark = pytest.mark.ray


def kill_workers(work, stop: threading.Event, seconds: float) -> None:
    """Kill a worker four times."""
    for _ in range(4):
        if stop.wait(seconds):
            return
        alive = [number for number in work.workers() if is_alive(number)]
        if alive:
            os.kill(alive[-1], signal.SIGKILL)


# --- workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_every_row_is_computed_while_workers_are_killed(work):
    work.build("die_slowly", 500, max_workers=4, min_workers=4, on_error="collect")
    stop = threading.Event()
    killer = threading.Thread(target=kill_workers, args=(work, stop, 1.0))
    killer.start()
    try:
        work.run()
    finally:
        stop.set()
        killer.join()
    assert work.cells() == list(range(500))
    # At each kill at most the running and the queued call of one worker are made again.
    assert len(work.noted("called")) <= 500 + 4 * 2


@pytest.mark.slow
def test_a_batch_that_kills_its_worker_is_halved_until_single_rows_do(work):
    work.build("many_but_one", 4, return_type="batch", batch_size=2, on_error="collect", max_failures="100%")
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    assert work.cells() == [None if x == 3 else x + 1 for x in range(4)]


@pytest.mark.slow
def test_a_stopped_worker_is_replaced_after_the_timeout(work):
    work.build("hold", 6, on_error="collect", timeout=2)
    work.tell("hold", 3)

    def stop_worker() -> None:
        until(lambda: "3" in work.noted("called"))
        os.kill(next(number for number in work.workers() if is_alive(number)), signal.SIGSTOP)

    stopping = threading.Thread(target=stop_worker)
    stopping.start()
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    stopping.join()
    assert work.cells() == [None if x == 3 else x for x in range(6)]
    assert len(work.workers()) == 2


@pytest.mark.slow
def test_a_coroutine_that_ignores_its_timeout_is_killed(work, monkeypatch):
    monkeypatch.setattr(ray_executor, "_DEAF_SECONDS", 0.5)
    work.build("hold_deaf", 6, on_error="collect", timeout=1)
    work.tell("hold", 3)
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        work.run()
    assert work.cells() == [None if x == 3 else x for x in range(6)]


@pytest.mark.slow
def test_progress_says_for_how_long_a_row_has_been_running(work, monkeypatch):
    from tablevault.rows import runner

    monkeypatch.setattr(runner, "_LONG_CALL", 0.5)
    work.build("hold", 1)
    work.tell("hold", 0)
    seen: list[str] = []

    def look() -> None:
        until(lambda: seen.append(work.vault.get_process("nightly").waiting) or seen[-1])
        work.tell("hold")

    looking = threading.Thread(target=lambda: (until(lambda: work.noted("called")), look()))
    looking.start()
    work.run("nightly")
    looking.join()
    assert seen[-1].startswith("row 0, running for up to ")


@pytest.mark.slow
def test_workers_without_a_place_are_waited_for_and_told(work, monkeypatch):
    monkeypatch.setattr(ray_executor, "_UNPLACED_SECONDS", 0.5)
    work.build("square", 3, resources={"cpu": 0, "moon": 1})
    seen: list[str] = []

    def stop() -> None:
        until(lambda: seen.append(work.vault.get_process("nightly").waiting) or seen[-1])
        work.vault.stop_process("nightly", force=True, timeout=PATIENCE)

    stopping = threading.Thread(target=lambda: (until(lambda: "nightly" in work.vault.get_active_processes()), stop()))
    stopping.start()
    with pytest.warns(tv_errors.TableVaultWarning, match="no place for a worker that needs 1 moon"):
        with pytest.raises(tv_errors.TVForcedError):
            work.run("nightly")
    stopping.join()
    assert seen[-1] == "ray: 0 of 1 workers, wanted: 1 moon"


@pytest.mark.slow
def test_an_interrupt_ends_the_wait_for_a_place(work):
    work.build("square", 3, resources={"cpu": 0, "moon": 1})
    driver = work.elsewhere(
        "nightly", prepare="from tablevault.rows import ray_executor; ray_executor._UNPLACED_SECONDS = 0.5"
    )
    # While modules are imported, Python can lose the interrupt.
    until(lambda: "nightly" in work.vault.get_active_processes() and work.vault.get_process("nightly").waiting)
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=PATIENCE)
    assert "KeyboardInterrupt" in errors
    assert work.vault.get_process("nightly").status == "paused"
    assert work.noted("worker") == []


# --- the driver -------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_workers_die_with_their_driver_and_the_process_is_resumed(work):
    work.build("hold", 30)
    work.tell("hold", 7)
    # What ends them is not that they hear nothing.
    silence = f"from tablevault.rows import ray_executor; ray_executor.SILENCE_SECONDS = {10 * PATIENCE}"
    driver = work.elsewhere("nightly", prepare=silence)
    until(lambda: "7" in work.noted("called"))
    driver.kill()
    driver.communicate()
    until(lambda: not any(map(is_alive, work.workers())))
    work.tell("hold")
    work.run("nightly")
    assert work.cells() == list(range(30))
    called = work.noted("called")
    # What was computed within the last flush, and what was in flight, is computed again.
    assert max(map(called.count, called)) <= 2


@pytest.mark.slow
def test_an_interrupt_means_the_same_with_ray(work):
    work.build("hold", 10)
    work.tell("hold", 7)
    driver = work.elsewhere("nightly")
    until(lambda: "7" in work.noted("called"))
    driver.send_signal(signal.SIGINT)
    _, errors = driver.communicate(timeout=PATIENCE)
    assert driver.returncode != 0
    assert work.vault.get_process("nightly").status == "paused", errors
    until(lambda: not any(map(is_alive, work.workers())))
    work.tell("hold")
    work.run("nightly")
    assert work.cells() == list(range(10))


@pytest.mark.slow
def test_workers_end_when_they_hear_nothing_of_their_driver(work):
    work.build("hold", 10)
    work.tell("hold", 7)
    driver = work.elsewhere(
        "nightly",
        prepare="from tablevault.rows import ray_executor\n"
        "ray_executor.PING_SECONDS, ray_executor.SILENCE_SECONDS = 0.5, 3.0",
    )
    until(lambda: "7" in work.noted("called"))
    driver.send_signal(signal.SIGSTOP)
    until(lambda: not any(map(is_alive, work.workers())))
    driver.kill()
    driver.communicate()
    work.tell("hold")
    work.run("nightly")
    assert work.cells() == list(range(10))


@pytest.mark.slow
def test_a_background_process_has_the_cluster_of_its_vault(work):
    work.build("square", 10)
    process_id = work.run(background=True)
    work.vault.wait_process(process_id)
    assert work.cells() == [x * x for x in range(10)]


# --- the cluster ------------------------------------------------------------------------------------------------------

LOCAL = """
import gc, os, signal, sys
from tablevault import TableVault

import psutil

before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}


def handlers_are_kept():
    return all(signal.getsignal(number) is handler for number, handler in before.items())


vault = TableVault(sys.argv[1])
vault.execute_instance("t")
import ray
assert ray.is_initialized()
assert handlers_are_kept()
names = {child.name() for child in psutil.Process().children()}
assert any("raylet" in name for name in names), names
del vault
gc.collect()
assert not ray.is_initialized()
assert handlers_are_kept()
print("done")
"""


@pytest.mark.slow
def test_a_cluster_is_started_without_an_address_and_ends_with_the_vault(work):
    work.build("square", 3)
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    source = str(Path(tablevault.__file__).parents[1])
    driver = subprocess.run(
        [sys.executable, "-c", LOCAL, str(work.folder)],
        capture_output=True,
        text=True,
        env={**environment, "PYTHONPATH": source},
        timeout=2 * PATIENCE,
    )
    assert driver.stdout.endswith("done\n"), driver.stderr
    assert work.cells() == [0, 1, 4]


@pytest.mark.slow
def test_secrets_are_in_no_file_of_ray(work, ray, ray_address, tmp_path, monkeypatch):
    secret = "s3cr3t-that-only-workers-know"
    monkeypatch.setenv("TV_TEST_KEY", secret)
    (tmp_path / "other").mkdir()
    other = Work(tmp_path / "other", ray_address, forward_env=["TV_TEST_KEY"])
    arguments = {"x": "<<self.x[index]>>", "key": "~ENV:TV_TEST_KEY~", "control": str(other.control)}
    other.build("tell_key", 5, arguments=arguments, on_error="collect", max_failures="100%")
    with pytest.warns(tv_errors.TableVaultWarning, match="1 failed row"):
        other.run()
    folder = Path(ray._private.worker._global_node.get_session_dir_path())
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert found
    found += [path for path in other.folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert [path for path in found if secret.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_a_termination_means_the_same_after_ray_was_initialised(work):
    work.build("hold", 10)
    work.tell("hold", 7)
    driver = work.drive(
        "import ray, signal\n"
        f"ray.init(address={work.ray['address']!r}, log_to_driver=False)\n"
        "handler = signal.getsignal(signal.SIGTERM)\n"
        "from tablevault import TableVault\n"
        f"vault = TableVault({str(work.folder)!r}, ray={{'address': 'auto'}})\n"
        "try:\n"
        "    vault.execute_instance('t', process_id='nightly')\n"
        "finally:\n"
        "    assert signal.getsignal(signal.SIGTERM) is handler\n"
        "    print('restored', flush=True)\n"
    )
    until(lambda: "7" in work.noted("called"))
    driver.terminate()
    output, errors = driver.communicate(timeout=PATIENCE)
    assert output == "restored\n"
    assert driver.returncode == 128 + signal.SIGTERM, errors
    assert work.vault.get_process("nightly").status == "paused"


@pytest.mark.slow
def test_a_worker_killed_while_its_file_is_read_leaves_no_trace(work, monkeypatch):
    monkeypatch.setattr(received_files, "PIECE_BYTES", 1000)
    monkeypatch.setattr(ray_executor, "PIECE_BYTES", 1000)
    arguments = {
        "x": "<<self.x[index]>>",
        "folder": "~ARTIFACT_FOLDER~",
        "size": 1_000_000,
        "control": str(work.control),
    }
    work.build("write_file", 2, arguments=arguments, dtypes={"a": "artifact_string"})

    def kill() -> None:
        until(lambda: any(work.folder.rglob(f".*{files.TEMPORARY_SUFFIX}")))
        os.kill(int(work.noted("worker")[0]), signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    work.run()
    killing.join()
    assert len(work.workers()) > 1
    assert [Path(str(cell)).read_bytes() for cell in work.cells()] == [bytes([x]) * 1_000_000 for x in range(2)]
    assert work.vault.verify().ok
    names = [
        path.name for path in Path(work.vault.get_artifact_folder("t", is_temp=False)).rglob("*") if path.is_file()
    ]
    assert sorted(names) == ["0.bin", "1.bin"]
