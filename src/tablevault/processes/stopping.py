"""Stops of processes.

A process is claimed first, and ended in the same transaction as the stop itself.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from itertools import repeat
from typing import TYPE_CHECKING, ClassVar

from tablevault.catalog.owners import WORKER, kind_of
from tablevault.errors import TVArgumentError, TVFileError, TVProcessError
from tablevault.operations.base import Operation, operation_named, operation_names
from tablevault.operations.session import Draft, Session
from tablevault.processes import messages
from tablevault.processes.process import Process, claim_when_free
from tablevault.rows.failures import unpack_failure
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.system.waiting import poll
from tablevault.values.changes import Changes, Decision
from tablevault.values.plans import StopPlan
from tablevault.values.processes import BuilderProgress, ProcessRecord, Progress, Status, counts_at_least
from tablevault.values.progress import summed
from tablevault.values.services import CALLS

if TYPE_CHECKING:
    from tablevault.storage.checkpoints import BuilderState

_POLL = 0.02
_KILL_PATIENCE = 5.0
"""Maximum seconds until a killed worker counts as dead."""
_NOTHING = BuilderProgress(None, 0, 0, False)
"""Progress of a builder that began after its owner had recorded the progress last."""


@dataclass(frozen=True)
class StopProcess(Operation[StopPlan]):
    """Reverts an active process, or materializes its computed cells."""

    name: ClassVar[str] = "stop_process"

    to_stop_process_id: str
    force: bool = False
    materialize: bool = False
    timeout: float = 5.0

    def plan(self, draft: Draft) -> StopPlan:
        """Check that the process may be stopped."""
        record = draft.lookup.process(self.to_stop_process_id)
        if record.status.ended or record.status is Status.COMMITTING:
            raise TVProcessError(f"Process '{record.process_id}' has ended already: it {_ended(record)}.")
        if self.materialize and not _can_materialize(record.operation):
            able = [name for name in operation_names() if _can_materialize(name)]
            raise TVArgumentError(
                f"materialize=True is for {', '.join(able[:-1])} and {able[-1]}; '{record.process_id}' is a call of "
                f"{record.operation}."
            )
        liveness = Liveness(draft.lookup.context)
        for member in _family(draft.lookup.context, record):
            if liveness.is_running(member) and not self.force:
                _check_no_other_stops(draft.lookup.context, member, None)
                raise TVProcessError(
                    f"Process '{member.process_id}' ({member.operation}) is running in process number "
                    f"{member.owner_pid} on {member.owner_host}; stop_process('{record.process_id}', force=True) asks "
                    "it to stop."
                )
        return StopPlan(table_name=record.table_name, instance_id=record.instance_id, serial=record.serial)

    def work(self, plan: StopPlan, session: Session) -> Changes:
        """Ask live owners to stop; then claim the process and its children, and end them."""
        context = session.lookup.context
        target = _get(context, plan.serial)
        answered = _ask_to_stop(context, target, self.timeout, session.serial) if self.force else frozenset()
        passes_on = operation_named(target.operation).runs_children
        ends: list[Decision] = []
        left: dict[str, str] = {}
        # The target may have begun children before its owner saw the request.
        for record in _family(context, target):
            claimed = _claim(context, record, session.serial)
            if claimed is not None:
                session.hold(claimed)
                jobs = claimed.operation.cancel_jobs(claimed.plan, claimed)
                left.update(jobs)
                is_meant = record.serial == plan.serial or (passes_on and record.parent_serial == plan.serial)
                progress = None if _has_saved_progress(record, answered) else _durable_progress(claimed)
                changes = self._end(claimed, is_meant)
                ends.append(
                    Decision(
                        record.serial,
                        claimed.attempt,
                        Status.STOPPED,
                        changes,
                        progress=progress,
                        waiting=_told(jobs),
                    )
                )
        if not left:
            return Changes(ends=tuple(ends))
        # The process also reports the jobs of its children.
        ends = [replace(end, waiting=_told(left)) if end.serial == plan.serial else end for end in ends]
        return Changes(ends=tuple(ends), warnings=(f"Process '{target.process_id}' is stopped; {_told(left)}.",))

    def _end(self, claimed: Process, is_meant: bool) -> Changes:
        if not (self.materialize and is_meant and claimed.operation.has_partial_result):
            return Changes(tidying=claimed.operation.abandon(claimed.plan, claimed))
        try:
            changes = claimed.operation.materialize_partial(claimed.plan, claimed)
        finally:
            claimed.close_checkpoints()
        return Changes(changes.changes, (*changes.tidying, *claimed.clean_workspace()))


def _told(left: Mapping[str, str]) -> str:
    """Return a sentence about jobs that may still be charged; empty without such jobs."""
    return messages.jobs_left(left) if left else ""


def _can_materialize(name: str) -> bool:
    operation = operation_named(name)
    return operation.has_partial_result or operation.runs_children


def _ask_to_stop(context: VaultContext, target: ProcessRecord, timeout: float, own: int) -> frozenset[int]:
    """Wait until no owner is alive; kill only workers that the vault itself started. `own` is the number of the stop.

    Returns the processes whose owners have stopped by themselves, by serial number.
    """
    asked: dict[int, int] = {}
    if _wait_until_dead(context, target, timeout, asked):
        return frozenset(asked)
    liveness = Liveness(context)
    owners = [owner for owner in _family(context, _get(context, target.serial)) if liveness.is_alive(owner)]
    workers = [owner for owner in owners if kind_of(owner.owner_lock) == WORKER]
    for worker in workers:
        os.kill(worker.owner_pid, signal.SIGKILL)
    if not _wait_until_dead(context, target, _KILL_PATIENCE if workers else 0.0, asked):
        _check_no_other_stops(context, target, own)
        raise TVProcessError(
            f"Process '{target.process_id}' did not stop within {timeout:g} s: its function has not "
            "returned. It stops at its next row, without materializing anything; an interpreter that the vault "
            "did not start is never killed."
        )
    return frozenset(asked).difference(owner.serial for owner in owners)


def _wait_until_dead(context: VaultContext, target: ProcessRecord, timeout: float, asked: dict[int, int]) -> bool:
    """Ask owners to stop until none is alive.

    This includes owners that take a process over or begin a child in the meantime.

    Parameters
    ----------
    context
        The open vault.
    target
        The process.
    timeout
        Maximum seconds.
    asked
        Receives the attempt of each process whose owner is asked, by serial number.
    """
    liveness = Liveness(context)

    def all_dead() -> bool | None:
        now = _family(context, _get(context, target.serial))
        owned = [record for record in now if liveness.is_alive(record)]
        for record in owned:
            if asked.get(record.serial) != record.attempt:
                context.catalog.transitions.request_stop(record.serial)
                asked[record.serial] = record.attempt
        return None if owned else True

    return bool(poll(all_dead, repeat(_POLL), timeout))


def _claim(context: VaultContext, record: ProcessRecord, own: int) -> Process | None:
    """Claim a process for the duration of the stop with number `own`; `None` if it was reverted meanwhile."""
    if _get(context, record.serial).status is Status.REVERTED:
        return None
    claimed = claim_when_free(context, record)
    if claimed is not None and not claimed.is_decided:
        return claimed
    if claimed is not None:
        claimed.leave()
    _check_no_other_stops(context, record, own)
    current = _get(context, record.serial)
    raise TVProcessError(f"Process '{current.process_id}' could not be stopped: meanwhile it {_ended(current)}.")


def _check_no_other_stops(context: VaultContext, record: ProcessRecord, own: int | None) -> None:
    """Raise `TVProcessError` if another stop than `own` has claimed a process."""
    current = _get(context, record.serial)
    owner = current.owner_host, current.owner_pid
    for stop in Liveness(context).stops_of(record.serial):
        if stop.serial != own and (stop.owner_host, stop.owner_pid) == owner:
            raise TVProcessError(
                f"Process '{record.process_id}' is being stopped already, by process '{stop.process_id}' of "
                f"{stop.author}; wait_process('{stop.process_id}') waits for its end."
            )


def _family(context: VaultContext, record: ProcessRecord) -> list[ProcessRecord]:
    """Return a process and its descendants that have not ended."""
    children = context.catalog.processes.children(record.serial)
    undecided = [child for child in children if not child.status.ended]
    return [record, *(found for child in undecided for found in _family(context, child))]


def _get(context: VaultContext, serial: int) -> ProcessRecord:
    record = context.catalog.processes.get(serial)
    if record is None:
        raise TVProcessError(f"Process number {serial} is not in the catalog any more.")
    return record


def _ended(record: ProcessRecord) -> str:
    return {
        Status.SUCCEEDED: "succeeded",
        Status.COMMITTING: "was committed",
        Status.REVERTED: "was reverted",
        Status.STOPPED: "was stopped",
    }.get(record.status, "was taken up again")


# --- progress -----------------------------------------------------------------------------------------------------


def _has_saved_progress(record: ProcessRecord, answered: Collection[int]) -> bool:
    """Return whether the owner of a process recorded its last progress, since it paused or stopped by itself."""
    is_paused = record.status is Status.PAUSED and not counts_at_least(record.error)
    return is_paused or record.serial in answered


def _durable_progress(claimed: Process) -> Progress | None:
    """Return the recorded progress, with the rows that a killed owner made durable but did not count.

    Returns `None` if the rows cannot be read; the process is stopped all the same.
    """
    # Imported here because it needs Arrow, which most stops do not.
    from tablevault.storage.checkpoints import read_checkpoints

    recorded = claimed.progress.snapshot()
    try:
        states = read_checkpoints(claimed.workspace.checkpoints).states()
        counted = {name: _counted(recorded.get(name, _NOTHING), state) for name, state in states.items()}
    except TVFileError:
        return None
    return {**recorded, **counted}


def _counted(recorded: BuilderProgress, state: BuilderState) -> BuilderProgress:
    """Return the progress of a builder with at least the rows and the usage in its checkpoints."""
    rows = state.total or 0 if state.frame is not None else len(state.positions)
    failures = Counter(unpack_failure(content).kind for content in state.failures.values())
    used = summed({CALLS: usage.calls, **usage.amounts} for usage in state.usage.values())
    if CALLS in used:
        # Undoes the division of batch calls among their rows.
        used[CALLS] = round(used[CALLS])
    return replace(
        recorded,
        total=state.total if recorded.total is None else recorded.total,
        computed=max(recorded.computed, rows),
        done=recorded.done or state.done,
        failed=max(recorded.failed, failures["failed"]),
        skipped=max(recorded.skipped, failures["skipped"]),
        usage={name: max(recorded.usage.get(name, 0), used.get(name, 0)) for name in [*recorded.usage, *used]},
    )
