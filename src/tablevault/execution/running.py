"""Runs the builders of an execution in order, by return type."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tablevault.builders.fields import ReturnType
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.context import Execution
from tablevault.execution.for_each import restore_for_each, run_for_each
from tablevault.execution.generator import decide_generator, restore_generator, run_generator
from tablevault.execution.origins import MaterializedOrigin
from tablevault.execution.outcomes import PreparedBuilder
from tablevault.execution.row_wise import call_plan, restore_row_wise, run_row_wise
from tablevault.execution.whole import decide_dataframe, restore_dataframe, run_dataframe

_RUN: Mapping[ReturnType, Callable[[BuilderRun], None]] = {
    "dataframe": run_dataframe,
    "row-wise": run_row_wise,
    "batch": run_row_wise,
    "generator": run_generator,
}
_RESTORE: Mapping[ReturnType, Callable[[BuilderRun, bool], bool]] = {
    "dataframe": restore_dataframe,
    "row-wise": restore_row_wise,
    "batch": restore_row_wise,
    "generator": restore_generator,
}


def run_builders(execution: Execution, builders: Sequence[PreparedBuilder]) -> None:
    """Run builders in order, the IndexBuilder first, and fill the frame."""
    _read_ahead(execution, builders)
    for builder in builders:
        execution.owner.raise_if_stopped()
        run_builder(execution, builder)
    if builders:
        execution.check_primary_key()


def _read_ahead(execution: Execution, builders: Sequence[PreparedBuilder]) -> None:
    """Begin to read the cells of origins that may be reused, while the IndexBuilder runs."""
    for origin in execution.origins if execution.reuses_cells else ():
        if isinstance(origin, MaterializedOrigin):
            found = [(each, origin.facts(each.spec.changed_columns, is_index=False)) for each in builders]
            same = [facts for each, facts in found if facts is not None and each.version in facts.versions]
            if same:
                origin.read_ahead([*execution.primary_key, *(name for facts in same for name in facts.columns)])


def run_builder(execution: Execution, builder: PreparedBuilder) -> None:
    """Run one builder; its dependencies must have run."""
    run = BuilderRun.start(execution, builder)
    run.check_old_rows()
    if not run.is_done:
        run.begin()
    if builder.spec.for_each is not None:
        run_for_each(run, call_plan)
    else:
        _RUN[builder.spec.return_type](run)
    run.counter.done = True
    if builder.spec.is_index:
        run.record_rows()
        execution.check_primary_key()
        execution.match_origins()


def restore_builders(execution: Execution, builders: Sequence[PreparedBuilder]) -> None:
    """Fill the frame with an unfinished execution's computed and reusable cells.

    Other cells are null, and no function is called. Cells are reused only for builders reached by the execution.
    """
    complete = True
    for builder in builders:
        run = BuilderRun.start(execution, builder)
        restore = restore_for_each if builder.spec.for_each is not None else _RESTORE[builder.spec.return_type]
        complete = restore(run, complete) and complete
        if builder.spec.is_index and complete:
            execution.match_origins()


def decide_whole(run: BuilderRun) -> bool:
    """Reuse a builder's columns without calling its function; return whether possible."""
    return decide_generator(run) if run.spec.return_type == "generator" else decide_dataframe(run)
