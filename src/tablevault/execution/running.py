"""Running the builders of an execution, each as its `return_type` asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tablevault.builders.fields import ReturnType
from tablevault.execution.builder_run import BuilderRun
from tablevault.execution.context import Execution, PreparedBuilder
from tablevault.execution.dataframe_run import DataframeRun
from tablevault.execution.generator_run import GeneratorRun
from tablevault.execution.row_wise_run import RowWiseRun

_RUNS: Mapping[ReturnType, type[BuilderRun]] = {
    "dataframe": DataframeRun,
    "row-wise": RowWiseRun,
    "generator": GeneratorRun,
}


def run_builders(execution: Execution, builders: Sequence[PreparedBuilder]) -> None:
    """Run an IndexBuilder and then ColumnBuilders in their order, leaving their columns in the building."""
    for builder in builders:
        execution.owner.raise_if_stopped()
        run_builder(execution, builder)
    if builders:
        execution.check_primary_key()


def run_builder(execution: Execution, builder: PreparedBuilder) -> None:
    """Run one builder, after those that it depends on; leaves its columns in the building."""
    run_of(execution, builder).run()
    if builder.spec.is_index:
        execution.check_primary_key()
        execution.match_origins()


def run_of(execution: Execution, builder: PreparedBuilder) -> BuilderRun:
    """Return the run of a builder, which has not begun."""
    return _RUNS[builder.spec.return_type](execution, builder)
