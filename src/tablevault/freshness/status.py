"""States of tables, which depend on their builders, code and inputs."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TypeVar

from tablevault.builders.spec import BuilderSpec
from tablevault.code.sources import Sources
from tablevault.errors import TableVaultError
from tablevault.execution.inputs import PinnedInputs, pin_inputs
from tablevault.execution.preparation import Prepared
from tablevault.freshness.comparison import InputComparison
from tablevault.freshness.graph import DependencyGraph, Node, TableVersion, missing_file, read_graph, read_node
from tablevault.freshness.planning import IndexRun, Planner, ReuseDecision, open_planner
from tablevault.names import is_materialized, temporary_instance_id
from tablevault.operations.execute import check_rows_are_known
from tablevault.ports import FunctionError
from tablevault.records import TableStatus
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup
from tablevault.texts.plain import in_line
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.plans import PinnedInput
from tablevault.values.processes import ProcessRecord, Status


class State(StrEnum):
    """Whether a table is up to date."""

    RUNNING = "running"
    PAUSED = "paused"
    NEVER = "never"
    PENDING = "pending"
    EXTERNAL = "external"
    STALE = "stale"
    UNKNOWN = "unknown"
    FRESH = "fresh"


TO_BE_COMPUTED = frozenset({State.NEVER, State.PENDING, State.STALE})
"""States that make every table downstream stale."""
UNDECIDED = frozenset({State.RUNNING, State.PAUSED, State.UNKNOWN})
"""States that make every table downstream unknown, unless it is stale."""

_MAXIMUM_ATTEMPTS = 20
"""Maximum number of attempts to read a vault while files are moved or removed."""

Result = TypeVar("Result")

_PURE = frozenset(
    {("table_generation", "create_data_table_from_table"), ("table_generation", "create_data_table_from_list")}
)
"""Built-in functions whose result depends on their arguments only."""


@dataclass(frozen=True)
class Looked:
    """A table version with its state."""

    node: Node
    state: State
    own: tuple[str, ...] = ()
    """Its own reasons for the state."""
    upstream: tuple[str, ...] = ()
    """Reasons for the state in upstream tables."""
    process: ProcessRecord | None = None
    """The process that makes an instance of it."""
    error: TableVaultError | None = None
    """The error that prevents its execution."""

    @property
    def reasons(self) -> tuple[str, ...]:
        """All reasons for the state."""
        return (*self.own, *self.upstream)

    @property
    def is_stale_by_itself(self) -> bool:
        """Whether it would be stale even if all upstream tables were fresh."""
        return self.state is State.STALE and bool(self.own)


@dataclass(frozen=True)
class Checked:
    """The builders of a table version, checked against the instances that they would read now."""

    prepared: Prepared
    pins: tuple[PinnedInput, ...]


@dataclass(frozen=True)
class Decided:
    """The plan of executing a table version now."""

    checked: Checked
    decision: ReuseDecision
    doubt: str
    """Why it is unknown whether the execution would do anything; empty if it is known."""


@contextmanager
def open_freshness(
    context: VaultContext,
    version: str,
    keys: Sequence[TableVersion] | None,
    with_readers: bool = False,
    run_index: bool = False,
    missing_is_damage: bool = True,
    looks_closely: bool = True,
) -> Iterator[Freshness]:
    """Determine the states of the tables of a version.

    Reads one snapshot of the catalog, without writes or locks.

    Parameters
    ----------
    context
        The open vault.
    version
        The version.
    keys
        The requested table versions; `None` for all tables that have an instance of the version.
    with_readers
        Whether to include the tables of the version that read these.
    run_index
        Whether to run IndexBuilders that read outside the vault, discarding their results.
    missing_is_damage
        Whether a missing file is damage; see `read_with_retries`.
    looks_closely
        Whether to look for a table's own reasons even if an upstream table already keeps it from being fresh.
    """
    lookup = Lookup(context)
    with context.catalog.snapshot(), open_planner(lookup) as planner:
        graph = read_graph(lookup, version, keys, with_readers, missing_is_damage)
        yield Freshness(lookup, planner, graph, keys, run_index, missing_is_damage, looks_closely)


def read_with_retries(context: VaultContext, read: Callable[[bool], Result]) -> Result:
    """Read a vault, with retries while files are moved or removed after the catalog was read.

    Parameters
    ----------
    context
        The open vault.
    read
        Reads the vault, given whether a missing file is damage; raises `FileNotFoundError` if it may not be.
    """
    for _ in range(_MAXIMUM_ATTEMPTS):
        generation = context.catalog.contents.generation()
        try:
            return read(False)
        except FileNotFoundError:
            if context.catalog.contents.generation() == generation:
                break
    return read(True)


class SingleStates:
    """Determines the states of single table versions, each as if all upstream tables were fresh.

    Each is that of the moment when it is asked for; the code is read for the first one, and again after `close`.

    Parameters
    ----------
    context
        The open vault; nothing in it is changed, locked or recorded.
    version
        The version that references mean where they name none.
    """

    def __init__(self, context: VaultContext, version: str) -> None:
        self._context = context
        self._lookup = Lookup(context)
        self._version = version
        self._held = ExitStack()
        self._planner: Planner | None = None

    def look(self, key: TableVersion) -> tuple[Looked, tuple[int, ...]]:
        """Determine the state of one table version.

        Returns
        -------
        tuple[Looked, tuple[int, ...]]
            The state; and, if the table is fresh, the row ids of the instances that it would read now but was neither
            computed from nor confirmed against.
        """
        if self._planner is None:
            self._planner = self._held.enter_context(open_planner(self._lookup))
        planner = self._planner

        def look(missing_is_damage: bool) -> tuple[Looked, tuple[int, ...]]:
            with self._context.catalog.snapshot():
                graph = read_node(self._lookup, self._version, key, missing_is_damage)
                freshness = Freshness(
                    self._lookup, planner, graph, [key], run_index=False, missing_is_damage=missing_is_damage
                )
                looked = freshness.look([key])[key]
                return looked, () if looked.state is not State.FRESH else freshness.unread_inputs(key)

        return read_with_retries(self._context, look)

    def close(self) -> None:
        """Forget the code, and remove the planner's folder; the next look reopens both."""
        self._planner = None
        self._held.close()


def named_tables(
    context: VaultContext, table_names: str | Sequence[str] | None, version: str
) -> list[TableVersion] | None:
    """Return the tables that a call names, in one version; `None` if it names none.

    Raises
    ------
    TVArgumentError
        If a table does not exist.
    """
    if table_names is None:
        return None
    given = [table_names] if isinstance(table_names, str) else table_names
    lookup = Lookup(context)
    return list(dict.fromkeys(TableVersion(lookup.table(name).name, version) for name in given))


def read_status(
    context: VaultContext, keys: Sequence[TableVersion] | None, version: str, run_index: bool
) -> dict[str, TableStatus]:
    """Return the states of tables in topological order.

    Parameters
    ----------
    context
        The open vault; nothing in it is changed, locked or recorded.
    keys
        The table versions; `None` for all tables that have an instance of the version.
    version
        The version.
    run_index
        Whether to run IndexBuilders that read outside the vault, discarding their results.

    Raises
    ------
    TVBuilderError
        If tables read one another in a cycle.
    """

    def read(missing_is_damage: bool) -> dict[str, TableStatus]:
        with open_freshness(context, version, keys, True, run_index, missing_is_damage) as freshness:
            graph = freshness.graph
            return {
                graph.text(key): TableStatus(
                    str(looked.state),
                    looked.reasons,
                    looked.node.newest.instance_id if looked.node.newest is not None else "",
                    tuple(map(graph.text, graph.inputs(key))),
                    tuple(map(graph.text, graph.readers(key))),
                )
                for key, looked in freshness.look(freshness.keys).items()
            }

    return read_with_retries(context, read)


class Freshness:
    """The states of the tables of one version, each determined once.

    Parameters
    ----------
    lookup
        Reads the vault; all its reads see one snapshot.
    planner
        Decides what executions would do.
    graph
        The tables of the version, and those that they read in other versions.
    keys
        The requested table versions; `None` for all of the version.
    run_index
        Whether to run IndexBuilders that read outside the vault.
    missing_is_damage
        Whether a missing file is damage.
    looks_closely
        Whether to look for a table's own reasons even if an upstream table already keeps it from being fresh.
    """

    def __init__(
        self,
        lookup: Lookup,
        planner: Planner,
        graph: DependencyGraph,
        keys: Sequence[TableVersion] | None,
        run_index: bool,
        missing_is_damage: bool,
        looks_closely: bool = True,
    ) -> None:
        self.lookup = lookup
        self.graph = graph
        self.keys = graph.of_version() if keys is None else list(keys)
        self._planner = planner
        self._run_index = run_index
        self._missing_is_damage = missing_is_damage
        self._looks_closely = looks_closely
        self._comparison = InputComparison(lookup)
        self._looked: dict[TableVersion, Looked] = {}
        self._checked: dict[TableVersion, Checked] = {}
        self._decided: dict[TableVersion, Decided] = {}

    def look(self, keys: Collection[TableVersion]) -> dict[TableVersion, Looked]:
        """Determine the states of table versions and all upstream tables, in topological order.

        Raises
        ------
        TVBuilderError
            If they or upstream tables read one another in a cycle.
        """
        for key in self.graph.ordered(self.graph.upstream(keys)):
            if key not in self._looked:
                self._looked[key] = self._look(self.graph.nodes[key])
        return {key: looked for key, looked in self._looked.items() if key in keys}

    def state(self, key: TableVersion) -> State:
        """Return the previously determined state of a table version."""
        return self._looked[key].state

    def checked(self, key: TableVersion) -> Checked:
        """Return the checked builders of a table version; raises `TableVaultError` if they are invalid."""
        if key not in self._checked:
            self._checked[key] = self._check(self.graph.nodes[key])
        return self._checked[key]

    def decided(self, key: TableVersion) -> Decided:
        """Return the plan of an execution now; raises `TableVaultError` if it could not begin."""
        if key not in self._decided:
            try:
                self._decided[key] = self._decide(key)
            finally:
                # A vault may be larger than memory.
                if key in self._checked:
                    self._checked[key].prepared.inputs.forget_frames()
        return self._decided[key]

    def unread_inputs(self, key: TableVersion) -> tuple[int, ...]:
        """Return the row ids of current inputs that the newest instance was not computed from.

        These are instances that its builders would read now, and against which it was not confirmed either.
        """
        newest = self.graph.nodes[key].newest
        known = self._comparison.read_by(newest) if newest is not None else {}
        return tuple(dict.fromkeys(pin.row_id for pin in self.checked(key).pins if pin.row_id not in known))

    def origin(self, node: Node) -> int | None:
        """Return the row id of the instance whose cells an execution would reuse."""
        if not node.is_edited or node.temporary is None:
            return node.newest.row_id if node.newest is not None else None
        contents = self.lookup.contents
        origin = contents.instance_by_row(node.temporary.origin) if node.temporary.origin is not None else None
        is_there = origin is not None and contents.instance(origin.table_id, origin.instance_id) is not None
        return origin.row_id if origin is not None and is_there and not origin.temporary else None

    @property
    def sources(self) -> Sources:
        """The code modules."""
        return self._planner.sources

    # --- states ---------------------------------------------------------------------------------------------------

    def _look(self, node: Node) -> Looked:
        process = self._makers.get(node.key)
        if process is not None:
            return _in_process(node, process)
        if node.newest is None:
            return Looked(node, State.NEVER, (f"it has no materialized instance of version '{node.key.version}'",))
        if node.is_edited:
            return Looked(node, State.PENDING, (_edited(node),))
        if node.is_written:
            return Looked(node, State.EXTERNAL, ("a program wrote its newest instance",))
        return self._look_at_builders(node, node.newest)

    def _look_at_builders(self, node: Node, newest: InstanceRecord) -> Looked:
        stale, undecided = self._upstream(node, TO_BE_COMPUTED), self._upstream(node, UNDECIDED)
        try:
            self.checked(node.key)
        except TableVaultError as error:
            if stale:
                return Looked(node, State.STALE, upstream=stale, error=error)
            return Looked(node, State.UNKNOWN, (_first_line(error),), undecided, error=error)
        is_decided_upstream = bool(stale or undecided) and not self._looks_closely
        changes, doubts = ((), ()) if is_decided_upstream else self._changes(newest, node.key)
        if changes or stale:
            return Looked(node, State.STALE, changes, stale)
        return Looked(node, State.UNKNOWN if doubts or undecided else State.FRESH, doubts, undecided)

    def _changes(self, newest: InstanceRecord, key: TableVersion) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return a table's own reasons for being stale; without any, the doubts about that."""
        unfinished = () if newest.success else ("the execution of its newest instance was stopped",)
        try:
            decided = self.decided(key)
            newer = self._comparison.newer_inputs(newest, decided.checked.prepared.specs, decided.checked.pins)
            changes = tuple(dict.fromkeys((*unfinished, *decided.decision.changes, *newer)))
        except FileNotFoundError as error:
            if not self._missing_is_damage:
                raise
            return unfinished, (_first_line(missing_file(error)),)
        except TableVaultError as error:
            if isinstance(error.__cause__, FileNotFoundError) and not self._missing_is_damage:
                raise error.__cause__ from None
            # The execution reports the error with its row.
            return unfinished, (_first_line(error),)
        return changes, (decided.doubt,) if decided.doubt and not changes else ()

    def _upstream(self, node: Node, states: Collection[State]) -> tuple[str, ...]:
        read = ((key, self._looked[key].state) for key in self.graph.inputs(node.key))
        return tuple(f"`{self.graph.text(key)}` is {state}" for key, state in read if state in states)

    # --- plans of executions --------------------------------------------------------------------------------------

    def _check(self, node: Node) -> Checked:
        """Check the builders of an edited temporary instance, or of a copy of the newest one."""
        if node.error is not None:
            raise node.error
        pins = pin_inputs(self.lookup, node.documents, lock_nothing)
        prepared = Prepared.check(node.table.name, node.documents, PinnedInputs(self.lookup, pins), self.sources)
        check_rows_are_known(prepared, self.origin(node))
        return Checked(prepared, pins)

    def _decide(self, key: TableVersion) -> Decided:
        checked, origin = self.checked(key), self.origin(self.graph.nodes[key])
        index = checked.prepared.index
        doubt = f"`{index.name}` reads outside the vault: only running it can tell"
        index_run = self._index_run(index)
        if index_run is not IndexRun.NEVER:
            try:
                return Decided(checked, self._planner.decide(checked.prepared, origin, index_run), "")
            except FunctionError as error:
                if not isinstance(error.original, Exception):
                    raise error.original from None
                doubt = f"`{index.name}` raised {type(error.original).__name__}: {in_line(str(error.original))}"
        decision = self._planner.decide(checked.prepared, origin, IndexRun.NEVER)
        return Decided(checked, decision, "" if decision.is_known else doubt)

    def _index_run(self, index: BuilderSpec) -> IndexRun:
        if index.runs_by_row:
            return IndexRun.NEVER
        if _depends_on_arguments_only(index):
            return IndexRun.IF_ARGUMENTS_CHANGED
        return IndexRun.ALWAYS if self._run_index else IndexRun.NEVER

    @cached_property
    def _makers(self) -> dict[TableVersion, ProcessRecord]:
        """The processes that make instances now, or are paused."""
        liveness = Liveness(self.lookup.context)
        found: dict[TableVersion, ProcessRecord] = {}
        for record in self.lookup.context.catalog.processes.unfinished():
            status = liveness.status(record)
            is_active = status is Status.PAUSED or (status is Status.RUNNING and liveness.is_alive(record))
            for creation in record.plan.creates if is_active else ():
                table = self.lookup.contents.table(record.plan.table_name)
                if table is not None and is_materialized(creation.instance_id):
                    version = creation.instance_id.rsplit("_", 2)[0]
                    found[TableVersion(table.name, version)] = replace(record, status=status)
        return found


def _first_line(error: TableVaultError) -> str:
    """Return the first line of an error.

    If it only locates the fault, the next line is included.
    """
    first, _, rest = str(error).partition("\n")
    return in_line(f"{first} {rest.partition(chr(10))[0]}" if first.endswith(":") else first)


def lock_nothing(table: TableRecord, instance: InstanceRecord) -> None:
    """Take no locks, since a status reads one snapshot of the catalog."""


def _edited(node: Node) -> str:
    """Return the reason for executing a temporary instance."""
    temporary = temporary_instance_id(node.key.version)
    if not node.edited:
        return f"{temporary} is not a copy of an instance of this table and version"
    return f"{temporary} differs from its origin in {', '.join(f'{name}.yaml' for name in node.edited)}"


def _in_process(node: Node, process: ProcessRecord) -> Looked:
    """Return a table version of which a process is making an instance."""
    named = f"process '{process.process_id}' ({process.operation})"
    if process.status is Status.RUNNING:
        return Looked(node, State.RUNNING, (f"{named} is running",), process=process)
    error = process.error
    cause = "" if error is None else f" by {error.in_line}"
    return Looked(node, State.PAUSED, (f"{named} was paused{cause}",), process=process)


def _depends_on_arguments_only(index: BuilderSpec) -> bool:
    """Return whether the rows of an IndexBuilder depend on its arguments only."""
    is_random = index.arguments.get("random_sample", False) is not False
    return not index.is_custom and not is_random and (index.code_module, index.python_function) in _PURE
