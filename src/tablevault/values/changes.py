"""Changes that an operation commits to the catalog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tablevault.values.contents import ArtifactState, ColumnRecord, InstanceRecord, TableRecord, TagRecord
from tablevault.values.processes import ErrorInfo, ProcessRecord, Progress, Status


class TidyingAction(StrEnum):
    """Kinds of idempotent steps on disk that may remain after a decision."""

    REMOVE = "remove"
    """Remove the file or folder `source`."""
    PUT_FILE = "put file"
    """Move the staged file `source` to `target`, replacing it."""
    MOVE_FOLDER = "move folder"
    """Move the folder `source` to the free path `target`."""
    REPLACE_FOLDER = "replace folder"
    """Move the folder `source` to `target`, removing an existing one."""
    PRUNE = "prune"
    """Drop frames and artifacts from the archived folder `source`, leaving its metadata."""
    LINK = "link"
    """Make `target` a symbolic link to the folder `source`."""
    UNLINK = "unlink"
    """Remove `target` if it is a symbolic link."""


@dataclass(frozen=True, slots=True)
class Tidying:
    """One step on disk after a decision; paths are relative to the vault."""

    action: TidyingAction
    source: str = ""
    target: str = ""

    @property
    def path(self) -> str:
        """The path that the step writes or removes."""
        return self.target or self.source


@dataclass(frozen=True, slots=True)
class NewTable:
    """Creation of a table."""

    name: str
    folder: str
    allow_multiple_artifacts: bool
    has_side_effects: bool
    description: str


@dataclass(frozen=True, slots=True)
class RenamedTable:
    """Renaming of a table and its folder."""

    table_id: int
    name: str
    folder: str
    previous_folder: str
    """Location of its files until the folder has been moved."""


@dataclass(frozen=True, slots=True)
class DeletedTable:
    """Deletion of a table and all its instances."""

    table_id: int


@dataclass(frozen=True, slots=True)
class NewTemporaryInstance:
    """Creation of a temporary instance."""

    table_id: int | None
    """`None` for the table `table_name`, created earlier in the same decision."""
    instance_id: str
    version: str
    folder: str
    external_edit: bool
    origin: int | None
    description: str
    table_name: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """Dependency of a column on (a column of) another instance."""

    column: str
    builder: str
    input_row_id: int
    input_column: str
    """`*` if any column may have been read."""


@dataclass(frozen=True, slots=True)
class MaterializedInstance:
    """Materialization of a temporary instance."""

    temporary_row_id: int
    instance_id: str
    folder: str
    success: bool
    row_count: int
    columns: tuple[ColumnRecord, ...]
    manifest: str
    """SHA-256 of the manifest, which lists all other files of the instance."""
    reads: tuple[Read, ...] = ()
    replaces_artifacts: bool = False
    """Whether its artifacts become the table's only set."""
    deactivates_others: bool = False
    failed_cells: int = 0
    """Failed rows, summed over builders."""
    skipped_cells: int = 0
    """Skipped rows, summed over builders."""


@dataclass(frozen=True, slots=True)
class WrittenInstance:
    """Creation of a materialized instance without a temporary one."""

    table_name: str
    """Name of the table, which may be created earlier in the same decision."""
    version: str
    instance_id: str
    folder: str
    row_count: int
    columns: tuple[ColumnRecord, ...]
    manifest: str
    """SHA-256 of the manifest, which lists all other files of the instance."""
    description: str
    reads: tuple[Read, ...] = ()
    replaces_artifacts: bool = False
    """Whether its artifacts become the table's only set."""
    deactivates_others: bool = False
    external_edit: bool = True
    """Whether its frame was written by a program rather than made by builders."""
    origin: int | None = None
    """Row id of the instance from which it was made."""
    failed_cells: int = 0
    """Failed rows, summed over builders."""
    skipped_cells: int = 0
    """Skipped rows, summed over builders."""


@dataclass(frozen=True, slots=True)
class UnchangedInstance:
    """Removal of a temporary instance whose cells are the same as its origin's.

    The process refers to the origin from then on.
    """

    temporary_row_id: int
    row_id: int
    """Row id of the origin, which must still be the newest active instance of its version at the commit."""
    instance_id: str
    """Id of the origin."""


@dataclass(frozen=True, slots=True)
class ConfirmedInputs:
    """Inputs from which recomputing an instance would not change it."""

    row_id: int
    input_row_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChangedService:
    """Creation, change or deletion of a service."""

    name: str
    limits: Mapping[str, float] | None
    """`None` to delete it."""


@dataclass(frozen=True, slots=True)
class ImportedTable:
    """Target table of an import from another vault."""

    table_id: int | None
    """`None` for a new table."""
    name: str
    folder: str
    allow_multiple_artifacts: bool
    has_side_effects: bool
    description: str
    is_hidden: bool = False
    """Whether it is known only from lineages."""


@dataclass(frozen=True, slots=True)
class ImportedRead:
    """Dependency of a column on (a column of) another instance."""

    column: str
    builder: str
    input_id: str
    """Id of the other instance."""
    input_column: str


@dataclass(frozen=True, slots=True)
class ImportedInstance:
    """A materialized instance of another vault."""

    table: int
    """Position of its table in the import."""
    instance_id: str
    version: str
    folder: str
    active: bool
    success: bool
    external_edit: bool
    origin_id: str
    """Id of the instance from which it was made; empty without an origin."""
    artifact_state: ArtifactState
    row_count: int
    columns: tuple[ColumnRecord, ...]
    manifest: str
    description: str
    reads: tuple[ImportedRead, ...]
    replaces_artifacts: bool
    """Whether its artifacts become the table's only set."""
    failed_cells: int
    skipped_cells: int
    is_hidden: bool
    """Whether it is known only from lineages."""


@dataclass(frozen=True, slots=True)
class ImportedTag:
    """A tag of an imported instance."""

    tag: str
    instance: int
    """Position of the instance in the import, because two tables may share an instance id."""
    description: str


@dataclass(frozen=True, slots=True)
class ImportedInstances:
    """Import of another vault's instances, in order."""

    tables: tuple[ImportedTable, ...]
    instances: tuple[ImportedInstance, ...]
    tags: tuple[ImportedTag, ...]


@dataclass(frozen=True, slots=True)
class DeletedInstance:
    """Deletion of an instance."""

    row_id: int


@dataclass(frozen=True, slots=True)
class NewTag:
    """Assignment of a tag to instances, one per table."""

    tag: str
    instances: tuple[tuple[int, int], ...]
    """Table id and instance row id, one pair per table."""
    description: str
    moved_in: tuple[int, ...] = ()
    """Ids of the tables in which the tag moves from another instance."""


@dataclass(frozen=True, slots=True)
class DeletedTag:
    """Deletion of a tag from tables."""

    tag: str
    table_ids: tuple[int, ...]


Change = (
    NewTable
    | RenamedTable
    | DeletedTable
    | NewTemporaryInstance
    | MaterializedInstance
    | WrittenInstance
    | UnchangedInstance
    | ConfirmedInputs
    | ChangedService
    | ImportedInstances
    | DeletedInstance
    | NewTag
    | DeletedTag
)


@dataclass(frozen=True, slots=True)
class Changes:
    """Visible effect of an operation, decided in one transaction and tidied up afterwards."""

    changes: tuple[Change, ...] = ()
    tidying: tuple[Tidying, ...] = ()
    ends: tuple[Decision, ...] = ()
    """Other processes that end in the same transaction."""
    warnings: tuple[str, ...] = ()
    """Warnings issued to the caller once the change is visible."""
    frees_artifacts: bool = False
    """Whether the change may make superseded artifacts removable."""

    @property
    def leaves_work(self) -> bool:
        """Whether work on disk remains after the decision."""
        return bool(self.tidying) or self.frees_artifacts


@dataclass(frozen=True, slots=True)
class Remaining:
    """Work on disk that remains after a decision."""

    steps: tuple[tuple[int, Tidying], ...]
    """Steps in order, each with its id."""
    has_superseded: bool
    """Whether any instance has superseded artifacts, which may be removed."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Commit point of a process's success, revert or stop."""

    serial: int
    attempt: int
    """Fencing token: the decision holds only if the process is still in this attempt."""
    status: Status
    changes: Changes = field(default_factory=Changes)
    error: ErrorInfo | None = None
    progress: Progress | None = None
    waiting: str = ""
    """Wait reason after a revert or stop."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The whole content of another catalog."""

    processes: Sequence[ProcessRecord]
    """Ended processes, in end order. The maker of an instance is the process of its id that was not reverted."""
    tables: Sequence[TableRecord]
    instances: Sequence[InstanceRecord]
    reads: Sequence[tuple[int, Read]]
    """Reads, each with the row id of the dependent instance."""
    tags: Sequence[TagRecord] = ()
    hidden_tables: frozenset[int] = frozenset()
    """Ids of tables known only by name."""
    hidden_instances: frozenset[int] = frozenset()
    """Row ids of instances with metadata only."""
    failures: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Failed and skipped cells of the instances that have any, by row id."""
