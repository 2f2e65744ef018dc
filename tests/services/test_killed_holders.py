"""Random kills of processes that hold slots.

No slot is lost, and no window exceeds its limit.
"""

from __future__ import annotations

import subprocess
import sys
from bisect import bisect_left

import pytest

HOLDERS = """
import os
import random
import signal
import sys
import time
from pathlib import Path

from tablevault.catalog.owners import OwnerFiles
from tablevault.ports import Permit
from tablevault.storage.service_counters import ServiceCounters

folder, kills, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
owners = OwnerFiles(folder / "metadata" / "owners")
limits = {"api": {"max_concurrency": 6, "calls_per_second": 400, "tokens_per_minute": 1e9}}
chance = random.Random(seed)


def counters(lock):
    return ServiceCounters(folder / "metadata" / "limits.db", lock.name, lambda: limits, owners.is_alive)


def hold(number):
    lock = owners.claim()
    mine, held = counters(lock), []
    log = os.open(folder / "taken", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        found = mine.take(["api"], {"tokens": random.randrange(1000)})
        if isinstance(found, Permit):
            os.write(log, f"{time.monotonic()!r}\\n".encode())
            held.append(found)
        if held and (len(held) > 3 or random.random() < 0.5):
            mine.settle(held.pop(), {"tokens": random.randrange(1000)})
            mine.flush()


def start():
    child = os.fork()
    if not child:
        random.seed()
        try:
            hold(child)
        finally:
            os._exit(1)
    return child


running = [start() for _ in range(4)]
for number in range(kills):
    time.sleep(chance.uniform(0.0, 0.02))
    victim = running.pop(chance.randrange(len(running)))
    os.kill(victim, signal.SIGKILL)
    _, status = os.waitpid(victim, 0)
    assert os.WIFSIGNALED(status), status
    running.append(start())
for child in running:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
lock = owners.claim()
last = counters(lock)
time.sleep(1.1)
free = 0
while isinstance(last.take(["api"], {}), Permit):
    free += 1
last.close()
lock.release()
print(free)
"""


def most_in_a_window(stamps, seconds):
    return max(bisect_left(stamps, at + seconds) - place for place, at in enumerate(stamps))


@pytest.mark.parametrize("kills", [30, pytest.param(1000, marks=pytest.mark.slow)])
def test_killed_holders_lose_no_slot_and_exceed_no_window(tmp_path, kills):
    (tmp_path / "metadata" / "owners").mkdir(parents=True)
    command = [sys.executable, "-c", HOLDERS, str(tmp_path), str(kills), "7"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert (done.stdout, done.stderr) == ("6\n", "")
    stamps = sorted(map(float, (tmp_path / "taken").read_text().split()))
    assert len(stamps) > kills
    # A moment passes between a permit and its line in the file.
    assert most_in_a_window(stamps, 0.9) <= 400
