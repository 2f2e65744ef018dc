"""What a race for one process id is, and what must hold after it."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from tablevault import TableVault, TVProcessError

STATES = ("fresh", "paused", "killed")


@dataclass(frozen=True)
class Race:
    """One race, drawn from a seed."""

    place: int
    kind: str
    state: str
    """Of the process, when the race begins."""
    actions: tuple[str, ...]
    """What each contender does."""
    delays: tuple[float, ...]
    """Seconds that each contender waits before."""
    way: str
    """How rows are run, where they are."""

    @classmethod
    def drawn(cls, seed: int, place: int, contenders: int) -> Race:
        """Draw one."""
        chance = random.Random(seed * 1_009 + place)
        kind = chance.choice(["execute", "execute", "execute", "retry", "create", "write"])
        state = chance.choice(STATES) if kind in ("execute", "retry") else "fresh"
        weights = {"call": 8, "restart": 3, "stop": 1, "stop by force": 2, "materialize": 1 if kind == "execute" else 0}
        actions = chance.choices(list(weights), list(weights.values()), k=contenders)
        if state == "fresh":
            actions[0] = "call"
        longest = chance.choice([0.0, 0.002, 0.03])
        delays = tuple(chance.uniform(0, longest) for _ in range(contenders))
        return cls(place, kind, state, tuple(actions), delays, chance.choice(["inline", "async", "collect"]))

    @property
    def process_id(self) -> str:
        """What they race for."""
        return f"race-{self.place}"

    @property
    def table(self) -> str:
        """The table that it is about."""
        own = f"table-{self.place}"
        return {"execute": "made", "retry": "retried", "write": "written", "create": own}[self.kind]


class Results:
    """What each contender got, in files of their own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def note(self, race: Race, number: int, outcome: str) -> None:
        """Write down what a contender got."""
        (self._folder / f"result-{race.place}-{number}").write_text(outcome)

    def of(self, race: Race) -> list[str]:
        """Return what all of them got, in their order."""
        return [(self._folder / f"result-{race.place}-{number}").read_text() for number in range(len(race.actions))]


def what_is_wrong(vault: TableVault, folder: Path, race: Race, before: int, results: list[str]) -> str:
    """Return which promise a race broke; nothing if none."""
    if any(result.startswith("raised") for result in results):
        return "a contender got an error that does not mention the race"
    problem = _two_runners(folder / "log", race)
    if problem:
        return problem
    done = [action for action, result in zip(race.actions, results, strict=True) if result == "did"]
    if len(done) > 1:
        # A process that another contender resumed at the same moment is reported as resumed, too.
        done = [action for action in done if action != "restart"] or done[:1]
    if len(done) != 1:
        return f"{len(done)} won"
    if vault.get_active_processes():
        return f"it is still active: {vault.get_active_processes()[race.process_id]}"
    return _wrong_end(vault, race, before, done[0])


def _wrong_end(vault: TableVault, race: Race, before: int, winner: str) -> str:
    stopped = winner not in ("call", "restart")
    status = _status(vault, race.process_id)
    if status != ("stopped" if stopped else "succeeded"):
        return f"{winner} won, but the process has {status}"
    wanted = before + (not stopped or winner == "materialize") if race.kind != "create" else 0
    if race.kind == "create":
        if (race.table in vault.get_tables()) != (not stopped):
            return f"{winner} won, and the tables are {vault.get_tables()}"
        return ""
    leaves_temporary = stopped and winner != "materialize" and race.kind != "retry"
    instances = vault.get_table_instances(race.table, "", include_temp=True)
    materialized = [instance for instance in instances if not instance.startswith("TEMP_")]
    if len(materialized) != wanted or (len(instances) != wanted) != leaves_temporary:
        return f"{winner} won with {before} instances before, and there are {instances}"
    if not stopped:
        frame, _ = vault.get_dataframe(race.table, materialized[-1])
        if frame.to_dict("list") != {"x": [0, 1, 2], "answer": ["0-ok", "1-ok", "2-ok"]}:
            return f"the frame is {frame}"
    left = os.listdir(Path(vault.db_dir, "_temp"))
    return f"_temp holds {left}" if left else ""


def _status(vault: TableVault, process_id: str) -> str:
    try:
        return vault.get_process(process_id).status
    except TVProcessError:
        return "never begun"


def _two_runners(log: Path, race: Race) -> str:
    """Return a finding if two interpreters were inside the function at once.

    One row computed by two interpreters is a finding, too.
    """
    running: dict[str, str] = {}
    computed: dict[str, list[str]] = defaultdict(list)
    for line in log.read_text().splitlines() if log.exists() else ():
        what, process_id, row, interpreter = line.split()
        if process_id != race.process_id:
            continue
        if what == "start":
            if running:
                return f"row {row} was begun by {interpreter} while {running} was at work"
            running[interpreter] = row
        elif what == "end":
            running.pop(interpreter, None)
            computed[row].append(interpreter)
        elif what == "held":
            # It is killed there.
            running.pop(interpreter, None)
    # The first row may be computed once more after a kill, the second after the failure.
    again = {row: who for row, who in computed.items() if len(who) > 1}
    again.pop("1" if race.state == "paused" else "0" if race.state == "killed" else "", None)
    return f"rows were computed more than once: {again}" if again else ""
