"""Killed at random moments, over and over: nothing is lost, and next to nothing is computed twice."""

from __future__ import annotations

from collections import defaultdict

import pytest
from jobs import INDEX, ended

ROWS = 2_000
FLUSH = 0.05
"""Seconds within which a finished row is on its way to the disk."""
SLACK = 0.2
"""Seconds that a busy machine may need on top: for the disk, and until the writing thread is let run at all."""

CODE = """
import os
import time

import pandas as pd


def index(count):
    return pd.DataFrame({"x": range(count)})


def answer(x, seconds):
    time.sleep(seconds)
    os.write(LOG, f"{x} {time.monotonic()}\\n".encode())
    return f"{x}-ok"


LOG = os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
"""

BUILDER = """
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: answer
code_module: jobs
is_custom: true
return_type: row-wise
n_threads: {threads}
arguments: {{x: "<<self.x[index]>>", seconds: {seconds}}}
untracked: [seconds]
"""

KILLING = """
import random
import pandas, pyarrow
chance = random.Random({threads})
path = {path!r}
for _ in range({kills}):
    # Each is an interpreter that has opened no vault yet.
    child = os.fork()
    if child == 0:
        TableVault(path).execute_instance("stories", process_id="nightly")
        os._exit(0)
    time.sleep(chance.uniform(0.0, {longest}))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, "it had ended before"
    print(time.monotonic())
"""


def finished(log):
    """Return the moments at which each row was finished."""
    moments = defaultdict(list)
    for line in log.read_text().splitlines():
        row, moment = line.split()
        moments[int(row)].append(float(moment))
    return moments


@pytest.mark.parametrize(("threads", "seconds", "kills", "longest"), [(1, 0.004, 20, 0.6), (4, 0.01, 8, 1.0)])
def test_only_rows_of_the_last_moments_are_computed_twice(job, tmp_path, threads, seconds, kills, longest):
    log = tmp_path / "log"
    job.vault.create_code_module("jobs", text=CODE % str(log))
    job.vault.create_builder_file("stories", text=INDEX.format(count=ROWS))
    job.vault.create_builder_file("stories", "answer", text=BUILDER.format(threads=threads, seconds=seconds))
    text = KILLING.format(threads=threads, path=str(job.path), kills=kills, longest=longest)
    left = ended(job.bare_interpreter(text))
    assert left.status == 0, left.errors
    killed = [float(line) for line in left.output.split()]
    assert len(killed) == kills
    assert job.vault.get_process("nightly").status == "paused"
    job.execute("nightly")
    assert job.answers() == job.complete(ROWS)
    moments = finished(log)
    assert sorted(moments) == list(range(ROWS))
    for row, times in moments.items():
        for moment in times[:-1]:
            after = min(kill for kill in killed if kill >= moment) - moment
            assert after <= FLUSH + SLACK, f"row {row} was finished {after:.3f} s before the kill, and computed again"
