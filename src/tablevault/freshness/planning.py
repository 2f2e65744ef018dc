"""Plans of executions, made by the executing code itself without calling functions or changing anything."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path

from tablevault import names
from tablevault.builders.document import SELF
from tablevault.builders.placeholders import has_placeholder
from tablevault.builders.spec import BuilderSpec
from tablevault.code.loading import CodeSnapshot
from tablevault.code.sources import Sources
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.context import Execution
from tablevault.execution.for_each import decide_input_rows
from tablevault.execution.generator import shown_origin
from tablevault.execution.inputs import PinnedInputs
from tablevault.execution.origins import MaterializedOrigin, Origin
from tablevault.execution.outcomes import PreparedBuilder
from tablevault.execution.preparation import Prepared, read_documents
from tablevault.execution.reasons import Reasons, rows_text
from tablevault.execution.reuse import whole_candidates
from tablevault.execution.row_wise import RowDecision, decide_rows, decide_rows_without_arguments
from tablevault.execution.running import decide_whole, run_builder
from tablevault.execution.usage import mean_usage, read_usage
from tablevault.execution.whole import SingleCall
from tablevault.layout import ARTIFACTS, CHECKPOINTS, module_file
from tablevault.notes import set_outcome
from tablevault.operations.building import Workplace, open_origin
from tablevault.operations.execute import ExecuteInstance, open_execution
from tablevault.operations.session import Draft
from tablevault.ports import FunctionError, ServiceLimits
from tablevault.records import BuilderPlan, InstancePlan
from tablevault.references import CurrentRow, Literal, Reference, find_references
from tablevault.rows.artifacts import InstanceArtifacts, names_artifacts
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.storage.checkpoint_segments import SegmentFolder
from tablevault.storage.checkpoints import CheckpointStore
from tablevault.texts.plain import Secrets
from tablevault.values.clusters import RayOptions
from tablevault.values.outcomes import Cause, Outcome, OutcomeKind
from tablevault.values.progress import ExecutionProgress, rounded

_ALWAYS_RUNS = "the IndexBuilder always runs to find new rows"


def plan_execution(context: VaultContext, operation: ExecuteInstance, run_index: bool) -> InstancePlan:
    """Return the cells that an execution would compute and reuse, with reasons.

    Parameters
    ----------
    context
        The open vault; nothing in it is changed, locked or recorded.
    operation
        The execution.
    run_index
        Whether to run the IndexBuilder, in a folder outside the vault, to determine the rows.

    Raises
    ------
    TableVaultError
        As the execution would, before it calls a function.
    Exception
        Any exception of the IndexBuilder's function.
    """
    lookup = Lookup(context)
    plan = operation.plan(Draft(lookup, names.new_process_id()))
    table, temporary = lookup.table_by_id(plan.table_id), lookup.instance_by_row(plan.temporary)
    documents = lookup.with_files(lambda: lookup.builder_files(table, temporary), read_documents)
    inputs = PinnedInputs(lookup, plan.inputs)
    with open_planner(lookup) as planner:
        prepared = Prepared.check(table.name, documents, inputs, planner.sources)
        prepared.check_services(lookup)
        try:
            index = IndexRun.ALWAYS if run_index else IndexRun.NEVER
            decided = planner.decide(prepared, plan.origin, index, not operation.force_execute).plan
            return _with_earlier_usage(decided, lookup, plan.origin)
        except FunctionError as error:
            set_outcome(error.original, Outcome(OutcomeKind.NOT_BEGUN, "", Cause.FUNCTION))
            raise error.original from error.original.__cause__


def _with_usage(plan: InstancePlan, means: Mapping[str, Mapping[str, float]]) -> InstancePlan:
    """Return a plan with the expected usage of each builder, given mean usages per row."""
    planned = {
        name: replace(item, usage=rounded({amount: value * item.computed for amount, value in means[name].items()}))
        if item.computed and not item.usage and name in means
        else item
        for name, item in plan.builders.items()
    }
    return replace(plan, builders=planned)


def _with_earlier_usage(plan: InstancePlan, lookup: Lookup, origin: int | None) -> InstancePlan:
    """Return a plan with the expected usage of all builders.

    For builders without calls in the origin, it comes from earlier instances.
    """
    instance = lookup.contents.instance_by_row(origin) if origin is not None else None
    while instance is not None and any(item.computed and not item.usage for item in plan.builders.values()):
        plan = _with_usage(plan, mean_usage(read_usage(lookup.folder_of(instance).usage)))
        instance = lookup.contents.instance_by_row(instance.origin) if instance.origin is not None else None
    return plan


class IndexRun(Enum):
    """When to run an IndexBuilder to determine the rows."""

    NEVER = "never"
    IF_ARGUMENTS_CHANGED = "if arguments changed"
    """For a function that depends on its arguments only: while these are equal, the rows are those of the origin."""
    ALWAYS = "always"


@dataclass(frozen=True)
class ReuseDecision:
    """The plan of an execution, from the instance that it starts from."""

    plan: InstancePlan
    changes: tuple[str, ...]
    """The certain reasons for making a new instance."""
    is_known: bool
    """Whether empty `changes` mean no new instance; otherwise the IndexBuilder must run first to tell."""


@contextmanager
def open_planner(lookup: Lookup) -> Iterator[Planner]:
    """Open a planner with a folder outside the vault, for artifacts and checkpoints of IndexBuilders."""
    with tempfile.TemporaryDirectory(prefix="tablevault-plan-", ignore_cleanup_errors=True) as folder:
        yield Planner(lookup, Path(folder))


class Planner:
    """Predicts the effect of executions.

    Parameters
    ----------
    lookup
        Finds instances and their files.
    folder
        An empty folder for the output of IndexBuilders.
    """

    def __init__(self, lookup: Lookup, folder: Path) -> None:
        self._lookup = lookup
        self._folder = folder
        self._modules: tuple[Sources, Path] | None = None

    @cached_property
    def sources(self) -> Sources:
        """The code modules, read once."""
        return Sources.of_now(self._lookup.code_texts())

    def decide(
        self, prepared: Prepared, origin: int | None, index_run: IndexRun, reuses_cells: bool = True
    ) -> ReuseDecision:
        """Decide which cells an execution would compute and reuse.

        Parameters
        ----------
        prepared
            The builders.
        origin
            Row id of the instance whose cells may be reused.
        index_run
            Whether to run the IndexBuilder.
        reuses_cells
            Whether cells are reused.

        Raises
        ------
        TableVaultError
            As the execution would, before it calls a function.
        FunctionError
            If the IndexBuilder's function raises.
        """
        with (
            tempfile.TemporaryDirectory(dir=self._folder, ignore_cleanup_errors=True) as folder,
            _workplace(Path(folder), names.new_process_id(), self._lookup.context) as place,
        ):
            committed = open_origin(self._lookup, origin) if origin is not None else None
            origins = [committed] if committed is not None else []
            execution = open_execution(prepared, place, origins, committed, reuses_cells)
            record = self._lookup.contents.instance_by_row(origin) if origin is not None else None
            reasons = Reasons(self._lookup, execution, record, prepared.inputs.facts())
            planning = _Planning(execution, reasons, prepared.index)
            index, *others = prepared.builders
            if index_run is IndexRun.NEVER:
                return planning.decide(planning.plan_index(index), others, committed)
            if index_run is IndexRun.IF_ARGUMENTS_CHANGED and reuses_cells:
                taken_over = planning.take_rows_over(index, committed)
                if taken_over is not None:
                    return planning.decide(taken_over, others, committed)
            with CodeSnapshot(self._written(prepared.sources), local=prepared.sources.local) as code:
                return planning.decide(planning.run_index(prepared.load(index, code)), others, committed)

    def _written(self, sources: Sources) -> Path:
        """Return a folder with code modules, which are written once for the same sources."""
        if self._modules is None or self._modules[0] is not sources:
            folder = Path(tempfile.mkdtemp(dir=self._folder))
            for name, text in sources.modules.items():
                module_file(folder, name).write_text(text, encoding="utf-8", errors="surrogateescape")
            self._modules = sources, folder
        return self._modules[1]


@contextmanager
def _workplace(folder: Path, process_id: str, context: VaultContext) -> Iterator[Workplace]:
    artifacts = InstanceArtifacts(folder / ARTIFACTS)
    artifacts.folder.mkdir()
    checkpoints = CheckpointStore.open(SegmentFolder(folder / CHECKPOINTS), artifacts.commits, None)
    with ExitStack() as held:
        held.callback(checkpoints.abandon)

        def limits() -> ServiceLimits:
            # Called only if an IndexBuilder that needs a service runs.
            lease = context.owners.claim()
            held.callback(lease.release)
            counters = context.service_counters(lease.name)
            held.callback(counters.close)
            return counters

        progress = ExecutionProgress()
        yield Workplace(checkpoints, artifacts, progress, _NeverStopped(context.ray), process_id, process_id, limits)


class _NeverStopped:
    """The owner of a plan, which cannot be asked to stop."""

    stop_requested = False
    user_given = False
    lock_descriptors = ()

    def __init__(self, ray: RayOptions) -> None:
        self.secrets = Secrets()
        self.ray = ray

    def raise_if_stopped(self) -> None:
        """Do nothing."""


# --- what would be done -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Gap:
    """Cells of a column that do not exist before its builder has run."""

    builder: str
    rows: frozenset[int]


class _Rows(Enum):
    """Knowledge about the rows before the ColumnBuilders run."""

    UNKNOWN = "unknown"
    OF_ORIGIN = "of the origin"
    """Those of the instance that the execution starts from."""
    MADE = "made"
    """Known, and possibly different from those of the origin."""


class _Planning:
    """Plans the builders in order.

    Tracks the cells that only exist once a builder has run.
    """

    def __init__(self, execution: Execution, reasons: Reasons, index: BuilderSpec) -> None:
        self._execution = execution
        self._reasons = reasons
        self._gaps: dict[str, _Gap] = {}
        self._index = index
        self._rows = _Rows.UNKNOWN
        self._changes: list[str] = []

    def decide(
        self, index_plan: BuilderPlan, others: Sequence[PreparedBuilder], committed: MaterializedOrigin | None
    ) -> ReuseDecision:
        """Plan the ColumnBuilders, and return the decision.

        Parameters
        ----------
        index_plan
            The plan of the IndexBuilder.
        others
            The ColumnBuilders.
        committed
            The instance that the execution starts from.
        """
        planned = {self._index.name: index_plan}
        for builder in others:
            planned[builder.spec.name] = self._plan_column_builder(BuilderRun.start(self._execution, builder))
        if self._rows is _Rows.MADE and not self._changes and not self._has_rows_of(committed, self._index):
            self._changes.append(f"the rows that `{self._index.name}` makes changed")
        changes = tuple(dict.fromkeys(self._changes))
        plan = InstancePlan(planned)
        if committed is not None:
            plan = _with_usage(plan, committed.mean_usage())
        return ReuseDecision(plan, changes, is_known=self._rows is not _Rows.UNKNOWN)

    def _has_rows_of(self, committed: MaterializedOrigin | None, index: BuilderSpec) -> bool:
        """Return whether the IndexBuilder's columns are those of an instance, row for row.

        The caller knows that all other cells are reused.
        """
        if committed is None or committed.row_count != self._execution.frame.row_count:
            return False
        frame = self._execution.frame
        contents = frame.as_contents({}) if frame.has_artifacts else None
        return all(
            committed.has_column(name, frame.columns[name].column, frame.columns[name].type)
            and (contents is None or committed.as_contents().values(name) == contents.values(name))
            for name in index.changed_columns
        )

    # --- the IndexBuilder -----------------------------------------------------------------------------------------

    def take_rows_over(self, builder: PreparedBuilder, committed: MaterializedOrigin | None) -> BuilderPlan | None:
        """Reuse the rows of an instance if the function, given its arguments, would make the same.

        Returns `None` if the function may make other rows.
        """
        spec = builder.spec
        may_differ = spec.untracked or spec.keep_old or has_placeholder(spec.written_values)
        facts = committed.facts(spec.changed_columns, is_index=True) if committed is not None else None
        if committed is None or facts is None or may_differ or builder.version not in facts.versions:
            return None
        # Read before the rows, which use the same columns.
        stored = committed.stored(spec.changed_columns)
        rows = committed.rows(spec.changed_columns, is_index=True)
        if rows is None or rows.used_versions != {builder.version}:
            return None
        if rows.whole is None or not self._has_arguments_of(rows.whole, builder):
            return None
        if any(names_artifacts(column_type) for column_type in stored.types.values()):
            return None
        for name, column_type in stored.types.items():
            self._execution.frame.put(name, stored.table.column(name), column_type)
        self._execution.frame.row_count = total = committed.row_count
        self._execution.match_origins()
        self._rows = _Rows.OF_ORIGIN
        return BuilderPlan(total, 0, total, (_ALWAYS_RUNS,))

    def _has_arguments_of(self, fingerprint: bytes, builder: PreparedBuilder) -> bool:
        """Return whether the arguments match the origin's fingerprint."""
        if self._reasons.has_equal_arguments(builder):
            return True
        return SingleCall.prepare(BuilderRun.start(self._execution, builder), {}).fingerprint == fingerprint

    def run_index(self, builder: PreparedBuilder) -> BuilderPlan:
        """Run the IndexBuilder, and return its plan."""
        run_builder(self._execution, builder)
        self._rows = _Rows.MADE
        counter = self._execution.progress.builders[builder.spec.name]
        always = () if builder.spec.runs_by_row else (_ALWAYS_RUNS,)
        reasons = self._reasons.of_spec(builder) if counter.computed or not builder.spec.runs_by_row else ()
        if builder.spec.runs_by_row and counter.computed:
            self._changes += reasons or (f"{rows_text(counter.computed)} to compute",)
        return BuilderPlan(counter.total, counter.reused, counter.computed, (*always, *reasons))

    def plan_index(self, builder: PreparedBuilder) -> BuilderPlan:
        """Plan the IndexBuilder without calling its function."""
        run = BuilderRun.start(self._execution, builder)
        if builder.spec.for_each is not None:
            return self._plan_for_each(run)
        if builder.spec.runs_by_row:
            return self._plan_row_wise_index(run)
        shown = shown_origin(run) if builder.spec.return_type == "generator" else None
        reasons = [_ALWAYS_RUNS, *self._reasons.of_spec(builder)]
        if shown is not None:
            reasons.append(f"it continues after the {rows_text(shown.row_count)} of the origin")
        keeps = builder.spec.keep_old and bool(self._execution.origins)
        return BuilderPlan(None, None if keeps else 0, None, tuple(reasons))

    def _plan_row_wise_index(self, run: BuilderRun) -> BuilderPlan:
        decision = decide_rows(run)
        missing = decision.table.missing()
        if not missing:
            # There is nothing to compute, so the function is not called.
            return self.run_index(run.builder)
        total = len(decision.table)
        reasons = self._reasons.of_rows(run, decision)
        self._changes += reasons
        if self._execution.primary_key:
            # The matching rows of the origin are unknown until the keys are computed.
            keeps = run.spec.keep_old
            reused = None if keeps else total - len(missing)
            return BuilderPlan(None if keeps else total, reused, len(missing), reasons)
        self._execution.frame.row_count = total
        self._leave(run, decision)
        self._execution.match_origins()
        self._rows = _Rows.MADE
        return BuilderPlan(total, total - len(missing), len(missing), reasons)

    def _plan_for_each(self, run: BuilderRun) -> BuilderPlan:
        """Plan an IndexBuilder with `for_each`, with counts of input rows."""
        table = decide_input_rows(run)
        missing = len(table.missing())
        if not missing:
            # There is nothing to compute, so the function is not called.
            return self.run_index(run.builder)
        reasons = (*self._reasons.of_spec(run.builder), f"{rows_text(missing)} of the input to compute")
        self._changes += reasons
        return BuilderPlan(None, len(table) - missing, missing, reasons)

    # --- ColumnBuilders -------------------------------------------------------------------------------------------

    def _plan_column_builder(self, run: BuilderRun) -> BuilderPlan:
        total = self._execution.frame.row_count if self._rows is not _Rows.UNKNOWN else None
        if not self._may_reuse(run):
            self._leave_empty(run)
            new = () if total is None else self._reasons.of_new_rows()
            reasons = (*self._reasons.of_spec(run.builder), *new)
            self._changes += reasons
            return BuilderPlan(total, 0, total, reasons)
        if total is None:
            self._leave_empty(run)
            lost = self._reasons.of_lost_rows(run.builder)
            self._changes += (*self._reasons.of_spec(run.builder), *lost) if lost else ()
            known = (*self._reasons.of_spec(run.builder), *self._reasons.of_failures(run.spec))
            reasons = (*known, f"unknown until `{self._index.name}` has run")
            return BuilderPlan(None, None, None, reasons)
        return self._plan_rows(run) if run.spec.runs_by_row else self._plan_whole(run, total)

    def _may_reuse(self, run: BuilderRun) -> bool:
        """Return whether any origin has cells of the same builder and code."""
        found = [origin.rows(run.spec.changed_columns, is_index=False) for origin in self._origins]
        return any(rows is not None and run.builder.version in rows.used_versions for rows in found)

    def _plan_rows(self, run: BuilderRun) -> BuilderPlan:
        gaps = self._gaps_read_by(run.spec)
        if not all(_reads_current_row_only(run.spec, column) for column in gaps):
            return self._plan_unknown_rows(run, gaps)
        unknown = frozenset[int]().union(*(gap.rows for gap in gaps.values()))
        decision = decide_rows(run, unknown)
        self._leave(run, decision)
        total, missing = len(decision.table), decision.table.missing()
        reasons = self._reasons.of_rows(run, decision)
        if len(missing) > len(decision.undecided):
            self._changes += reasons
        if decision.undecided:
            return BuilderPlan(total, None, None, (*reasons, *_waiting(gaps, len(decision.undecided))))
        return BuilderPlan(total, total - len(missing), len(missing), reasons)

    def _plan_unknown_rows(self, run: BuilderRun, gaps: Mapping[str, _Gap]) -> BuilderPlan:
        """Plan rows whose arguments are all unknown."""
        decision = decide_rows_without_arguments(run)
        self._leave_empty(run)
        total, reasons = len(decision.table), self._reasons.of_rows(run, decision)
        if len(decision.table.missing()) > len(decision.undecided):
            self._changes += reasons
        if decision.undecided:
            return BuilderPlan(total, None, None, (*reasons, *_waiting(gaps, len(decision.undecided))))
        return BuilderPlan(total, 0, total, reasons)

    def _plan_whole(self, run: BuilderRun, total: int) -> BuilderPlan:
        gaps = self._gaps_read_by(run.spec)
        if gaps and any(True for _ in whole_candidates(run)):
            self._leave_empty(run)
            reasons = (*self._reasons.of_spec(run.builder), *_waiting(gaps, None))
            return BuilderPlan(total, None, None, reasons)
        if not gaps and decide_whole(run):
            self._close_gaps(run)
            return BuilderPlan(total, total, 0, self._reasons.of_unchanged(run.builder, total))
        self._leave_empty(run)
        reasons = self._reasons.of_whole(run)
        if total:
            self._changes += reasons
        return BuilderPlan(total, 0, total, reasons)

    @property
    def _origins(self) -> tuple[Origin, ...]:
        return self._execution.origins if self._execution.reuses_cells else ()

    # --- cells that do not exist yet ------------------------------------------------------------------------------

    def _gaps_read_by(self, spec: BuilderSpec) -> dict[str, _Gap]:
        """Return the gaps in the columns that a builder reads."""
        reads = spec.reads
        columns = self._gaps if reads.reads_whole_self else [name for name in self._gaps if name in reads.own_columns]
        return {name: self._gaps[name] for name in columns}

    def _leave(self, run: BuilderRun, decision: RowDecision) -> None:
        """Put reused rows into the frame, and record the missing ones as gaps."""
        missing = frozenset(decision.table.missing())
        run.put_columns(decision.table)
        self._close_gaps(run)
        if missing:
            self._gaps.update(dict.fromkeys(run.spec.changed_columns, _Gap(run.spec.name, missing)))

    def _leave_empty(self, run: BuilderRun) -> None:
        """Record all cells of a builder as gaps."""
        count = self._execution.frame.row_count
        table = run.empty_table()
        table.resize(count)
        run.put_columns(table)
        gap = _Gap(run.spec.name, frozenset(range(count)))
        self._gaps.update(dict.fromkeys(run.spec.changed_columns, gap))

    def _close_gaps(self, run: BuilderRun) -> None:
        for column in run.spec.changed_columns:
            self._gaps.pop(column, None)


def _reads_current_row_only(spec: BuilderSpec, column: str) -> bool:
    """Return whether a row's arguments depend on no other row's cell of a column."""
    if not spec.runs_by_row or any(entry.startswith(f"{SELF}.") for entry in spec.dependencies):
        return False
    references = find_references(list(spec.written_values))
    return not any(reference.is_self and _reads_more(reference, column) for reference in references)


def _reads_more(reference: Reference, column: str) -> bool:
    conditions = reference.conditions
    if len(conditions) == 1 and isinstance(conditions[0], CurrentRow) and _is_named(conditions[0].column, "index"):
        return False
    if reference.columns is None:
        return True
    operands = (*reference.columns, *(condition.column for condition in conditions))
    return any(isinstance(operand, Reference) or _is_named(operand, column) for operand in operands)


def _is_named(operand: Literal | Reference, name: str) -> bool:
    return isinstance(operand, Literal) and operand.value == name


def _waiting(gaps: Mapping[str, _Gap], rows: int | None) -> Iterator[str]:
    """Yield a reason for each builder that must run before more is known."""
    of_rows = "" if rows is None else f" for {rows_text(rows)}"
    for builder in dict.fromkeys(gap.builder for gap in gaps.values()):
        yield f"unknown{of_rows} until `{builder}` has run"
