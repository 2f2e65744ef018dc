"""Summaries of runs and refreshes, table by table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tablevault import names
from tablevault.errors import TVProcessError
from tablevault.execution.provenance import read_provenance
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.plans import ExecutePlan
from tablevault.values.processes import ProcessRecord, Status


@dataclass(frozen=True)
class TableOutcome:
    """A table after a run, with the cell counts of its ColumnBuilders."""

    table_name: str
    instance_id: str
    is_new: bool
    """Whether the run created the instance."""
    rows: int = 0
    computed: int = 0
    reused: int = 0
    failed: int = 0
    skipped: int = 0


def table_outcomes(context: VaultContext, process_id: str) -> list[TableOutcome]:
    """Return the outcome of each table defined by a run, sorted by name.

    Raises
    ------
    TVProcessError
        If the run does not exist.
    """
    lookup = Lookup(context)
    record = context.catalog.processes.find(process_id)
    if record is None:
        raise TVProcessError(f"There is no process '{process_id}'.")
    version = names.check_version(str(record.arguments.get("version", names.DEFAULT_VERSION)))
    executed = {child.plan.table_id: child for child in _executions(context, record)}
    outcomes = []
    for defined in record.arguments["definitions"]["tables"]:
        table = lookup.contents.table(defined["name"])
        if table is None:
            continue
        child = executed.get(table.table_id)
        if child is not None:
            instance = lookup.contents.instance(table.table_id, child.instance_id)
        else:
            instance = lookup.contents.newest(table.table_id, version)
        if instance is not None:
            outcomes.append(_outcome(lookup, table, instance, child))
    return sorted(outcomes, key=lambda item: names.fold(item.table_name))


@dataclass(frozen=True)
class _Execution:
    """A child process that executed a table."""

    plan: ExecutePlan
    process: ProcessRecord

    @property
    def instance_id(self) -> str:
        """The instance that it made, or found unchanged."""
        return self.process.instance_id


def _executions(context: VaultContext, record: ProcessRecord) -> Iterator[_Execution]:
    for child in context.catalog.processes.begun_inside(record.serial):
        if isinstance(child.plan, ExecutePlan) and child.status in (Status.SUCCEEDED, Status.COMMITTING):
            yield _Execution(child.plan, child)


def _outcome(
    lookup: Lookup, table: TableRecord, instance: InstanceRecord, execution: _Execution | None
) -> TableOutcome:
    if execution is None or execution.plan.new_instance_id != instance.instance_id:
        return TableOutcome(table.name, instance.instance_id, is_new=False)
    counts = dict.fromkeys(("computed", "reused", "failed", "skipped"), 0)
    for builder in read_provenance(lookup.folder(table, instance).provenance).builders:
        progress = execution.process.progress.get(builder.name)
        if progress is not None and not builder.is_index:
            for name in counts:
                counts[name] += getattr(progress, name) * len(builder.columns)
    return TableOutcome(table.name, instance.instance_id, is_new=True, rows=instance.row_count or 0, **counts)
