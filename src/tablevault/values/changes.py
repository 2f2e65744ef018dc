"""Changes that an operation asks the catalog to make visible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from tablevault.values.contents import ArtifactState, ColumnRecord, InstanceRecord, TableRecord, TagRecord
from tablevault.values.processes import ErrorInfo, ProcessRecord, Progress, Status


class TidyingAction(StrEnum):
    """Kinds of steps that may remain on disk once a process is decided. Each is idempotent."""

    REMOVE = "remove"
    """Remove the file or folder `source`."""
    PUT_FILE = "put file"
    """Move the staged file `source` to `target`, replacing it."""
    MOVE_FOLDER = "move folder"
    """Move the folder `source` to the free path `target`."""
    REPLACE_FOLDER = "replace folder"
    """Move the folder `source` to `target`, and remove the one that is there."""
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
        """The place that the step fills or frees."""
        return self.target or self.source


@dataclass(frozen=True, slots=True)
class NewTable:
    """A table appears."""

    name: str
    folder: str
    allow_multiple_artifacts: bool
    has_side_effects: bool
    description: str


@dataclass(frozen=True, slots=True)
class RenamedTable:
    """A table gets another name and folder."""

    table_id: int
    name: str
    folder: str
    previous_folder: str
    """Where its files are until the folder has been moved."""


@dataclass(frozen=True, slots=True)
class DeletedTable:
    """A table and all its instances disappear."""

    table_id: int


@dataclass(frozen=True, slots=True)
class NewTemporaryInstance:
    """A temporary instance appears."""

    table_id: int | None
    """`None`: of the table `table_name`, which appears in the same decision, before it."""
    instance_id: str
    version: str
    folder: str
    external_edit: bool
    origin: int | None
    description: str
    table_name: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """One column was computed from (a column of) another instance."""

    column: str
    builder: str
    input_row_id: int
    input_column: str
    """`*` where any column may have been read."""


@dataclass(frozen=True, slots=True)
class MaterializedInstance:
    """A temporary instance becomes a materialized one."""

    temporary_row_id: int
    instance_id: str
    folder: str
    success: bool
    row_count: int
    columns: tuple[ColumnRecord, ...]
    manifest: str
    """SHA-256 of the file that lists all others of the instance."""
    reads: tuple[Read, ...] = ()
    replaces_artifacts: bool = False
    """Whether it holds the table's one set of artifacts from now on."""
    deactivates_others: bool = False
    failed_cells: int = 0
    """Failed rows, summed over builders."""
    skipped_cells: int = 0
    """Skipped rows, summed over builders."""


@dataclass(frozen=True, slots=True)
class WrittenInstance:
    """A materialized instance appears that was not a temporary one before."""

    table_name: str
    """Of a table that may appear in the same decision, before it."""
    version: str
    instance_id: str
    folder: str
    row_count: int
    columns: tuple[ColumnRecord, ...]
    manifest: str
    """SHA-256 of the file that lists all others of the instance."""
    description: str
    reads: tuple[Read, ...] = ()
    replaces_artifacts: bool = False
    """Whether it holds the table's one set of artifacts from now on."""
    deactivates_others: bool = False
    external_edit: bool = True
    """Whether a program gave its frame; builders made it otherwise."""
    origin: int | None = None
    """Row id of the instance that it was made from."""
    failed_cells: int = 0
    """Failed rows, summed over builders."""
    skipped_cells: int = 0
    """Skipped rows, summed over builders."""


@dataclass(frozen=True, slots=True)
class UnchangedInstance:
    """A temporary instance disappears, because its execution made the same cells as its origin.

    The process is about the origin from then on.
    """

    temporary_row_id: int
    row_id: int
    """Of the origin, which still has to be the newest active instance of its version when this is decided."""
    instance_id: str
    """Id of the origin."""


@dataclass(frozen=True, slots=True)
class ConfirmedInputs:
    """An instance would not change if it were computed from these instances now."""

    row_id: int
    input_row_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ChangedService:
    """A service appears, gets other limits, or disappears."""

    name: str
    limits: Mapping[str, float] | None
    """`None` if it disappears."""


@dataclass(frozen=True, slots=True)
class ImportedTable:
    """A table that instances of another vault are imported into."""

    table_id: int | None
    """`None` for a table that appears."""
    name: str
    folder: str
    allow_multiple_artifacts: bool
    has_side_effects: bool
    description: str
    is_hidden: bool = False
    """Whether only lineages name it."""


@dataclass(frozen=True, slots=True)
class ImportedRead:
    """One column was computed from (a column of) another instance."""

    column: str
    builder: str
    input_id: str
    """Id of the other instance."""
    input_column: str


@dataclass(frozen=True, slots=True)
class ImportedInstance:
    """A materialized instance of another vault."""

    table: int
    """Place of its table in the import."""
    instance_id: str
    version: str
    folder: str
    active: bool
    success: bool
    external_edit: bool
    origin_id: str
    """Id of the instance that it was made from; empty for none."""
    artifact_state: ArtifactState
    row_count: int
    columns: tuple[ColumnRecord, ...]
    manifest: str
    description: str
    reads: tuple[ImportedRead, ...]
    replaces_artifacts: bool
    """Whether it holds the table's one set of artifacts from now on."""
    failed_cells: int
    skipped_cells: int
    is_hidden: bool
    """Whether only lineages name it."""


@dataclass(frozen=True, slots=True)
class ImportedTag:
    """A tag of an imported instance."""

    tag: str
    instance: int
    """Position of the instance among those of the import: two tables may have one of the same id."""
    description: str


@dataclass(frozen=True, slots=True)
class ImportedInstances:
    """Instances of another vault appear, in their order."""

    tables: tuple[ImportedTable, ...]
    instances: tuple[ImportedInstance, ...]
    tags: tuple[ImportedTag, ...]


@dataclass(frozen=True, slots=True)
class DeletedInstance:
    """An instance disappears."""

    row_id: int


@dataclass(frozen=True, slots=True)
class NewTag:
    """A tag names instances from now on, and no other ones of their tables."""

    tag: str
    instances: tuple[tuple[int, int], ...]
    """Number of the table, and row id of the instance, each of another table."""
    description: str
    moved_in: tuple[int, ...] = ()
    """Numbers of those tables in which the tag names another instance so far."""


@dataclass(frozen=True, slots=True)
class DeletedTag:
    """A tag of tables disappears."""

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
    """The whole visible effect of an operation: decided in one transaction, tidied up afterwards."""

    changes: tuple[Change, ...] = ()
    tidying: tuple[Tidying, ...] = ()
    ends: tuple[Decision, ...] = ()
    """Other processes that end in the same transaction."""
    warnings: tuple[str, ...] = ()
    """Told to the caller once the change is visible."""
    frees_artifacts: bool = False
    """Whether superseded artifacts may have to go because of the change."""

    @property
    def leaves_work(self) -> bool:
        """Whether something is left to do on disk after the decision."""
        return bool(self.tidying) or self.frees_artifacts


@dataclass(frozen=True, slots=True)
class Remaining:
    """The work on disk that a decision has left."""

    steps: tuple[tuple[int, Tidying], ...]
    """In their order, each with its id."""
    has_superseded: bool
    """Whether any instance has artifacts that are superseded, and may be removed."""


@dataclass(frozen=True, slots=True)
class Decision:
    """How one process ends: the commit point of a success, a revert or a stop."""

    serial: int
    attempt: int
    """Fencing token: the decision holds only if the process is still in this attempt."""
    status: Status
    changes: Changes = field(default_factory=Changes)
    error: ErrorInfo | None = None
    progress: Progress | None = None
    waiting: str = ""
    """What there is to wait for after a revert or a stop."""


@dataclass(frozen=True, slots=True)
class Imported:
    """The whole content of another catalog."""

    processes: Sequence[ProcessRecord]
    """Ended ones, in the order of their ends. An instance was made by the process of its id that was not reverted."""
    tables: Sequence[TableRecord]
    instances: Sequence[InstanceRecord]
    reads: Sequence[tuple[int, Read]]
    """Columns that were read, each with the row id of the instance that was computed from it."""
    tags: Sequence[TagRecord] = ()
    hidden_tables: frozenset[int] = frozenset()
    """Numbers of tables that are known by name only."""
    hidden_instances: frozenset[int] = frozenset()
    """Row ids of instances of which there is only metadata."""
    failures: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """Failed and skipped cells of the instances that have any, by row id."""
