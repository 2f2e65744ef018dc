"""A process from its owner's view, with identity, session and lease in one object."""

from __future__ import annotations

import os
import weakref
from dataclasses import dataclass, field
from functools import cached_property
from itertools import repeat
from typing import TYPE_CHECKING, Any, Literal

from tablevault.errors import TVForcedError, TVImplementationError, TVProcessError
from tablevault.layout import ProcessFolder
from tablevault.operations.base import Operation, operation_named
from tablevault.operations.session import Leavable
from tablevault.ports import CAME_BACK_IN_CHILD, ArtifactStore, Children, Lease, ServiceLimits
from tablevault.rows.gate import Budget
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup
from tablevault.storage.service_counters import ServiceCounters
from tablevault.system import clock
from tablevault.system.forks import ForkHooks, around_forks
from tablevault.system.waiting import poll
from tablevault.texts.plain import Secrets
from tablevault.values.changes import Tidying, TidyingAction
from tablevault.values.clusters import RayOptions
from tablevault.values.contents import JsonObject
from tablevault.values.processes import Owner, Plan, ProcessRecord, Status
from tablevault.values.progress import ExecutionProgress

if TYPE_CHECKING:
    from tablevault.storage.checkpoints import CheckpointStore

_RECOVERY_POLL = 0.001
"""Interval of polling for the end of a recovery, in seconds; a recovery takes milliseconds."""


@dataclass(eq=False, repr=False)
class Process:
    """One attempt of a process, from its claim to its end.

    It is the `Session` of its operation.
    """

    context: VaultContext
    """The open vault."""
    process_id: str
    """The id that users know it by."""
    serial: int
    """Its number in the catalog."""
    attempt: int
    """The number of this attempt, from 1: the fencing token."""
    user_given: bool
    """Whether the user gave the id, so that an external error pauses it instead of reverting it."""
    operation: Operation[Any]
    plan: Plan
    lease: Lease
    """The lock file that proves that this attempt is alive."""
    status: Status = Status.RUNNING
    """Its status when this attempt claimed it."""
    resumed: bool = False
    """Whether an earlier attempt may have run user code."""
    earlier_arguments: JsonObject | None = field(default=None, init=False)
    """The recorded arguments before this call replaced some, which apply again if it is refused."""
    progress: ExecutionProgress = field(default_factory=ExecutionProgress, init=False)
    parent: Process | None = field(default=None, init=False)
    """The process inside which this one runs, in this interpreter."""
    children: Children[Operation[Any]] = field(init=False)
    """Set by the engine before the work begins."""
    stop_requested: bool = field(default=False, init=False)
    """Whether the work should end at its next row: a stop was requested, or this is a forked child."""
    functions_started: bool = field(default=False, init=False)
    """Whether functions have started, so that an error is one of the work, not of the resuming call."""
    secrets: Secrets = field(default_factory=Secrets, init=False)
    """Secrets given to functions, which are not recorded anywhere; collected after a failure."""
    _checkpoints: CheckpointStore | None = field(default=None, init=False)
    _counters: ServiceCounters | None = field(default=None, init=False)
    _others: list[Leavable] = field(default_factory=list, init=False)
    _made_by: int = field(default_factory=os.getpid, init=False)

    def __post_init__(self) -> None:
        """Mark the process in a forked child, which must not continue it."""
        self.lookup = Lookup(self.context)
        _open_here.add(self)

    # --- lease ----------------------------------------------------------------------------------------------------

    @property
    def is_decided(self) -> bool:
        """Whether only tidying was left when this attempt claimed the process."""
        return self.status is Status.COMMITTING or self.status.ended

    @property
    def is_owned(self) -> bool:
        """Whether this attempt still owns the process, which has not ended."""
        record = self.context.catalog.processes.get(self.serial)
        return record is not None and record.attempt == self.attempt and not record.status.ended

    def hold(self, other: Leavable) -> None:
        """Hold another process until this attempt ends."""
        self._others.append(other)

    def leave(self) -> None:
        """Give up ownership of the process.

        A forked child that left the user's function by an exception has no ownership to give up.
        """
        if self.lease.is_inherited:
            return
        self._abandon_checkpoints()
        if self._counters is not None:
            self._counters.close()
        for other in self._others:
            other.leave()
        self.lease.release()

    @property
    def lock_descriptors(self) -> tuple[int, ...]:
        """Open files whose locks prove that this attempt is alive."""
        return (self.lease.descriptor,)

    @property
    def ray(self) -> RayOptions:
        """Cluster for rows with `executor: ray`."""
        return self.context.ray

    # --- limits ---------------------------------------------------------------------------------------------------

    @property
    def budgets(self) -> tuple[Budget, ...]:
        """The budgets of this process and its ancestors."""
        around = self.parent.budgets if self.parent is not None else ()
        most = self.operation.budget_of_process
        if most is None:
            return around
        return (Budget(f"process '{self.process_id}'", most, lambda: self.progress.usage), *around)

    def service_limits(self) -> ServiceLimits:
        """Return the limits of services, for the calls of this attempt."""
        if self._counters is None:
            self._counters = self.context.service_counters(self.lease.name)
        return self._counters

    # --- staging --------------------------------------------------------------------------------------------------

    @property
    def author(self) -> str:
        """Author of the operation."""
        return self.context.author

    @cached_property
    def workspace(self) -> ProcessFolder:
        """The process's folder in `_temp/`, invisible to readers."""
        return self.context.layout.process(self.serial)

    def stage_text(self, name: str, text: str) -> None:
        """Write a text durably into the workspace."""
        self.context.files.write(self._staged(name), text.encode("utf-8"))

    def staged_text(self, name: str) -> str:
        """Return a text that an earlier step staged."""
        if not self.is_staged(name):
            raise TVImplementationError(f"Process '{self.process_id}' never staged '{name}'.")
        return self.context.files.read(self._staged(name)).decode("utf-8")

    def is_staged(self, name: str) -> bool:
        """Return whether an earlier step staged a file of this name."""
        return self.context.files.exists(self._staged(name))

    def _staged(self, name: str) -> str:
        return self.context.layout.relative(self.workspace.staged / name)

    def clean_workspace(self) -> tuple[Tidying, ...]:
        """Return the steps that remove the workspace."""
        if not self.workspace.root.exists():
            return ()
        return (Tidying(TidyingAction.REMOVE, self.context.layout.relative(self.workspace.root)),)

    # --- checkpoints ----------------------------------------------------------------------------------------------

    def open_checkpoints(self, artifacts: ArtifactStore) -> CheckpointStore:
        """Open the checkpoints of the process; their background thread polls for stop requests."""
        # Imported here because it needs Arrow, which most processes do not.
        from tablevault.storage.checkpoint_segments import SegmentFolder
        from tablevault.storage.checkpoints import CheckpointStore

        watch = OwnerWatch(self)
        self._checkpoints = CheckpointStore.open(SegmentFolder(self.workspace.checkpoints), artifacts, watch.look)
        return self._checkpoints

    def close_checkpoints(self) -> None:
        """Make all computed rows durable and close the checkpoints; a no-op if none are open."""
        if self._checkpoints is not None:
            self._checkpoints.close()

    def close_checkpoints_cheaply(self) -> None:
        """Close checkpoints cheaply before their removal; they stay readable in case of a later error."""
        if self._checkpoints is not None:
            self._checkpoints.close_unmarked()

    def save_checkpoints(self) -> None:
        """Make as many computed rows durable as possible; `unsaved_rows` counts the others."""
        try:
            self.close_checkpoints()
        except Exception:  # noqa: BLE001 - the attempt ends by its first error, not by one that follows from it
            self._abandon_checkpoints()

    def _abandon_checkpoints(self) -> None:
        if self._checkpoints is not None:
            self._checkpoints.abandon()

    @property
    def unsaved_rows(self) -> int:
        """Number of computed rows that are not durable, and would be computed again."""
        return self._checkpoints.unflushed if self._checkpoints is not None else 0

    # --- cancellation ---------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        """Let the work end at its next row."""
        self.stop_requested = True

    def look_for_stop(self) -> None:
        """Poll the catalog for a stop request or takeover of this process or an ancestor."""
        if not self.context.catalog.processes.may_go_on(self.serial, self.attempt):
            self.request_stop()
        if self.parent is not None:
            self.parent.look_for_stop()
            if self.parent.stop_requested:
                self.request_stop()

    def raise_if_stopped(self) -> None:
        """Raise `TVForcedError` if the process was asked to stop, `TVProcessError` in a forked child."""
        if self._made_by != os.getpid():
            raise TVProcessError(CAME_BACK_IN_CHILD)
        if self.stop_requested:
            raise TVForcedError(
                f"Process '{self.process_id}' was stopped by stop_process(force=True); to run it anyway, call it "
                "again with another process id."
            )

    def begin_functions(self) -> None:
        """Mark that user code runs from here on."""
        self.functions_started = True


class OwnerWatch:
    """Polls for stop requests and publishes progress, on the background thread of the checkpoints.

    Parameters
    ----------
    process
        The watched process.
    """

    _STOP_SECONDS = 0.2
    _PROGRESS_SECONDS = 1.0
    _FIRST_PROGRESS_SECONDS = 0.2
    """Shorter than the others, so that an execution killed early has its progress recorded."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._outer = OwnerWatch(process.parent) if process.parent is not None else None
        self._transitions = process.context.catalog.transitions
        self._stop_polled = clock.monotonic()
        self._progress_saved = self._stop_polled - self._PROGRESS_SECONDS + self._FIRST_PROGRESS_SECONDS
        self._published = process.progress.snapshot(), ""

    def look(self) -> None:
        """Poll and publish if due; called at every interval of the checkpoints."""
        now = clock.monotonic()
        if now - self._stop_polled >= self._STOP_SECONDS:
            self._stop_polled = now
            self._process.look_for_stop()
        self._publish(now)

    def _publish(self, now: float) -> None:
        if self._outer is not None:
            self._outer._publish(now)
        if now - self._progress_saved >= self._PROGRESS_SECONDS:
            self._progress_saved = now
            published = self._process.progress.snapshot(), self._process.progress.waiting
            if published != self._published and not self._process.stop_requested:
                self._published = published
                self._transitions.save_progress(self._process.serial, self._process.attempt, *published)


# --- claiming -----------------------------------------------------------------------------------------------------


def new_owner(context: VaultContext, kind: str = "owner") -> tuple[Lease, Owner]:
    """Take the lock file of a new attempt; return it with its owner."""
    lease = context.owners.claim(kind)
    return lease, Owner(lease.name, context.owners.host, os.getpid())


def claim(context: VaultContext, record: ProcessRecord, resumed: bool = True, kind: str = "owner") -> Process | None:
    """Claim a process whose owner is dead or hands it over.

    Returns `None` if another owner was faster.
    """
    lease, owner = new_owner(context, kind)
    process = None
    try:
        claimed = context.catalog.transitions.claim(record, owner)
        if claimed is not None:
            process = Process(
                context,
                claimed.process_id,
                claimed.serial,
                claimed.attempt,
                claimed.user_given,
                operation_named(claimed.operation).restore(claimed.arguments),
                claimed.plan,
                lease,
                claimed.status,
                resumed,
            )
            process.progress.restore(claimed.progress)
            context.owners.forget(record.owner_lock)
    finally:
        if process is None:
            lease.release()
    return process


def claim_when_free(context: VaultContext, record: ProcessRecord) -> Process | None:
    """Claim a process, waiting for a recovery to end.

    Returns `None` if it has a live owner or has ended.
    """
    liveness, processes = Liveness(context), context.catalog.processes
    current = record

    def try_to_claim() -> Process | Literal[False] | None:
        """Return `False` if waiting is pointless."""
        nonlocal current
        claimed = None if liveness.is_alive(current) else claim(context, current)
        if claimed is not None:
            return claimed
        current = processes.get_now(current.serial) or current
        is_running = liveness.is_running(current) and not _is_gone(context, current)
        return False if current.finished or is_running else None

    claimed: Process | Literal[False] | None
    claimed = poll(try_to_claim, repeat(_RECOVERY_POLL), context.lock_timeout)
    return claimed or None


def _is_gone(context: VaultContext, record: ProcessRecord) -> bool:
    """Return whether an owner's interpreter has exited, although its workers may still hold its lock.

    This only makes waiting for the lock worthwhile: a process number proves nothing.
    """
    if record.owner_host != context.owners.host:
        return False
    import psutil  # Imported only for owners that seem alive, which most commands do not encounter.

    try:
        return psutil.Process(record.owner_pid).status() == psutil.STATUS_ZOMBIE
    except psutil.Error:
        return not psutil.pid_exists(record.owner_pid)


# --- forks --------------------------------------------------------------------------------------------------------

_open_here: weakref.WeakSet[Process] = weakref.WeakSet()


def _stop_in_child() -> None:
    """Stop a forked child that returns from the user's function from processing further rows."""
    for process in list(_open_here):
        process.request_stop()


around_forks(ForkHooks(in_child=_stop_in_child))
