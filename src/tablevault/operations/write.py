"""Writing a frame into a table in one step: the table is made if it is missing."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from tablevault import names
from tablevault.errors import TVArgumentError, TVTableError
from tablevault.execution.primary_keys import check_primary_key
from tablevault.execution.provenance import read_provenance
from tablevault.layout import InstanceFolder, lock_on_instance, lock_on_table, lock_on_version
from tablevault.lookup import Lookup
from tablevault.operations.assembly import artifact_link, reopen
from tablevault.operations.base import PAYLOAD, Operation, instance_folder
from tablevault.operations.given_frames import (
    GivenFrame,
    InstanceFacts,
    artifact_columns,
    column_records,
    content_digest,
    find_dependencies,
    new_instance_id,
    reads_of,
    seal_frame,
    stage_frame,
)
from tablevault.operations.tables import make_table_folder
from tablevault.plans import Dependency, UnchangedPlan, WritePlan, WriteTablePlan
from tablevault.storage import files
from tablevault.storage.frames import FrameData, read_frame, whole_frame
from tablevault.transaction import Drafting, Transaction
from tablevault.values import (
    Changes,
    Creation,
    InstanceRecord,
    JsonObject,
    NewTable,
    TableRecord,
    WrittenInstance,
)


@dataclass(frozen=True)
class Write(Operation[WritePlan | WriteTablePlan | UnchangedPlan]):
    """Makes a frame the newest instance of a table, which appears with it if it is missing."""

    name: ClassVar[str] = "write"

    table_name: str
    frame: Any = field(metadata=PAYLOAD)
    version: str = names.DEFAULT_VERSION
    primary_key: Any = None
    dtypes: Any = None
    dependencies: Any = None
    description: str = ""
    skip_unchanged: bool = True

    def plan(self, draft: Drafting) -> WritePlan | WriteTablePlan | UnchangedPlan:
        """Check the frame, and find the table or where it will be."""
        version = names.check_version(self.version)
        names.check_text("description", self.description)
        table = draft.contents.table(str(self.table_name))
        if table is None:
            names.check_table_name(self.table_name)
            draft.lock_exclusive(lock_on_table(names.fold(self.table_name)))
        else:
            draft.lock_exclusive(lock_on_version(names.fold(table.name), version))
            table = draft.table(self.table_name)
            draft.check_version_is_unique(table, version)
        inputs = find_dependencies(draft, self.dependencies)
        data = self._given.data
        self._check(data)
        newest = draft.contents.newest(table.table_id, version) if table is not None and self.skip_unchanged else None
        if table is not None and newest is not None:
            draft.lock_shared(lock_on_instance(names.fold(table.name), newest.instance_id))
            if self._equals(draft, table, newest, data):
                return UnchangedPlan(table_name=table.name, instance_id=newest.instance_id)
        return self._planned(draft, table, version, inputs)

    def _planned(
        self, draft: Drafting, table: TableRecord | None, version: str, inputs: tuple[Dependency, ...]
    ) -> WritePlan | WriteTablePlan:
        instance_id = new_instance_id(version)
        if table is None:
            folder = draft.free_folder(draft.layout.root, self.table_name)
            return WriteTablePlan(
                table_name=self.table_name,
                instance_id=instance_id,
                creates=(Creation(folder),),
                version=version,
                table_folder=folder,
                inputs=inputs,
            )
        path = draft.layout.relative(draft.table_folder(table) / instance_id)
        return WritePlan(
            table_name=table.name,
            instance_id=instance_id,
            creates=(Creation(path, instance_id),),
            version=version,
            table_id=table.table_id,
            inputs=inputs,
        )

    def work(self, plan: WritePlan | WriteTablePlan | UnchangedPlan, transaction: Transaction) -> Changes:
        """Write the frame, with the folder of its table if that is new."""
        if isinstance(plan, UnchangedPlan):
            return Changes()
        folder = _folder(plan, transaction)
        reopen(folder, kept=folder.frame)
        # Whether an earlier attempt wrote the frame to its end can be told from the frame.
        stored = whole_frame(folder.frame) or stage_frame(folder, self._given.data)
        folder.artifacts.mkdir()
        data = read_frame(folder.frame) if self.frame is None else self._given.data
        facts = InstanceFacts(plan.table_name, plan.instance_id, self.name, plan.inputs, self._key)
        manifest = seal_frame(transaction, folder, stored, data, facts)
        table = None if isinstance(plan, WriteTablePlan) else _table(plan, transaction)
        shares = table is None or not table.allow_multiple_artifacts
        change = WrittenInstance(
            plan.table_name,
            plan.version,
            plan.instance_id,
            plan.instance_id,
            len(data),
            column_records(data),
            manifest,
            self.description,
            reads_of(plan.inputs),
            replaces_artifacts=shares,
        )
        if isinstance(plan, WriteTablePlan):
            new = NewTable(plan.table_name, plan.table_folder, False, False, "")
            make_table_folder(transaction.layout.table(new.folder), new)
            return Changes((new, change))
        links = [artifact_link(transaction, table, plan.instance_id, False)] if table is not None and shares else []
        return Changes((change,), tuple(links))

    def is_resumable(self, plan: WritePlan | WriteTablePlan | UnchangedPlan, transaction: Transaction) -> bool:
        """Return whether the frame is here, was staged whole, or is not needed."""
        if self.frame is not None or isinstance(plan, UnchangedPlan):
            return True
        return whole_frame(_folder(plan, transaction).frame) is not None

    def digest(self, value: Any) -> JsonObject:
        """Return what is recorded of the frame: its content, whatever its dtypes are to be."""
        return self._given.digest()

    @cached_property
    def _given(self) -> GivenFrame:
        if self.frame is None:
            raise TVArgumentError("write needs a frame: frame is None.")
        return GivenFrame(self.frame, self.dtypes)

    @property
    def _key(self) -> tuple[str, ...]:
        return tuple(self.primary_key or ())

    def _check(self, data: FrameData) -> None:
        for column in self._key:
            if column not in data.types:
                raise TVTableError(
                    f"The primary key column '{column}' is not in the frame{names.nearest(column, data.types)}"
                )
        check_primary_key(self._key, data)
        named = artifact_columns(data)
        if named:
            raise TVTableError(
                f"Column '{named[0]}' names artifacts, which write has no files for. Create an instance with "
                "external_edit=True, put the files into its artifact folder, and call write_instance."
            )

    def _equals(self, lookup: Lookup, table: TableRecord, newest: InstanceRecord, data: FrameData) -> bool:
        """Return whether an instance has these rows, types and primary key already."""
        if newest.row_count != len(data) or newest.columns != column_records(data):
            return False
        folder = lookup.folder(table, newest)
        stored = read_frame(folder.frame)
        return (
            dict(stored.types) == dict(data.types)
            and read_provenance(folder.provenance).primary_key == self._key
            and content_digest(stored) == content_digest(data)
        )


def _table(plan: WritePlan, transaction: Transaction) -> TableRecord:
    table = transaction.contents.table_by_id(plan.table_id)
    assert table is not None
    return table


def _folder(plan: WritePlan | WriteTablePlan, transaction: Transaction) -> InstanceFolder:
    if isinstance(plan, WritePlan):
        return instance_folder(transaction, _table(plan, transaction), plan.instance_id)
    parent = transaction.layout.table(plan.table_folder)
    files.make_folder(parent)
    return InstanceFolder(parent / plan.instance_id)
