"""The owner's view of workers on a Ray cluster, and the causes of lost ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tablevault.rows.received_files import ReceivedFiles
from tablevault.rows.worker_core import Answer


@dataclass
class SubmittedTask:
    """Unanswered calls of a worker."""

    calls: list[int]
    size: int
    """Bytes of their arguments."""
    began: float
    """Start time if it has begun, on the monotonic clock."""


@dataclass
class Transfer:
    """Files of an ended call, in transfer."""

    answer: Answer
    files: ReceivedFiles


@dataclass(eq=False)
class RayActor:
    """The owner's view of a worker."""

    handle: Any
    places: int
    """Number of concurrent tasks."""
    created: float
    is_placed: bool = False
    is_ready: bool = False
    is_alone: bool = False
    """Whether it runs a suspected call, and must not be given others meanwhile."""
    is_leaving: bool = False
    """Whether it is closing its function before its release."""
    tasks: dict[int, SubmittedTask] = field(default_factory=dict)
    """Submitted tasks by number, in order."""
    transfers: dict[int, Transfer] = field(default_factory=dict)
    """Transfers by call number."""
    idle_since: float = 0.0
    is_asked: bool = False
    """Whether it was asked to give back the calls that it has not begun."""

    @property
    def may_be_given(self) -> bool:
        """Whether it can accept further calls."""
        return self.is_ready and not self.is_alone and not self.is_leaving

    @property
    def running(self) -> Iterator[SubmittedTask]:
        """The tasks that run now."""
        return itertools.islice(list(self.tasks.values()), self.places)

    @property
    def unanswered(self) -> list[int]:
        """The calls without an answer, or whose files have not arrived."""
        return [*self.transfers, *(number for task in self.tasks.values() for number in task.calls)]

    @property
    def has_queue(self) -> bool:
        """Whether it has more calls than it runs at once."""
        return sum(len(task.calls) for task in self.tasks.values()) > self.places

    @property
    def is_idle(self) -> bool:
        """Whether it can accept calls and has none."""
        return self.may_be_given and not self.tasks and not self.transfers


def was_lost_externally(error: BaseException) -> bool:
    """Return whether a worker was lost for a reason other than a call.

    Examples are a lost machine or message.
    """
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
    """Return whether the cluster considers this interpreter's part of it dead."""
    return "its owner has died" in str(error)


def fate_of(error: BaseException) -> str:
    """Return the cause of a worker's death, as reported by Ray."""
    lines = str(error).splitlines()
    place = next((line.partition(":")[2].strip() for line in lines if line.strip().startswith("ip:")), "")
    reason = lines[-1].partition(" Some common causes")[0] if lines else type(error).__name__
    return f"died{f' on {place}' if place else ''} (out of memory, a crash, or killed; Ray: {reason})"
