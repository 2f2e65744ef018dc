"""`tablevault run` killed at random moments, and started by several at the same moment."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import pytest
from sources import Source
from waiting import PATIENCE

from last_moments import check_last_moments
from tablevault import TableVault

KILLS = int(os.environ.get("KILLED_RUNS", "6"))
"""More of them with `make test-slow KILLED_RUNS=200`."""
ROWS = 500
STARTS = int(os.environ.get("STARTED_RUNS", "8"))
"""How often three runs start at the same moment: a quarter in a new vault each, the others in one vault."""
BEATING = """
def beat():
    with open(HERE / "beats", "ab", buffering=0) as file:
        while True:
            time.sleep(0.05)
            begun = time.monotonic()
            file.write(b".")
            os.fsync(file.fileno())
            note("beat", 0, begun)


if not any(thread.name == "beating" for thread in threading.enumerate()):
    threading.Thread(target=beat, name="beating", daemon=True).start()

"""


@pytest.mark.slow
def test_run_that_is_killed_at_random_ends_like_an_undisturbed_one(tmp_path):
    chance = random.Random(17)
    kills = 0
    late: dict[float, int] = {}
    while kills < KILLS:
        source = Source(tmp_path / f"quiz-{kills}", rows=ROWS)
        source.edit("import time\n", "import threading\nimport time\n")
        source.edit("\n\ndef act(name, x):", f"\n{BEATING}\ndef act(name, x):")
        source.edit(
            "    note(name, x, time.monotonic())\n", "    time.sleep(0.002)\n    note(name, x, time.monotonic())\n"
        )
        moments: list[float] = []
        while True:
            process = source.start()
            time.sleep(chance.uniform(0.05, chance.choice([0.5, 2.0, 5.0])))
            moments.append(time.monotonic())
            process.send_signal(signal.SIGKILL)
            _, told = process.communicate(timeout=PATIENCE)
            if process.returncode != -signal.SIGKILL:
                assert process.returncode == 0, told
                break
            kills += 1
            late[moments[-1]] = 0
        source.check_end(TableVault(source.vault))
        finished = defaultdict(list)
        for name, x, moment in source.log():
            finished[name, x].append(float(moment))
        beats = finished.pop(("beat", "0"))
        finished = {key: times for key, times in finished.items() if key[0] in ("question", "answer", "count")}
        assert len(finished) == 3 * ROWS
        for (name, x), times in finished.items():
            for moment in times[:-1]:
                killed = min(end for end in moments if end >= moment)
                assert killed in late, f"row {x} of {name} was computed twice without a kill in between"
                late[killed] = max(late[killed], sum(moment < beat < killed for beat in beats))
    check_last_moments(late)


@pytest.fixture(scope="module")
def starter():
    """An interpreter that starts three runs at the same moment."""
    command = [sys.executable, str(Path(__file__).with_name("starting.py"))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.stdin.close()


@pytest.mark.slow
@pytest.mark.parametrize("is_new", [True, False], ids=["new vault", "existing vault"])
def test_of_runs_that_start_at_the_same_moment_one_runs(starter, tmp_path, is_new):
    source = Source(tmp_path / "quiz", rows=2)
    for number in range(STARTS // 4 if is_new else STARTS - STARTS // 4):
        if is_new:
            source = Source(tmp_path / f"quiz-{number}", rows=2)
        held = source.tell("hold", "x", 0)
        starter.stdin.write(json.dumps([str(source.folder), ["run", str(source.file)], 3]) + "\n")
        starter.stdin.flush()
        ended = [json.loads(starter.stdout.readline()) for _ in range(2)]
        held.unlink()
        ended.append(json.loads(starter.stdout.readline()))
        assert [status for status, _ in ended] == [1, 1, 0], ended
        assert all("is being run already, by process 'answers-20" in told for _, told in ended[:2]), ended
        source.check_end(TableVault(source.vault))
        if is_new:
            shutil.rmtree(source.folder)
