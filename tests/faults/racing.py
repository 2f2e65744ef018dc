"""R8, one process id used by several interpreters at the same moment.

They start, resume, restart and stop it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.compute
import pyarrow.parquet  # noqa: F401
from experiment import Budget, Figures, Watch
from forking import Counts, asked, ended, fork, ram_folder, repeat_alone, run_side_by_side, serve
from races import Race, Results, what_is_wrong

from tablevault import TableVault, TVForcedError, TVLockError, TVProcessError

OUTCOMES = {
    "did": "calls that succeeded",
    "looked": "restarts that found it running",
    "refused": "calls refused with a reason",
    "was": "calls that found it done",
    "stopped": "calls that were stopped",
    "raised": "calls that raised something else",
}
"""The first word of what a contender says of its call -> what is counted."""

CONTENDERS = 4
RACES = 12
"""In one vault, one after the other."""

CODE = """
import os
import time
from pathlib import Path

import pandas as pd

FOLDER = Path(os.environ["RACES"])


def note(*words):
    descriptor = os.open(FOLDER / "log", os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, (" ".join(map(str, words)) + "\\n").encode())
    os.close(descriptor)


def index():
    return pd.DataFrame({"x": range(3)})


def answer(x, process_id):
    note("start", process_id, x, os.getpid())
    if x == 1 and (FOLDER / "refuse").exists():
        raise ValueError("refused")
    if x == 1 and (FOLDER / "fail").exists():
        note("end", process_id, x, os.getpid())
        raise ConnectionError("no network")
    if x == 1 and (FOLDER / "hold").exists():
        note("held", process_id, x, os.getpid())
        time.sleep(1000)
    time.sleep(0.002)
    note("end", process_id, x, os.getpid())
    return f"{x}-ok"


async def answer_async(x, process_id):
    return answer(x, process_id)
"""

BUILDERS = {
    "index": """
builder_type: IndexBuilder
changed_columns: [x]
python_function: index
code_module: job
is_custom: true
""",
    "answer": """
builder_type: ColumnBuilder
changed_columns: [answer]
python_function: FUNCTION
code_module: job
is_custom: true
return_type: row-wise
arguments: {x: "<<self.x[index]>>", process_id: ~PROCESS_ID~}
""",
}

COLLECTING = "on_error: collect\nmax_failures: 2\nstop_on: [ConnectionError]\n"
WAYS = {"inline": "", "async": "max_concurrency: 1\n", "collect": COLLECTING}


def builders(table: str, way: str) -> dict[str, str]:
    """Return the texts of the builders of a table, whose rows are run in some way."""
    answer = BUILDERS["answer"].replace("FUNCTION", "answer_async" if way == "async" else "answer")
    return {f"{table}_index": BUILDERS["index"], "answer": answer + WAYS[way]}


FRAME = pd.DataFrame({"x": [0, 1, 2], "answer": ["0-ok", "1-ok", "2-ok"]})


@dataclass(frozen=True)
class Track:
    """The vault of races, their log, and their common start."""

    folder: Path
    start: Barrier
    finish: Barrier

    @property
    def vault(self) -> Path:
        """The vault's folder."""
        return self.folder / "vault"


def create(folder: Path) -> None:
    """Make a vault for races."""
    vault = TableVault(folder / "vault", create=True, author="a")
    vault.create_code_module("job", text=CODE)
    vault.create_table("made")
    vault.create_table("written")
    vault.create_table("retried")


# --- contenders ---------------------------------------------------------------------------------------------------


def contend(track: Track, seed: int, number: int) -> None:
    """Take part in all races of one vault. Runs in a fork."""
    vault = TableVault(track.vault, author=f"contender {number}")
    for place in range(RACES):
        race = Race.drawn(seed, place, CONTENDERS)
        track.start.wait()
        time.sleep(race.delays[number])
        Results(track.folder).note(race, number, _outcome(lambda race=race: _act(vault, race, race.actions[number])))
        track.finish.wait()


def _act(vault: TableVault, race: Race, action: str) -> str:
    match action:
        case "call":
            call(vault, race)
        case "restart":
            reopened = TableVault(vault.db_dir, author="restarting", restart=True)
            outcome = reopened.restart_report.get(race.process_id, "")
            return {"resumed": "did", "paused again": "refused"}.get(outcome, "looked on")
        case "stop":
            vault.stop_process(race.process_id)
        case "stop by force":
            vault.stop_process(race.process_id, force=True)
        case "materialize":
            vault.stop_process(race.process_id, force=True, materialize=True)
    return "did"


def call(vault: TableVault, race: Race) -> None:
    """Make the call that the race is about."""
    match race.kind:
        case "create":
            vault.create_table(f"table-{race.place}", process_id=race.process_id)
        case "write":
            vault.write_instance(FRAME, "written", process_id=race.process_id)
        case "execute":
            vault.execute_instance("made", process_id=race.process_id)
        case "retry":
            vault.retry_failed("retried", process_id=race.process_id)


def _outcome(action: Callable[[], str]) -> str:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            did = action()
        except (TVProcessError, TVLockError) as error:
            return f"refused {error}"
        except TVForcedError:
            return "stopped"
        except BaseException:
            return f"raised {traceback.format_exc()}"
    return "was done" if any("already succeeded" in str(warning.message) for warning in caught) else did


# --- the referee --------------------------------------------------------------------------------------------------


def referee(track: Track, seed: int) -> dict[str, Any]:
    """Prepare each race, let it begin, and judge it. Runs in a fork."""
    vault = TableVault(track.vault, author="referee")
    problems, outcomes = [], Counter[str]()
    for place in range(RACES):
        race = Race.drawn(seed, place, CONTENDERS)
        before = _prepare(vault, track, race)
        track.start.wait()
        track.finish.wait()
        results = Results(track.folder).of(race)
        outcomes.update(result.split()[0] for result in results)
        problem = what_is_wrong(vault, track.folder, race, before, results)
        if problem:
            problems.append(f"{race}: {problem}; the results: {results}")
            for active in vault.get_active_processes():
                vault.stop_process(active, force=True)
    return {"problems": problems, "outcomes": outcomes}


def _prepare(vault: TableVault, track: Track, race: Race) -> int:
    """Bring the process into the state in which the race begins.

    Returns the number of instances of its table.
    """
    if race.kind == "write" and not _has_temporary(vault, "written"):
        vault.create_instance("written", external_edit=True)
    if race.kind == "execute" and not _has_temporary(vault, "made"):
        vault.create_instance("made", builders=builders("made", race.way))
    if race.kind == "retry" and not _has_failed_row(vault):
        _leave_failed_row(vault, track)
    if race.kind in ("execute", "retry"):
        if race.state == "paused":
            _pause(vault, track, race)
        if race.state == "killed":
            _kill(track, race)
    return len(vault.get_table_instances(race.table, "")) if race.table in vault.get_tables() else 0


def _has_temporary(vault: TableVault, table: str) -> bool:
    return "TEMP_base" in vault.get_table_instances(table, "", include_temp=True)


def _has_failed_row(vault: TableVault) -> bool:
    return bool(vault.get_table_instances("retried")) and len(vault.get_errors("retried")) > 0


def _leave_failed_row(vault: TableVault, track: Track) -> None:
    """Make an instance with a failed row."""
    vault.create_instance("retried", builders=builders("retried", "collect"))
    (track.folder / "refuse").touch()
    vault.execute_instance("retried")
    (track.folder / "refuse").unlink()


def _pause(vault: TableVault, track: Track, race: Race) -> None:
    (track.folder / "fail").touch()
    try:
        call(vault, race)
    except ConnectionError:
        (track.folder / "fail").unlink()
        return
    raise AssertionError("it was not paused")


def _kill(track: Track, race: Race) -> None:
    """Let an interpreter begin, and kill it in the middle."""
    (track.folder / "hold").touch()
    child = fork(lambda: call(TableVault(track.vault, author="victim"), race))
    wanted = f"held {race.process_id} 1 {child}\n"
    while not (track.folder / "log").exists() or wanted not in (track.folder / "log").read_text():
        time.sleep(0.002)
    (track.folder / "hold").unlink()
    os.kill(child, signal.SIGKILL)
    assert ended(child) == -signal.SIGKILL


def races(case: dict[str, Any], counts: Counts) -> None:
    """Run the races of one vault."""
    seed = case["seed"]
    with ram_folder() as folder:
        made = asked(lambda: create(folder))
        if made is not None:
            counts.violate(case, f"the vault cannot be made: {made}")
            return
        os.environ["RACES"] = str(folder)
        track = Track(folder, _barrier(), _barrier())
        contenders = [fork(lambda number=number: contend(track, seed, number)) for number in range(CONTENDERS)]
        judged = asked(lambda: referee(track, seed))
        if isinstance(judged, str):
            counts.violate(case, f"the referee could not go on: {judged}")
            for contender in contenders:
                os.kill(contender, signal.SIGKILL)
        for contender in contenders:
            status = ended(contender)
            if status and not isinstance(judged, str):
                counts.violate(case, f"a contender ended with status {status}")
    if not isinstance(judged, str):
        counts.tried += RACES
        for problem in judged["problems"]:
            counts.violate(case, problem)
        for outcome, number in judged["outcomes"].items():
            counts.count(OUTCOMES[outcome], number)


def _barrier() -> Barrier:
    return multiprocessing.get_context("fork").Barrier(CONTENDERS + 1, timeout=120)


class Racing:
    """A process id never has two runners.

    There is one winner or clear errors, and a consistent end.
    """

    code = "R8"
    title = "one process id started, resumed, restarted and stopped by several at the same moment"
    unit = "races"
    target = 5_000
    minutes = 8.0

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Try until the budget is used up."""
        return run_side_by_side(__file__, budget, watch)

    def repeat(self, case: dict[str, Any]) -> str:
        """Run the races of one vault again; who wins them is left to the machine."""
        return repeat_alone(__file__, case)


if __name__ == "__main__":
    sys.exit(serve(races))
