"""Stopping a process: it is claimed first, and ended in the same transaction as the stop itself."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import ClassVar

from tablevault import clock
from tablevault.catalog.owners import WORKER
from tablevault.errors import TVArgumentError, TVProcessError
from tablevault.lookup import Lookup
from tablevault.operations.base import Operation, operation_named
from tablevault.operations.execute import ExecuteInstance
from tablevault.operations.write_instance import WriteInstance
from tablevault.plans import StopPlan
from tablevault.transaction import Drafting, Transaction
from tablevault.values import Changes, Decision, Owner, ProcessRecord, Status

_POLL = 0.02
_KILL_PATIENCE = 5.0
"""Seconds until a killed worker is seen as dead."""


@dataclass(frozen=True)
class StopProcess(Operation[StopPlan]):
    """Reverts an active process, or makes what it has computed an instance."""

    name: ClassVar[str] = "stop_process"

    to_stop_process_id: str
    force: bool = False
    materialize: bool = False
    timeout: float = 5.0

    def plan(self, draft: Drafting) -> StopPlan:
        """Find the process and see whether it may be stopped."""
        record = draft.process(self.to_stop_process_id)
        if record.status.ended or record.status is Status.COMMITTING:
            raise TVProcessError(f"Process '{record.process_id}' has ended already: it {_ended(record)}.")
        if self.materialize and record.operation not in (ExecuteInstance.name, WriteInstance.name):
            raise TVArgumentError(
                f"materialize=True is for execute_instance and write_instance; '{record.process_id}' is a call of "
                f"{record.operation}."
            )
        for member in (record, *_descendants(draft, record)):
            if draft.is_running(member) and not self.force:
                raise TVProcessError(
                    f"Process '{member.process_id}' ({member.operation}) is running in process number "
                    f"{member.owner_pid} on {member.owner_host}; stop_process('{record.process_id}', force=True) asks "
                    "it to stop."
                )
        return StopPlan(table_name=record.table_name, instance_id=record.instance_id, serial=record.serial)

    def work(self, plan: StopPlan, transaction: Transaction) -> Changes:
        """Ask live owners to stop, claim the process and its children, and say how they end."""
        target = _get(transaction, plan.serial)
        family = [target, *_descendants(transaction, target)]
        if self.force:
            _ask_to_stop(transaction, family, self.timeout)
        ends = []
        for record in family:
            claimed = _claim(transaction, record)
            if claimed is not None:
                changes = self._end(claimed, record is target)
                ends.append(Decision(record.serial, claimed.attempt, Status.STOPPED, changes))
        return Changes(ends=tuple(ends))

    def _end(self, claimed: Transaction, is_target: bool) -> Changes:
        record = _get(claimed, claimed.serial)
        operation = operation_named(record.operation).restore(record.arguments)
        if not (self.materialize and is_target):
            return Changes(tidying=operation.abandon(record.plan, claimed))
        try:
            changes = operation.materialize_partial(record.plan, claimed)
        finally:
            claimed.close_checkpoints()
        return Changes(changes.changes, (*changes.tidying, *claimed.clean_workspace()))


def _ask_to_stop(transaction: Transaction, family: list[ProcessRecord], timeout: float) -> None:
    """Wait until no owner is alive; kill only workers that the vault itself started."""
    if _wait_until_dead(transaction, family, timeout):
        return
    owners = [_get(transaction, record.serial) for record in family]
    workers = [owner for owner in owners if _is_worker(owner) and transaction.is_alive(owner)]
    for worker in workers:
        os.kill(worker.owner_pid, signal.SIGKILL)
    if not _wait_until_dead(transaction, family, _KILL_PATIENCE if workers else 0.0):
        raise TVProcessError(
            f"Process '{family[0].process_id}' was asked to stop but has not within {timeout:g} s: its function has "
            "not returned. It stops at its next row, without materializing anything; an interpreter that the vault "
            "did not start is never killed."
        )


def _wait_until_dead(transaction: Transaction, family: list[ProcessRecord], timeout: float) -> bool:
    """Ask owners to stop until none is alive: also one that took a process over since it was asked for."""
    deadline = clock.monotonic() + timeout
    asked: dict[int, int] = {}
    while True:
        now = [_get(transaction, record.serial) for record in family]
        owned = [record for record in now if transaction.is_alive(record)]
        for record in owned:
            if asked.get(record.serial) != record.attempt:
                transaction.context.catalog.processes.request_stop(record.serial)
                asked[record.serial] = record.attempt
        if not owned:
            return True
        if clock.monotonic() >= deadline:
            return False
        clock.sleep(_POLL)


def _claim(transaction: Transaction, record: ProcessRecord) -> Transaction | None:
    """Take a process over for as long as the stop runs; `None` if it was reverted by somebody else meanwhile."""
    context = transaction.context
    if _get(transaction, record.serial).status is Status.REVERTED:
        return None
    lock = context.owners.claim()
    transaction.claimed.append(lock)
    owner = Owner(lock.name, context.owners.host, os.getpid())

    def claim(current: ProcessRecord) -> ProcessRecord | None:
        taken = None if current.status.ended else context.catalog.processes.claim(current, owner)
        if taken is not None:
            context.owners.forget(current.owner_lock)
        return taken

    claimed = transaction.claim_when_free(record, claim)
    if claimed is None:
        current = _get(transaction, record.serial)
        raise TVProcessError(f"Process '{current.process_id}' could not be stopped: meanwhile it {_ended(current)}.")
    return Transaction(context, claimed.process_id, claimed.serial, claimed.attempt)


def _is_worker(record: ProcessRecord) -> bool:
    return record.owner_lock is not None and record.owner_lock.startswith(f"{WORKER}-")


def _descendants(lookup: Lookup, record: ProcessRecord) -> list[ProcessRecord]:
    children = lookup.context.catalog.processes.children(record.serial)
    undecided = [child for child in children if not child.status.ended]
    return [found for child in undecided for found in (child, *_descendants(lookup, child))]


def _get(transaction: Transaction, serial: int) -> ProcessRecord:
    record = transaction.context.catalog.processes.get(serial)
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
