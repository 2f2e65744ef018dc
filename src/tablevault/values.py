"""Immutable values shared by all layers, with no behaviour beyond derivation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from tablevault.clock import datetime
from tablevault.outcomes import Cause

JsonObject = dict[str, Any]


class Status(StrEnum):
    """Where a process is in its life."""

    RUNNING = "running"
    PAUSED = "paused"
    COMMITTING = "committing"
    SUCCEEDED = "succeeded"
    REVERTED = "reverted"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        """Whether nothing of the process's work can change any more."""
        return self in (Status.SUCCEEDED, Status.REVERTED, Status.STOPPED)


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
class Lock:
    """One claim on a part of the vault, held by a process from its start to its end."""

    resource: str
    """A path such as `code` or `table/stories/instance/TEMP_base`; it covers everything below it."""
    exclusive: bool

    def conflicts(self, other: Lock) -> bool:
        """Return whether two processes cannot hold both locks."""
        mine, theirs = f"{self.resource}/", f"{other.resource}/"
        return (self.exclusive or other.exclusive) and (mine.startswith(theirs) or theirs.startswith(mine))

    @property
    def text(self) -> str:
        """The lock as messages show it."""
        return f"{'exclusive' if self.exclusive else 'shared'} {self.resource}"


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


# --- changes that an operation asks the catalog to make visible ---------------------------------------------------


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
    """A materialized instance appears that was no temporary one before."""

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
    """A temporary instance disappears, because its execution made what its origin holds already.

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


@dataclass(frozen=True, slots=True)
class DeletedTag:
    """A tag of a table disappears."""

    table_id: int
    tag: str


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


# --- processes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Creation:
    """A table or instance that a process is going to make visible."""

    location: str
    """Path of its folder."""
    instance_id: str = ""
    """Empty for a table."""
    table_name: str = ""
    """Empty for the table that the process is about."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="plan"):
    """The fields that every plan has; a plan is enough to do the work, or to do it again."""

    table_name: str = ""
    """The table that the process is about."""
    instance_id: str = ""
    """The instance that the process is about, as the call names it."""
    locks: tuple[Lock, ...] = ()
    creates: tuple[Creation, ...] = ()
    """Invisible until the process succeeds; removed if it does not."""

    def facts(self) -> JsonObject:
        """Return the facts that are shown with the arguments of the process."""
        return {}


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An exception, as it is kept in the catalog."""

    type: str
    """Qualified name of its class."""
    message: str
    """Its text."""
    traceback: str
    """As Python prints it, with its notes."""
    cause: Cause | None = None
    """`vault`, `function`, `interrupt` or `system`; `None` in records of earlier versions."""
    time: datetime | None = None
    """When it was recorded, in UTC; `None` where that is not known: of an owner that died, in records of earlier
    versions."""


@dataclass(frozen=True, slots=True)
class OwnerInfo:
    """The present or last owner of a process."""

    host: str
    """The machine's name."""
    pid: int
    """The interpreter's process number there."""
    alive: bool
    """Whether it is still at it."""


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """The use that calls for one row have made in one process."""

    calls: float = 0
    """A call for a batch counts in equal shares for each of its rows."""
    seconds: float | None = None
    """`None` where the time of a single call is not known."""
    amounts: dict[str, float] = {}
    """The amounts that functions reported."""


class JobRecord(msgspec.Struct, frozen=True, array_like=True):
    """A job at a provider, as checkpoints keep it: from before it is submitted until its rows are there."""

    token: str
    """Made up before the job is submitted, so that it can be looked for."""
    positions: list[int]
    """Its rows, in the order in which they were given."""
    code: str
    """The version of the builder and its code that made the job."""
    created_at: float
    """Seconds since the epoch."""
    job_id: str | None = None
    """The provider's name for it; `None` while it is not known whether the job was submitted."""
    is_over: bool = False
    """Whether nothing more is expected of it."""


WHOLE_BUILDER = -1
"""Stands for the position of a row where a function is called once for its builder."""


@dataclass(frozen=True, slots=True)
class BuilderProgress:
    """How far one builder of an execution is."""

    total: int | None
    """Rows in all; `None` while unknown."""
    computed: int
    """Rows computed so far, by all attempts together."""
    reused: int
    """Rows taken over from an origin."""
    done: bool
    """Whether it has finished."""
    failed: int = 0
    """Rows that failed and were recorded, by all attempts together."""
    skipped: int = 0
    """Rows that were not tried, because a cell that they read failed."""
    retried: int = 0
    """Calls that were repeated in this attempt."""
    retrying: int = 0
    """Calls that wait to be repeated."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """Calls, where they are counted, and the amounts that they reported, by all attempts together."""

    def __repr__(self) -> str:
        always = f"total={self.total}, computed={self.computed}, reused={self.reused}, done={self.done}"
        others = {name: getattr(self, name) for name in ("failed", "skipped", "retried", "retrying", "usage")}
        return f"BuilderProgress({', '.join([always, *(f'{name}={item}' for name, item in others.items() if item)])})"


Progress = Mapping[str, BuilderProgress]
"""How far an execution is, by builder in the order in which they run."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process as the catalog knows it."""

    serial: int
    process_id: str
    operation: str
    author: str
    table_name: str
    instance_id: str
    arguments: Mapping[str, Any]
    plan: Plan
    parent_serial: int | None
    user_given: bool
    background: bool
    status: Status
    finished: bool
    """Whether its tidying is over and its locks are released."""
    attempt: int
    owner_lock: str | None
    owner_host: str
    owner_pid: int
    started_at: datetime
    ended_at: datetime | None
    error: ErrorInfo | None
    progress: Progress
    stop_requested: bool

    @property
    def is_decided(self) -> bool:
        """Whether nothing is left to do but to tidy up."""
        return self.status is Status.COMMITTING or self.status.ended


@dataclass(frozen=True, slots=True)
class Remaining:
    """The work on disk that a decision has left."""

    steps: tuple[tuple[int, Tidying], ...]
    """In their order, each with its id."""
    has_superseded: bool
    """Whether any instance has artifacts that are superseded, and may be removed."""


@dataclass(frozen=True, slots=True)
class NewProcess:
    """A process that begins."""

    process_id: str
    operation: str
    author: str
    arguments: Mapping[str, Any]
    parent_serial: int | None
    user_given: bool
    background: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner that claims an attempt."""

    lock: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Begun:
    """A process was recorded and holds its locks."""

    serial: int
    generation: int
    """The catalog's generation at that moment: a plan made at an older one has to be made again."""
    has_failed_steps: bool = False
    """Whether steps on disk of any process have failed and are to be tried again."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """A process could not begin, because others hold conflicting locks."""

    holders: tuple[int, ...]
    wanted: tuple[Lock, ...] = ()
    """The locks that it needs."""


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
