"""Repeated kills at random moments.

No row is lost, and almost none is computed twice.
"""

from __future__ import annotations

from collections import defaultdict

import pytest
from jobs import INDEX, ended

from last_moments import check_last_moments

ROWS = 2_000

CODE = """
import os
import threading
import time

import pandas as pd

LOG = os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def note(*words):
    os.write(LOG, (" ".join(map(str, words)) + "\\n").encode())


def beat():
    descriptor = os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        time.sleep(0.05)
        begun = time.monotonic()
        os.write(descriptor, b".")
        os.fsync(descriptor)
        note("beat", begun, os.getpid())


threading.Thread(target=beat, daemon=True).start()


def index(count):
    return pd.DataFrame({"x": range(count)})


def answer(x, seconds):
    time.sleep(seconds)
    note(x, time.monotonic(), os.getpid())
    return f"{x}-ok"
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
import pandas, pyarrow, tablevault.operations.execute
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
    print(child)
"""


def read(log):
    """Return when each row was finished, and in which interpreters.

    Also returns when the last beats of each began.
    """
    rows, beats = defaultdict(list), defaultdict(list)
    for line in log.read_text().splitlines():
        what, moment, interpreter = line.split()
        if what == "beat":
            beats[int(interpreter)].append(float(moment))
        else:
            rows[int(what)].append((float(moment), int(interpreter)))
    return rows, beats


@pytest.mark.slow
@pytest.mark.parametrize(
    ("threads", "seconds", "kills", "longest"),
    [(1, 0.004, 30, 0.6), (4, 0.01, 15, 1.0)],
)
def test_only_rows_of_the_last_moments_are_computed_twice(job, tmp_path, threads, seconds, kills, longest):
    log = tmp_path / "log"
    job.vault.create_code_module("jobs", text=CODE % (str(log), str(tmp_path / "beats")))
    job.vault.create_builder_file("stories", text=INDEX.format(count=ROWS))
    job.vault.create_builder_file("stories", "answer", text=BUILDER.format(threads=threads, seconds=seconds))
    text = KILLING.format(threads=threads, path=str(job.path), kills=kills, longest=longest)
    left = ended(job.bare_interpreter(text))
    assert left.status == 0, left.errors
    killed = list(map(int, left.output.split()))
    assert len(set(killed)) == kills
    assert job.vault.get_process("nightly").status == "paused"
    last = job.run("vault.execute_instance('stories', process_id='nightly')")
    assert last.status == 0, last.errors
    assert job.answers() == job.complete(ROWS)
    rows, beats = read(log)
    assert sorted(rows) == list(range(ROWS))
    late = dict.fromkeys(killed, 0)
    for row, times in rows.items():
        for moment, interpreter in times[:-1]:
            assert interpreter in killed, f"row {row} was computed twice without a kill in between"
            late[interpreter] = max(late[interpreter], sum(begun > moment for begun in beats[interpreter]))
    check_last_moments(late)
