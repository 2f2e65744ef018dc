"""Processes, as the catalog records them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from tablevault.system.clock import datetime
from tablevault.values.contents import JsonObject
from tablevault.values.outcomes import Cause


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
