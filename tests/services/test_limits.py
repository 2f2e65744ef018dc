"""Limits of services hold for every way of running, for all builders, and for other interpreters."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from waiting import PATIENCE, until

from tablevault import TableVault

STAMP = """
import os
import time
from pathlib import Path


def note(folder, kind):
    with open(os.path.join(folder, kind), "a") as file:
        file.write(f"{time.monotonic()!r}\\n")


def answer(x, folder):
    note(folder, "calls")
    return x


async def answer_async(x, folder):
    note(folder, "calls")
    return x


def answer_batch(x, folder):
    note(folder, "calls")
    return x


def answer_frame(folder):
    import pandas as pd

    note(folder, "calls")
    return pd.DataFrame({"answer": range(3)})


def hold(x, folder, seconds):
    import random

    with open(os.path.join(folder, "held"), "a") as file:
        file.write(f"{os.getpid()} {x} begins {time.monotonic()!r}\\n")
    time.sleep(seconds)
    with open(os.path.join(folder, "held"), "a") as file:
        file.write(f"{os.getpid()} {x} ends {time.monotonic()!r}\\n")
    return x
"""


def times(folder, kind="calls"):
    return sorted(float(line) for line in (folder / kind).read_text().split())


def most_in_a_window(stamps, seconds):
    return max(sum(at <= other < at + seconds for other in stamps) for at in stamps)


def arguments(folder, **others):
    return {"x": "<<self.x[index]>>", "folder": str(folder), **others}


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="inline", marks=pytest.mark.slow),
        pytest.param({"max_concurrency": 4}, id="threads"),
        pytest.param({"python_function": "answer_async"}, id="async", marks=pytest.mark.slow),
        pytest.param({"executor": "processes", "max_concurrency": 2}, id="processes"),
        pytest.param(
            {"python_function": "answer_batch", "return_type": "batch", "batch_size": 2, "max_concurrency": 2},
            id="batch",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_no_window_holds_more_calls_than_the_limit(vault, make, tmp_path, fields):
    vault.set_service("api", {"calls_per_second": 5})
    rows = 22 if fields.get("return_type") == "batch" else 11
    make(STAMP, rows=rows, service="api", arguments=arguments(tmp_path), **fields).run()
    stamps = times(tmp_path)
    assert len(stamps) == 11
    assert most_in_a_window(stamps, 0.99) <= 5
    assert stamps[10] - stamps[0] >= 1.9


def test_a_function_that_is_called_once_waits_for_the_service(vault, make, tmp_path):
    vault.set_service("api", {"calls_per_second": 1})
    for table in ("first", "second"):
        fields = {"return_type": "dataframe", "python_function": "answer_frame", "arguments": {"folder": str(tmp_path)}}
        make(STAMP, rows=3, table=table, service="api", **fields).run()
    first, second = times(tmp_path)
    assert second - first >= 0.99


def test_a_throttled_answer_holds_back_the_whole_service(vault, make, tmp_path):
    vault.set_service("api", {})
    code = (
        STAMP
        + """
class Throttled(Exception):
    status_code = 429
    retry_after = 0.6


def throttled(x, folder):
    note(folder, "calls")
    if x == 0 and len(Path(folder, "calls").read_text().split()) == 1:
        raise Throttled("slow down")
    return x
"""
    )
    table = make(code, rows=4, service="api", python_function="throttled", arguments=arguments(tmp_path), retry=1)
    table.run()
    stamps = times(tmp_path)
    assert len(stamps) == 5
    assert stamps[1] - stamps[0] >= 0.6


def test_throttled_answer_without_retry_fails_its_row_and_delays_others(vault, make, tmp_path):
    vault.set_service("api", {})
    code = (
        STAMP
        + """
from tablevault import tv_errors


def throttled(x, folder):
    note(folder, "calls")
    if x == 0:
        raise tv_errors.RetryLater(after=0.6)
    return x
"""
    )
    fields = {"python_function": "throttled", "on_error": "collect", "arguments": arguments(tmp_path)}
    with pytest.warns(match="1 failed row"):
        make(code, rows=3, service=["api"], **fields).run()
    stamps = times(tmp_path)
    assert stamps[1] - stamps[0] >= 0.6


def test_waiting_for_a_service_is_shown_and_can_be_stopped(vault, make, tmp_path):
    vault.set_service("api", {"calls_per_minute": 1})
    table = make(STAMP, rows=3, service="api", arguments=arguments(tmp_path))
    failures = []

    def run():
        try:
            TableVault(vault.db_dir).execute_instance("answers", process_id="night")
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    until(lambda: "night" in vault.get_active_processes() and vault.get_process("night").waiting)
    assert vault.get_process("night").waiting.startswith("service api: calls_per_minute, ")
    vault.stop_process("night", force=True, timeout=30)
    thread.join(30)  # Half of the time for which the row waits.
    assert not thread.is_alive()
    assert type(failures[0]).__name__ == "TVForcedError"
    assert len(times(tmp_path)) == 1
    del table


def test_other_limits_are_noticed_while_a_job_runs(vault, make, tmp_path):
    vault.set_service("api", {"calls_per_day": 1})
    make(STAMP, rows=3, service="api", arguments=arguments(tmp_path))
    thread = threading.Thread(target=TableVault(vault.db_dir).execute_instance, args=("answers",))
    thread.start()
    until((tmp_path / "calls").exists)
    vault.set_service("api", None)
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert len(times(tmp_path)) == 3


RUN = """
import sys
from tablevault import TableVault
TableVault(sys.argv[1]).execute_instance(sys.argv[2], process_id=sys.argv[2])
"""


def start(vault, table):
    return subprocess.Popen([sys.executable, "-c", RUN, vault.db_dir, table])


@pytest.mark.slow
def test_several_interpreters_obey_one_limit(vault, make, tmp_path):
    vault.set_service("api", {"calls_per_second": 8, "max_concurrency": 3})
    tables = ["first", "second", "third"]
    for table in tables:
        make(STAMP, rows=8, table=table, service="api", max_concurrency=4, arguments=arguments(tmp_path))
    running = [start(vault, table) for table in tables]
    assert [process.wait(PATIENCE) for process in running] == [0, 0, 0]
    stamps = times(tmp_path)
    assert len(stamps) == 24
    assert most_in_a_window(stamps, 0.99) <= 8


@pytest.mark.slow
def test_slots_of_a_killed_interpreter_are_free_at_once(vault, make, tmp_path):
    vault.set_service("api", {"max_concurrency": 2})
    fields = {"python_function": "hold", "service": "api", "max_concurrency": 2}
    make(STAMP, rows=2, table="long", **fields, arguments=arguments(tmp_path, seconds=600))
    short = make(STAMP, rows=2, table="short", **fields, arguments=arguments(tmp_path, seconds=0))
    process = start(vault, "long")
    held = tmp_path / "held"
    until(lambda: held.exists() and held.read_text().count("begins") == 2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    short.run()
    assert short.cells == [0, 1]
    vault.stop_process("long")
    assert os.path.exists(os.path.join(vault.db_dir, "metadata", "limits.db"))


def test_counters_are_in_no_archive_and_no_finding_of_verify(vault, make, tmp_path):
    from tablevault import compress_vault, decompress_vault

    vault.set_service("api", {"calls_per_second": 100})
    make(STAMP, rows=2, service="api", arguments=arguments(tmp_path)).run()
    assert vault.verify().ok
    compress_vault(vault.db_dir)
    shutil.rmtree(vault.db_dir)
    other = TableVault(decompress_vault(vault.db_dir))
    assert other.get_services() == {"api": {"calls_per_second": 100}}
    assert not os.path.exists(os.path.join(other.db_dir, "metadata", "limits.db"))


def test_opening_a_vault_removes_half_written_counters(vault):
    left = Path(vault.db_dir, "metadata", "limits.db.4711.tablevault-temporary")
    left.write_bytes(b"half of")
    assert not vault.verify().ok
    TableVault(vault.db_dir)
    assert not left.exists()
    assert vault.verify().ok


def test_an_index_that_is_run_for_a_plan_obeys_the_service(vault, make, tmp_path):
    vault.set_service("api", {"calls_per_second": 1})
    table = make(STAMP, rows=3, arguments=arguments(tmp_path))
    table.build("answers_index", "IndexBuilder", "answer_frame", ["answer"], {"folder": str(tmp_path)}, service="api")
    table.build_answer(arguments={"x": 1, "folder": str(tmp_path)}, columns=["other"])
    for _ in range(2):
        vault.plan_instance("answers", run_index=True)
    first, second = times(tmp_path)
    assert second - first >= 0.99
    assert not os.listdir(os.path.join(vault.db_dir, "metadata", "owners"))
