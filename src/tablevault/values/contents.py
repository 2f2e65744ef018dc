"""Tables, instances, tags and artifacts, as the catalog records them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import msgspec

from tablevault.system.clock import datetime

JsonObject = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ArtifactRecord:
    """One artifact file as it was when its row was finished."""

    path: str
    """Relative to the instance's artifact folder, with `/` between parts."""
    size: int
    """In bytes."""
    sha256: str
    """Hexadecimal digest of the content."""


@dataclass(frozen=True, slots=True)
class TableRecord:
    """A table as the catalog knows it."""

    table_id: int
    name: str
    folder: str
    """Name of the table's folder in the vault."""
    previous_folder: str | None
    """Where the folder still may be, while a renaming is being applied."""
    allow_multiple_artifacts: bool
    has_side_effects: bool
    description: str
    author: str
    created_at: datetime


class ArtifactState(StrEnum):
    """Whether an instance's artifact files are there."""

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
    """An instance as the catalog knows it."""

    row_id: int
    """Grows in the order of commits."""
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
    """SHA-256 of the file that lists all others of a materialized instance."""
    description: str
    author: str
    created_at: datetime
    process_id: str


class NamedInstance(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A materialized instance with the name of its table, where many are read at once."""

    table_id: int
    table_name: str
    row_id: int
    instance_id: str
    artifact_state: ArtifactState
    columns: tuple[ColumnRecord, ...]

    @classmethod
    def of(cls, table: TableRecord, instance: InstanceRecord) -> NamedInstance:
        """Return it from the records of both."""
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
    """An instance as lists show it, without its columns."""

    row_id: int
    """Grows in the order of commits."""
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
    """The instance of a table that a reading method means."""

    table_name: str
    instance_id: str
    """Empty for the newest materialized instance of a version."""
    version: str
    active_only: bool = True
    successful_only: bool = False


@dataclass(frozen=True, slots=True)
class Page:
    """The rows of a frame that a reading method returns."""

    offset: int = 0
    """Rows that are passed over."""
    rows: int | None = None
    """Rows after those at most; `None` for all."""


@dataclass(frozen=True, slots=True)
class Selected:
    """An instance that a selection means, with its table."""

    table: TableRecord
    instance: InstanceRecord
    is_held: bool
    """Whether a process holds the whole table exclusively."""


@dataclass(frozen=True, slots=True)
class TagRecord:
    """A tag of one table."""

    tag: str
    table_id: int
    table_name: str
    row_id: int
    """Of the tagged instance."""
    instance_id: str
    """Of the tagged instance."""
    description: str
    author: str
    created_at: datetime
    process_id: str
