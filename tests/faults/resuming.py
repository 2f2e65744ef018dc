"""R7, row jobs killed, failed and interrupted at random moments, and resumed.

When a job is done, its code and the local modules that it imports are edited, and it is executed again on its own cells,
also with failures and edits in between: each cell is what the code of its time makes, and none is computed again that the
code of now would not make otherwise.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import pkgutil
import random
import select
import signal
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas  # noqa: F401
import pyarrow.compute
import pyarrow.parquet  # noqa: F401
import resumed_job
from experiment import Budget, Figures, Watch
from forking import Counts, asked, ended, fork, ram_folder, repeat_alone, run_side_by_side, serve
from orphans import adopt_orphans, left_orphans
from resumed_job import INTERRUPTS, PROCESS, Job, Texts, attempt

import tablevault
from tablevault import TableVault
from tablevault.code.syntax import split_module

BEATS = 3
"""A thread beside the job writes and fsyncs a byte every 50 ms, as the checkpoints do: what it achieves on this machine
at this moment is the measure of the last moments. That many of its beats before the kill, a row has to be durable."""

ATTEMPTS = 60
"""After so many, a job is left to end undisturbed."""

IMPORTED = tuple(
    f"tablevault.{name}"
    for name in ("catalog", "code", "display.log", "execution", "processes", "reading", "rows", "storage")
)
"""Packages of which an attempt, or what is asked about its vault, imports some modules late."""

FRESH = 0.02
"""The share of attempts that start an interpreter, with hashes of its own and nothing imported, instead of a fork."""

MARKS = {"beat", "begun", "fresh", "paused", "interrupted", "done", "died"}


@dataclass
class Log:
    """What the attempts of one job noted."""

    rows: dict[tuple[str, int], list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))
    """Builder and row -> when it was finished, and by which interpreter, each time."""
    marks: dict[tuple[str, int], list[float]] = field(default_factory=lambda: defaultdict(list))
    """Kind of mark and interpreter -> when."""

    @classmethod
    def read(cls, path: Path) -> Log:
        """Read it."""
        log = cls()
        for line in path.read_text().splitlines():
            what, row, moment, interpreter = line.split()
            if what in MARKS:
                log.marks[what, int(interpreter)].append(float(moment))
            else:
                log.rows[what, int(row)].append((float(moment), int(interpreter)))
        return log

    def total(self, mark: str) -> int:
        """Return how many marks of a kind there are."""
        return sum(len(moments) for (what, _), moments in self.marks.items() if what == mark)

    def later(self, mark: str, interpreter: int, moment: float) -> list[float]:
        """Return the marks of an interpreter after a moment."""
        return [later for later in self.marks.get((mark, interpreter), ()) if later > moment]


def what_was_lost(log: Log, killed: set[int], most_in_flight: int) -> str:
    """Return a durable row that was computed again, or an empty text."""
    in_flight: dict[tuple[int, float], int] = defaultdict(int)
    for (builder, row), times in log.rows.items():
        if builder == "replayed":
            # A generator that is replayed yields its rows again; whether they count is seen in the frame.
            continue
        for moment, interpreter in sorted(times)[:-1]:
            if _died_with_worker(log, interpreter, moment):
                continue
            pauses = log.later("paused", interpreter, moment)
            interrupts = log.later("interrupted", interpreter, moment)
            if interrupts and (not pauses or interrupts[0] < pauses[0]):
                in_flight[interpreter, interrupts[0]] += 1
            elif pauses:
                return f"row {row} of {builder} was finished before a pause, and is computed again"
            elif interpreter not in killed:
                return f"row {row} of {builder} is computed again without a kill in between"
            elif len(log.later("beat", interpreter, moment)) >= BEATS:
                beats = len(log.later("beat", interpreter, moment))
                return f"row {row} of {builder} was finished {beats} beats before the kill, and is computed again"
    if any(number > most_in_flight for number in in_flight.values()):
        return f"an interrupt lost {max(in_flight.values())} rows, of {most_in_flight} in flight"
    return ""


def _died_with_worker(log: Log, interpreter: int, moment: float) -> bool:
    """Return whether a row was finished just before a worker died.

    The worker may have bundled its answer with others.
    """
    deaths = log.later("died", interpreter, moment)
    beats = log.later("beat", interpreter, moment)
    return bool(deaths) and sum(beat < deaths[0] for beat in beats) < BEATS


def what_is_wrong(folder: Path, job: Job) -> str:
    """Return the difference of the vault from an undisturbed run, or an empty text.

    Runs in a fork.
    """
    vault = TableVault(folder, author="check")
    info = vault.get_process(PROCESS)
    if info.status != "succeeded" or vault.get_active_processes():
        return f"the process has {info.status}; active: {vault.get_active_processes()}"
    instances = vault.get_table_instances("made", "", include_temp=True)
    if len(instances) != 1 or instances[0].startswith("TEMP_"):
        return f"there is not one materialized instance, but {instances}"
    frame, _ = vault.get_dataframe("made", full_artifact_path=False, format="arrow")
    found = frame.to_pydict()
    if found != job.expected():
        return f"the frame differs from an undisturbed one: {found}"
    errors = vault.get_errors("made").sort_values(["builder", "index"])
    if [*zip(errors["builder"], errors["index"], errors["kind"], strict=True)] != job.expected_errors():
        return f"the errors differ from those of an undisturbed run: {errors}"
    texts = {path.name: path.read_text() for path in Path(vault.get_artifact_folder("made", is_temp=False)).iterdir()}
    if texts != {f"{x}.txt": f"text {x}" for x in range(job.rows)}:
        return f"the artifacts differ from those of an undisturbed run: {texts}"
    problems = vault.verify().problems
    left = os.listdir(folder / "_temp")
    return f"verify finds {problems}" if problems else f"_temp holds {left}" if left else ""


RECODED = 6
"""How often the code of a job that is done is edited, and the job executed again."""
FAILURES = 2.0
"""How many failures an execution after edits expects in each builder, if it is one of those with failures.

Each may be followed by an edit, after which the cells of more texts are right: many would hide a stale cell.
"""


def what_edits_break(folder: Path, log: Path, job: Job, seed: int) -> str:
    """Return a cell wrongly reused or computed after edits of the code.

    Returns an empty text if all are right. Runs in a fork.
    """
    chance = random.Random(seed)
    calm = replace(job, failing=0, longest=0)
    calm.prepare(folder, log)
    vault, texts = TableVault(folder, author="a"), Texts()
    if chance.random() < 0.5:
        # As in a script that uses its own helpers: what it has loaded grows old.
        import local_answer  # noqa: F401
    for number in range(RECODED):
        before = _cells(vault)
        for _ in range(chance.randint(1, 2)):
            texts.edit(folder, chance)
        vault.create_instance("made", copy=True)
        is_disturbed, process_id = chance.random() < 0.4, f"recoded-{number}"
        os.environ["JOB_FAILING"] = str(FAILURES / job.rows if is_disturbed else 0)
        seen = [replace(texts, parts=dict(texts.parts))]
        while not vault.get_process_completion(process_id):
            try:
                vault.execute_instance("made", process_id=process_id)
            except ConnectionError:
                if chance.random() < 0.5:
                    texts.edit(folder, chance)
                    seen.append(replace(texts, parts=dict(texts.parts)))
        problem = _what_is_stale(vault, job, before, seen, process_id)
        if problem:
            return f"execution {number} after edits to {texts.parts}: {problem}"
    problems = vault.verify().problems
    return f"verify finds {problems}" if problems else ""


def _cells(vault: TableVault) -> dict[str, list[str]]:
    """Return the cells of the row-wise builders, with the contents of files."""
    frame, _ = vault.get_dataframe("made")
    return {"answer": frame["answer"].tolist(), "file": [Path(path).read_text() for path in frame["file"]]}


def _what_is_stale(
    vault: TableVault, job: Job, before: dict[str, list[str]], seen: list[Texts], process_id: str
) -> str:
    now, progress = _cells(vault), vault.get_process(process_id).progress
    for builder, first in (("answer", "{}-answer"), ("file", "text {}")):
        possible = [[first.format(x) + texts.read_by(builder) for x in range(job.rows)] for texts in seen]
        for row, cell in enumerate(now[builder]):
            if cell not in {cells[row] for cells in possible}:
                return f"row {row} of {builder} is {cell!r}, and not one of {[cells[row] for cells in possible]}"
        if len(seen) == 1:
            needed = sum(old != new for old, new in zip(before[builder], possible[0], strict=True))
            if progress[builder].computed != needed:
                return (
                    f"{progress[builder].computed} rows of {builder} were computed, and {needed} are other than before"
                )
    return ""


def soak(case: dict[str, Any], counts: Counts) -> None:
    """Disturb one job until it is done, and see what became of it."""
    chance = random.Random(case["seed"])
    job = Job.drawn(chance)
    with ram_folder() as place:
        folder, log = place / "vault", place / "log"
        made = asked(lambda: job.create(folder))
        if made is not None:
            counts.violate(case, f"the job cannot be made: {made}")
            return
        killed, status = _disturbed(folder, log, job, chance)
        problem = f"an attempt ended with status {status}" if status else asked(lambda: what_is_wrong(folder, job))
        noted = Log.read(log)
        problem = problem or what_was_lost(noted, killed, job.most_in_flight)
        problem = problem or asked(lambda: what_edits_break(folder, log, job, case["seed"]))
        problem = problem or left_orphans()
    if problem:
        counts.violate(case, f"{job}: {problem}")
    counts.tried += max(0, noted.total("begun") - 1)
    counts.count("jobs")
    counts.count("executions after edits", RECODED)
    counts.count("fresh interpreters", noted.total("fresh"))
    counts.count("kills", len(killed))
    counts.count("deaths of workers", noted.total("died"))
    counts.count("failures", noted.total("paused"))
    counts.count("interrupts", noted.total("interrupted"))
    counts.count("rows", len(noted.rows))
    counts.count(
        "rows computed again", sum(len(times) - 1 for (name, _), times in noted.rows.items() if name != "replayed")
    )


def _disturbed(folder: Path, log: Path, job: Job, chance: random.Random) -> tuple[set[int], int]:
    """Run attempts until one is not killed.

    Returns which were killed, and the status of the last one.
    """
    killed: set[int] = set()
    for number in range(ATTEMPTS):
        is_fresh = chance.random() < FRESH
        restarting = number > 0 and chance.random() < 0.3
        with _begun(folder, log, job, restarting, is_fresh) as (child, life):
            if number < ATTEMPTS - 1:
                _disturb(child, life, chance)
            status = ended(child)
        # Outside of an operation, SIGTERM ends an interpreter as if it were killed.
        if status not in (-signal.SIGKILL, -signal.SIGTERM):
            return killed, status
        killed.add(child)
    return killed, 0


@contextlib.contextmanager
def _begun(folder: Path, log: Path, job: Job, restarting: bool, is_fresh: bool) -> Iterator[tuple[int, int]]:
    """Begin an attempt.

    The descriptor beside its number can be read when its interpreter has ended.
    """
    life, held = os.pipe()
    signal.pthread_sigmask(signal.SIG_BLOCK, INTERRUPTS)
    try:
        if is_fresh:
            arguments = {"folder": str(folder), "log": str(log), "job": asdict(job), "restarting": restarting}
            child = _started(json.dumps({**arguments, "begun": held}), held)
        else:
            child = fork(lambda: attempt(folder, log, job, restarting))
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, INTERRUPTS)
        os.close(held)
    try:
        if is_fresh:
            # What is disturbed is the attempt, and not the imports before it.
            os.read(life, 1)
        yield child, life
    finally:
        os.close(life)


def _started(request: str, held: int) -> int:
    """Start an interpreter that makes an attempt; it holds a descriptor until it ends."""
    os.set_inheritable(held, True)
    command = [sys.executable, "-W", "ignore", resumed_job.__file__, request]
    return os.posix_spawn(sys.executable, command, os.environ)


def _disturb(child: int, life: int, chance: random.Random) -> None:
    """Interrupt and kill an attempt at random moments, unless it ends before."""
    interrupt = chance.choice(INTERRUPTS) if chance.random() < 0.4 else None
    before, after = chance.uniform(0, 0.15), chance.uniform(0, chance.choice([0.1, 0.2, 0.5, 2.0]))
    if interrupt is not None and not _ends_within(life, before):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, interrupt)
    if not _ends_within(life, after):
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)


def _ends_within(life: int, seconds: float) -> bool:
    return bool(select.select([life], [], [], seconds)[0])


def prepare() -> None:
    """Import the modules of attempts, and read the job's code once, before forks.

    No vault is opened.
    """
    adopt_orphans()
    for module in pkgutil.walk_packages(tablevault.__path__, "tablevault."):
        if module.name.startswith(IMPORTED):
            importlib.import_module(module.name)
    split_module("job", resumed_job.CODE, ["job", "texts"])
    gc.collect()
    # What is there now is never looked at again, so that forks share its memory.
    gc.freeze()


class Resuming:
    """Random kills, failures and interrupts of row jobs, which end as if nothing had happened."""

    code = "R7"
    title = "row jobs killed, failed and interrupted at random, and resumed"
    unit = "resumes"
    target = 10_000
    minutes = 12.0

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Try until the budget is used up."""
        return run_side_by_side(__file__, budget, watch)

    def repeat(self, case: dict[str, Any]) -> str:
        """Repeat one job.

        Its moments are drawn from the same seed, but the timing of the machine differs.
        """
        return repeat_alone(__file__, case)


if __name__ == "__main__":
    prepare()
    sys.exit(serve(soak))
