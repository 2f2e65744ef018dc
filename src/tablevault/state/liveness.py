"""Which processes have a live owner."""

from __future__ import annotations

from tablevault.catalog.owners import RECOVERY, kind_of
from tablevault.state.context import VaultContext
from tablevault.values.plans import StopPlan
from tablevault.values.processes import ProcessRecord, Status


class Liveness:
    """Answers for processes of one vault whether an owner is running them.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._processes = context.catalog.processes
        self._owners = context.owners

    def is_alive(self, record: ProcessRecord) -> bool:
        """Return whether an owner is running a process right now."""
        if record.finished:
            return False
        if self._owners.is_alive(record.owner_lock):
            return True
        # It may have been handed over since the record was read.
        current = self._processes.get_now(record.serial)
        return current is not None and not current.finished and self._owners.is_alive(current.owner_lock)

    def is_running(self, record: ProcessRecord) -> bool:
        """Return whether a process has a live owner that is not just recovering it, as the record says."""
        is_recovery = kind_of(record.owner_lock) == RECOVERY
        return not is_recovery and not record.finished and self._owners.is_alive(record.owner_lock)

    def is_being_stopped(self, serial: int) -> bool:
        """Return whether a running call of `stop_process` is about to end a process or one of its ancestors."""
        return any(
            isinstance(stop.plan, StopPlan)
            and self.is_alive(stop)
            and not stop.status.ended
            and self._processes.is_ancestor(stop.plan.serial, serial)
            for stop in self._processes.unfinished()
        )

    def as_it_is(self, record: ProcessRecord) -> ProcessRecord:
        """Return a process as it is now, if its owner has gone since the record was read: it may have ended."""
        while record.status is Status.RUNNING and not self._owners.is_alive(record.owner_lock):
            current = self._processes.get_now(record.serial)
            if current is None or (current.attempt, current.status) == (record.attempt, record.status):
                break
            record = current
        return record

    def status(self, record: ProcessRecord) -> Status:
        """Return a process's state: one whose owner has died is paused, one that is being taken up again runs."""
        current = self.as_it_is(record)
        if current.status not in (Status.RUNNING, Status.PAUSED):
            return current.status
        if self._owners.is_alive(current.owner_lock):
            return Status.RUNNING
        return Status.PAUSED if current.user_given else current.status
