"""Records of single rows of instances, and of processes in any state."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from tablevault.errors import TVArgumentError, TVProcessError
from tablevault.layout import CHECKPOINTS, InstanceFolder
from tablevault.operations.base import operation_named
from tablevault.reading.queries import Queries
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup, again_if_moved
from tablevault.storage import files
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.plans import BuildPlan, ExecutePlan
from tablevault.values.processes import ProcessRecord, Status

Records = TypeVar("Records")


@dataclass(frozen=True)
class Unfinished:
    """Locations of the records of an unfinished execution."""

    table: TableRecord
    checkpoints: Path
    builders: Path
    code: Path | None = None
    """Folder of the modules that it runs."""


@dataclass(frozen=True)
class RowRecords(Generic[Records]):
    """Finds records of one kind.

    Parameters
    ----------
    context
        The open vault.
    method
        Name of the calling public method, for error messages.
    nothing
        Value that means no records.
    of_materialized
        Reads the records of a materialized instance.
    of_unfinished
        Reads the records of an unfinished execution.
    """

    context: VaultContext
    method: str
    nothing: Records
    of_materialized: Callable[[TableRecord, InstanceRecord], Records]
    of_unfinished: Callable[[Unfinished], Records]

    def find(self, table_name: str, instance_id: str, version: str, process_id: str) -> Records | Mapping[str, Records]:
        """Return the records of a process, or else of an instance.

        For a process that executes several tables, the records are keyed by table name, or by `t(v2)` for a version
        other than that of the process.

        Raises
        ------
        TVArgumentError
            If neither a table nor a process is given, or the instance does not exist.
        TVProcessError
            If the process does not exist, or runs no builders.
        """
        if process_id:
            if table_name or instance_id:
                raise TVArgumentError("Give either a process id or a table, not both.")
            return again_if_moved(lambda: self._of_named_process(self._lookup.process(process_id)))
        if not table_name:
            raise TVArgumentError(f"{self.method} needs a table_name or a process_id.")
        return self.of_named(table_name, instance_id, version)

    def of_named(self, table_name: str, instance_id: str, version: str) -> Records:
        """Return the records of an instance, by default the newest of a version."""

        def read() -> Records:
            return self.of_instance(*Queries(self.context).instance(table_name, instance_id, version, is_temp=False))

        return again_if_moved(read)

    def of_instance(self, table: TableRecord, instance: InstanceRecord) -> Records:
        """Return the records of an instance, temporary or materialized."""
        return self._of_temporary(table, instance) if instance.temporary else self.of_materialized(table, instance)

    @property
    def _lookup(self) -> Lookup:
        return Lookup(self.context)

    def _of_named_process(self, record: ProcessRecord) -> Records | Mapping[str, Records]:
        if not operation_named(record.operation).runs_children:
            return self._of_process(record)
        version = record.arguments["version"]
        found = {}
        # A step whose child was stopped or reverted has another, newer child.
        for child in self.context.catalog.processes.begun_inside(record.serial):
            if isinstance(child.plan, ExecutePlan):
                own, name = child.arguments["version"], child.plan.table_name
                found[name if own == version else f"{name}({own})"] = self._of_process(child)
        return found

    def _of_process(self, record: ProcessRecord) -> Records:
        plan, lookup = record.plan, self._lookup
        if not isinstance(plan, BuildPlan):
            raise TVProcessError(f"Process '{record.process_id}' ({record.operation}) does not process rows.")
        table = lookup.table_by_id(plan.table_id)
        if record.status in (Status.SUCCEEDED, Status.COMMITTING, Status.STOPPED):
            # A success without a new instance refers to its origin.
            found = plan.new_instance_id if record.status is Status.STOPPED else record.instance_id
            instance = lookup.contents.instance(plan.table_id, found)
            if instance is not None:
                return self.of_materialized(table, instance)
        if not record.status.ended:
            workspace = lookup.workspace_of(record.serial)
            codes = workspace.all_code()
            place = Unfinished(table, workspace.checkpoints, workspace.builders, codes[-1] if codes else None)
            return self.of_unfinished(place)
        if not isinstance(plan, ExecutePlan):
            return self.nothing
        temporary = lookup.contents.instance_by_row(plan.temporary)
        return self.nothing if temporary is None else self._of_temporary(table, temporary)

    def _of_temporary(self, table: TableRecord, instance: InstanceRecord) -> Records:
        folder = self._lookup.folder(table, instance)
        for record in self.context.catalog.processes.unfinished():
            plan = record.plan
            if isinstance(plan, ExecutePlan) and plan.temporary == instance.row_id and not record.status.ended:
                return self._of_process(record)
        partial = InstanceFolder(files.unlinked(folder.partial)).root
        return self.of_unfinished(Unfinished(table, partial / CHECKPOINTS, folder.builders))
