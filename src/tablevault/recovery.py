"""What becomes of processes whose owner is gone: the engine's own last steps, entered half-way."""

from __future__ import annotations

from tablevault.attempts import claim
from tablevault.endings import Endings
from tablevault.lookup import Lookup, VaultContext
from tablevault.model import ErrorInfo, ProcessRecord, Status
from tablevault.storage import files


class Recovery:
    """Finds processes of dead owners and brings each to the state that the contract gives it.

    Parameters
    ----------
    context
        The open vault.
    endings
        How processes are ended.
    """

    def __init__(self, context: VaultContext, endings: Endings) -> None:
        self._context = context
        self._endings = endings
        self._lookup = Lookup(context)
        self._processes = context.catalog.processes

    def recover_all(self) -> dict[str, str]:
        """Deal with every process whose owner is dead; return what became of each."""
        outcomes = {}
        for record in self._processes.unfinished():
            if not self._lookup.is_alive(record):
                outcome = self.recover(record)
                if outcome is not None:
                    outcomes[record.process_id] = outcome
        self._sweep()
        self._endings.write_log()
        return outcomes

    def recover(self, record: ProcessRecord) -> str | None:
        """Deal with one process whose owner is dead; `None` if nothing was to be done or somebody else did it.

        It is claimed first, in a transaction of its own: only after that is its state in the catalog beyond doubt,
        even if its owner's last commit had failed half-way.
        """
        if record.status is Status.PAUSED and record.user_given:
            return None
        attempt = claim(self._context, record)
        if attempt is None:
            return None
        try:
            current = self._processes.get(record.serial)
            assert current is not None
            if current.status is Status.COMMITTING or current.status.ended:
                self._endings.tidy_and_finish(current.serial)
                return "reverted" if current.status is Status.REVERTED else "rolled forward"
            if current.user_given:
                self._processes.pause(current.serial, attempt.number, _owner_died(record), None)
                return "paused"
            self._endings.revert(attempt, None)
            return "reverted"
        finally:
            attempt.leave()

    def retry_failed_tidying(self) -> None:
        """Try again what could not be tidied up when its process ended."""
        for serial in self._processes.with_failed_tidying():
            self._endings.retry_tidying(serial)

    def _sweep(self) -> None:
        """Remove folders of processes that are over, and lock files that nobody holds.

        The catalog is asked after a folder is read: what began in between is then known to it.
        """
        self._context.owners.forget_dead()
        folder = self._context.layout.temporary
        for path in list(folder.iterdir()) if folder.is_dir() else []:
            record = self._processes.get(int(path.name)) if path.name.isdecimal() else None
            if path.name.isdecimal() and (record is None or record.finished):
                files.remove_tree(path)


def _owner_died(record: ProcessRecord) -> ErrorInfo:
    text = (
        f"The interpreter that ran this process (process number {record.owner_pid} on {record.owner_host}) ended "
        "without a word: it was killed, or the machine was lost."
    )
    return ErrorInfo("OwnerDied", text, text)
