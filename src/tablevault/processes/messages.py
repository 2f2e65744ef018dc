"""What people are told about a process: what became of it, who is in the way, and what to do now."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tablevault.notes import message_of
from tablevault.operations.base import Operation
from tablevault.processes.remedies import Recorded
from tablevault.texts import in_line
from tablevault.values import ErrorInfo, Lock, ProcessRecord

COMMITTED = "committed, will be rolled forward: the change is visible and durable, only tidying up remains."
PAUSED = "paused as"
STOPPED = "stopped by stop_process(force=True)."
TAKEN_OVER = "the process was taken over by somebody else; this interpreter has no part in it any more."
UNKNOWN_OUTCOME = (
    "the catalog could not say whether the change was committed: nothing was deleted, "
    "and whoever opens the vault next finds out."
)


def reverted(kept_cells: int) -> str:
    """Return the note of a reverted process."""
    if kept_cells:
        return f"reverted; {kept_cells:,} computed cells are kept, reuse_partial=True takes them over."
    return "reverted: the vault is as if the operation had never started."


def paused(root: Path, process_id: str, operation: Operation[Any], unsaved_rows: int) -> str:
    """Return the note of a paused process."""
    unsaved = f" ({unsaved_rows:,} computed rows could not be saved and will be repeated)" if unsaved_rows else ""
    recorded = Recorded(root, operation.name, operation.record(), process_id)
    return f"{PAUSED} '{process_id}'{unsaved}:\n{_remedies(recorded)}"


def still_paused(process_id: str) -> str:
    """Return the note of a process whose resumption was refused."""
    return f"process '{process_id}' is still paused, unchanged; correct the error and resume it again."


def needs_payload(root: Path, record: ProcessRecord) -> str:
    """Return the message for a process that cannot go on without what its first call was given."""
    return (
        f"What process '{record.process_id}' ({record.operation}) was given had not been staged whole; give it the "
        f"same once more: {_recorded(root, record).resume.python}."
    )


def left_to_recovery(process_id: str, trouble: BaseException) -> str:
    """Return the note of a process whose end could not be recorded."""
    return (
        f"process '{process_id}' could not record its end ({type(trouble).__name__}: {in_line(message_of(trouble))}); "
        "whoever opens the vault next deals with it."
    )


def error_in_line(error: ErrorInfo) -> str:
    """Return a recorded error as it is told within a sentence."""
    return in_line(f"{error.type}: {error.message}".removesuffix(": "))


def hint(root: Path, record: ProcessRecord) -> str:
    """Return how a paused process is resumed and stopped."""
    return _remedies(_recorded(root, record))


def hint_in_line(root: Path, record: ProcessRecord) -> str:
    """Return how a paused process is resumed and stopped, as part of a sentence."""
    recorded = _recorded(root, record)
    return (
        f"resume it with {recorded.resume.python} (in a shell: {recorded.resume.command}), "
        f"or stop it with {recorded.stop.python} (in a shell: {recorded.stop.command})"
    )


def blocked_by_paused(root: Path, record: ProcessRecord, held: Lock | None = None) -> str:
    """Return the message for an operation that needs what a paused process holds."""
    error = f" by {error_in_line(record.error)}" if record.error else ""
    return (
        f"{_in_the_way(record, held)} the paused process '{record.process_id}' ({record.operation}), "
        f"which was paused{error}; {hint_in_line(root, record)}."
    )


def blocked_by_ancestor(record: ProcessRecord, held: Lock | None = None) -> str:
    """Return the message for a nested operation that would change what its parent uses."""
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


def still_running(record: ProcessRecord) -> str:
    """Return the message for somebody who would take a process from its live owner."""
    return (
        f"Process '{record.process_id}' ({record.operation}) is running in process number {record.owner_pid} on "
        f"{record.owner_host}; a running process cannot be taken over. "
        f"wait_process('{record.process_id}') waits for it, "
        f"stop_process('{record.process_id}', force=True) asks it to stop."
    )


def ended_meanwhile(record: ProcessRecord) -> str:
    """Return the message for somebody who would have taken up a process that ended at the same moment."""
    return (
        f"Process '{record.process_id}' ({record.operation}) ended at the same moment: its status is {record.status}. "
        f"get_process('{record.process_id}') tells more."
    )


def already_done(record: ProcessRecord) -> str:
    """Return the warning for a call with the id of a finished process."""
    when = f"{record.ended_at:%Y-%m-%d %H:%M:%S} UTC" if record.ended_at else "earlier"
    return (
        f"Process '{record.process_id}' ({record.operation}) already succeeded at {when}; nothing was done. "
        "Put the run's date into the ids of recurring jobs."
    )


def _recorded(root: Path, record: ProcessRecord) -> Recorded:
    return Recorded(root, record.operation, record.arguments, record.process_id)


def _remedies(recorded: Recorded) -> str:
    resume, stop = recorded.resume, recorded.stop
    return (
        f"resume it with\n    {resume.python}\n    {resume.command}\n"
        f"or stop it with\n    {stop.python}\n    {stop.command}"
    )


_BUILDING = frozenset({"create_instance", "execute_instance", "write_instance", "write"})
"""Operations whose exclusive lock on an instance means that they make it."""


def _in_the_way(record: ProcessRecord, held: Lock | None) -> str:
    """Return what a process holds, and for what: the beginning of a sentence that goes on with the process."""
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
        case ["table", table]:
            return f"Table '{table}'"
    return "The code of the vault"


def _target(record: ProcessRecord) -> str:
    if record.instance_id:
        return f"Instance '{record.instance_id}' of table '{record.table_name}'"
    return f"Table '{record.table_name}'" if record.table_name else "What this operation needs"
