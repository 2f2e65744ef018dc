"""Run of a source, an operation that applies its definitions and executes its tables as children."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import msgspec

from tablevault import names
from tablevault.builders.policies import EVERY_BUILDER
from tablevault.definitions.edits import NO_EDITS, Edits, changed_functions, edits_between, with_modules
from tablevault.definitions.reading import read_source
from tablevault.definitions.source_files import find_source
from tablevault.definitions.texts import SourceTexts
from tablevault.errors import TVArgumentError, TVProcessError
from tablevault.freshness.graph import TableVersion
from tablevault.freshness.refresh import (
    Refresh,
    TablePolicies,
    TableSteps,
    check_length,
    check_policies,
    failure_warnings_of,
)
from tablevault.freshness.status import TO_BE_COMPUTED, open_freshness
from tablevault.freshness.steps import RefreshSelection, plan_steps
from tablevault.operations.applied_files import VaultTables
from tablevault.operations.apply import Apply
from tablevault.operations.base import LONG, REPLACEABLE, Operation
from tablevault.operations.session import Draft, Session
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup
from tablevault.system.warnings import warn
from tablevault.values.changes import Changes
from tablevault.values.lock_names import lock_on_source
from tablevault.values.plans import PlannedStep, RunPlan
from tablevault.values.processes import ProcessRecord, Status
from tablevault.values.services import check_budget

_APPLIED = "applied"
"""Staged once the definitions are applied; holds the id of their reading."""
_STEPS = "steps"
"""Staged before the first step begins; holds all steps, so that each attempt runs the same."""
_POLICIES = "edited-policies"
"""Staged for each reading; holds the policies that differ from those at the start."""
_MAXIMUM_STEM_LENGTH = 40
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9_.-]")


@dataclass(frozen=True)
class Run(Operation[RunPlan]):
    """Applies a source, and executes the tables it defines that are not up to date."""

    name: ClassVar[str] = "run"
    counts_rows: ClassVar[bool] = True
    runs_children: ClassVar[bool] = True

    source: str = ""
    """The file or folder, by its path from `VaultLayout.recorded_source`; empty to continue a run by its id."""
    definitions: Any = field(default=None, metadata=LONG)
    """The texts of the source at the start, as plain data."""
    version: str = names.DEFAULT_VERSION
    policies: TablePolicies | None = field(default=None, metadata=REPLACEABLE)
    budget: Mapping[str, float] | None = field(default=None, metadata=REPLACEABLE)
    edited: Any = field(default=None, metadata=LONG)
    """The texts read by a later call, if any."""
    reading: str = field(default="", metadata={**REPLACEABLE, **LONG})
    """Id of the last reading of the source, which is applied once; empty for a call that does not read it."""

    @property
    def budget_of_process(self) -> Mapping[str, float] | None:
        """Budget for the calls of all steps together, by amount."""
        return self.budget

    # --- prepare --------------------------------------------------------------------------------------------------

    def check_given(self) -> None:
        """Check the budget."""
        check_budget(self.budget)

    def plan(self, draft: Draft) -> RunPlan:
        """Check that the source defines tables, is not running elsewhere, and can be applied."""
        self.check_given()
        if not self.source:
            raise TVArgumentError(f"There is no run '{draft.process_id}' to continue; name a source to begin one.")
        version, tables = names.check_version(self.version), self._began_with.tables
        place = draft.lookup.layout.source_place(self.source)
        if not tables:
            raise TVArgumentError(f"'{place}' defines no table; define one with tablevault.define.Table.")
        draft.lock_exclusive(lock_on_source(self.source, version))
        check_not_running(draft.lookup.context, place, version, without=draft.process_id)
        for table in tables:
            check_length(draft.process_id, version, PlannedStep(0, table.name, version, "", ()))
        applying = self._applying(self._began_with)
        comparison = applying.compared(draft.lookup)
        comparison.check_unedited()
        table_name = tables[0].name if len(tables) == 1 else ""
        differs = comparison.differs or bool(applying.new_services(draft.lookup))
        return RunPlan(table_name=table_name, is_applied=not differs)

    # --- continuing -----------------------------------------------------------------------------------------------

    def first_difference(self, recorded: Mapping[str, Any]) -> str | None:
        """Return the first argument that differs from the recorded ones; definitions are compared by their content."""
        return super(Run, replace(self, definitions=None, edited=None)).first_difference(recorded)

    def refused_edit(self, recorded: Mapping[str, Any], is_over: bool) -> str | None:
        """Return why the current source cannot continue a recorded run; `None` if it can."""
        if self.definitions is None:
            return None
        began_with = _texts(recorded["definitions"])
        if is_over:
            last = _texts(recorded.get("edited") or recorded["definitions"])
            return None if self._began_with.is_same_source(last) else "it was edited since; use another id"
        refused = edits_between(began_with, self._began_with).refused
        return refused and f"{refused}. Stop the run first, or undo the edit and finish it"

    def continued_by(self, other: Operation[Any]) -> Run:
        """Return this run with the code and the policies of another call."""
        run = super().continued_by(other)
        read_again = other.definitions if isinstance(other, Run) else None
        return run if read_again is None else replace(run, edited=read_again)

    def replaced(self, recorded: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments of this call that replace recorded ones."""
        changed = super().replaced(recorded)
        return changed if self.edited == recorded.get("edited") else {**changed, "edited": self.edited}

    @cached_property
    def _began_with(self) -> SourceTexts:
        return _texts(self.definitions)

    @property
    def _now(self) -> SourceTexts:
        """The builders from the start, with the code from the last reading of the source."""
        return self._began_with if self.edited is None else with_modules(self._began_with, _texts(self.edited))

    @cached_property
    def _edits(self) -> Edits:
        return NO_EDITS if self.edited is None else edits_between(self._began_with, _texts(self.edited))

    # --- work -----------------------------------------------------------------------------------------------------

    def work(self, plan: RunPlan, session: Session) -> Changes:
        """Apply the definitions, then run the steps; each is a child."""
        if self.policies and session.is_staged(_STEPS):
            # A later call may have given other policies; one that is refused applies nothing.
            check_policies(session.lookup.context, names.check_version(self.version), _staged(session), self.policies)
        self._apply(plan, session)
        version = names.check_version(self.version)
        keys = [TableVersion(table.name, version) for table in self._began_with.tables]
        selection = RefreshSelection(version, tuple(keys), upstream=False, downstream=False)
        steps = TableSteps(self._refresh(keys), selection, session)
        steps.run(self._steps(selection, session))
        # `retry_failed` would run the code in the vault, and not a corrected source.
        retry = f"run '{session.lookup.layout.source_place(self.source).name}' again to retry them"
        return Changes(tuple(steps.confirmed), warnings=tuple(failure_warnings_of(session, retry)))

    def _refresh(self, keys: list[TableVersion]) -> Refresh:
        """Return the refresh for the steps, with the current policies."""
        given = self.policies or {}
        edited = _without(self._edits.policies, given)
        policies = {key: {**edited.get(key, {}), **given.get(key, {})} for key in [*edited, *given]}
        named = [key.table_name for key in keys]
        return Refresh(named, self.version, upstream=False, policies=policies or None)

    def _applying(self, texts: SourceTexts) -> Apply:
        return Apply(self.source, msgspec.to_builtins(texts), self.version)

    def _apply(self, plan: RunPlan, session: Session) -> None:
        """Apply the definitions unless this run already has.

        Files edited in the vault after the reading are kept.
        """
        processes, name = session.lookup.context.catalog.processes, session.lookup.layout.source_place(self.source).name
        for child in processes.begun_inside(session.serial):
            if child.operation == Apply.name and not child.status.ended:
                session.children.run(Apply.restore(child.arguments), child.process_id, "")
        if session.is_staged(_APPLIED) and session.staged_text(_APPLIED) == self.reading:
            return
        if plan.is_applied and session.attempt == 1:
            session.progress.tell(f"Applied {name}: nothing changed.")
            session.stage_text(_APPLIED, self.reading)
            return
        operation = self._applying(self._now)
        comparison = operation.compared(session.lookup)
        services = operation.new_services(session.lookup)
        told = comparison.summary(_changed_functions(session.lookup, self._now), services)
        if comparison.differs or services:
            session.children.run(operation, f"{session.process_id}.apply.{session.attempt}", "")
        policies = self._changed_policies(session)
        if policies:
            told = f"{told}; {policies}" if comparison.differs or services else policies
        session.progress.tell(f"Applied {name}: {told}.")
        session.stage_text(_APPLIED, self.reading)

    def _changed_policies(self, session: Session) -> str:
        """Return which builders have other policies than after the last reading; empty if none has."""
        before = json.loads(session.staged_text(_POLICIES)) if session.is_staged(_POLICIES) else {}
        now = json.loads(json.dumps(self._edits.policies))
        session.stage_text(_POLICIES, json.dumps(now))
        changed = [name for name in dict.fromkeys([*before, *now]) if before.get(name) != now.get(name)]
        return f"policies of {', '.join(changed)} changed" if changed else ""

    def _steps(self, selection: RefreshSelection, session: Session) -> tuple[PlannedStep, ...]:
        """Return the steps, which are planned once, and checked before the first function runs."""
        context = session.lookup.context
        if session.is_staged(_STEPS):
            return _staged(session)
        steps, read = plan_steps(context, selection)
        if self.policies:
            check_policies(context, selection.version, steps, self.policies)
        for sentence in _read_as_they_are(context, selection, read) if read else ():
            warn(sentence)
        session.stage_text(_STEPS, msgspec.json.encode(steps).decode())
        return steps


def _staged(session: Session) -> tuple[PlannedStep, ...]:
    return msgspec.json.decode(session.staged_text(_STEPS), type=tuple[PlannedStep, ...])


def _without(edited: TablePolicies, given: TablePolicies) -> TablePolicies:
    """Return edited policies without the fields that a call overrides.

    The call may use another key for the same builder.
    """
    kept = {}
    for name, fields in edited.items():
        builder = name.partition(".")[2]
        of_call = [given.get(key, {}) for key in (EVERY_BUILDER, builder, name)]
        kept[name] = {field: value for field, value in fields.items() if not any(field in item for item in of_call)}
    return {name: fields for name, fields in kept.items() if fields}


def _changed_functions(lookup: Lookup, texts: SourceTexts) -> dict[str, list[str]]:
    """Return the changed functions and classes of each existing code module."""
    current = lookup.code_texts()
    return {
        module.name: changed_functions(current[module.name], module.text)
        for module in texts.modules
        if module.name in current
    }


def _texts(plain: Any) -> SourceTexts:
    return msgspec.convert(plain, SourceTexts)


def _read_as_they_are(
    context: VaultContext, selection: RefreshSelection, read: Collection[TableVersion]
) -> Iterator[str]:
    """Yield a warning for each stale table that the source reads but does not define."""
    with open_freshness(context, selection.version, selection.named) as freshness:
        for key, looked in freshness.look(read).items():
            if looked.state in TO_BE_COMPUTED:
                name = freshness.graph.text(key)
                remedy = f"refresh('{key.table_name}') computes it"
                yield f"Table '{name}' is {looked.state}, and is read as it is: {remedy}."


# --- which process runs a source ------------------------------------------------------------------------------------


def runs_of(context: VaultContext, place: Path, version: str) -> list[ProcessRecord]:
    """Return the unfinished runs of a source and version, oldest first."""
    return [
        record
        for record in context.catalog.processes.unfinished()
        if record.operation == Run.name
        and context.layout.source_place(str(record.arguments.get("source"))) == place
        and record.arguments.get("version", names.DEFAULT_VERSION) == version
    ]


def check_not_running(context: VaultContext, place: Path, version: str, without: str = "") -> None:
    """Raise `TVProcessError` if a run of a source, other than process `without`, has a live owner."""
    liveness = Liveness(context)
    for record in runs_of(context, place, version):
        if record.process_id != without and liveness.is_running(record):
            raise TVProcessError(
                f"'{place}' is being run already, by process '{record.process_id}' (process number "
                f"{record.owner_pid} on {record.owner_host}). Follow it with `tablevault watch {record.process_id}`, "
                f"or wait for its end: wait_process('{record.process_id}')."
            )


@dataclass(frozen=True)
class RunCall:
    """A call of `run`, with the process that it begins or continues."""

    operation: Run
    process_id: str
    continues: ProcessRecord | None = None
    """The paused run that the call continues without naming its id."""


def choose_run(
    context: VaultContext,
    source: str,
    version: str,
    process_id: str,
    policies: TablePolicies | None,
    budget: Mapping[str, float] | None,
    recover: Callable[[ProcessRecord], object],
) -> RunCall:
    """Read a source, and choose the process that runs it.

    Parameters
    ----------
    context
        The open vault.
    source
        A file or folder; empty to continue the run of `process_id` with its recorded definitions.
    version, process_id, policies, budget
        As for `run`.
    recover
        Recovers a process whose owner died.

    Raises
    ------
    TVProcessError
        If another interpreter runs the source.
    TVArgumentError, TVBuilderError, TableReferenceError
        If the source or a definition in it is invalid.
    BaseException
        Any exception of the source.
    """
    version = names.check_version(version)
    if not source:
        if not process_id:
            raise TVArgumentError("Name a source, or the process_id of a run to be continued.")
        return RunCall(Run("", None, version, policies, budget), process_id)
    files = find_source(source)
    continued = None
    if not process_id:
        check_not_running(context, files.place, version)
        continued = _newest_paused(context, files.place, version, recover)
    texts = read_source(files, VaultTables(Lookup(context), version))
    named = context.catalog.processes.find(process_id) if process_id else continued
    recorded = _recorded_source(context, files.place, named)
    operation = Run(recorded, msgspec.to_builtins(texts), version, policies, budget, reading=uuid.uuid4().hex)
    if process_id:
        return RunCall(operation, process_id)
    if continued is not None:
        return RunCall(operation, continued.process_id, continued)
    return RunCall(operation, _new_id(context, files.place))


def _recorded_source(context: VaultContext, place: Path, continued: ProcessRecord | None) -> str:
    """Return a source as the continued process recorded it; in its own form if it has another source, or begins."""
    earlier = "" if continued is None else str(continued.arguments.get("source", ""))
    return (
        earlier if earlier and context.layout.source_place(earlier) == place else context.layout.recorded_source(place)
    )


def paused_run(context: VaultContext, source: str, version: str, process_id: str) -> ProcessRecord | None:
    """Return the paused run that a call would continue; `None` if it would begin one."""
    if process_id:
        record = context.catalog.processes.find(process_id)
        is_paused = record is not None and Liveness(context).status(record) is Status.PAUSED
        return record if is_paused else None
    return _newest_paused(context, Path(source).expanduser().resolve(), version, lambda record: None)


def _newest_paused(
    context: VaultContext, place: Path, version: str, recover: Callable[[ProcessRecord], object]
) -> ProcessRecord | None:
    liveness = Liveness(context)
    for record in reversed(runs_of(context, place, version)):
        if liveness.status(record) is Status.PAUSED:
            return record
        if not liveness.is_alive(record):
            # It was decided when its owner died, so nothing is left to continue.
            recover(record)
    return None


def _new_id(context: VaultContext, place: Path) -> str:
    """Return an unused id made of the source's name and the time."""
    stem = _NOT_IN_AN_ID.sub("-", place.name if place.is_dir() else place.stem)[:_MAXIMUM_STEM_LENGTH]
    first = f"{stem}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    if not first[0].isalnum():
        first = f"run{first}" if first.startswith("-") else f"run-{first}"
    ids = (first if number == 1 else f"{first}-{number}" for number in count(1))
    return next(each for each in ids if context.catalog.processes.find(each) is None)
