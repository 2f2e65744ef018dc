"""Plans of refreshes.

A plan has the tables to execute, their order, and obstacles found before the first execution.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from tablevault.builders.fields import UNRESOLVED_FIELDS
from tablevault.errors import TableVaultError, TVArgumentError, TVLockError
from tablevault.execution.inputs import PinnedInputs, PinnedKey, pin_inputs
from tablevault.execution.preparation import Prepared
from tablevault.freshness.graph import Node, TableVersion, TemporaryState
from tablevault.freshness.status import (
    TO_BE_COMPUTED,
    UNDECIDED,
    Freshness,
    Looked,
    SingleStates,
    State,
    lock_nothing,
    open_freshness,
    read_with_retries,
)
from tablevault.names import fold, temporary_instance_id
from tablevault.operations.execute import check_rows_are_known
from tablevault.operations.remedies import RecordedCall, hint_in_line, whole_of
from tablevault.records import BuilderPlan, RefreshPlan, RefreshStep
from tablevault.references import Dependency, dependencies, find_references
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.values.lock_names import lock_on_artifacts, lock_on_instance, lock_on_table
from tablevault.values.plans import PlannedStep
from tablevault.values.processes import Lock, ProcessRecord, Status
from tablevault.values.progress import summed


class StepAction(StrEnum):
    """The step of a refresh for one table."""

    EXECUTE = "execute"
    LOOK = "look"
    SKIP = "skip"


_SIDE_EFFECTS = "it has side effects and is not named"


@dataclass(frozen=True)
class RefreshSelection:
    """The tables requested from a refresh."""

    version: str
    named: Sequence[TableVersion] | None
    """`None` for all tables of the version, which then do not count as named."""
    upstream: bool = True
    """Whether the tables that they read are refreshed, too."""
    downstream: bool = False
    """Whether the tables that read them are refreshed, too."""

    def names(self, key: TableVersion) -> bool:
        """Return whether a table is named."""
        return self.named is not None and key in self.named


@dataclass(frozen=True)
class NextStep:
    """The action of a step, decided when it begins."""

    action: StepAction
    """`LOOK` if there is nothing to execute: the newest instance is confirmed against `inputs`."""
    reasons: tuple[str, ...]
    node: Node
    """Its table, with the state of its temporary instance."""
    inputs: tuple[int, ...]
    """Row ids of the instances that it would read now but was not yet confirmed against."""


def plan_refresh(context: VaultContext, selection: RefreshSelection, run_index: bool = False) -> RefreshPlan:
    """Return the steps of a refresh in order of execution, and check that it can begin.

    Parameters
    ----------
    context
        The open vault; nothing in it is changed, locked or recorded.
    selection
        The tables.
    run_index
        Whether to run IndexBuilders that read outside the vault, discarding their results.

    Raises
    ------
    TVBuilderError, TableReferenceError
        If tables read one another in a cycle, or the builders of a step are invalid.
    TVLockError
        If a paused process blocks a step.
    TVArgumentError
        If a table has neither an instance nor builders, or a step reads a table with side effects that is neither up
        to date nor named.
    """

    def plan(missing_is_damage: bool) -> RefreshPlan:
        with open_freshness(
            context, selection.version, selection.named, selection.downstream, run_index, missing_is_damage
        ) as freshness:
            return _Steps(freshness, selection).plan

    return read_with_retries(context, plan)


def plan_steps(
    context: VaultContext, selection: RefreshSelection
) -> tuple[tuple[PlannedStep, ...], frozenset[TableVersion]]:
    """Return the steps of a refresh, and the tables read without their own step.

    It is less thorough than `plan_refresh`, since each step is planned again when it begins; raises the same.
    """

    def plan(missing_is_damage: bool) -> tuple[tuple[PlannedStep, ...], frozenset[TableVersion]]:
        with open_freshness(
            context,
            selection.version,
            selection.named,
            selection.downstream,
            False,
            missing_is_damage,
            looks_closely=False,
        ) as freshness:
            steps = _Steps(freshness, selection)
            return steps.recorded, steps.others_read

    return read_with_retries(context, plan)


class _Steps:
    """The steps of one refresh.

    Parameters
    ----------
    freshness
        Determines the states of tables.
    selection
        The requested tables.
    """

    def __init__(self, freshness: Freshness, selection: RefreshSelection) -> None:
        self._freshness = freshness
        self._graph = freshness.graph
        self._selection = selection
        keys = set(freshness.keys)
        if selection.downstream:
            keys |= self._graph.downstream(freshness.keys)
        if selection.upstream:
            keys |= self._graph.upstream(freshness.keys)
        self._looked = freshness.look(keys)
        self._actions = {key: self._action(looked) for key, looked in self._looked.items()}
        self._check()

    @property
    def plan(self) -> RefreshPlan:
        """The steps as text."""
        return RefreshPlan(tuple(self._step(key, looked) for key, looked in self._looked.items()))

    @property
    def recorded(self) -> tuple[PlannedStep, ...]:
        """The steps in the form of the catalog."""
        tables = {key: looked.node.table.table_id for key, looked in self._looked.items()}
        return tuple(
            PlannedStep(table_id, key.table_name, key.version, self._actions[key], self._after(key))
            for key, table_id in tables.items()
        )

    @property
    def others_read(self) -> frozenset[TableVersion]:
        """The upstream tables without a step."""
        return frozenset(self._graph.upstream(self._freshness.keys)).difference(self._looked)

    def _action(self, looked: Looked) -> StepAction:
        if looked.state in (State.FRESH, State.EXTERNAL) or self._is_left_out(looked.node):
            return StepAction.SKIP
        is_own = looked.state in (State.PENDING, State.NEVER) or looked.is_stale_by_itself
        return StepAction.EXECUTE if is_own else StepAction.LOOK

    def _is_left_out(self, node: Node) -> bool:
        """Return whether a table is not executed because of its side effects."""
        return node.table.has_side_effects and not self._selection.names(node.key)

    def _after(self, key: TableVersion) -> tuple[str, ...]:
        """Return the steps that must have ended before a step begins."""
        return tuple(self._graph.text(read) for read in self._graph.inputs(key) if read in self._looked)

    def _step(self, key: TableVersion, looked: Looked) -> RefreshStep:
        action = self._actions[key]
        is_left_out = looked.state not in (State.FRESH, State.EXTERNAL) and self._is_left_out(looked.node)
        builders = self._counted(key)
        return RefreshStep(
            key.table_name,
            key.version,
            action,
            (*looked.reasons, _SIDE_EFFECTS) if is_left_out else looked.reasons,
            self._after(key),
            None if builders is None else _sum(builder.computed for builder in builders),
            None if builders is None else _sum(builder.reused for builder in builders),
            summed(builder.usage for builder in builders or ()),
        )

    def _counted(self, key: TableVersion) -> list[BuilderPlan] | None:
        """Return the plans of builders, except an IndexBuilder that always runs; `None` if they are unknown."""
        if self._actions[key] is StepAction.SKIP:
            return []
        if any(self._freshness.state(read) in TO_BE_COMPUTED | UNDECIDED for read in self._graph.inputs(key)):
            return None
        try:
            decided = self._freshness.decided(key)
        except TableVaultError:
            return None
        index, *others = decided.decision.plan.builders.values()
        return [index, *others] if decided.checked.prepared.index.runs_by_row else others

    # --- checks before the first function runs --------------------------------------------------------------------

    @property
    def _executed(self) -> list[TableVersion]:
        return [key for key, action in self._actions.items() if action is not StepAction.SKIP]

    def _check(self) -> None:
        """Raise if a step would certainly fail, or is not allowed."""
        for key in self._executed:
            self._check_is_free(self._looked[key])
            _check_draft(self._looked[key])
            self._check_side_effects(key)
        locks: list[Lock] = []
        for key in self._executed:
            locks += self._locks(key, self._check_builders(key))
        self._check_locks(locks)

    def _check_is_free(self, looked: Looked) -> None:
        if looked.state is State.PAUSED and looked.process is not None:
            raise self._blocked(looked.process)

    def _check_side_effects(self, key: TableVersion) -> None:
        for read in self._graph.inputs(key) if self._selection.upstream else ():
            state = self._freshness.state(read)
            if state in TO_BE_COMPUTED and self._is_left_out(self._graph.nodes[read]):
                raise TVArgumentError(
                    f"Table '{key.table_name}' reads '{self._graph.text(read)}', which is {state}, has side effects "
                    "and is not named: name it, too, or pass upstream=False to read it as it is."
                )

    def _check_builders(self, key: TableVersion) -> Prepared | None:
        """Check the builders of a step; return them if they could be checked completely."""
        node = self._graph.nodes[key]
        foreseen = {name: self._columns(read, node, name) for name, read in node.targets.items() if self._is_new(read)}
        if not foreseen:
            return self._freshness.checked(key).prepared
        if node.error is not None:
            raise node.error
        if _resolves_fields_from(node, foreseen):
            # The columns and functions are known only once the other table exists.
            return None
        lookup = self._freshness.lookup
        pins = pin_inputs(lookup, node.documents, lock_nothing, foreseen)
        inputs = PinnedInputs(lookup, pins, foreseen)
        prepared = Prepared.check(node.table.name, node.documents, inputs, self._freshness.sources)
        check_rows_are_known(prepared, self._freshness.origin(node))
        return prepared

    def _is_new(self, read: TableVersion) -> bool:
        """Return whether an earlier step may change a table's columns.

        It may if it makes the first instance, or if the builders were edited.
        """
        node = self._graph.nodes[read]
        is_executed = self._actions.get(read, StepAction.SKIP) is not StepAction.SKIP
        return is_executed and (node.is_edited or node.newest is None)

    def _columns(self, read: TableVersion, reader: Node, name: PinnedKey) -> list[str]:
        """Return the future columns of a table.

        If its builders do not determine them, return the columns that are read from it.
        """
        made = [document.fields.get("changed_columns") for document in self._graph.nodes[read].documents.values()]
        if all(isinstance(columns, list) and not find_references(columns) for columns in made):
            return [str(column) for columns in made if isinstance(columns, list) for column in columns]
        reads = (dependency for document in reader.documents.values() for dependency in document.reads.tables)
        return sorted({column for each in reads if _key(each) == name for column in each.columns or ()})

    def _locks(self, key: TableVersion, prepared: Prepared | None) -> Iterator[Lock]:
        """Yield the locks that the execution of a step takes."""
        table, folded = self._graph.nodes[key].table, fold(key.table_name)
        yield Lock(lock_on_instance(folded, temporary_instance_id(key.version)), exclusive=True)
        if table.has_side_effects:
            yield Lock(lock_on_table(folded), exclusive=True)
        if prepared is not None and prepared.makes_artifacts and not table.allow_multiple_artifacts:
            yield Lock(lock_on_artifacts(folded), exclusive=True)
        for facts in prepared.inputs.facts().values() if prepared is not None else ():
            yield Lock(lock_on_instance(fold(facts.table), facts.instance_id), exclusive=False)

    def _check_locks(self, wanted: Sequence[Lock]) -> None:
        context = self._freshness.lookup.context
        liveness = Liveness(context)
        for serial in context.catalog.processes.conflicts(wanted, context.parent_serial):
            process = context.catalog.processes.get(serial)
            if process is not None and liveness.status(process) is Status.PAUSED:
                raise self._blocked(process)

    def _blocked(self, process: ProcessRecord) -> TVLockError:
        context = self._freshness.lookup.context
        error = process.error
        cause = "" if error is None else f" by {error.in_line}"
        table = f" of table '{process.table_name}'" if process.table_name else ""
        remedies = RecordedCall.of(context.layout.root, whole_of(process, context.catalog.processes)).while_paused
        return TVLockError(
            f"Process '{process.process_id}' ({process.operation}{table}) blocks the refresh: it was paused{cause}; "
            f"{hint_in_line(remedies)}."
        )


def _check_draft(looked: Looked) -> None:
    """Raise if there is nothing to execute, or another temporary instance blocks the copy."""
    node = looked.node
    name, version = node.table.name, node.key.version
    if looked.state is State.NEVER and not node.is_edited:
        raise TVArgumentError(
            f"Table '{name}' has no instance of version '{version}', and no builders that could make one; "
            f"create_instance('{name}', version='{version}') makes a place for them."
        )
    if node.draft is TemporaryState.NOT_EXECUTABLE:
        temporary = temporary_instance_id(version)
        raise TVArgumentError(
            f"The temporary instance '{temporary}' of table '{name}' has no builders to execute, and blocks a "
            f"copy; finish it with write_instance, or remove it: delete_instance('{temporary}', '{name}')."
        )


def _resolves_fields_from(node: Node, inputs: Collection[PinnedKey]) -> bool:
    """Return whether a field other than `arguments` holds a reference to one of these inputs."""
    return any(
        _key(dependency) in inputs
        for document in node.documents.values()
        for name, value in document.fields.items()
        if name not in UNRESOLVED_FIELDS
        for dependency in dependencies(value).reads
    )


def _key(dependency: Dependency) -> PinnedKey:
    return PinnedKey(fold(dependency.table), dependency.instance)


def _sum(counts: Iterable[int | None]) -> int | None:
    total = 0
    for count in counts:
        if count is None:
            return None
        total += count
    return total


# --- one step -----------------------------------------------------------------------------------------------------


def plan_step(states: SingleStates, selection: RefreshSelection, key: TableVersion) -> NextStep:
    """Return the action of a refresh's step at its beginning.

    Other processes may have changed its table.

    Parameters
    ----------
    states
        Determines the table's state; nothing in the vault is changed, locked or recorded.
    selection
        The tables requested from the refresh.
    key
        The table of the step.

    Raises
    ------
    TableVaultError
        If its builders have become invalid.
    """
    looked, unread = states.look(key)
    node = looked.node
    if looked.state is State.EXTERNAL:
        return NextStep(StepAction.SKIP, looked.reasons, node, ())
    if node.table.has_side_effects and not selection.names(key):
        return NextStep(StepAction.SKIP, (*looked.reasons, _SIDE_EFFECTS), node, ())
    if looked.error is not None:
        raise looked.error
    _check_draft(looked)
    return NextStep(
        StepAction.LOOK if looked.state is State.FRESH else StepAction.EXECUTE, looked.reasons, node, unread
    )
