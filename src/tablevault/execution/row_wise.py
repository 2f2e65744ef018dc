"""Row-wise builders, whose rows are reused or computed separately."""

from __future__ import annotations

from dataclasses import dataclass

from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.failures import fingerprint_of_passed, passed_rows, skip_rows
from tablevault.execution.origins import MaterializedOrigin
from tablevault.execution.reuse import reuse_rows, row_candidates
from tablevault.rows.call_plan import CallPlan
from tablevault.rows.calls import ArgumentErrors, FunctionCall
from tablevault.rows.collector import prepared
from tablevault.rows.runner import RowRunner
from tablevault.rows.table import RowTable


@dataclass(frozen=True)
class RowDecision:
    """The rows of a row-wise builder that must be computed."""

    table: RowTable
    """Its rows; reusable ones are filled."""
    undecided: frozenset[int]
    """Possibly reusable rows whose arguments are still unknown."""


def run_row_wise(run: BuilderRun) -> None:
    """Reuse rows, compute the others, and put the columns into the frame."""
    table, call = restored_rows(run), function_call(run)
    skip_rows(run, table)
    reuse_rows(run, table, call)
    compute_rows(run, table, call)


def compute_rows(run: BuilderRun, table: RowTable, call: FunctionCall) -> None:
    """Compute the missing rows, and put the columns into the frame."""
    if run.is_done and not table.is_complete:
        # Files named by its cells, or files of its origin, are missing.
        run.begin()
    if not table.is_complete:
        owner = run.execution.owner
        RowRunner(table, call, call_plan(run), owner, gate=run.gate(), jobs=run.job_journal()).run()
    run.complete(table, len(table))
    _mark_passed_rows(run, table, call)
    run.add_row_outcome(table)


def _mark_passed_rows(run: BuilderRun, table: RowTable, call: FunctionCall) -> None:
    """Give rows computed from failed cells their own fingerprints."""
    passed = sorted(position for position in passed_rows(run) if table.fingerprints[position] is not None)
    most_rows = run.execution.checkpoints.batch_rows
    for group in prepared(table, call.counts, passed, lambda: most_rows):
        for position, fingerprint in zip(group.positions, group.fingerprints, strict=True):
            table.fingerprints[position] = fingerprint_of_passed(run, position, fingerprint or b"")


def call_plan(run: BuilderRun) -> CallPlan:
    """Return the plan for the calls of a builder's function."""
    function, policies = run.builder.loaded, run.spec.policies
    return CallPlan(
        function=function,
        open=function.opener(run.setup_arguments),
        policies=policies,
        ray=run.execution.owner.ray,
        batch_size=policies.rows_of_call if run.spec.return_type == "batch" else None,
    )


def restore_row_wise(run: BuilderRun, reusing: bool) -> bool:
    """Put the finished rows into the frame; see `running.restore_builders`."""
    table = run.rows_so_far()
    if reusing and not run.spec.is_index:
        reuse_rows(run, table, function_call(run))
    run.put_rows_so_far(table)
    return run.is_done or all(table.filled)


def decide_rows(run: BuilderRun, unknown: frozenset[int] = frozenset()) -> RowDecision:
    """Reuse rows without calling the function.

    Parameters
    ----------
    run
        The builder.
    unknown
        Rows whose arguments cannot be evaluated yet.
    """
    table = restored_rows(run)
    skip_rows(run, table)
    return RowDecision(table, reuse_rows(run, table, function_call(run), unknown))


def decide_rows_without_arguments(run: BuilderRun) -> RowDecision:
    """Decide about rows before any of their arguments can be evaluated."""
    table = restored_rows(run)
    return RowDecision(
        table, frozenset(position for _, _, pairs in row_candidates(run, table) for position in pairs.here.tolist())
    )


def restored_rows(run: BuilderRun) -> RowTable:
    """Return the rows; those computed by earlier attempts are filled."""
    origin = _row_origin(run)
    table = run.restored_table(_outdated_rows(run))
    table.resize(origin.row_count if origin is not None else run.frame.row_count)
    run.counter.total = len(table)
    return table


def _outdated_rows(run: BuilderRun) -> list[int]:
    """Return the finished rows whose arguments have changed, because cells that they read were computed again."""
    if run.saved is None or not run.execution.has_repeated_cells:
        return []
    known = dict(zip(run.saved.positions, run.saved.fingerprints, strict=True))
    call, most_rows = function_call(run), run.execution.checkpoints.batch_rows
    return [
        position
        for group in prepared(run.empty_table(), call.counts, run.saved.positions, lambda: most_rows)
        for place, position in enumerate(group.positions)
        if group.fingerprints[place] != known[position]
    ]


def function_call(run: BuilderRun) -> FunctionCall:
    """Return the compiled arguments of the function."""
    with ArgumentErrors(run.spec):
        return FunctionCall(run.spec, run.execution.views({}, _row_origin(run)))


def _row_origin(run: BuilderRun) -> MaterializedOrigin | None:
    """Return the origin that supplies the rows of an IndexBuilder; `None` for a ColumnBuilder."""
    return run.execution.index_origin if run.spec.is_index else None
