"""A job with failing and retried rows, killed at random moments.

It ends like an undisturbed one.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from jobs import INDEX, Ended

from last_moments import check_last_moments

ROWS = 2_000
MAXIMUM_SECONDS = 600.0
"""Seconds after which a test gives up waiting."""

# Of ten rows, one fails for good, and two only in their first call.
CODE = """
import asyncio
import os
import threading
import time

import pandas as pd

LOG = os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
OWNER = os.environ["OWNER_OF_THE_JOB"]


def note(*words):
    os.write(LOG, (" ".join(map(str, words)) + "\\n").encode())


def beat():
    descriptor = os.open(%r, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        time.sleep(0.05)
        begun = time.monotonic()
        os.write(descriptor, b".")
        os.fsync(descriptor)
        note("beat", begun, OWNER)


if OWNER == str(os.getpid()):
    threading.Thread(target=beat, daemon=True).start()


def index(count):
    return pd.DataFrame({"x": range(count)})


def ended(x, attempt):
    fails = x %% 10 == 3
    transient = x %% 10 in (5, 8) and attempt == 1
    note(x, time.monotonic(), OWNER, "again" if transient else "done")
    if transient:
        raise ConnectionError(f"no answer for {x}")
    if fails:
        raise ValueError(f"row {x} is bad")
    return f"{x}-ok"


def answer(x, seconds, attempt):
    time.sleep(seconds)
    return ended(x, int(attempt))


async def answer_async(x, seconds, attempt):
    await asyncio.sleep(seconds)
    return ended(x, int(attempt))


def answer_batch(x, seconds, attempt):
    time.sleep(seconds)
    return [result_of(each, int(attempt)) for each in x]


def result_of(x, attempt):
    try:
        return ended(x, attempt)
    except Exception as error:
        return error
"""

BUILDER = """
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: {function}
code_module: jobs
is_custom: true
return_type: {return_type}
executor: {executor}
max_concurrency: {concurrency}
on_error: collect
max_failures: "100%"
retry: {{max_retries: 2, wait: 0.02}}
arguments: {{x: "<<self.x[index]>>", seconds: {seconds}, attempt: ~ATTEMPT~}}
untracked: [seconds]
"""

RUN = """
def run(vault_path):
    os.environ["OWNER_OF_THE_JOB"] = str(os.getpid())
    warnings.simplefilter("ignore")
    vault = TableVault(vault_path)
    # Worker processes of an owner that was killed hold its lock until they have ended, too.
    while any(process.status == "running" for process in vault.get_active_processes().values()):
        time.sleep(0.005)
    vault.execute_instance("stories", process_id="nightly")
"""

KILLING = """
import random
import pandas, pyarrow, tablevault.operations.execute
chance = random.Random({concurrency})
for number in range({kills}):
    # Each is an interpreter that has opened no vault yet.
    child = os.fork()
    if child == 0:
        run({path!r})
        os._exit(0)
    # The last one is killed at work, however busy the machine is.
    while number == {kills} - 1 and not os.path.exists({log!r}):
        time.sleep(0.005)
    time.sleep(chance.uniform(0.0, {longest}))
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, "it had ended before"
    print(child)
"""


@dataclass
class Log:
    """What the function noted."""

    calls: dict[int, list[tuple[float, int, str]]] = field(default_factory=lambda: defaultdict(list))
    """For each row its calls in order: when they ended, in which owner's time, and whether they are to be repeated."""
    beats: dict[int, list[float]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def read(cls, path: Path) -> Log:
        """Read the log of a job."""
        log = cls()
        for line in path.read_text().splitlines():
            what, moment, owner, *outcome = line.split()
            if what == "beat":
                log.beats[int(owner)].append(float(moment))
            else:
                log.calls[int(what)].append((float(moment), int(owner), *outcome))
        return log


def finished(process) -> Ended:
    """Wait for the end of an interpreter that has much to do."""
    output, errors = process.communicate(timeout=MAXIMUM_SECONDS)
    return Ended(process.returncode, output, errors)


RUNS = [
    ("async", "answer_async", "row-wise", 16, 0.1, 20, 0.8),
    ("threads", "answer", "row-wise", 1, 0.006, 20, 0.8),
    ("threads", "answer", "row-wise", 4, 0.03, 20, 0.8),
    ("threads", "answer_batch", "batch", 2, 0.25, 20, 0.8),
    ("processes", "answer", "row-wise", 2, 0.03, 20, 1.5),
]


@pytest.mark.slow
@pytest.mark.parametrize(("executor", "function", "return_type", "concurrency", "seconds", "kills", "longest"), RUNS)
def test_job_with_failing_rows_ends_as_if_it_had_not_been_killed(
    job, tmp_path, executor, function, return_type, concurrency, seconds, kills, longest
):
    log_path = tmp_path / "log"
    job.vault.create_code_module("jobs", text=CODE % (str(log_path), str(tmp_path / "beats")))
    job.vault.create_builder_file("stories", text=INDEX.format(count=ROWS))
    fields = {"executor": executor, "function": function, "return_type": return_type, "concurrency": concurrency}
    job.vault.create_builder_file("stories", "answer", text=BUILDER.format(seconds=seconds, **fields))
    killing = KILLING.format(
        concurrency=concurrency, path=str(job.path), log=str(log_path), kills=kills, longest=longest
    )
    left = finished(job.bare_interpreter(RUN + killing))
    assert left.status == 0, left.errors
    killed = list(map(int, left.output.split()))
    assert len(set(killed)) == kills
    assert job.vault.get_process("nightly").status == "paused"
    last = finished(job.bare_interpreter(RUN + f"run({str(job.path)!r})"))
    assert last.status == 0, last.errors

    bad = list(range(3, ROWS, 10))
    answers = [None if x in set(bad) else answer for x, answer in enumerate(job.complete(ROWS))]
    assert job.answers() == answers
    errors = job.vault.get_errors("stories")
    assert list(errors["index"]) == bad
    assert list(errors["message"]) == [f"row {x} is bad" for x in bad]
    assert set(errors["calls"]) == {1}

    log = Log.read(log_path)
    assert sorted(log.calls) == list(range(ROWS))
    late = dict.fromkeys(killed, 0)
    for row, calls in log.calls.items():
        expected = ["again", "done"] if row % 10 in (5, 8) else ["done"]
        owners = list(dict.fromkeys(owner for _, owner, _ in calls))
        for owner in owners:
            here = [(moment, outcome) for moment, its_owner, outcome in calls if its_owner == owner]
            if owner == owners[-1]:
                assert [outcome for _, outcome in here] == expected, f"row {row}"
                continue
            # An earlier try: it was in flight when its owner was killed, or had ended in the last moments.
            assert owner in killed, f"row {row} was computed twice without a kill in between"
            assert [outcome for _, outcome in here] == expected[: len(here)], f"row {row}"
            # Rows that failed are tried again by each attempt, after all others.
            if len(here) == len(expected) and row % 10 != 3:
                late[owner] = max(late[owner], sum(begun > here[-1][0] for begun in log.beats[owner]))
    check_last_moments(late)
