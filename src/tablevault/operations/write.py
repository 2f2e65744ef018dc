"""Materializing a frame that was made elsewhere."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any, ClassVar

import xxhash

from tablevault import names
from tablevault.builders.building import Building
from tablevault.builders.document import read_document
from tablevault.builders.primary_keys import check_primary_key
from tablevault.builders.provenance import InputFacts, Provenance, write_artifact_records, write_provenance
from tablevault.errors import TVArgumentError, TVArtifactError, TVProcessError, TVTableError
from tablevault.layout import InstanceFolder, index_builder_name, lock_on_artifacts, lock_on_instance
from tablevault.lookup import Lookup
from tablevault.model import (
    ArtifactRecord,
    Changes,
    ColumnRecord,
    InstanceRecord,
    JsonObject,
    MaterializedInstance,
    Plan,
    Read,
    TableRecord,
    Tidying,
)
from tablevault.operations.assembly import artifact_link, check_artifacts, describe_instance, reopen, seal
from tablevault.operations.base import PAYLOAD, Operation, instance_folder, remove
from tablevault.operations.builder_files import SUFFIX, builder_files
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder, normalise_name
from tablevault.storage.dtypes import ColumnType, Kind, build_column, parse_dtype
from tablevault.storage.frames import FrameData, FrameRecord, read_frame, table_from_frame, whole_frame, write_frame
from tablevault.storage.packing import canonical
from tablevault.transaction import Drafting, Transaction


@dataclass(frozen=True)
class WriteInstance(Operation):
    """Makes a materialized instance from a frame of the caller's."""

    name: ClassVar[str] = "write_instance"

    table_df: Any = field(metadata=PAYLOAD)
    table_name: str
    version: str = names.DEFAULT_VERSION
    dependencies: Any = None
    dtypes: Any = None

    def plan(self, draft: Drafting) -> Plan:
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
        inputs = self._dependencies(draft)
        data = self._data
        self._check_artifacts(draft, table, temporary, data)
        check_primary_key(_primary_key(draft, table, temporary, data), data)
        if _artifact_columns(data) and not table.allow_multiple_artifacts:
            draft.lock_exclusive(lock_on_artifacts(key))
        folder = f"{version}_{int(time.time())}_{uuid.uuid4().hex}"
        facts = {
            "table_id": table.table_id,
            "temporary": temporary.row_id,
            "temporary_folder": draft.layout.relative(draft.folder(table, temporary).root),
            "instance_id": folder,
            "folder": folder,
            "creates": [draft.layout.relative(draft.table_folder(table) / folder)],
            "inputs": inputs,
        }
        return Plan(table.name, temporary_id, (), facts)

    def work(self, plan: Plan, transaction: Transaction) -> Changes:
        """Write the frame and bring its artifacts in."""
        return self._make_instance(plan, transaction, success=True)

    def _make_instance(self, plan: Plan, transaction: Transaction, success: bool) -> Changes:
        table = transaction.contents.table_by_id(plan.data["table_id"])
        assert table is not None
        folder = instance_folder(transaction, table, plan.data["folder"])
        reopen(folder, kept=folder.frame)
        # Whether an earlier attempt wrote the frame to its end can be told from the frame.
        stored = whole_frame(folder.frame) or self._write_frame(folder)
        folder.artifacts.mkdir()
        data = read_frame(folder.frame) if self.table_df is None else self._data
        records = self._copy_artifacts(plan, transaction, data)
        if records:
            write_artifact_records(folder.artifact_hashes, records)
        inputs = [InputFacts(*item) for item in plan.data["inputs"]]
        write_provenance(folder.provenance, _provenance(transaction, inputs))
        describe_instance(transaction, folder, table, plan.data["instance_id"], len(data), success)
        manifest = seal(folder, stored)
        shares = success and not table.allow_multiple_artifacts
        change = MaterializedInstance(
            plan.data["temporary"],
            plan.data["instance_id"],
            plan.data["folder"],
            success,
            len(data),
            tuple(ColumnRecord(name, column_type.name) for name, column_type in data.types.items()),
            manifest,
            tuple(Read("*", "", item.row_id, "*") for item in inputs),
            replaces_artifacts=shares,
        )
        steps: list[Tidying] = [remove(plan.data["temporary_folder"])]
        if shares:
            steps.append(artifact_link(transaction, table, plan.data["folder"], bool(records)))
        return Changes((change,), tuple(steps))

    def _write_frame(self, folder: InstanceFolder) -> FrameRecord:
        files.remove_tree(folder.root)
        files.make_folder(folder.root)
        stored = write_frame(folder.frame, self._data)
        # From here on the process can be taken up again without the caller's frame.
        files.settle_file(folder.frame)
        return stored

    def materialize_partial(self, plan: Plan, transaction: Transaction) -> Changes:
        """Return what makes a frame that was staged whole an instance, marked as not successful."""
        if not self.is_resumable(plan, transaction):
            raise TVProcessError(
                f"The frame of process '{transaction.process_id}' had not been staged whole, so there is nothing to "
                "materialize; stop it without materialize=True."
            )
        return self._make_instance(plan, transaction, success=False)

    def is_resumable(self, plan: Plan, transaction: Transaction) -> bool:
        """Tell whether the frame is here, or had been staged whole."""
        if self.table_df is not None:
            return True
        table = transaction.contents.table_by_id(plan.data["table_id"])
        assert table is not None
        return whole_frame(instance_folder(transaction, table, plan.data["folder"]).frame) is not None

    def digest(self, value: Any) -> JsonObject:
        """Return what is recorded of the frame: its content, whatever its dtypes are to be."""
        data = self._data if not self.dtypes else table_from_frame(value, {})
        content = xxhash.xxh3_128_hexdigest(canonical(data.table))
        return {"rows": len(data), "columns": list(data.types), "xxh3": content}

    @cached_property
    def _data(self) -> FrameData:
        if self.table_df is None:
            raise TVArgumentError("write_instance needs a frame: table_df is None.")
        return _with_normal_names(table_from_frame(self.table_df, self._declared_types()))

    def _declared_types(self) -> dict[str, ColumnType]:
        if self.dtypes is None:
            return {}
        if not isinstance(self.dtypes, Mapping):
            raise TVArgumentError("dtypes is a dict of column name -> dtype.")
        types = {}
        for column, dtype in self.dtypes.items():
            if not isinstance(dtype, str):
                kind = type(dtype).__name__
                raise TVArgumentError(f"The dtype of column '{column}' must be its name as a str, not {kind}.")
            try:
                column_type = parse_dtype(dtype)
            except (TypeError, ValueError) as error:
                raise TVArgumentError(f"The dtype of column '{column}' is wrong: {error}") from error
            if column_type is not None:
                types[column] = column_type
        return types

    def _dependencies(self, draft: Drafting) -> list[list[Any]]:
        """Return the instances that the frame was made from: table, instance id and row id of each."""
        given = self.dependencies or ()
        if not isinstance(given, list | tuple) or not all(map(_is_pair, given)):
            raise TVArgumentError(f"dependencies is a list of (table_name, instance_id), not {given!r:.100}.")
        found = []
        for table_name, instance_id in given:
            if instance_id:
                draft.lock_shared(lock_on_instance(names.fold(table_name), instance_id))
            table = draft.table(table_name)
            instance = draft.instance(table, instance_id) if instance_id else draft.newest(table, None)
            draft.lock_shared(lock_on_instance(names.fold(table.name), instance.instance_id))
            found.append([table.name, instance.instance_id, instance.row_id])
        return found

    def _check_artifacts(self, draft: Drafting, table: TableRecord, temporary: InstanceRecord, data: FrameData) -> None:
        named: dict[str, tuple[str, int]] = {}
        wrong: list[str] = []
        folder = ArtifactFolder(draft.folder(table, temporary).artifacts)
        for column in _artifact_columns(data):
            for row, cell in enumerate(data.table.column(column).to_pylist()):
                try:
                    if cell is not None:
                        named[folder.checked_name(cell)] = (column, row)
                except ValueError as error:
                    wrong.append(f"column '{column}', row {row}: {error}")
        check_artifacts(sorted(folder.missing(named)), sorted(folder.unnamed(named)), named, wrong)

    def _copy_artifacts(self, plan: Plan, transaction: Transaction, data: FrameData) -> list[ArtifactRecord]:
        source = transaction.layout.absolute(plan.data["temporary_folder"]) / "artifacts"
        target = transaction.layout.absolute(plan.data["creates"][0]) / "artifacts"
        building = Building(target)
        for name, column_type in data.types.items():
            building.put(name, data.table.column(name), column_type)
        folder = ArtifactFolder(target)
        records = []
        for name in sorted(building.artifact_names()):
            files.make_folder((target / name).parent)
            files.copy_file(source / name, target / name)
            record = folder.record(name)
            if record is None:
                raise TVArtifactError(f"Artifact '{name}' disappeared while it was copied; write it again.")
            records.append(record)
        return records


def _is_pair(item: object) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(part, str) for part in item)


def _provenance(transaction: Transaction, inputs: list[InputFacts]) -> Provenance:
    return Provenance(
        process_id=transaction.process_id,
        operation="write_instance",
        author=transaction.context.author,
        finished_at=datetime.now(UTC).isoformat(),
        dependencies=tuple(inputs),
    )


def _artifact_columns(data: FrameData) -> list[str]:
    return [name for name, column_type in data.types.items() if column_type.kind is Kind.ARTIFACT]


def _with_normal_names(data: FrameData) -> FrameData:
    """Return a frame in which each artifact goes by the one form of its name; what cannot be one is left as it is."""
    table = data.table
    for column in _artifact_columns(data):
        place = table.schema.get_field_index(column)
        names = [_normal_name(cell) for cell in table.column(place).to_pylist()]
        table = table.set_column(place, table.schema.field(place), build_column(names, data.types[column])[0])
    return FrameData(table, data.types)


def _normal_name(cell: str | None) -> str | None:
    try:
        return None if cell is None else normalise_name(cell)
    except ValueError:
        return cell


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
