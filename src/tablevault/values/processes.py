"""Catalog records of processes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

import msgspec

from tablevault.errors import TVFileError
from tablevault.system.clock import datetime
from tablevault.texts.plain import in_line
from tablevault.values.contents import JsonObject
from tablevault.values.outcomes import Cause


class Status(StrEnum):
    """State of a process."""

    RUNNING = "running"
    PAUSED = "paused"
    COMMITTING = "committing"
    SUCCEEDED = "succeeded"
    REVERTED = "reverted"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        """Whether the process's work is final."""
        return self in (Status.SUCCEEDED, Status.REVERTED, Status.STOPPED)


@dataclass(frozen=True, slots=True)
class Lock:
    """Claim on a part of the vault, held by a process from start to end."""

    resource: str
    """A path such as `code` or `table/stories/instance/TEMP_base`; it covers everything below it."""
    exclusive: bool

    def conflicts(self, other: Lock) -> bool:
        """Return whether two processes cannot hold both locks at once."""
        mine, theirs = f"{self.resource}/", f"{other.resource}/"
        return (self.exclusive or other.exclusive) and (mine.startswith(theirs) or theirs.startswith(mine))

    @property
    def text(self) -> str:
        """The lock as shown in messages."""
        return f"{'exclusive' if self.exclusive else 'shared'} {self.resource}"


@dataclass(frozen=True, slots=True)
class Creation:
    """A table or instance that a process will make visible."""

    location: str
    """Path of its folder."""
    instance_id: str = ""
    """Empty for a table."""
    table_name: str = ""
    """Empty for the process's own table; not read back from the catalog."""


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="kind", tag="plan"):
    """Common fields of plans; a plan suffices to do the work, or to redo it."""

    table_name: str = ""
    """Table of the process."""
    instance_id: str = ""
    """Instance of the process, as named in the call."""
    locks: tuple[Lock, ...] = ()
    creates: tuple[Creation, ...] = ()
    """Invisible until the process succeeds; removed if it does not."""

    @property
    def created(self) -> Creation:
        """The one instance that the process will make visible.

        Raises
        ------
        TVFileError
            If the catalog has lost it.
        """
        if not self.creates:
            raise TVFileError(
                f"The catalog is damaged: it does not name the folder that the process on '{self.instance_id}' of "
                f"table '{self.table_name}' creates. Restore a backup of the vault."
            )
        return self.creates[0]

    def facts(self) -> JsonObject:
        """Return the facts to show with the arguments of the process."""
        return {}


OWNER_DIED = "OwnerDied"
"""The type of the recorded error of a process whose interpreter was killed, or whose machine went down."""


@dataclass(frozen=True, slots=True)
class ErrorInfo:
    """An exception as recorded in the catalog."""

    type: str
    """Qualified name of its class."""
    message: str
    """Its text."""
    traceback: str
    """As Python prints it, with its notes."""
    cause: Cause | None = None
    """`vault`, `function`, `interrupt` or `system`; `None` in records of earlier versions."""
    time: datetime | None = None
    """When it was recorded, in UTC; `None` if unknown, as for a dead owner or in records of earlier versions."""

    @property
    def in_line(self) -> str:
        """Its class and text, as part of a sentence."""
        return in_line(f"{self.type}: {self.message}".removesuffix(": "))


def counts_at_least(error: ErrorInfo | None) -> bool:
    """Return whether the recorded progress of a paused process may lack its last rows, since its owner died."""
    return error is not None and error.type == OWNER_DIED


@dataclass(frozen=True, slots=True)
class OwnerInfo:
    """Current or last owner of a process."""

    host: str
    """Host name of its machine."""
    pid: int
    """PID of its interpreter."""
    alive: bool
    """Whether it is still running the process."""


class Usage(msgspec.Struct, frozen=True, array_like=True):
    """Usage by the calls for one row in one process."""

    calls: float = 0
    """Number of calls; a batch call counts in equal shares for its rows."""
    seconds: float | None = None
    """Duration of the calls; `None` if it is not known per call."""
    amounts: dict[str, float] = {}
    """Amounts reported by functions."""


class JobRecord(msgspec.Struct, frozen=True, array_like=True):
    """A provider job in a checkpoint, kept from before its submission until its rows arrive."""

    token: str
    """Generated before the submission, so that the job can be found again."""
    positions: list[int]
    """Positions of its rows, in the order given."""
    code: str
    """Version of the builder and its code that created the job."""
    created_at: float
    """Seconds since the epoch."""
    job_id: str | None = None
    """The provider's id; `None` while the submission is unconfirmed."""
    is_over: bool = False
    """Whether no more results are expected."""


WHOLE_BUILDER = -1
"""Stands for a row position if a function is called once for its builder."""


@dataclass(frozen=True, slots=True)
class BuilderProgress:
    """Progress of one builder of an execution."""

    total: int | None
    """Total number of rows; `None` while unknown."""
    computed: int
    """Rows computed so far, in all attempts."""
    reused: int
    """Rows reused from an origin."""
    done: bool
    """Whether it has finished."""
    failed: int = 0
    """Rows recorded as failed, in all attempts."""
    skipped: int = 0
    """Rows not tried, because a cell that they read failed."""
    retried: int = 0
    """Calls retried in this attempt."""
    retrying: int = 0
    """Calls waiting to be retried."""
    usage: Mapping[str, float] = field(default_factory=dict)
    """Calls, if counted, and the amounts that they reported, in all attempts."""
    errors: Mapping[str, int] = field(default_factory=dict)
    """The two most frequent errors of failed rows, by exception class, with the number of rows."""

    def __repr__(self) -> str:
        always = f"total={self.total}, computed={self.computed}, reused={self.reused}, done={self.done}"
        others = {name: getattr(self, name) for name in ("failed", "skipped", "retried", "retrying", "usage", "errors")}
        return f"BuilderProgress({', '.join([always, *(f'{name}={item}' for name, item in others.items() if item)])})"


Progress = Mapping[str, BuilderProgress]
"""Progress of an execution, by builder in run order."""


@dataclass(frozen=True, slots=True)
class ProcessRecord:
    """A process as recorded in the catalog."""

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
    """Whether it is tidied up and its locks are released."""
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
        """Whether at most tidying up remains to be done."""
        return self.status is Status.COMMITTING or self.status.ended


class EndedProcess(NamedTuple):
    """An ended process with its position in the order of ends."""

    place: int
    record: ProcessRecord


@dataclass(frozen=True, slots=True)
class NewProcess:
    """A process about to begin."""

    process_id: str
    operation: str
    author: str
    arguments: Mapping[str, Any]
    parent_serial: int | None
    user_given: bool
    background: bool


@dataclass(frozen=True, slots=True)
class Owner:
    """Identity of the owner that claims an attempt."""

    lock: str
    host: str
    pid: int


@dataclass(frozen=True, slots=True)
class Begun:
    """Successful beginning of a process, which is recorded and holds its locks."""

    serial: int
    generation: int
    """The catalog's generation at that moment; a plan made at an older one is stale."""
    has_failed_steps: bool = False
    """Whether any process has failed steps on disk to retry."""


@dataclass(frozen=True, slots=True)
class Blocked:
    """Refused beginning of a process, because others hold conflicting locks."""

    holders: tuple[int, ...]
    wanted: tuple[Lock, ...] = ()
    """Locks needed by the process."""
