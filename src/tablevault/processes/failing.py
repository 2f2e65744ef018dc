"""Ends of failed attempts, which are reverted, paused or left to another attempt."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from tablevault.errors import TableVaultError, TVForcedError, TVProcessError
from tablevault.names import without_namespaces
from tablevault.notes import add_note, class_name_of, message_of, set_outcome, traceback_of
from tablevault.operations.remedies import RecordedCall
from tablevault.ports import FunctionError, UnknownOutcomeError
from tablevault.processes import messages
from tablevault.processes.commit import Decisions
from tablevault.processes.process import Process
from tablevault.processes.signals import is_from_signal
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.storage import files
from tablevault.texts.plain import Secrets, in_line, storable
from tablevault.values.outcomes import Cause, Outcome, OutcomeKind, Remedy
from tablevault.values.processes import ErrorInfo, ProcessRecord, Status


class Failing:
    """Ends attempts that raised an error.

    Parameters
    ----------
    context
        The open vault.
    decisions
        Reverts and pauses processes.
    """

    def __init__(self, context: VaultContext, decisions: Decisions) -> None:
        self._context = context
        self._transitions = context.catalog.transitions
        self._liveness = Liveness(context)
        self._decisions = decisions

    def end(self, process: Process, error: BaseException) -> Outcome:
        """End an attempt because of an error.

        An end that cannot be recorded is left to recovery.
        """
        try:
            return self._end(process, error)
        except Exception as trouble:  # noqa: BLE001 - the first error is the one to be raised
            detail = f"{type(trouble).__name__}: {in_line(message_of(trouble))}"
            hidden = process.secrets(detail)
            return Outcome(OutcomeKind.UNRECORDED, process.process_id, cause_of(error), detail=hidden)

    def _end(self, process: Process, error: BaseException) -> Outcome:
        cause = cause_of(error)
        if isinstance(error, UnknownOutcomeError):
            return Outcome(OutcomeKind.UNKNOWN, process.process_id, cause)
        if isinstance(error, TVForcedError) or process.stop_requested:
            if self._liveness.is_being_stopped(process.serial):
                # The process that stops this one claims it, and ends it with itself.
                process.save_checkpoints()
                self._transitions.save_progress(process.serial, process.attempt, process.progress.snapshot())
            else:
                left = self._cancel_jobs(process, error)
                self._decisions.revert(process, None, Status.STOPPED, left)
            return Outcome(OutcomeKind.STOPPED, process.process_id, cause)
        if isinstance(error, TVProcessError) and not process.is_owned:
            return Outcome(OutcomeKind.TAKEN_OVER, process.process_id, cause)
        internal = isinstance(error, TableVaultError)
        if process.resumed and not process.functions_started and (internal or isinstance(error, FunctionError)):
            # Code that never ran must not be archived as code that computed rows.
            files.remove_tree(process.workspace.code(process.attempt))
            self._withdraw_arguments(process)
            self._transitions.pause(process.serial, process.attempt, None, None)
            return Outcome(OutcomeKind.STILL_PAUSED, process.process_id, cause, remedies=self._remedies(process))
        asked = isinstance(error, FunctionError) and error.reverts
        if internal or asked or not process.user_given:
            left = self._cancel_jobs(process, error)
            self._decisions.revert(process, describe_error(error, process.secrets), waiting=left)
            if process.operation.runs_children:
                return Outcome(OutcomeKind.REVERTED, process.process_id, cause, has_children=True)
            kept_cells = process.progress.kept_cells(process.unsaved_rows)
            return Outcome(OutcomeKind.REVERTED, process.process_id, cause, kept_cells)
        self._decisions.pause(process, describe_error(error, process.secrets))
        return Outcome(
            OutcomeKind.PAUSED,
            process.process_id,
            cause,
            unsaved_rows=process.unsaved_rows,
            remedies=self._remedies(process),
        )

    def _withdraw_arguments(self, process: Process) -> None:
        """Let the recorded arguments apply again that a refused call has replaced."""
        earlier = process.earlier_arguments
        if earlier is not None:
            self._transitions.replace_arguments(process.serial, process.attempt, earlier)
            process.operation = process.operation.restore(earlier)

    def _cancel_jobs(self, process: Process, error: BaseException) -> str:
        """Have providers cancel the jobs of a reverted process.

        Returns a sentence on jobs that may be charged.

        The error gets the same sentence as a note.
        """
        process.save_checkpoints()
        left = process.operation.cancel_jobs(process.plan, process)
        if not left:
            return ""
        sentence = messages.jobs_left(left)
        add_note(error.original if isinstance(error, FunctionError) else error, sentence)
        return sentence

    def _remedies(self, process: Process) -> tuple[Remedy, ...]:
        operation = process.operation
        root, process_id = self._context.layout.root, process.process_id
        return RecordedCall(root, operation.name, operation.record(digest_payload=False), process_id).while_paused


def describe_error(error: BaseException, secrets: Secrets) -> ErrorInfo:
    """Return an exception in the catalog's form, without secrets; safe for any exception class."""
    original = error.original if isinstance(error, FunctionError) else error
    return ErrorInfo(
        storable(secrets(without_namespaces(class_name_of(original)))),
        storable(secrets(message_of(original))),
        storable(secrets(without_namespaces(traceback_of(original)))),
        cause_of(error),
        datetime.now(UTC),
    )


def cause_of(error: BaseException) -> Cause:
    """Return the cause of an error that an operation raised."""
    original = error.original if isinstance(error, FunctionError) else error
    if is_from_signal(original):
        return Cause.INTERRUPT
    if isinstance(error, FunctionError):
        return Cause.FUNCTION
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return Cause.INTERRUPT
    return Cause.VAULT if isinstance(error, TableVaultError) else Cause.SYSTEM


def tell(error: BaseException, outcome: Outcome) -> None:
    """Attach an outcome to an exception, and a note that explains it to the user."""
    set_outcome(error, outcome)
    add_note(error, messages.note(outcome))


def tell_unread(context: VaultContext, error: BaseException, paused: ProcessRecord | None) -> None:
    """Attach the outcome to the error of a source that could not be read.

    Parameters
    ----------
    context
        The open vault.
    error
        The error: one of TableVault, or of the source.
    paused
        The process to be continued with the source; `None` if the source was for a new one.
    """
    is_exit = isinstance(error, SystemExit) and not is_from_signal(error)
    cause = Cause.FUNCTION if is_exit or cause_of(error) is Cause.SYSTEM else cause_of(error)
    if paused is None:
        set_outcome(error, Outcome(OutcomeKind.NOT_BEGUN, "", cause))
        return
    remedies = RecordedCall.of(context.layout.root, paused).while_paused
    tell(error, Outcome(OutcomeKind.STILL_PAUSED, paused.process_id, cause, remedies=remedies))


_KINDS = {
    Status.RUNNING: OutcomeKind.RUNNING,
    Status.PAUSED: OutcomeKind.PAUSED,
    Status.COMMITTING: OutcomeKind.COMMITTED,
    Status.SUCCEEDED: OutcomeKind.SUCCEEDED,
    Status.REVERTED: OutcomeKind.REVERTED,
    Status.STOPPED: OutcomeKind.STOPPED,
}


def recorded_outcome(root: Path, record: ProcessRecord, status: Status) -> Outcome:
    """Return the outcome of a process from its catalog record.

    Parameters
    ----------
    root
        The vault's folder.
    record
        The process.
    status
        Its status: that of the record, unless its owner has died.
    """
    return Outcome(
        _KINDS[status],
        record.process_id,
        record.error.cause if record.error is not None else None,
        remedies=RecordedCall.of(root, record).while_paused if status is Status.PAUSED else (),
    )
