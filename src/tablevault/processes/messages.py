"""Messages about processes, with outcomes, conflicts and remedies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tablevault.operations.remedies import RecordedCall, hint_in_line
from tablevault.texts.plain import duration
from tablevault.values.outcomes import Outcome, OutcomeKind, Remedy
from tablevault.values.processes import Lock, ProcessRecord, counts_at_least


def note(outcome: Outcome) -> str:
    """Return an outcome as the note of an exception, or an empty text."""
    match outcome.kind:
        case OutcomeKind.PAUSED:
            rows = outcome.unsaved_rows
            unsaved = f" ({rows:,} computed rows could not be saved and will be repeated)" if rows else ""
            return f"paused as '{outcome.process_id}'{unsaved}:\n{hint(outcome.remedies)}"
        case OutcomeKind.STILL_PAUSED:
            return f"process '{outcome.process_id}' is still paused, unchanged; correct the error and resume it again."
        case OutcomeKind.REVERTED if outcome.kept_cells:
            return f"reverted; {outcome.kept_cells:,} computed cells are kept; reuse_partial=True reuses them."
        case OutcomeKind.REVERTED if outcome.has_children:
            return "reverted; finished steps stay, and the same call reuses the computed cells of the others."
        case OutcomeKind.REVERTED:
            return "reverted: the vault is as if the operation had never started."
        case OutcomeKind.STOPPED:
            return "stopped by stop_process(force=True)."
        case OutcomeKind.COMMITTED:
            return "committed, will be rolled forward: the change is visible and durable, only tidying up remains."
        case OutcomeKind.TAKEN_OVER:
            return "another interpreter has taken the process over; this one no longer runs it."
        case OutcomeKind.UNKNOWN:
            return (
                "the catalog could not report whether the change was committed. Nothing was deleted; opening the "
                "vault again settles it."
            )
        case OutcomeKind.UNRECORDED:
            return (
                f"process '{outcome.process_id}' could not record its end ({outcome.detail}); "
                "opening the vault again recovers it."
            )
    return ""


def jobs_left(jobs: Mapping[str, str]) -> str:
    """Return the sentence about jobs of an ended process that a provider may still charge for.

    Parameters
    ----------
    jobs
        The jobs, each with the reason why it was not cancelled.
    """
    listed = ", ".join(f"{name} ({reason})" for name, reason in jobs.items())
    return f"{'a job that was' if len(jobs) == 1 else 'jobs that were'} not cancelled may still be charged: {listed}"


def note_of_child(outcome: Outcome, operation: str, table_name: str) -> str:
    """Return a child's outcome as the note of an exception.

    The parent raises the same exception.
    """
    child = f"in process '{outcome.process_id}' ({operation} of table '{table_name}')"
    match outcome.kind:
        case OutcomeKind.PAUSED if outcome.unsaved_rows:
            unsaved = f"{outcome.unsaved_rows:,} computed rows could not be saved and will be repeated"
            return f"{child}, which is paused ({unsaved})"
        case OutcomeKind.PAUSED | OutcomeKind.STILL_PAUSED:
            return f"{child}, which is paused"
        case OutcomeKind.REVERTED if outcome.kept_cells:
            return f"{child}, which was reverted; {outcome.kept_cells:,} computed cells are kept"
    return f"{child}: {note(outcome)}"


def in_report(outcome: Outcome) -> str:
    """Return an outcome for `restart_report`."""
    match outcome.kind:
        case OutcomeKind.ROLLED_FORWARD:
            return "rolled forward"
        case OutcomeKind.REVERTED | OutcomeKind.STOPPED:
            return "reverted"
        case OutcomeKind.PAUSED | OutcomeKind.STILL_PAUSED:
            return "paused again"
        case OutcomeKind.RUNNING:
            return "left running"
    return "resumed"


def hint(remedies: Sequence[Remedy]) -> str:
    """Return remedies as text, each on separate lines."""
    return "\nor ".join(f"{remedy.action} it with\n    {remedy.python}\n    {remedy.command}" for remedy in remedies)


def needs_payload(root: Path, record: ProcessRecord) -> str:
    """Return the message for a process that needs its first call's payload.

    The payload is a frame or texts.
    """
    return (
        f"The data given to process '{record.process_id}' ({record.operation}) had not been staged completely. "
        f"Give the same data again: {RecordedCall.of(root, record).resume.python}."
    )


def blocked_by_paused(root: Path, record: ProcessRecord, whole: ProcessRecord, held: Lock | None = None) -> str:
    """Return the message for an operation that conflicts with a paused process.

    Parameters
    ----------
    root
        The vault's folder.
    record
        The process.
    whole
        The process that resumes it: itself or an ancestor.
    held
        Its conflicting lock.
    """
    error = f" by {record.error.in_line}" if record.error else ""
    return (
        f"{_in_the_way(record, held)} the paused process '{record.process_id}' ({record.operation}), "
        f"which was paused{error}; {hint_in_line(RecordedCall.of(root, whole).while_paused)}."
    )


def blocked_by_ancestor(record: ProcessRecord, held: Lock | None = None) -> str:
    """Return the message for a nested operation that would change an input of its parent."""
    return (
        f"{_in_the_way(record, held)} process '{record.process_id}' ({record.operation}), inside which "
        "this operation runs; it may read that, but not change it."
    )


def blocked(record: ProcessRecord, waited: float, held: Lock | None = None) -> str:
    """Return the message for an operation that timed out waiting for a running process."""
    return (
        f"{_in_the_way(record, held)} the running process '{record.process_id}' ({record.operation} by "
        f"{record.author}, process number {record.owner_pid} on {record.owner_host}); waited {waited:g} s. "
        "Try again later, or open the vault with a larger lock_timeout."
    )


def executes_with_side_effects(table_name: str, record: ProcessRecord) -> str:
    """Return the message for reading a table with side effects while a running process executes it."""
    return (
        f"Table '{table_name}' has side effects, so it cannot be read while it executes. Process "
        f"'{record.process_id}' ({record.operation} by {record.author}, process number {record.owner_pid} on "
        f"{record.owner_host}) is running; wait_process('{record.process_id}') waits for it."
    )


def still_running(record: ProcessRecord) -> str:
    """Return the message for a call that would take a process from its live owner."""
    return (
        f"Process '{record.process_id}' ({record.operation}) is running in process number {record.owner_pid} on "
        f"{record.owner_host}; a running process cannot be taken over. "
        f"wait_process('{record.process_id}') waits for it, "
        f"stop_process('{record.process_id}', force=True) asks it to stop."
    )


def ended_meanwhile(record: ProcessRecord) -> str:
    """Return the message for resuming a process that has just ended."""
    return (
        f"Process '{record.process_id}' ({record.operation}) ended at the same moment: its status is {record.status}. "
        f"See get_process('{record.process_id}')."
    )


def another_operation(record: ProcessRecord, operation: str) -> str:
    """Return the message for a call with the id of another operation's process."""
    return f"Process '{record.process_id}' is a call of {record.operation}, not of {operation}; use another id."


def another_argument(record: ProcessRecord, argument: str) -> str:
    """Return the message for a call with different arguments.

    Its id is that of an earlier process.
    """
    return (
        f"Process '{record.process_id}' was started with another value of '{argument}' "
        f"({record.arguments.get(argument)!r:.200}), and its arguments cannot be changed. Omit '{argument}', or use "
        "another id."
    )


def edited(record: ProcessRecord, edit: str) -> str:
    """Return the message for a call whose definitions cannot continue a process."""
    return f"The source of process '{record.process_id}' ({record.operation}) was edited: {edit}."


def resuming(record: ProcessRecord) -> str:
    """Return the message for a call that continues a paused process without naming it."""
    since, error = "", ""
    if record.error is not None:
        error = f" ({record.error.type.rpartition('.')[2]})"
        if record.error.time is not None:
            # Clocks differ between machines and may be set back.
            seconds = max(0.0, (datetime.now(UTC) - record.error.time).total_seconds())
            since = f" {duration(seconds)} ago"
    unfinished = next((item for item in record.progress.items() if not item[1].done), None)
    progress = ""
    if unfinished is not None:
        builder, counts = unfinished
        done, total = counts.computed + counts.reused, counts.total
        least = "at least " if counts_at_least(record.error) else ""
        progress = f" with {least}{done:,}{'' if total is None else f' of {total:,}'} rows of {builder}"
    return f"Resuming '{record.process_id}', paused{since}{error}{progress}."


def already_done(record: ProcessRecord) -> str:
    """Return the warning for a call with the id of a finished process."""
    when = f"{record.ended_at:%Y-%m-%d %H:%M:%S} UTC" if record.ended_at else "earlier"
    return (
        f"Process '{record.process_id}' ({record.operation}) already succeeded at {when}; nothing was done. "
        "Put the run's date into the ids of recurring jobs."
    )


_BUILDING = frozenset({"create_instance", "execute_instance", "write_instance", "write"})
"""Operations that build the instance on which they hold an exclusive lock."""


def _in_the_way(record: ProcessRecord, held: Lock | None) -> str:
    """Return the beginning of a sentence about a conflicting lock, to be completed by its process."""
    if held is None:
        return f"{_target(record)} is used by"
    if not held.exclusive:
        return f"{_named(held.resource)} is read by"
    is_built = record.operation in _BUILDING and "/instance/" in held.resource
    return f"{_named(held.resource)} is {'built' if is_built else 'changed'} by"


def _named(resource: str) -> str:
    match resource.split("/"):
        case ["table", table, "instance", instance_id]:
            return f"Instance '{instance_id}' of table '{table}'"
        case ["table", table, "artifacts"]:
            return f"The set of artifacts of table '{table}'"
        case ["table", table, "version", version]:
            return f"Version '{version}' of table '{table}'"
        case ["table", table, "tag", tag]:
            return f"Tag '{tag}' of table '{table}'"
        case ["table", table]:
            return f"Table '{table}'"
        case ["service", service]:
            return f"Service '{service}'"
        case ["run", *_]:
            return "The source of the run"
    return "The code of the vault"


def _target(record: ProcessRecord) -> str:
    if record.instance_id:
        return f"Instance '{record.instance_id}' of table '{record.table_name}'"
    return f"Table '{record.table_name}'" if record.table_name else "The vault"
