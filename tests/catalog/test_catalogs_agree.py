"""Any calls have the same effects on the SQLite catalog and on the one in memory.

After each call, its outcome and the reads of both catalogs are compared, in and outside of a snapshot.
"""

from __future__ import annotations

import os
from datetime import timedelta

import made_changes as made
import pytest
from catalog_reads import IDS
from twin_catalogs import Clock, InterruptedCall, Twins

from tablevault.values.changes import Changes, Decision
from tablevault.values.plans import CreateTablePlan
from tablevault.values.processes import Begun, ErrorInfo, NewProcess, Owner, Status

STEPS = 30
MANY = int(os.environ.get("RANDOM_CATALOGS", "60"))
"""More of them with `make test-slow RANDOM_CATALOGS=1000`."""
UNKNOWN = 99
"""A number of no process."""


class Caller:
    """Makes random calls of the methods that write.

    A method is called only as its contract allows: only an undecided process is replanned or withdrawn, and only a
    decided one is tidied up.

    Parameters
    ----------
    twins
        The catalogs.
    chooser
        Random choices.
    """

    def __init__(self, twins, chooser):
        self.twins = twins
        self.chooser = chooser
        self.begun = 0
        self.trail = []
        """The calls, for the report of a failure."""

    def step(self):
        """Make one or two calls."""
        acts, weights = zip(*ACTIONS.items(), strict=True)
        self.chooser.choices(acts, weights)[0](self)

    def transition(self, name, *arguments, **options):
        self.trail.append((name, *arguments))
        return self.twins.call(lambda catalog: getattr(catalog.transitions, name)(*arguments), **options)

    def pick(self, choices):
        """Return one of the choices, mostly a recent one; `None` without any."""
        recent = choices[-3:] if self.chooser.flag() else choices
        return self.chooser.choice(recent) if recent else None

    def serial(self):
        return self.pick([UNKNOWN, *self.twins.known.serials])

    # --- the catalog ----------------------------------------------------------------------------------------------

    def record_imported(self):
        imported = made.whole_content(self.chooser)
        self.twins.call(lambda catalog: catalog.record_imported(imported))

    def create_and_migrate(self):
        address = self.chooser.choice([None, "/vault"])
        self.twins.call(lambda catalog: catalog.create("another", "now", address))
        self.twins.call(lambda catalog: catalog.migrate("vault", "now", address, list.clear))

    def set_clock(self):
        """Let time pass, or set the clock back."""
        seconds = self.chooser.choice([1, 60, -30])
        Clock.present += timedelta(seconds=seconds, microseconds=seconds % 7)
        self.twins.known.moments.append(Clock.present)

    def turn_snapshot(self):
        self.twins.close_snapshot() if self.twins.is_pinned else self.twins.open_snapshot()

    # --- beginning ------------------------------------------------------------------------------------------------

    def begin(self):
        process_id = self.chooser.choice(["", *IDS])
        parent = self.serial() if self.chooser.flag() else None
        return self.begin_new(
            self.new(process_id, bool(process_id) and self.chooser.flag(0.8), parent), self.chooser.locks()
        )

    def begin_new(self, new, locks):
        plan = CreateTablePlan(table_name="stories", folder="stories", locks=locks, creates=self.chooser.creations())
        return self.transition("begin", new, plan, Owner("lock", "host", 7))

    def new(self, process_id="", user_given=False, parent=None):
        self.begun += 1
        process_id = process_id or f"made-{self.begun}"
        return NewProcess(process_id, "create_table", "me", self.chooser.arguments(), parent, user_given, False)

    def record_refused(self):
        new = self.new(self.chooser.choice(["", *IDS]), True)
        self.transition("record_refused", new, "stories", ErrorInfo("ValueError", "no", "Traceback"))

    def save_plan(self):
        record = self.pick(self.twins.undecided)
        if record is not None:
            plan = CreateTablePlan(
                table_name="novels", folder="n", locks=record.plan.locks, creates=self.chooser.creations()
            )
            self.transition("save_plan", record.serial, plan)

    def withdraw(self):
        record = self.pick(self.twins.undecided)
        self.transition("withdraw", UNKNOWN if record is None else record.serial)

    # --- ownership ------------------------------------------------------------------------------------------------

    def claim(self):
        record = self.pick(self.twins.records)
        if record is not None:
            self.transition("claim", record, Owner("next", "elsewhere", 8))

    def request_stop(self):
        self.transition("request_stop", self.serial())

    def act_as_owner(self):
        """Change a process a few times, sometimes in a wrong attempt or after its end."""
        record = self.pick(self.twins.undecided) or self.pick(self.twins.decided)
        serial, attempt = (UNKNOWN, 1) if record is None else (record.serial, record.attempt)
        for _ in range(self.chooser.randint(1, 4)):
            progress, waiting = self.chooser.progress(), self.chooser.choice([None, "", "service llm"])
            calls = {
                "replace_arguments": ({"changed": [1]},),
                "set_running": (),
                "pause": (self.chooser.error(), progress, waiting),
                "save_progress": (progress or {}, waiting or ""),
            }
            name = self.chooser.choice([*calls, "pause", "save_progress"])
            self.transition(name, serial, attempt - self.chooser.flag(0.2), *calls[name])

    # --- ending ---------------------------------------------------------------------------------------------------

    def commit(self):
        """Begin a process and decide it at once."""
        begun = self.begin_new(self.new(), self.chooser.locks() if self.chooser.flag(0.2) else ())
        if isinstance(begun, Begun):
            self.transition("decide", [self.decision(begun.serial, 1, Status.SUCCEEDED)])

    def decide(self):
        """Decide one or several processes, sometimes one in a wrong attempt."""
        records = {}
        for _ in range(self.chooser.randint(1, 3)):
            record = self.pick(self.twins.undecided) or self.pick(self.twins.decided)
            if record is not None:
                records[record.serial] = record
        decisions = [
            self.decision(record.serial, record.attempt - self.chooser.flag(0.2), self.chooser.choice(ENDS))
            for record in records.values()
        ]
        self.transition("decide", decisions)

    def decision(self, serial, attempt, status):
        twins = self.twins
        maker = made.ChangeMaker(self.chooser, twins.known, twins.named, twins.temporary, twins.pairs)
        steps = self.chooser.tidying() if self.chooser.flag() else ()
        effect = Changes(maker.changes(), steps, frees_artifacts=self.chooser.flag(0.2))
        facts = (self.chooser.error(), self.chooser.progress(), self.chooser.choice(["", "service llm"]))
        return Decision(serial, attempt, status, effect, *facts)

    def finish(self):
        record = self.pick(self.twins.decided)
        serial = UNKNOWN if record is None else record.serial
        problems = self.problems(serial)
        self.twins.call(lambda catalog: catalog.transitions.finish(serial, problems[catalog]))

    # --- steps on disk --------------------------------------------------------------------------------------------

    def problems(self, serial):
        """Return problems for each catalog, mostly of the steps of a process."""
        steps = self.twins.steps
        keys = [key for key in steps if key[0] == serial and self.chooser.flag()]
        keys += [key for key in [self.pick(list(steps))] if key is not None and self.chooser.flag(0.2)]
        reason = self.chooser.choice(["busy", "not permitted"])
        # SQLite may have given the id of another process's step again, to one of this process.
        return {
            self.twins.sql: [(sql_id, reason) for _, sql_id in keys],
            self.twins.memory: [(steps.get((serial, key[1]), steps[key]), reason) for key in keys],
        }

    def keep_failed(self):
        record = self.pick([record for record in self.twins.decided if record.finished])
        if record is not None:
            problems = self.problems(record.serial)
            self.twins.call(lambda catalog: catalog.tidying.keep_failed(record.serial, problems[catalog]))

    def while_undone(self):
        """Retry a step, sometimes one that is done, or of another process."""
        steps = self.twins.steps
        key = self.pick(list(steps))
        if key is None:
            return
        serial = key[0] if self.chooser.flag(0.7) else self.serial()
        ids = {self.twins.sql: key[1], self.twins.memory: steps.get((serial, key[1]), 0)}
        done, fails = [], self.chooser.flag()

        def do(catalog):
            done.append(catalog)
            if fails:
                raise InterruptedCall

        self.twins.call(lambda catalog: catalog.tidying.while_undone(serial, ids[catalog], lambda: do(catalog)))
        assert done in ([], list(self.twins.both))

    def drop_superseded(self):
        record = self.pick(self.twins.decided)
        if record is None:
            return
        fails = self.chooser.flag(0.2)

        def folder_of(table, instance):
            if fails:
                raise InterruptedCall
            return f"{table.folder}/{instance.folder}/artifacts"

        def drop(catalog):
            return [step for _, step in catalog.tidying.drop_superseded(record.serial, folder_of)]

        self.twins.call(drop)


ENDS = (Status.SUCCEEDED, Status.REVERTED, Status.STOPPED)
ACTIONS = {
    Caller.commit: 10,
    Caller.begin: 5,
    Caller.decide: 5,
    Caller.finish: 5,
    Caller.act_as_owner: 6,
    Caller.claim: 2,
    Caller.drop_superseded: 2,
    Caller.while_undone: 2,
    Caller.keep_failed: 1,
    Caller.save_plan: 1,
    Caller.withdraw: 1,
    Caller.record_refused: 1,
    Caller.request_stop: 1,
    Caller.set_clock: 2,
    Caller.create_and_migrate: 0.5,
    Caller.turn_snapshot: 1,
}
"""How often each is called."""


def agree(seed):
    """Make random calls on both catalogs."""
    twins = Twins()
    caller = Caller(twins, made.Chooser(seed))
    try:
        if caller.chooser.flag(0.2):
            caller.record_imported()
        for _ in range(STEPS):
            caller.step()
        twins.compare_all()
    except Exception as error:
        error.add_note("\n".join([f"seed {seed}", *map(str, caller.trail)]))
        raise
    finally:
        twins.close()


@pytest.mark.parametrize("seed", range(16))
def test_catalogs_agree_after_random_calls(seed):
    agree(seed)


@pytest.mark.slow
def test_catalogs_agree_after_many_random_calls():
    for seed in range(16, 16 + MANY):
        agree(seed)
