"""Plans of executions, decided by the code that executes, without calling functions or changing anything."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tablevault import names
from tablevault.builders.document import SELF
from tablevault.builders.spec import BuilderSpec
from tablevault.code.loading import CodeSnapshot
from tablevault.code.sources import Sources
from tablevault.context import VaultContext
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.context import Execution
from tablevault.execution.for_each import decide_input_rows
from tablevault.execution.generator import shown_origin
from tablevault.execution.inputs import PinnedInputs
from tablevault.execution.origins import Origin
from tablevault.execution.outcomes import PreparedBuilder
from tablevault.execution.preparation import Prepared, read_documents
from tablevault.execution.reasons import Reasons, rows_text
from tablevault.execution.reuse import whole_candidates
from tablevault.execution.row_wise import RowDecision, decide_rows, decide_rows_without_arguments
from tablevault.execution.running import decide_whole, run_builder
from tablevault.lookup import Lookup
from tablevault.notes import set_outcome
from tablevault.operations.building import Workplace
from tablevault.operations.execute import ExecuteInstance
from tablevault.operations.session import Draft
from tablevault.outcomes import Cause, Outcome, OutcomeKind
from tablevault.plans import ExecutePlan
from tablevault.ports import FunctionError
from tablevault.progress import ExecutionProgress
from tablevault.records import BuilderPlan, InstancePlan
from tablevault.references import CurrentRow, Literal, Reference, find_references
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.checkpoints import CheckpointStore
from tablevault.texts import Secrets

_ALWAYS_RUNS = "the IndexBuilder always runs: it is what finds new rows"


def plan_execution(context: VaultContext, operation: ExecuteInstance, run_index: bool) -> InstancePlan:
    """Return what an execution would compute and reuse, and why.

    Parameters
    ----------
    context
        The open vault; nothing in it is changed, locked or recorded.
    operation
        The execution.
    run_index
        Whether to run the IndexBuilder, with a folder of its own outside the vault, so that the rows are known.

    Raises
    ------
    TableVaultError
        As the execution would, before it calls a function.
    Exception
        Whatever the IndexBuilder's function raises.
    """
    lookup = Lookup(context)
    draft = Draft(lookup, names.new_process_id())
    plan = operation.plan(draft)
    prepared = _prepare(lookup, plan)
    # Outside the vault, whose folders stay as they are; the IndexBuilder may leave artifacts and checkpoints in it.
    with tempfile.TemporaryDirectory(prefix="tablevault-plan-", ignore_cleanup_errors=True) as folder:
        with _workplace(Path(folder), draft.process_id) as place:
            execution = operation.execution(plan, lookup, prepared, place)
            origin = lookup.contents.instance_by_row(plan.origin) if plan.origin is not None else None
            planning = _Planning(execution, Reasons(lookup, execution, origin, prepared.inputs.facts()))
            index, *others = prepared.builders
            if not run_index:
                return planning.plan([index, *others])
            with _code(Path(folder), prepared.sources) as code:
                try:
                    return planning.plan([prepared.load(index, code), *others], run_index=True)
                except FunctionError as error:
                    set_outcome(error.original, Outcome(OutcomeKind.NOT_BEGUN, "", Cause.FUNCTION))
                    raise error.original from error.original.__cause__


def _prepare(lookup: Lookup, plan: ExecutePlan) -> Prepared:
    """Return the builders and the code as they are now."""
    table, temporary = lookup.table_by_id(plan.table_id), lookup.instance_by_row(plan.temporary)
    documents = lookup.with_files(lambda: lookup.builder_files(table, temporary), read_documents)
    inputs = PinnedInputs(lookup, plan.inputs)
    return Prepared.check(table.name, documents, inputs, Sources.of_now(lookup.code_texts()))


@contextmanager
def _workplace(folder: Path, process_id: str) -> Iterator[Workplace]:
    artifacts = folder / "artifacts"
    artifacts.mkdir()
    checkpoints = CheckpointStore.open(folder / "checkpoints", ArtifactFolder(artifacts), None)
    try:
        yield Workplace(checkpoints, artifacts, ExecutionProgress(), _NeverStopped(), process_id)
    finally:
        checkpoints.abandon()


@contextmanager
def _code(folder: Path, sources: Sources) -> Iterator[CodeSnapshot]:
    modules = folder / "code"
    modules.mkdir()
    for name, text in sources.modules.items():
        (modules / f"{name}.py").write_text(text, encoding="utf-8", errors="surrogateescape")
    with CodeSnapshot(modules, local=sources.local) as code:
        yield code


class _NeverStopped:
    """The owner of a plan, which cannot be asked to stop."""

    stop_requested = False
    lock_descriptors = ()

    def __init__(self) -> None:
        self.secrets = Secrets()

    def raise_if_stopped(self) -> None:
        """Do nothing."""


# --- what would be done -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Gap:
    """Cells of a column that do not exist before its builder has run."""

    builder: str
    rows: frozenset[int]


class _Planning:
    """Plans the builders in their order, and tracks the cells that only exist once a builder has run."""

    def __init__(self, execution: Execution, reasons: Reasons) -> None:
        self._execution = execution
        self._reasons = reasons
        self._gaps: dict[str, _Gap] = {}
        self._index = ""
        self._rows_are_known = False

    def plan(self, builders: list[PreparedBuilder], run_index: bool = False) -> InstancePlan:
        """Return the plan; the first builder is the IndexBuilder, whose function can be called if it is to run."""
        index, *others = builders
        self._index = index.spec.name
        planned = {index.spec.name: self._after_run(index) if run_index else self._plan_index(index)}
        for builder in others:
            planned[builder.spec.name] = self._plan_column_builder(BuilderRun.start(self._execution, builder))
        return InstancePlan(planned)

    # --- the IndexBuilder -----------------------------------------------------------------------------------------

    def _after_run(self, builder: PreparedBuilder) -> BuilderPlan:
        """Run the IndexBuilder, and return what it did."""
        run_builder(self._execution, builder)
        self._rows_are_known = True
        counter = self._execution.progress.builders[builder.spec.name]
        always = () if builder.spec.runs_by_row else (_ALWAYS_RUNS,)
        reasons = self._reasons.of_spec(builder) if counter.computed or not builder.spec.runs_by_row else ()
        return BuilderPlan(counter.total, counter.reused, counter.computed, (*always, *reasons))

    def _plan_index(self, builder: PreparedBuilder) -> BuilderPlan:
        run = BuilderRun.start(self._execution, builder)
        if builder.spec.for_each is not None:
            return self._plan_for_each(run)
        if builder.spec.runs_by_row:
            return self._plan_row_wise_index(run)
        shown = shown_origin(run) if builder.spec.return_type == "generator" else None
        reasons = [_ALWAYS_RUNS, *self._reasons.of_spec(builder)]
        if shown is not None:
            reasons.append(f"it goes on after the {rows_text(shown.row_count)} of the origin")
        keeps = builder.spec.keep_old and bool(self._execution.origins)
        return BuilderPlan(None, None if keeps else 0, None, tuple(reasons))

    def _plan_row_wise_index(self, run: BuilderRun) -> BuilderPlan:
        decision = decide_rows(run)
        missing = decision.table.missing()
        if not missing:
            # It has nothing to compute, so its function is not called.
            return self._after_run(run.builder)
        total = len(decision.table)
        reasons = self._reasons.of_rows(run, decision)
        if self._execution.primary_key:
            # Which of the origin's rows these will be is not known before their keys are.
            keeps = run.spec.keep_old
            reused = None if keeps else total - len(missing)
            return BuilderPlan(None if keeps else total, reused, len(missing), reasons)
        self._execution.frame.row_count = total
        self._leave(run, decision)
        self._execution.match_origins()
        self._rows_are_known = True
        return BuilderPlan(total, total - len(missing), len(missing), reasons)

    def _plan_for_each(self, run: BuilderRun) -> BuilderPlan:
        """Plan an IndexBuilder that is called for the rows of another table: its counts are of input rows."""
        table = decide_input_rows(run)
        missing = len(table.missing())
        if not missing:
            # It has nothing to compute, so its function is not called.
            return self._after_run(run.builder)
        reasons = (*self._reasons.of_spec(run.builder), f"{rows_text(missing)} of the input to compute")
        return BuilderPlan(None, len(table) - missing, missing, reasons)

    # --- ColumnBuilders -------------------------------------------------------------------------------------------

    def _plan_column_builder(self, run: BuilderRun) -> BuilderPlan:
        total = self._execution.frame.row_count if self._rows_are_known else None
        if not self._may_reuse(run):
            self._leave_empty(run)
            new = () if total is None else self._reasons.of_new_rows()
            return BuilderPlan(total, 0, total, (*self._reasons.of_spec(run.builder), *new))
        if total is None:
            self._leave_empty(run)
            known = (*self._reasons.of_spec(run.builder), *self._reasons.of_failures(run.spec))
            reasons = (*known, f"unknown until `{self._index}` has run")
            return BuilderPlan(None, None, None, reasons)
        return self._plan_rows(run) if run.spec.runs_by_row else self._plan_whole(run, total)

    def _may_reuse(self, run: BuilderRun) -> bool:
        """Return whether any origin has cells of the same builder and code."""
        found = [origin.rows(run.spec.changed_columns, is_index=False) for origin in self._origins]
        return any(rows is not None and run.builder.version in rows.versions for rows in found)

    def _plan_rows(self, run: BuilderRun) -> BuilderPlan:
        gaps = self._gaps_read_by(run.spec)
        if not all(_reads_current_row_only(run.spec, column) for column in gaps):
            return self._plan_unknown_rows(run, gaps)
        unknown = frozenset[int]().union(*(gap.rows for gap in gaps.values()))
        decision = decide_rows(run, unknown)
        self._leave(run, decision)
        total, missing = len(decision.table), decision.table.missing()
        reasons = self._reasons.of_rows(run, decision)
        if decision.undecided:
            return BuilderPlan(total, None, None, (*reasons, *_waiting(gaps, len(decision.undecided))))
        return BuilderPlan(total, total - len(missing), len(missing), reasons)

    def _plan_unknown_rows(self, run: BuilderRun, gaps: Mapping[str, _Gap]) -> BuilderPlan:
        """Plan for rows while the arguments of none of them are known."""
        decision = decide_rows_without_arguments(run)
        self._leave_empty(run)
        total, reasons = len(decision.table), self._reasons.of_rows(run, decision)
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
        return BuilderPlan(total, 0, total, self._reasons.of_whole(run))

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
        """Put reused rows into the frame, and note the missing ones."""
        missing = frozenset(decision.table.missing())
        run.put_columns(decision.table)
        self._close_gaps(run)
        if missing:
            self._gaps.update(dict.fromkeys(run.spec.changed_columns, _Gap(run.spec.name, missing)))

    def _leave_empty(self, run: BuilderRun) -> None:
        """Note that no cell of a builder is known."""
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
    references = find_references(dict(spec.arguments))
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
    """Yield which builders have to run before more is known."""
    of_rows = "" if rows is None else f" for {rows_text(rows)}"
    for builder in dict.fromkeys(gap.builder for gap in gaps.values()):
        yield f"unknown{of_rows} until `{builder}` has run"
