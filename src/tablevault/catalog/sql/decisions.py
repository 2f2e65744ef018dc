"""Deciding, tidying up and finishing processes inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from operator import itemgetter
from typing import Any

from sqlalchemy import Insert, bindparam, case, delete, exists, insert, select, update

from tablevault.catalog.sql.changes import apply_change
from tablevault.catalog.sql.codec import as_record, encode_error, encode_progress, integer, now
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.creations import forget_creates
from tablevault.catalog.sql.processes import BY_SERIAL, ended_process, first_process
from tablevault.catalog.sql.schema import counters, instances, processes, tidying
from tablevault.errors import TVImplementationError, TVProcessError
from tablevault.values.changes import (
    Decision,
    MaterializedInstance,
    Remaining,
    RenamedTable,
    Tidying,
    TidyingAction,
    UnchangedInstance,
    WrittenInstance,
)
from tablevault.values.contents import ArtifactState
from tablevault.values.processes import EndedProcess, Plan, Status

UPDATE_BY_SERIAL = update(processes).where(processes.c.serial == bindparam("of_serial"))
_UNDECIDED = [Status.RUNNING.value, Status.PAUSED.value]
UPDATE_UNDECIDED = UPDATE_BY_SERIAL.where(
    processes.c.attempt == bindparam("of_attempt"), processes.c.status.in_(_UNDECIDED)
)
"""Applies only to a process that the attempt owns. A decision is final, even for the attempt that made it."""
_DECIDE = UPDATE_UNDECIDED.returning(
    exists().where(tidying.c.problem.is_not(None)).label("has_failed_steps"), *processes.c
)
_NEXT_END = select(counters.c.value + 1).where(counters.c.name == "end_order").scalar_subquery()
_DECIDE_END = _DECIDE.values(end_order=_NEXT_END)
_REFUSE = UPDATE_BY_SERIAL.values(end_order=_NEXT_END)
_IS_COMMITTING = processes.c.status == Status.COMMITTING.value
_FINISH = (
    UPDATE_BY_SERIAL.where(~processes.c.finished, processes.c.status.not_in(_UNDECIDED))
    .values(
        finished=True,
        owner_lock=None,
        status=case((_IS_COMMITTING, Status.SUCCEEDED.value), else_=processes.c.status),
        ended_at=case((_IS_COMMITTING, bindparam("ended_at")), else_=processes.c.ended_at),
        end_order=case((_IS_COMMITTING, _NEXT_END), else_=processes.c.end_order),
    )
    .returning(*processes.c)
)
"""A reverted or stopped process ended when that was decided, not when it was tidied up."""
_IS_UNFINISHED = select(processes.c.serial).where(processes.c.serial == bindparam("serial"), ~processes.c.finished)
_STEP = ("serial", "action", "source", "target")
"""Columns of a step on disk."""
_FAILED_STEPS = select(tidying).where(tidying.c.problem.is_not(None))
_DELETE_STEP = delete(tidying).where(tidying.c.tidying_id == bindparam("of_id"))
_FORGET_FAILED = delete(tidying).where(tidying.c.problem.is_not(None), tidying.c.source == bindparam("path"))
_FORGET_MOVES = delete(tidying).where(
    tidying.c.problem.is_not(None),
    tidying.c.action == TidyingAction.MOVE_FOLDER.value,
    tidying.c.source == bindparam("path"),
)
"""Applies to a folder that could not be moved and is being renamed again."""
_UPDATE_STEP = update(tidying).where(tidying.c.tidying_id == bindparam("of_id"))
_SAVE_PROBLEM = _UPDATE_STEP.where(tidying.c.serial == bindparam("of_serial"))
"""Checks the process, because SQLite may reuse the id of a finished step for another one's."""
_KEEP_PROBLEM = _SAVE_PROBLEM.where(exists().where(processes.c.serial == tidying.c.serial, ~processes.c.finished))
_DELETE_STEPS = delete(tidying).where(tidying.c.serial == bindparam("serial"))


@cache
def _insert_steps(count: int) -> Insert:
    """Return one statement that inserts `count` steps."""
    rows: list[dict[str, Any]] = [{name: bindparam(f"{name}_{place}") for name in _STEP} for place in range(count)]
    return (
        insert(tidying)
        .values(rows)
        .returning(
            tidying.c.tidying_id,
            tidying.c.action,
            tidying.c.source,
            tidying.c.target,
            exists()
            .where(instances.c.artifact_state == ArtifactState.SUPERSEDED.value, ~instances.c.deleted)
            .label("has_superseded"),
        )
    )


def decide_one(connection: Connection, decision: Decision, made: str | None) -> Remaining | EndedProcess:
    """Apply the decision of one process; return its remaining work on disk.

    A process without remaining work is finished immediately, and returned as it ended.

    Parameters
    ----------
    connection
        The deciding transaction.
    decision
        Outcome of the process.
    made
        Id of the instance that the transaction materializes or leaves unchanged; recorded as the process's own.

    Raises
    ------
    TVProcessError
        If another attempt has taken the process over.
    """
    remaining, changes = decision.changes.tidying, decision.changes.changes
    values = _decided(decision)
    if made is not None:
        values["instance_id"] = made
    fence = {"of_serial": decision.serial, "of_attempt": decision.attempt}
    decide = _DECIDE if _is_left_open(decision) else _DECIDE_END
    row = connection.execute(decide, {**fence, **values}).mapping()
    if row is None:
        raise not_owned(connection, decision.serial)
    if changes and decision.status is not Status.SUCCEEDED:
        # A stop that materializes. After a success, the status shows that nothing is pending.
        forget_creates(connection, decision.serial)
    for change in changes:
        if isinstance(change, RenamedTable):
            _follow_renaming(connection, change)
        apply_change(change, connection, decision.serial)
    if remaining:
        if row["has_failed_steps"]:
            _forget_superseded(connection, remaining)
        rows = [(decision.serial, step.action.value, step.source, step.target) for step in remaining]
        values = {
            f"{name}_{place}": value for place, row in enumerate(rows) for name, value in zip(_STEP, row, strict=True)
        }
        inserted = connection.execute(_insert_steps(len(rows)), values).mappings()
        steps = sorted(
            ((integer(line["tidying_id"]), as_record(Tidying, line)) for line in inserted), key=itemgetter(0)
        )
        return Remaining(tuple(steps), bool(inserted[0]["has_superseded"]))
    if decision.changes.leaves_work:
        return Remaining((), has_superseded=True)
    return ended_process(row)


def instances_made_by(decisions: Sequence[Decision]) -> dict[int, str]:
    """Return the instance that each process materializes or leaves unchanged, by serial number.

    The first process decides for the others; its instance is the first one that any of them makes.
    """
    made = {
        decision.serial: change.instance_id
        for decision in decisions
        for change in decision.changes.changes
        if isinstance(change, MaterializedInstance | WrittenInstance | UnchangedInstance)
    }
    return {decisions[0].serial: next(iter(made.values())), **made} if made else {}


def finish(connection: Connection, serial: int, problems: Iterable[tuple[int, str]]) -> EndedProcess | None:
    """Record that a decided process is tidied up except for `problems`; release its locks.

    Return it as it ended; `None` if another owner has finished it.
    """
    failed = _problem_rows(serial, problems)
    if failed:
        connection.execute(_KEEP_PROBLEM, failed)
    row = connection.execute(_FINISH, {"of_serial": serial, "ended_at": now()}).mapping()
    if row is None and connection.scalar(_IS_UNFINISHED, {"serial": serial}):
        raise TVImplementationError(f"The catalog refused a change: process {serial} is not decided.")
    return None if row is None else ended_process(row)


def refuse(connection: Connection, serial: int, error: str) -> None:
    """Record that a process ended before it started its work."""
    connection.execute(_REFUSE, {"of_serial": serial, "ended_at": now(), "error": error})


def keep_failed_steps(connection: Connection, serial: int, problems: Iterable[tuple[int, str]]) -> None:
    """Keep the failed steps of a finished process with their reasons; delete the others."""
    failed = _problem_rows(serial, problems)
    if failed:
        connection.execute(_SAVE_PROBLEM, failed)
    kept = [row["of_id"] for row in failed]
    connection.execute(_DELETE_STEPS.where(tidying.c.tidying_id.not_in(kept)), {"serial": serial})


def _problem_rows(serial: int, problems: Iterable[tuple[int, str]]) -> list[dict[str, object]]:
    return [{"of_id": step, "of_serial": serial, "problem": problem} for step, problem in problems]


def forget_moot(connection: Connection, plan: Plan) -> None:
    """Drop failed steps on paths to be created, where a retry would remove the new content."""
    if plan.creates:
        connection.execute(_FORGET_FAILED, [{"path": item.location} for item in plan.creates])


def not_owned(connection: Connection, serial: int) -> TVProcessError:
    """Return the error of an attempt that no longer owns its process."""
    record = first_process(connection, BY_SERIAL, {"serial": serial})
    name = record.process_id if record else str(serial)
    state = record.status.value if record else "unknown"
    return TVProcessError(f"Process '{name}' was taken over meanwhile; it is {state} now.")


def _decided(decision: Decision) -> dict[str, Any]:
    """Return the new values of a process's row, except the order of its end."""
    status = Status.COMMITTING if _is_left_open(decision) else decision.status
    values: dict[str, Any] = {"status": status.value}
    if decision.status is Status.SUCCEEDED:
        # Clears the error of an earlier pause.
        values["error"] = None
    elif decision.error is not None:
        values["error"] = encode_error(decision.error)
    if decision.progress is not None:
        values["progress"] = encode_progress(decision.progress)
    if not decision.changes.leaves_work:
        values |= {"finished": True, "owner_lock": None}
    if not _is_left_open(decision):
        values["ended_at"] = now()
    return values


def _is_left_open(decision: Decision) -> bool:
    """Return whether a process succeeds only after it is tidied up."""
    return decision.status is Status.SUCCEEDED and decision.changes.leaves_work


def _forget_superseded(connection: Connection, steps: Iterable[Tidying]) -> None:
    """Drop failed steps overridden by a newer decision, which a retry would undo."""
    failed = [(row["tidying_id"], as_record(Tidying, row)) for row in connection.execute(_FAILED_STEPS).mappings()]
    moot = [{"of_id": tidying_id} for tidying_id, old in failed if any(_is_moot(old, new) for new in steps)]
    if moot:
        connection.execute(_DELETE_STEP, moot)


def _follow_renaming(connection: Connection, change: RenamedTable) -> None:
    """Redirect failed steps in a renamed folder; drop those that would move it elsewhere."""
    connection.execute(_FORGET_MOVES, {"path": change.previous_folder})
    before, after = f"{change.previous_folder}/", f"{change.folder}/"
    for row in connection.execute(_FAILED_STEPS).mappings():
        moved = {
            name: after + row[name].removeprefix(before)
            for name in ("source", "target")
            if row[name].startswith(before) and before != after
        }
        if moved:
            connection.execute(_UPDATE_STEP, {"of_id": row["tidying_id"], **moved})


def _is_moot(old: Tidying, new: Tidying) -> bool:
    """Return whether a new step overrides a failed one.

    It does on the same path, and on paths inside its folder.
    """
    if old.path == new.path:
        return True
    if new.action not in (TidyingAction.REMOVE, TidyingAction.MOVE_FOLDER, TidyingAction.REPLACE_FOLDER):
        return False
    is_renaming = new.action is TidyingAction.MOVE_FOLDER and "/" not in new.target
    # The source of the old step is gone, and so are files in the folder unless it was only renamed.
    return old.source == new.source or (old.path.startswith(f"{new.source}/") and not is_renaming)
