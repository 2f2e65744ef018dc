"""Recovery of processes whose owner died, by the last steps of the life cycle."""

from __future__ import annotations

import contextlib
from pathlib import Path

from tablevault.catalog.owners import RECOVERY
from tablevault.layout import serial_in
from tablevault.processes.commit import Decisions
from tablevault.processes.process import Process, claim
from tablevault.state.context import VaultContext
from tablevault.state.leftovers import Leftovers
from tablevault.state.liveness import Liveness
from tablevault.storage import files
from tablevault.system.kernel_locks import KernelLock
from tablevault.values.outcomes import Cause, Outcome, OutcomeKind
from tablevault.values.processes import OWNER_DIED, ErrorInfo, ProcessRecord, Status


class Recovery:
    """Finds processes of dead owners, and finishes, pauses or reverts each.

    Parameters
    ----------
    context
        The open vault.
    decisions
        Ends processes.
    """

    def __init__(self, context: VaultContext, decisions: Decisions) -> None:
        self._context = context
        self._decisions = decisions
        self._liveness = Liveness(context)
        self._processes = context.catalog.processes
        self._transitions = context.catalog.transitions
        self._tidying = context.catalog.tidying

    def recover_all(self) -> None:
        """Recover every process whose owner is dead, unless this user may only read the vault."""
        if not self._context.is_writable:
            return
        for record in self._processes.unfinished():
            if not self._liveness.is_alive(record):
                self.recover(record)
        self._decisions.retry_tidying()
        self._sweep()
        self._decisions.write_log()

    def recover(self, record: ProcessRecord) -> Outcome | None:
        """Recover one process whose owner is dead.

        Returns `None` if no recovery is needed or another process did it.

        The process is first claimed in a separate transaction. Only then is its state in the catalog certain, even if
        its owner's last commit failed half-way.
        """
        if (record.status is Status.PAUSED and record.user_given) or not self._context.is_writable:
            return None
        process = claim(self._context, record, kind=RECOVERY)
        if process is None:
            return None
        try:
            return Outcome(self._end(process, record), record.process_id)
        finally:
            process.leave()

    def _end(self, process: Process, record: ProcessRecord) -> OutcomeKind:
        if process.is_decided:
            self._decisions.finish(process.serial)
            return OutcomeKind.REVERTED if process.status is Status.REVERTED else OutcomeKind.ROLLED_FORWARD
        if process.user_given and process.status is Status.PAUSED:
            # It was paused after the record was read, with a more precise error.
            return OutcomeKind.PAUSED
        if record.stop_requested and not self._liveness.is_being_stopped(record.serial):
            # Its owner died before it handled a stop request, and the requesting call has given up.
            self._decisions.revert(process, None, Status.STOPPED)
            return OutcomeKind.STOPPED
        if process.user_given:
            self._transitions.pause(process.serial, process.attempt, _owner_died(record), None)
            return OutcomeKind.PAUSED
        self._decisions.revert(process, None)
        return OutcomeKind.REVERTED

    def remove_leftovers(self) -> None:
        """Remove uncommitted instances and half-written files from the tables' folders."""
        for path in Leftovers(self._context).removable():
            _remove_if_allowed(path)

    def _sweep(self) -> None:
        """Remove folders of finished processes, stale lock files, half-written files, and the mark of a creation.

        The catalog is read after the folders, so that it includes every process that began in between.
        """
        creating = self._context.layout.creating
        if creating.is_file() and not creating.is_symlink():
            with contextlib.suppress(PermissionError), KernelLock.take(creating):
                files.remove_tree(creating)
        self._context.owners.forget_dead()
        folder = self._context.layout.temporary
        found = list(folder.iterdir()) if folder.is_dir() else []
        for path in found:
            serial = serial_in(path.name)
            if serial is not None and self._is_over(serial):
                _remove_if_allowed(path)
        # The counters of services are replaced in `metadata/`.
        found.extend(self._context.layout.metadata.iterdir())
        half_written = (path for path in found if path.name.endswith(files.TEMPORARY_SUFFIX))
        for path in Leftovers(self._context).unwritten(half_written):
            _remove_if_allowed(path)

    def _is_over(self, serial: int) -> bool:
        """Return whether the folder of a process is no longer needed, even by failed tidying."""
        record = self._processes.get(serial)
        return (record is None or record.finished) and not self._tidying.of(serial)


def _remove_if_allowed(path: Path) -> None:
    """Remove a leftover, unless it belongs to another user; `verify` reports it until that user does."""
    with contextlib.suppress(PermissionError):
        files.remove_tree(path)


def _owner_died(record: ProcessRecord) -> ErrorInfo:
    text = (
        f"The interpreter that ran this process (process number {record.owner_pid} on {record.owner_host}) exited "
        "without recording its state; it was killed or the machine went down. Rows of its last second may be finished "
        "without being counted."
    )
    return ErrorInfo(OWNER_DIED, text, text, Cause.SYSTEM)
