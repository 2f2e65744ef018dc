"""R6, many interpreters at one vault, killed and paused at random.

Their actions and observations must have an explanation.
"""

from __future__ import annotations

import ctypes
import json
import mmap
import os
import random
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas  # noqa: F401
import pyarrow.compute
import pyarrow.parquet  # noqa: F401
from concurrent_load import EXECUTED, WRITTEN, Neighbour, User, create
from experiment import Budget, Figures, Watch
from forking import Counts, Share, asked, ended, fork, ram_folder, repeat_alone, report, run_side_by_side
from history import Event, Recorder, anomalies, read_events
from warmth import warm_up

from tablevault import TableVault

USERS, READERS, NEIGHBOURS = 10, 3, 3
MINUTES = 10.0
"""How long a history takes at least, if it is to have as many operations as the target."""
TARGET = 50_000
UNDISTURBED = 0.25
"""Which part of the time goes by before anybody is killed or paused."""
MAXIMUM_RATIO = 3.0
"""Of the waits of those who share no table with the others: with faults, and without."""
MINIMUM_WAITS = 1_000
"""Without and with faults, from which on their hundredth part says something."""
MINIMUM_WAIT = 0.05
"""Seconds below which a wait is none: a ratio of two hiccups says nothing."""


GROUP, USER_IDS = 5000, (2001, 2002)
"""Of the system's users as whom the interpreters run, half of them each, where the experiment may choose."""


@dataclass(frozen=True)
class Scene:
    """Where a history takes place."""

    folder: Path
    seed: int
    seconds: float
    tries: int
    counters: Any
    """One number for each interpreter, in memory that all share: how many calls it has made."""

    @property
    def vault(self) -> Path:
        """The vault's folder."""
        return self.folder / "vault"

    @property
    def done(self) -> int:
        """How many calls have been made."""
        return sum(self.counters)

    def recorder(self, place: int) -> Recorder:
        """Return what notes the calls of the interpreter in this place."""

        def counted() -> None:
            self.counters[place] += 1

        return Recorder(self.folder, counted)


def share(folder: Path) -> None:
    """Let the group work in a folder, as a team does."""
    if os.geteuid() == 0:
        os.chown(folder, USER_IDS[0], GROUP)
        folder.chmod(0o2775)


def become_user(place: int) -> None:
    """Become one of two users of a group, if permitted.

    Runs in a fork.
    """
    if os.geteuid() == 0:
        os.setgroups([])
        os.setgid(GROUP)
        os.setuid(USER_IDS[place % len(USER_IDS)])
        os.umask(0o002)


def create_as_user(scene: Scene) -> None:
    """Make the vault. Runs in a fork."""
    become_user(0)
    create(scene.vault, scene.recorder(0))


def live(scene: Scene, place: int) -> None:
    """Be one of the interpreters until killed. Runs in a fork."""
    signal.alarm(0)
    become_user(place)
    chance = random.Random(f"{scene.seed} {place} {time.monotonic_ns()}")
    recorder = scene.recorder(place)
    if place >= USERS + READERS:
        neighbour = Neighbour(scene.vault, recorder, f"own-{place}-{os.getpid()}")
        while True:
            neighbour.work()
    user = User(scene.vault, recorder, chance)
    while True:
        if place < USERS and chance.random() < 0.35:
            user.write()
        else:
            user.read()


class Stage:
    """Keeps the interpreters alive, kills and pauses them, and ends them."""

    def __init__(self, scene: Scene, counts: Counts) -> None:
        self._scene = scene
        self._chance = random.Random(scene.seed)
        self._counts = counts
        self._reported = 0
        places = range(USERS + READERS + NEIGHBOURS)
        self._running = {place: self._begin(place) for place in places}

    def play(self) -> float:
        """Let the history take place; return when the first fault was made."""
        begun = time.monotonic()
        share = self._scene.tries / TARGET * MINUTES * 60
        while not self._is_over(begun, UNDISTURBED, share):
            self._wait(0.2)
        faults = time.monotonic()
        while not self._is_over(begun, 1.0, share):
            self._disturb()
        for place in list(self._running):
            self._kill(place)
        self._report()
        return faults

    def _is_over(self, begun: float, part: float, share: float) -> bool:
        past = time.monotonic() - begun
        enough = self._scene.done >= part * self._scene.tries and past >= part * share
        return enough or past >= part * self._scene.seconds

    def _disturb(self) -> None:
        self._wait(self._chance.uniform(0.1, 0.8))
        place = self._chance.randrange(USERS)
        if self._chance.random() < 0.7:
            self._kill(place)
            self._running[place] = self._begin(place)
            self._counts.count("kills")
        else:
            os.kill(self._running[place], signal.SIGSTOP)
            self._wait(self._chance.uniform(0.02, 0.4))
            os.kill(self._running[place], signal.SIGCONT)
            self._counts.count("pauses")

    def _begin(self, place: int) -> int:
        return fork(lambda: live(self._scene, place))

    def _kill(self, place: int) -> None:
        child = self._running.pop(place)
        os.kill(child, signal.SIGKILL)
        status = ended(child)
        if status != -signal.SIGKILL:
            self._counts.violate(case_of(self._scene), f"interpreter {place} had ended with status {status}")

    def _wait(self, seconds: float) -> None:
        time.sleep(seconds)
        if self._scene.done - self._reported >= 1000:
            self._report()

    def _report(self) -> None:
        report(Counts(tried=self._scene.done - self._reported))
        self._reported = self._scene.done


def case_of(scene: Scene) -> dict[str, Any]:
    """Return the case that repeats a history."""
    return {"seed": scene.seed, "seconds": scene.seconds, "tries": scene.tries}


def settle(folder: Path) -> list[str]:
    """Stop what is paused, and see what is left. Runs in a fork."""
    vault = TableVault(folder, author="last")
    problems = []
    for process_id, info in vault.get_active_processes().items():
        if info.status != "paused":
            problems.append(f"{process_id} has {info.status}")
        vault.stop_process(process_id)
    active = vault.get_active_processes()
    problems += [f"verify finds {problem}" for problem in vault.verify().problems]
    left = os.listdir(folder / "_temp")
    return problems + ([f"still active: {active}"] if active else []) + ([f"_temp holds {left}"] if left else [])


def read_all(scene: Scene) -> None:
    """Read every instance once more. Runs in a fork."""
    user = User(scene.vault, scene.recorder(0), random.Random(0))
    for table in (*WRITTEN, *EXECUTED):
        user.list_instances(table)


def waits(events: list[Event], from_: float, to: float) -> list[float]:
    """Return how long the calls of those took who share no table with anybody, in order."""
    own = [event for event in events if str(event.arguments.get("table")).startswith("own-")]
    return sorted(event.returned - event.called for event in own if from_ <= event.called and event.returned < to)


def _p99(sorted_waits: list[float]) -> float:
    return sorted_waits[int(len(sorted_waits) * 0.99)] if sorted_waits else 0.0


def history(case: dict[str, Any]) -> Counts:
    """Let one history take place, and judge it."""
    counts = Counts()
    memory = mmap.mmap(-1, 8 * (USERS + READERS + NEIGHBOURS))
    counters = (ctypes.c_long * (USERS + READERS + NEIGHBOURS)).from_buffer(memory)
    with ram_folder() as folder:
        scene = Scene(folder, case["seed"], case["seconds"], case["tries"], counters)
        # Other users may not be allowed to read this interpreter's own files, so that nothing can be imported later.
        held = warm_up(folder / "warm")
        share(folder)
        made = asked(lambda: create_as_user(scene))
        if made is not None:
            counts.violate(case, f"the vault cannot be made: {made}")
            return counts
        begun = time.monotonic()
        faults = Stage(scene, counts).play()
        over = time.monotonic()
        left, read = asked(lambda: settle(scene.vault)), asked(lambda: read_all(scene))
        for problem in [*(left if isinstance(left, list) else [left]), *([read] if read else [])]:
            counts.violate(case, problem)
        events = read_events(folder)
        del held
    found = list(anomalies(events))
    for problem in found[:20]:
        counts.violate(case, problem[:3000])
    _measure(case, counts, events, (begun, faults, over))
    counts.count("anomalies", len(found))
    return counts


def _measure(case: dict[str, Any], counts: Counts, events: list[Event], moments: tuple[float, float, float]) -> None:
    begun, faults, over = moments
    before, during = waits(events, begun, faults), waits(events, faults, over)
    counts.count("highest p99 wait of unrelated calls without faults, ms", 1000 * _p99(before))
    counts.count("highest p99 wait of unrelated calls with faults, ms", 1000 * _p99(during))
    counts.count("reads", sum(event.operation.startswith(("get_", "newest")) for event in events))
    counts.count("refused calls", sum(event.refused for event in events))
    counts.count("calls cut off", sum(event.returned == float("inf") for event in events))
    if min(len(before), len(during)) >= MINIMUM_WAITS and _p99(during) > MAXIMUM_RATIO * max(
        _p99(before), MINIMUM_WAIT
    ):
        counts.violate(case, f"unrelated calls wait {_p99(during):.3f} s with faults, and {_p99(before):.3f} s without")


class ConcurrentHistory:
    """No write is lost, doubled or torn, and no read fails.

    No interpreter waits for an unrelated process.
    """

    code = "R6"
    title = "16 interpreters at one vault, killed and paused at random"
    unit = "operations"
    target = TARGET
    minutes = 11.0

    def run(self, budget: Budget, watch: Watch) -> Figures:
        """Let one history take place, as long as the budget allows."""
        return run_side_by_side(__file__, replace(budget, workers=1), watch)

    def repeat(self, case: dict[str, Any]) -> str:
        """Let a history take place again with the same seed; its moments are the machine's."""
        return repeat_alone(__file__, case)


def _main(request: dict[str, Any]) -> None:
    if "case" in request:
        case = request["case"]
    else:
        share = Share(**request["share"])
        # Checking takes time too.
        case = {"seed": share.seed, "seconds": share.seconds * 0.9, "tries": share.tries}
    report(history(case))


if __name__ == "__main__":
    sys.exit(_main(json.loads(sys.argv[1])))
