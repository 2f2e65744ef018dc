"""Materializing a frame that was made elsewhere, into a temporary instance that waits for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from tablevault import names
from tablevault.builders.document import read_document
from tablevault.errors import TVArgumentError, TVArtifactError, TVProcessError, TVTableError
from tablevault.execution.frame import DraftFrame
from tablevault.execution.primary_keys import check_primary_key
from tablevault.layout import index_builder_name, lock_on_artifacts, lock_on_instance
from tablevault.lookup import Lookup
from tablevault.operations.assembly import artifact_link, check_artifacts, reopen
from tablevault.operations.base import PAYLOAD, Operation, instance_folder, remove
from tablevault.operations.builder_files import SUFFIX, builder_files
from tablevault.operations.given_frames import (
    GivenFrame,
    InstanceFacts,
    artifact_columns,
    column_records,
    find_dependencies,
    new_instance_id,
    reads_of,
    seal_frame,
    stage_frame,
)
from tablevault.plans import WriteInstancePlan
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.frames import FrameData, read_frame, whole_frame
from tablevault.transaction import Drafting, Transaction
from tablevault.values import (
    ArtifactRecord,
    Changes,
    Creation,
    InstanceRecord,
    JsonObject,
    MaterializedInstance,
    TableRecord,
    Tidying,
)


@dataclass(frozen=True)
class WriteInstance(Operation[WriteInstancePlan]):
    """Makes a materialized instance from a frame of the caller's."""

    name: ClassVar[str] = "write_instance"

    table_df: Any = field(metadata=PAYLOAD)
    table_name: str
    version: str = names.DEFAULT_VERSION
    dependencies: Any = None
    dtypes: Any = None

    def plan(self, draft: Drafting) -> WriteInstancePlan:
        """Check the frame and find where it goes."""
        version = names.check_version(self.version)
        temporary_id = names.temporary_instance_id(version)
        key = names.fold(str(self.table_name))
        draft.lock_exclusive(lock_on_instance(key, temporary_id))
        table = draft.table(self.table_name)
        temporary = draft.temporary_instance(table, version)
        if not temporary.external_edit:
            raise TVArgumentError(
                f"Instance '{temporary_id}' of table '{table.name}' has builders and is materialized by "
                "execute_instance; create one with external_edit=True to write a frame."
            )
        inputs = find_dependencies(draft, self.dependencies)
        data = self._given.data
        self._check_artifacts(draft, table, temporary, data)
        check_primary_key(_primary_key(draft, table, temporary, data), data)
        if artifact_columns(data) and not table.allow_multiple_artifacts:
            draft.lock_exclusive(lock_on_artifacts(key))
        instance_id = new_instance_id(version)
        path = draft.layout.relative(draft.table_folder(table) / instance_id)
        return WriteInstancePlan(
            table_name=table.name,
            instance_id=temporary_id,
            creates=(Creation(path, instance_id),),
            table_id=table.table_id,
            temporary=temporary.row_id,
            temporary_folder=draft.layout.relative(draft.folder(table, temporary).root),
            new_instance_id=instance_id,
            inputs=inputs,
        )

    def work(self, plan: WriteInstancePlan, transaction: Transaction) -> Changes:
        """Write the frame and bring its artifacts in."""
        return self._make_instance(plan, transaction, success=True)

    def _make_instance(self, plan: WriteInstancePlan, transaction: Transaction, success: bool) -> Changes:
        table = transaction.contents.table_by_id(plan.table_id)
        assert table is not None
        folder = instance_folder(transaction, table, plan.new_instance_id)
        reopen(folder, kept=folder.frame)
        # Whether an earlier attempt wrote the frame to its end can be told from the frame.
        stored = whole_frame(folder.frame) or stage_frame(folder, self._given.data)
        folder.artifacts.mkdir()
        data = read_frame(folder.frame) if self.table_df is None else self._given.data
        records = self._copy_artifacts(plan, transaction, data)
        facts = InstanceFacts(table.name, plan.new_instance_id, self.name, plan.inputs, success=success)
        manifest = seal_frame(transaction, folder, stored, data, facts, records)
        shares = success and not table.allow_multiple_artifacts
        change = MaterializedInstance(
            plan.temporary,
            plan.new_instance_id,
            plan.new_instance_id,
            success,
            len(data),
            column_records(data),
            manifest,
            reads_of(plan.inputs),
            replaces_artifacts=shares,
        )
        steps: list[Tidying] = [remove(plan.temporary_folder)]
        if shares:
            steps.append(artifact_link(transaction, table, plan.new_instance_id, bool(records)))
        return Changes((change,), tuple(steps))

    def materialize_partial(self, plan: WriteInstancePlan, transaction: Transaction) -> Changes:
        """Return what makes a frame that was staged whole an instance, marked as not successful."""
        if not self.is_resumable(plan, transaction):
            raise TVProcessError(
                f"The frame of process '{transaction.process_id}' had not been staged whole, so there is nothing to "
                "materialize; stop it without materialize=True."
            )
        return self._make_instance(plan, transaction, success=False)

    def is_resumable(self, plan: WriteInstancePlan, transaction: Transaction) -> bool:
        """Return whether the frame is here, or had been staged whole."""
        if self.table_df is not None:
            return True
        table = transaction.contents.table_by_id(plan.table_id)
        assert table is not None
        return whole_frame(instance_folder(transaction, table, plan.new_instance_id).frame) is not None

    def digest(self, value: Any) -> JsonObject:
        """Return what is recorded of the frame: its content, whatever its dtypes are to be."""
        return self._given.digest()

    @cached_property
    def _given(self) -> GivenFrame:
        if self.table_df is None:
            raise TVArgumentError("write_instance needs a frame: table_df is None.")
        return GivenFrame(self.table_df, self.dtypes)

    def _check_artifacts(self, draft: Drafting, table: TableRecord, temporary: InstanceRecord, data: FrameData) -> None:
        named: dict[str, tuple[str, int]] = {}
        wrong: list[str] = []
        folder = ArtifactFolder(draft.folder(table, temporary).artifacts)
        for column in artifact_columns(data):
            for row, cell in enumerate(data.table.column(column).to_pylist()):
                try:
                    if cell is not None:
                        named[folder.checked_name(cell)] = (column, row)
                except ValueError as error:
                    wrong.append(f"column '{column}', row {row}: {error}")
        check_artifacts(sorted(folder.missing(named)), sorted(folder.unnamed(named)), named, wrong)

    def _copy_artifacts(
        self, plan: WriteInstancePlan, transaction: Transaction, data: FrameData
    ) -> list[ArtifactRecord]:
        source = transaction.layout.absolute(plan.temporary_folder) / "artifacts"
        target = transaction.layout.absolute(plan.creates[0].location) / "artifacts"
        frame = DraftFrame(InstanceArtifacts(target))
        for name, column_type in data.types.items():
            frame.put(name, data.table.column(name), column_type)
        folder = ArtifactFolder(target)
        records = []
        for name in sorted(frame.artifact_names()):
            files.make_folder((target / name).parent)
            files.copy_file(source / name, target / name)
            record = folder.record(name)
            if record is None:
                raise TVArtifactError(f"Artifact '{name}' disappeared while it was copied; write it again.")
            records.append(record)
        return records


def _primary_key(lookup: Lookup, table: TableRecord, temporary: InstanceRecord, data: FrameData) -> tuple[str, ...]:
    """Return the primary key that the instance's index builder declares, if it has one."""
    path = builder_files(lookup, table, temporary).get(index_builder_name(table.name))
    if path is None:
        return ()
    document = read_document(files.read_text(path), f"{path.stem}{SUFFIX}")
    key = document.fields.get("primary_key") or ()
    columns = (key,) if isinstance(key, str) else tuple(str(column) for column in key)  # type: ignore[attr-defined]
    for column in columns:
        if column not in data.types:
            raise TVTableError(f"The primary key column '{column}' is not in the frame.")
    return columns
