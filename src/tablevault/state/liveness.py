"""Liveness of the owners of processes."""

from __future__ import annotations

from collections.abc import Iterator

from tablevault.catalog.owners import RECOVERY, kind_of
from tablevault.state.context import VaultContext
from tablevault.values.plans import StopPlan
from tablevault.values.processes import ProcessRecord, Status


class Liveness:
    """Determines which processes of one vault have a live owner.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._processes = context.catalog.processes
        self._owners = context.owners

    def is_alive(self, record: ProcessRecord) -> bool:
        """Return whether a process has a live owner now."""
        if record.finished:
            return False
        if self._owners.is_alive(record.owner_lock):
            return True
        # It may have been handed over since the record was read.
        current = self._processes.get_now(record.serial)
        return current is not None and not current.finished and self._owners.is_alive(current.owner_lock)

    def is_running(self, record: ProcessRecord) -> bool:
        """Return whether the recorded owner is alive and does not merely recover the process."""
        is_recovery = kind_of(record.owner_lock) == RECOVERY
        return not is_recovery and not record.finished and self._owners.is_alive(record.owner_lock)

    def is_being_stopped(self, serial: int) -> bool:
        """Return whether a running `stop_process` targets a process or one of its ancestors."""
        return next(self.stops_of(serial), None) is not None

    def stops_of(self, serial: int) -> Iterator[ProcessRecord]:
        """Yield each running `stop_process` that targets a process or one of its ancestors."""
        for stop in self._processes.unfinished():
            if (
                isinstance(stop.plan, StopPlan)
                and self.is_alive(stop)
                and not stop.status.ended
                and self._processes.is_ancestor(stop.plan.serial, serial)
            ):
                yield stop

    def as_it_is(self, record: ProcessRecord) -> ProcessRecord:
        """Refresh the record of a process whose owner is gone, which may have ended."""
        while record.status is Status.RUNNING and not self._owners.is_alive(record.owner_lock):
            current = self._processes.get_now(record.serial)
            if current is None or (current.attempt, current.status) == (record.attempt, record.status):
                break
            record = current
        return record

    def status(self, record: ProcessRecord) -> Status:
        """Return the effective status; orphaned processes are paused, resuming ones running."""
        current = self.as_it_is(record)
        if current.status not in (Status.RUNNING, Status.PAUSED):
            return current.status
        if self._owners.is_alive(current.owner_lock):
            return Status.RUNNING
        return Status.PAUSED if current.user_given else current.status
