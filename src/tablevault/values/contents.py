"""Catalog records of tables, instances, tags and artifacts."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from tablevault.system.clock import datetime

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class CatalogIdentity:
    """The format of a catalog, and the vault that it belongs to."""

    format: int
    vault_id: str | None = None
    """`None` in format 1, which does not record it."""
    address: str | None = None
    """Folder of the vault; `None` if the catalog is inside it."""


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """An artifact file, as recorded when its row finished."""

    path: str
    """Path relative to the instance's artifact folder, separated by `/`."""
    size: int
    """Size in bytes."""
    sha256: str
    """Hexadecimal digest of the content."""


@dataclass(frozen=True, slots=True)
class TableRecord:
    """A table as recorded in the catalog."""

    table_id: int
    name: str
    folder: str
    """Name of the table's folder in the vault."""
    previous_folder: str | None
    """Former name of the folder, which may still exist while a renaming is being applied."""
    allow_multiple_artifacts: bool
    has_side_effects: bool
    description: str
    author: str
    created_at: datetime


class ArtifactState(StrEnum):
    """Availability of an instance's artifact files."""

    PRESENT = "present"
    SUPERSEDED = "superseded"
    DROPPED = "dropped"


@dataclass(frozen=True, slots=True)
class ColumnRecord:
    """One column of a materialized instance."""

    name: str
    type_name: str
    """Name of its column type, as `storage.dtypes` parses it."""


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """An instance as recorded in the catalog."""

    row_id: int
    """Increases in commit order."""
    table_id: int
    instance_id: str
    version: str
    folder: str
    """Name of the instance's folder in the table's folder."""
    temporary: bool
    active: bool
    success: bool
    external_edit: bool
    origin: int | None
    """Row id of the instance that this one was copied from."""
    artifact_state: ArtifactState
    row_count: int | None
    columns: tuple[ColumnRecord, ...]
    manifest: str | None
    """SHA-256 of the manifest, which lists all other files of a materialized instance."""
    description: str
    author: str
    created_at: datetime
    process_id: str


class NamedInstance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A materialized instance with its table's name, compact for reading many at once."""

    table_id: int
    table_name: str
    row_id: int
    instance_id: str
    artifact_state: ArtifactState
    columns: tuple[ColumnRecord, ...]

    @classmethod
    def of(cls, table: TableRecord, instance: InstanceRecord) -> NamedInstance:
        """Combine the records of a table and an instance."""
        return cls(
            table.table_id,
            table.name,
            instance.row_id,
            instance.instance_id,
            instance.artifact_state,
            instance.columns,
        )


@dataclass(frozen=True, slots=True)
class ListedInstance:
    """An instance as shown in lists, without its columns."""

    row_id: int
    """Increases in commit order."""
    table_id: int
    instance_id: str
    version: str
    temporary: bool
    active: bool
    success: bool
    external_edit: bool
    artifact_state: ArtifactState
    row_count: int | None
    description: str
    author: str
    created_at: datetime
    process_id: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Selection of one instance of a table by a reading method."""

    table_name: str
    instance_id: str
    """Empty for the newest materialized instance of a version."""
    version: str
    active_only: bool = True
    successful_only: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """Range of a frame's rows returned by a reading method."""

    offset: int = 0
    """Number of rows to skip."""
    rows: int | None = None
    """Maximum number of rows; `None` for all."""


@dataclass(frozen=True, slots=True)
class Selected:
    """A selected instance with its table."""

    table: TableRecord
    instance: InstanceRecord
    is_held: bool
    """Whether a process holds an exclusive lock on the whole table."""


@dataclass(frozen=True, slots=True)
class TagRecord:
    """A tag of one table."""

    tag: str
    table_id: int
    table_name: str
    row_id: int
    """Row id of the tagged instance."""
    instance_id: str
    """Id of the tagged instance."""
    description: str
    author: str
    created_at: datetime
    process_id: str
