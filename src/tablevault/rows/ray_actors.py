"""Workers on a Ray cluster, as their owner knows them, and what Ray says of those that are gone."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tablevault.rows.received_files import ReceivedFiles
from tablevault.rows.worker_core import Answer


@dataclass
class SubmittedTask:
    """Calls that a worker was given and has not answered."""

    calls: list[int]
    size: int
    """Bytes of their arguments."""
    began: float
    """When it began, if it has; on the monotonic clock."""


@dataclass
class Transfer:
    """The files of a call that has ended, on their way."""

    answer: Answer
    files: ReceivedFiles


@dataclass(eq=False)
class RayActor:
    """A worker, as its owner knows it."""

    handle: Any
    places: int
    """Tasks that it runs at once."""
    created: float
    is_placed: bool = False
    is_ready: bool = False
    is_alone: bool = False
    """Whether it was given a suspected call, and must not be given others meanwhile."""
    is_leaving: bool = False
    """Whether it closes its function, to be let go."""
    tasks: dict[int, SubmittedTask] = field(default_factory=dict)
    """Those that it was given, in their order."""
    transfers: dict[int, Transfer] = field(default_factory=dict)
    """By the numbers of their calls."""
    idle_since: float = 0.0
    is_asked: bool = False
    """Whether it was asked for the calls that it has not begun."""

    @property
    def may_be_given(self) -> bool:
        """Whether it could run further calls."""
        return self.is_ready and not self.is_alone and not self.is_leaving

    @property
    def running(self) -> Iterator[SubmittedTask]:
        """The tasks that run now."""
        return itertools.islice(list(self.tasks.values()), self.places)

    @property
    def unanswered(self) -> list[int]:
        """The calls that it was given and has not answered, or whose files have not arrived."""
        return [*self.transfers, *(number for task in self.tasks.values() for number in task.calls)]

    @property
    def is_idle(self) -> bool:
        """Whether it could run calls, and has none."""
        return self.may_be_given and not self.tasks and not self.transfers


def is_innocent(error: BaseException) -> bool:
    """Return whether no call can be the reason why a worker is gone: its machine is, or a message was lost."""
    if getattr(error, "preempted", False):
        return True
    text = str(error)
    lost = type(error).__name__ in (
        "ActorUnavailableError",
        "ObjectLostError",
        "OwnerDiedError",
        "ObjectFetchTimedOutError",
    )
    return lost or "its node has died" in text or "`ray.kill`" in text


def owner_is_lost(error: BaseException) -> bool:
    """Return whether the cluster takes this interpreter for dead: its part of the cluster is gone."""
    return "its owner has died" in str(error)


def fate_of(error: BaseException) -> str:
    """Return how a worker ended, as far as Ray knows."""
    lines = str(error).splitlines()
    place = next((line.partition(":")[2].strip() for line in lines if line.strip().startswith("ip:")), "")
    reason = lines[-1].partition(" Some common causes")[0] if lines else type(error).__name__
    return f"died{f' on {place}' if place else ''} (out of memory, a crash, or killed; Ray: {reason})"
