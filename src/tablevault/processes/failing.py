"""How an attempt that raised an error ends: reverted, paused or let go, as the contract's table says."""

from __future__ import annotations

from pathlib import Path

from tablevault.catalog import UnknownOutcomeError
from tablevault.context import VaultContext
from tablevault.errors import TableVaultError, TVForcedError, TVProcessError
from tablevault.liveness import Liveness
from tablevault.notes import add_note, message_of, set_outcome
from tablevault.ports import FunctionError
from tablevault.processes import messages
from tablevault.processes.attempts import Attempt, cause_of
from tablevault.processes.endings import Endings, save_checkpoints
from tablevault.processes.remedies import Recorded
from tablevault.storage import files
from tablevault.texts import in_line
from tablevault.values import Outcome, OutcomeKind, ProcessRecord, Remedy, Status


class Failing:
    """Ends attempts that raised an error.

    Parameters
    ----------
    context
        The open vault.
    endings
        How processes are reverted and paused.
    """

    def __init__(self, context: VaultContext, endings: Endings) -> None:
        self._context = context
        self._processes = context.catalog.processes
        self._liveness = Liveness(context)
        self._endings = endings

    def end(self, attempt: Attempt, error: BaseException) -> Outcome:
        """End an attempt because of an error; an end that cannot be recorded is left to recovery."""
        try:
            return self._end(attempt, error)
        except Exception as trouble:  # noqa: BLE001 - the first error is the one to be raised
            detail = f"{type(trouble).__name__}: {in_line(message_of(trouble))}"
            hidden = attempt.transaction.secrets(detail)
            return Outcome(OutcomeKind.UNRECORDED, attempt.transaction.process_id, cause_of(error), detail=hidden)

    def _end(self, attempt: Attempt, error: BaseException) -> Outcome:
        transaction, cause = attempt.transaction, cause_of(error)
        if isinstance(error, UnknownOutcomeError):
            return Outcome(OutcomeKind.UNKNOWN, transaction.process_id, cause)
        if isinstance(error, TVForcedError) or transaction.stop_requested:
            if self._liveness.is_being_stopped(attempt.serial):
                # The process that stops this one claims it, and ends it with itself.
                save_checkpoints(transaction)
            else:
                self._endings.revert(attempt, None, Status.STOPPED)
            return Outcome(OutcomeKind.STOPPED, transaction.process_id, cause)
        if isinstance(error, TVProcessError) and not self._owns(attempt):
            return Outcome(OutcomeKind.TAKEN_OVER, transaction.process_id, cause)
        internal = isinstance(error, TableVaultError)
        if transaction.resumed and not transaction.functions_started and (internal or isinstance(error, FunctionError)):
            # Code that never ran must not pass for what the rows so far were computed with.
            files.remove_tree(transaction.workspace.code(attempt.number))
            self._processes.pause(attempt.serial, attempt.number, None, None)
            return Outcome(OutcomeKind.STILL_PAUSED, transaction.process_id, cause, remedies=self._remedies(attempt))
        if internal or not attempt.user_given:
            self._endings.revert(attempt, error)
            kept_cells = transaction.progress.kept_cells(transaction.unsaved_rows)
            return Outcome(OutcomeKind.REVERTED, transaction.process_id, cause, kept_cells)
        self._endings.pause(attempt, error)
        return Outcome(
            OutcomeKind.PAUSED,
            transaction.process_id,
            cause,
            unsaved_rows=transaction.unsaved_rows,
            remedies=self._remedies(attempt),
        )

    def _remedies(self, attempt: Attempt) -> tuple[Remedy, ...]:
        operation = attempt.operation
        root, process_id = self._context.layout.root, attempt.transaction.process_id
        return Recorded(root, operation.name, operation.record(digest_payload=False), process_id).while_paused

    def _owns(self, attempt: Attempt) -> bool:
        record = self._processes.get(attempt.serial)
        return record is not None and record.attempt == attempt.number and not record.status.ended


def tell(error: BaseException, outcome: Outcome) -> None:
    """Let an exception carry an outcome, and a note that says the same to people."""
    set_outcome(error, outcome)
    add_note(error, messages.note(outcome))


_KINDS = {
    Status.RUNNING: OutcomeKind.RUNNING,
    Status.PAUSED: OutcomeKind.PAUSED,
    Status.COMMITTING: OutcomeKind.COMMITTED,
    Status.SUCCEEDED: OutcomeKind.SUCCEEDED,
    Status.REVERTED: OutcomeKind.REVERTED,
    Status.STOPPED: OutcomeKind.STOPPED,
}


def recorded_outcome(root: Path, record: ProcessRecord, status: Status) -> Outcome:
    """Return what became of a process as the catalog tells it.

    Parameters
    ----------
    root
        The vault's folder.
    record
        The process.
    status
        Its state: that of the record, unless its owner has died.
    """
    return Outcome(
        _KINDS[status],
        record.process_id,
        record.error.cause if record.error is not None else None,
        remedies=Recorded.of(root, record).while_paused if status is Status.PAUSED else (),
    )
