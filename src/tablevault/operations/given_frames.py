"""Frames that callers hand over: how they are read, recorded, and made an instance's files."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import xxhash

from tablevault import names
from tablevault.errors import TVArgumentError
from tablevault.execution.provenance import InputFacts, Provenance, write_artifact_records, write_provenance
from tablevault.layout import InstanceFolder, lock_on_instance
from tablevault.operations.assembly import describe_instance, seal
from tablevault.plans import Dependency
from tablevault.storage import files
from tablevault.storage.artifacts import normalise_name
from tablevault.storage.dtypes import ColumnType, Kind, build_column, parse_dtype
from tablevault.storage.frames import FrameData, FrameRecord, table_from_frame, write_frame
from tablevault.storage.packing import canonical
from tablevault.transaction import Drafting, Transaction
from tablevault.values import ArtifactRecord, ColumnRecord, JsonObject, Read


@dataclass(frozen=True)
class GivenFrame:
    """A frame of the caller's, with the dtypes that its columns are to have."""

    frame: Any
    dtypes: Any

    @cached_property
    def data(self) -> FrameData:
        """The frame as it will be stored.

        Raises `TVTableError` for what cannot be, `TVArgumentError` for wrong dtypes.
        """
        return _with_normal_names(table_from_frame(self.frame, self._declared_types()))

    def digest(self) -> JsonObject:
        """Return what is recorded of the frame: its content, whatever its dtypes are to be."""
        data = self.data if not self.dtypes else table_from_frame(self.frame, {})
        return {"rows": len(data), "columns": list(data.types), "xxh3": content_digest(data)}

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


def content_digest(data: FrameData) -> str:
    """Return a digest of the values of a frame."""
    return xxhash.xxh3_128_hexdigest(canonical(data.table))


def new_instance_id(version: str) -> str:
    """Return the id of an instance that is about to be materialized."""
    return f"{version}_{int(time.time())}_{uuid.uuid4().hex}"


def find_dependencies(draft: Drafting, given: object) -> tuple[Dependency, ...]:
    """Return the instances that a frame was made from, and lock them as read."""
    pairs = given or ()
    if not isinstance(pairs, list | tuple) or not all(map(_is_pair, pairs)):
        raise TVArgumentError(f"dependencies is a list of (table_name, instance_id), not {given!r:.100}.")
    found = []
    for table_name, instance_id in pairs:
        if instance_id:
            draft.lock_shared(lock_on_instance(names.fold(table_name), instance_id))
        table = draft.table(table_name)
        instance = draft.instance(table, instance_id) if instance_id else draft.newest(table, None)
        draft.lock_shared(lock_on_instance(names.fold(table.name), instance.instance_id))
        found.append(Dependency(table.name, instance.instance_id, instance.row_id))
    return tuple(found)


def stage_frame(folder: InstanceFolder, data: FrameData) -> FrameRecord:
    """Write a frame into the folder of its instance, from which it can be taken up again without the caller's."""
    files.remove_tree(folder.root)
    files.make_folder(folder.root)
    stored = write_frame(folder.frame, data)
    files.settle_file(folder.frame)
    return stored


@dataclass(frozen=True)
class InstanceFacts:
    """What is written about an instance beside its frame."""

    table_name: str
    instance_id: str
    operation: str
    dependencies: Sequence[Dependency]
    primary_key: tuple[str, ...] = ()
    success: bool = True


def seal_frame(
    transaction: Transaction,
    folder: InstanceFolder,
    stored: FrameRecord,
    data: FrameData,
    facts: InstanceFacts,
    artifacts: Sequence[ArtifactRecord] = (),
) -> str:
    """Write everything else of an instance and make it read-only and durable; return the digest of its manifest."""
    if artifacts:
        write_artifact_records(folder.artifact_hashes, artifacts)
    provenance = Provenance(
        process_id=transaction.process_id,
        operation=facts.operation,
        author=transaction.context.author,
        finished_at=datetime.now(UTC).isoformat(),
        primary_key=facts.primary_key,
        dependencies=tuple(InputFacts(item.table_name, item.instance_id, item.row_id) for item in facts.dependencies),
    )
    write_provenance(folder.provenance, provenance)
    describe_instance(transaction, folder, facts.table_name, facts.instance_id, len(data), facts.success)
    return seal(folder, stored)


def column_records(data: FrameData) -> tuple[ColumnRecord, ...]:
    """Return the columns of a frame as the catalog records them."""
    return tuple(ColumnRecord(name, column_type.name) for name, column_type in data.types.items())


def reads_of(dependencies: Sequence[Dependency]) -> tuple[Read, ...]:
    """Return the dependencies of a frame as the catalog records them."""
    return tuple(Read("*", "", item.row_id, "*") for item in dependencies)


def artifact_columns(data: FrameData) -> list[str]:
    """Return the names of the columns whose cells name files."""
    return [name for name, column_type in data.types.items() if column_type.kind is Kind.ARTIFACT]


def _is_pair(item: object) -> bool:
    return isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(part, str) for part in item)


def _with_normal_names(data: FrameData) -> FrameData:
    """Return a frame in which each artifact goes by the one form of its name; what cannot be one is left as it is."""
    table = data.table
    for column in artifact_columns(data):
        place = table.schema.get_field_index(column)
        named = [_normal_name(cell) for cell in table.column(place).to_pylist()]
        table = table.set_column(place, table.schema.field(place), build_column(named, data.types[column])[0])
    return FrameData(table, data.types)


def _normal_name(cell: str | None) -> str | None:
    try:
        return None if cell is None else normalise_name(cell)
    except ValueError:
        return cell
