"""Refresh of tables, an operation whose children each execute one table."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any, ClassVar

from tablevault import names
from tablevault.builders.policies import EVERY_BUILDER
from tablevault.errors import TableVaultError, TVArgumentError, TVForcedError, TVLockError, TVProcessError
from tablevault.execution.failures import read_failures
from tablevault.execution.provenance import read_provenance
from tablevault.freshness.graph import Node, TableVersion, TemporaryState
from tablevault.freshness.status import Freshness, SingleStates, named_tables, open_freshness
from tablevault.freshness.steps import NextStep, RefreshSelection, StepAction, plan_step, plan_steps
from tablevault.notes import add_note, class_name_of, message_of, outcome_of
from tablevault.operations.base import REPLACEABLE, Operation
from tablevault.operations.building import failed_input_warnings, failure_warnings
from tablevault.operations.execute import ExecuteInstance
from tablevault.operations.instances import CreateInstance, DeleteInstance
from tablevault.operations.session import Draft, Session
from tablevault.operations.unchanged import newly_confirmed
from tablevault.ports import FunctionError
from tablevault.rows.failures import RowFailure
from tablevault.state.context import VaultContext
from tablevault.texts.plain import in_line
from tablevault.values.changes import Change, Changes
from tablevault.values.contents import InstanceRecord
from tablevault.values.plans import ExecutePlan, PlannedStep, StepsPlan
from tablevault.values.processes import ProcessRecord, Status
from tablevault.values.services import check_budget

TablePolicies = Mapping[str, Mapping[str, Any]]
"""Policies of a call, from `builder`, `table.builder` or `*` to policy fields and their values."""

_COPY, _DELETE = "copy", "delete"
"""Suffixes of the ids of children that make a temporary instance and delete the one it replaces."""
_RESERVED_SUFFIX = ".99"
"""Reserved length in an id for the number of a child whose id is taken."""
_GONE = 0
"""Stands for the row id of a temporary instance that another process has used up or deleted."""
_MAXIMUM_PLANS = 20
"""Maximum number of plans of one step while other processes keep changing its table."""


@dataclass(frozen=True)
class Refresh(Operation[StepsPlan]):
    """Executes the tables that are not up to date, each after those that it reads."""

    name: ClassVar[str] = "refresh"
    counts_rows: ClassVar[bool] = True
    runs_children: ClassVar[bool] = True

    table_names: Sequence[str] | None = None
    version: str = names.DEFAULT_VERSION
    upstream: bool = True
    downstream: bool = False
    keep_going: bool = False
    policies: TablePolicies | None = field(default=None, metadata=REPLACEABLE)
    budget: Mapping[str, float] | None = field(default=None, metadata=REPLACEABLE)

    @property
    def budget_of_process(self) -> Mapping[str, float] | None:
        """Budget for the calls of all steps together, by amount."""
        return self.budget

    def check_given(self) -> None:
        """Check the budget."""
        check_budget(self.budget)

    def plan(self, draft: Draft) -> StepsPlan:
        """Choose the steps, and check that each can begin.

        A refresh itself takes no locks.
        """
        self.check_given()
        context, version = draft.lookup.context, names.check_version(self.version)
        named = named_tables(context, self.table_names, version)
        selection = self._selection(named)
        steps, _ = plan_steps(context, selection)
        for step in steps:
            check_length(draft.process_id, version, step)
        if self.policies:
            check_policies(context, version, steps, self.policies)
        table_name = named[0].table_name if named is not None and len(named) == 1 else ""
        named_ids = None if named is None else tuple(draft.lookup.table(key.table_name).table_id for key in named)
        return StepsPlan(table_name=table_name, named=named_ids, steps=steps)

    def _selection(self, named: Sequence[TableVersion] | None) -> RefreshSelection:
        return RefreshSelection(self.version, None if named is None else tuple(named), self.upstream, self.downstream)

    def work(self, plan: StepsPlan, session: Session) -> Changes:
        """Run the steps in their order, each as a child that is planned when it begins."""
        tables = None if plan.named is None else map(session.lookup.table_by_id, plan.named)
        named = None if tables is None else [TableVersion(table.name, self.version) for table in tables]
        if self.policies and session.resumed:
            # A later call may have given other policies.
            check_policies(session.lookup.context, self.version, plan.steps, self.policies)
        steps = TableSteps(self, self._selection(named), session)
        steps.run(plan.steps)
        return Changes(tuple(steps.confirmed), warnings=tuple(failure_warnings_of(session)))


@dataclass(frozen=True)
class _Failed:
    """A failed step, while others continue."""

    step: PlannedStep
    error: Exception

    @property
    def original(self) -> BaseException:
        """The exception that callers get."""
        return self.error.original if isinstance(self.error, FunctionError) else self.error

    @property
    def is_paused(self) -> bool:
        """Whether its child can be resumed."""
        outcome = outcome_of(self.original)
        return outcome is not None and outcome.is_paused


@dataclass(frozen=True)
class _Instances:
    """The instances of a table version on which a step depends, by their row ids."""

    newest: int | None
    temporary: int | None

    @classmethod
    def of(cls, newest: InstanceRecord | None, temporary: InstanceRecord | None) -> _Instances:
        """Return the row ids of instances."""
        return cls(newest.row_id if newest else None, temporary.row_id if temporary else None)


class TableSteps:
    """The steps of one attempt of a refresh.

    Parameters
    ----------
    refresh
        The operation.
    selection
        The requested tables.
    session
        Its process.
    """

    def __init__(self, refresh: Refresh, selection: RefreshSelection, session: Session) -> None:
        self._refresh = refresh
        self._selection = selection
        self._session = session
        self._lookup = session.lookup
        self._processes = session.lookup.context.catalog.processes
        self._states = SingleStates(session.lookup.context, selection.version)
        self.confirmed: list[Change] = []
        """Unchanged tables, with the inputs against which they were confirmed."""

    def run(self, steps: Iterable[PlannedStep]) -> None:
        """Run steps.

        A failed step ends the run, immediately or after all steps that do not depend on it.
        """
        with closing(self._states):
            self._run(steps)

    def _run(self, steps: Iterable[PlannedStep]) -> None:
        failed: list[_Failed] = []
        left_out: list[PlannedStep] = []
        for step in steps:
            self._session.children.raise_if_stopped()
            if step.action == StepAction.SKIP:
                continue
            unfinished = {self._text(other) for other in (*(one.step for one in failed), *left_out)}
            if unfinished & set(step.after):
                left_out.append(step)
                continue
            try:
                self._run_step(step)
            except Exception as error:
                failed.append(_Failed(step, error))
                if not self._may_go_on(failed[-1]):
                    raise
        if failed:
            self._raise(failed, left_out)

    def _may_go_on(self, failed: _Failed) -> bool:
        return self._refresh.keep_going and not self._session.stop_requested and isinstance(failed.original, Exception)

    def _raise(self, failed: list[_Failed], left_out: list[PlannedStep]) -> None:
        """Raise the first error, with a note that names the other steps.

        The error of a paused child takes precedence, so that the refresh pauses, too, and can resume it.
        """
        first = next((one for one in failed if one.is_paused), failed[0])
        others = [one for one in failed if one is not first]
        if others:
            listed = "; ".join(f"'{self._text(one.step)}' by {_in_short(one.original)}" for one in others)
            add_note(first.original, f"also failed: {listed}")
        if left_out:
            listed = ", ".join(f"'{self._text(step)}'" for step in left_out)
            add_note(first.original, f"not begun, because they depend on it: {listed}")
        raise first.error

    # --- one step -------------------------------------------------------------------------------------------------

    def _run_step(self, step: PlannedStep) -> None:
        process_id, child = self._child(step)
        if child is None:
            self._plan_and_run(step, process_id)
            return
        # A child continues with its own plan; a succeeded child does no work.
        operation = ExecuteInstance.restore(child.arguments)
        # An empty mapping takes back the policies that an earlier attempt gave to the child.
        self._run_child(replace(operation, policies=self._policies(step) or {}), process_id, step)

    def _plan_and_run(self, step: PlannedStep, process_id: str) -> None:
        """Execute the table of a step if it is not up to date.

        A child waits for processes that use the table, and is refused if they have changed its instances. The step is
        then planned again, since the table may be up to date by now.
        """
        for plans_left in reversed(range(_MAXIMUM_PLANS)):
            key = TableVersion(self._lookup.table_by_id(step.table_id).name, step.version)
            following = plan_step(self._states, self._selection, key)
            if following.action is not StepAction.EXECUTE:
                self._confirm(following)
                return
            seen = _Instances.of(following.node.newest, following.node.temporary)
            try:
                if not _is_executable(following.node):
                    self._make_temporary(step, following.node)
                    temporary = self._temporary(step)
                    seen = replace(seen, temporary=temporary.row_id if temporary else _GONE)
                execute = ExecuteInstance(key.table_name, step.version, reuse_partial=True, skip_unchanged=True)
                self._run_child(replace(execute, policies=self._policies(step)), process_id, step)
                return
            except TableVaultError as error:
                if not plans_left or not _was_refused(error) or seen == self._instances(step):
                    raise

    def _run_child(self, operation: Operation[Any], process_id: str, step: PlannedStep) -> None:
        # It may take hours, after which the code of the next steps is read again.
        self._states.close()
        self._session.children.run(operation, process_id, self._text(step))

    def _confirm(self, following: NextStep) -> None:
        newest = following.node.newest
        if newest is not None:
            self.confirmed += newly_confirmed(self._lookup.contents, newest.row_id, following.inputs)

    def _make_temporary(self, step: PlannedStep, node: Node) -> None:
        """Make a copy of the newest instance, in the place of another one."""
        if node.temporary is not None:
            delete = DeleteInstance(node.temporary.instance_id, node.table.name)
            self._run_child(delete, self._unused(step, _DELETE), step)
        copy = CreateInstance(node.table.name, step.version, copy=True)
        self._run_child(copy, self._unused(step, _COPY), step)

    def _temporary(self, step: PlannedStep) -> InstanceRecord | None:
        return self._lookup.contents.instance(step.table_id, names.temporary_instance_id(step.version))

    def _instances(self, step: PlannedStep) -> _Instances:
        """Return the current instances of the table of a step."""
        return _Instances.of(self._lookup.contents.newest(step.table_id, step.version), self._temporary(step))

    def _policies(self, step: PlannedStep) -> TablePolicies | None:
        """Return the policies of the call for the builders of a step."""
        if not self._refresh.policies:
            return None
        table, temporary = self._lookup.table_by_id(step.table_id), self._temporary(step)
        builders = self._lookup.builder_files(table, temporary) if temporary is not None else ()
        return _policies_of(table.name, builders, self._refresh.policies)

    # --- children -------------------------------------------------------------------------------------------------

    def _child(self, step: PlannedStep) -> tuple[str, ProcessRecord | None]:
        """Return the id of a step's execution, and its process if it continues or has succeeded.

        A child is known by its parent and its id, which the catalog records in the transaction that begins it.
        """
        for process_id, record in self._ids(step):
            if record is None:
                return process_id, None
            if record.parent_serial == self._session.serial and record.status is not Status.STOPPED:
                return process_id, record
        raise AssertionError("unreachable")

    def _unused(self, step: PlannedStep, purpose: str) -> str:
        """Return the id for a child that prepares a step; ended children keep theirs."""
        for process_id, record in self._ids(step, purpose):
            is_own = record is not None and record.parent_serial == self._session.serial
            if record is None or (is_own and not record.status.ended):
                return process_id
        raise AssertionError("unreachable")

    def _ids(self, step: PlannedStep, purpose: str = "") -> Iterator[tuple[str, ProcessRecord | None]]:
        """Yield the possible ids of a child, each with its current process.

        The process of an unused id is `None`.
        """
        base = _child_id(self._session.process_id, self._refresh.version, step, purpose)
        for number in count(1):
            process_id = base if number == 1 else f"{base}.{number}"
            record = self._processes.find(process_id)
            yield process_id, None if record is None or record.status is Status.REVERTED else record

    def _text(self, step: PlannedStep) -> str:
        return TableVersion(step.table_name, step.version).text(self._refresh.version)


def _child_id(process_id: str, version: str, step: PlannedStep, purpose: str = "") -> str:
    other_version = step.version if step.version != version else ""
    return ".".join(filter(None, (process_id, step.table_name, other_version, purpose)))


def check_length(process_id: str, version: str, step: PlannedStep) -> None:
    """Raise `TVArgumentError` if a process id is too long for the child of a step."""
    longest = f"{_child_id(process_id, version, step, _DELETE)}{_RESERVED_SUFFIX}"
    excess = len(longest) - names.MAXIMUM_PROCESS_ID_LENGTH
    if excess > 0:
        raise TVArgumentError(
            f"The process id '{process_id}' is too long by {excess} characters: the step of table '{step.table_name}' "
            f"could not have the id '{longest}'. Use a shorter id."
        )


def _was_refused(error: TableVaultError) -> bool:
    """Return whether an error refused a child before it began, because of what it found in the vault."""
    is_blocked = isinstance(error, TVLockError | TVProcessError | TVForcedError)
    return not is_blocked and outcome_of(error) is None


def _is_executable(node: Node) -> bool:
    """Return whether the temporary instance is an edited one, or a copy of the newest instance."""
    if node.draft is not TemporaryState.UNEDITED or node.temporary is None or node.newest is None:
        return node.is_edited
    return node.temporary.origin == node.newest.row_id


def _in_short(error: BaseException) -> str:
    return in_line(f"{class_name_of(error)}: {message_of(error)}".removesuffix(": "))


# --- policies of the call -----------------------------------------------------------------------------------------


def _policies_of(table_name: str, builders: Collection[str], policies: TablePolicies) -> TablePolicies | None:
    """Return the policies for the builders of one table; `table.builder` takes precedence over `builder`."""
    found: dict[str, Mapping[str, Any]] = {}
    if EVERY_BUILDER in policies:
        found[EVERY_BUILDER] = policies[EVERY_BUILDER]
    for builder in builders:
        own = {**policies.get(builder, {}), **policies.get(f"{table_name}.{builder}", {})}
        if own:
            found[builder] = own
    return found or None


def check_policies(context: VaultContext, version: str, steps: Sequence[PlannedStep], policies: TablePolicies) -> None:
    """Check the policies of a call against the builders of its steps.

    Raises
    ------
    TVArgumentError
        If a key matches no builder, or a field is invalid or meaningless for its builder.
    """
    present = {table.table_id: table.name for table in context.catalog.contents.tables()}
    keys = [TableVersion(present[step.table_id], step.version) for step in steps if step.table_id in present]
    with open_freshness(context, version, keys) as freshness:
        builders = {key: list(freshness.graph.nodes[key].documents) for key in keys}
        known = {EVERY_BUILDER}
        for key, own in builders.items():
            known.update(own, (f"{key.table_name}.{builder}" for builder in own))
        for name in policies:
            if name not in known:
                raise TVArgumentError(
                    f"policies names '{name}', which is not a builder of the refreshed tables"
                    f"{names.nearest(str(name), sorted(known))}"
                )
        for key, own in builders.items():
            _check_fields(freshness, key, _policies_of(key.table_name, own, policies))


def _check_fields(freshness: Freshness, key: TableVersion, policies: TablePolicies | None) -> None:
    try:
        prepared = freshness.checked(key).prepared
    except TableVaultError:
        # It reads a table that an earlier step makes; its own execution checks them.
        return
    prepared.with_policies(policies).check_services(freshness.lookup)


# --- failed rows --------------------------------------------------------------------------------------------------


def failure_warnings_of(session: Session, retry: str = "") -> Iterator[str]:
    """Yield the warnings about failed rows of the tables that were executed, and about failed cells that they read.

    Parameters
    ----------
    session
        The process whose children executed the tables.
    retry
        How to retry failed rows, if not by `retry_failed`.
    """
    lookup, made = session.lookup, set()
    for child in lookup.context.catalog.processes.begun_inside(session.serial):
        plan, has_succeeded = child.plan, child.status in (Status.SUCCEEDED, Status.COMMITTING)
        if not (isinstance(plan, ExecutePlan) and has_succeeded and (plan.inputs or _has_failures(child))):
            continue
        table = lookup.contents.table_by_id(plan.table_id)
        instance = lookup.contents.instance(plan.table_id, child.instance_id)
        if table is None or instance is None:
            continue
        folder = lookup.folder(table, instance)
        if _has_failures(child):
            made.add(instance.instance_id)
            failures: dict[str, list[RowFailure]] = {}
            for row in read_failures(folder.errors):
                failures.setdefault(row.builder, []).append(row.failure)
            yield from failure_warnings(table, instance.instance_id, failures, retry)
        # Children run in the order of what they read, so that those with failed rows are known by now.
        yield from failed_input_warnings(read_provenance(folder.provenance), told=made)


def _has_failures(child: ProcessRecord) -> bool:
    return any(item.failed or item.skipped for item in child.progress.values())
