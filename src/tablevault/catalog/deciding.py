"""How processes end in the catalog: decided, tidied up, finished. All of it inside a transaction of the caller's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from tablevault.catalog import format_2, locks
from tablevault.catalog.contents import apply_change
from tablevault.catalog.process_rows import (
    BY_SERIAL,
    UPDATE_BY_SERIAL,
    encode_error,
    encode_progress,
    first_process,
    now,
)
from tablevault.catalog.rows import as_record
from tablevault.catalog.schema import processes, tidying
from tablevault.catalog.store import next_value
from tablevault.errors import TVProcessError
from tablevault.values import Decision, MaterializedInstance, Plan, RenamedTable, Status, Tidying, TidyingAction

UPDATE_UNDECIDED = UPDATE_BY_SERIAL.where(
    processes.c.attempt == bindparam("of_attempt"),
    processes.c.status.in_([Status.RUNNING.value, Status.PAUSED.value]),
)
"""Of what an attempt owns: nothing takes back a decision, also not the attempt that made it."""
_STATE = select(processes.c.status, processes.c.finished).where(processes.c.serial == bindparam("serial"))
_INSERT_STEPS = insert(tidying)
_FAILED_STEPS = select(tidying).where(tidying.c.problem.is_not(None))
_DELETE_STEP = delete(tidying).where(tidying.c.tidying_id == bindparam("of_id"))
_FORGET_FAILED = delete(tidying).where(tidying.c.problem.is_not(None), tidying.c.source == bindparam("path"))
_FORGET_MOVES = delete(tidying).where(
    tidying.c.problem.is_not(None),
    tidying.c.action == TidyingAction.MOVE_FOLDER.value,
    tidying.c.source == bindparam("path"),
)
"""Of a folder that could not be moved, and is to have yet another name."""
_SAVE_PROBLEM = update(tidying).where(tidying.c.tidying_id == bindparam("of_id"))
_DELETE_STEPS = delete(tidying).where(tidying.c.serial == bindparam("serial"))


def decide_one(connection: Connection, decision: Decision) -> None:
    """Make the whole effect of one process visible; finish it too if nothing remains to be done on disk.

    Raises
    ------
    TVProcessError
        If the process is not in the attempt that decides any more.
    """
    remaining = decision.changes.tidying
    result = connection.execute(
        UPDATE_UNDECIDED,
        {"of_serial": decision.serial, "of_attempt": decision.attempt, **_decided(connection, decision)},
    )
    if result.rowcount != 1:
        raise not_owned(connection, decision.serial)
    if decision.status is Status.SUCCEEDED or decision.changes.changes:
        # Also a stop that materializes.
        format_2.forget_creates(connection, decision.serial)
    for change in decision.changes.changes:
        if isinstance(change, RenamedTable):
            _follow_renaming(connection, change)
        apply_change(change, connection, decision.serial)
    if remaining:
        _forget_superseded(connection, remaining)
        rows = [{"serial": decision.serial, **asdict(step), "action": step.action.value} for step in remaining]
        connection.execute(_INSERT_STEPS, rows)
    else:
        locks.release(connection, decision.serial)
    if decision.changes.changes or not remaining:
        # Whoever waits for released locks may have planned before they were released.
        next_value(connection, "generation")


def name_instance(connection: Connection, decisions: Sequence[Decision]) -> None:
    """Let processes that materialized an instance together name it, instead of the temporary one that it was."""
    made = [
        change.instance_id
        for decision in decisions
        for change in decision.changes.changes
        if isinstance(change, MaterializedInstance)
    ]
    if made:
        rows = [{"of_serial": decision.serial, "instance_id": made[0]} for decision in decisions]
        connection.execute(UPDATE_BY_SERIAL, rows)


def finish(connection: Connection, serial: int, problems: Iterable[tuple[int, str]]) -> None:
    """Record that a decided process is tidied up, but for the problems, and release its locks."""
    status, finished = connection.execute(_STATE, {"serial": serial}).one()
    if finished:
        return
    settle_tidying(connection, serial, problems)
    values: dict[str, Any] = {"finished": True, "owner_lock": None}
    if status == Status.COMMITTING.value:
        values |= _ended(connection, Status.SUCCEEDED)
    connection.execute(UPDATE_BY_SERIAL, {"of_serial": serial, **values})
    locks.release(connection, serial)
    next_value(connection, "generation")


def refuse(connection: Connection, serial: int, error: str) -> None:
    """Record that a process ended before it began to work."""
    values = _ended(connection, Status.REVERTED) | {"finished": True, "error": error}
    connection.execute(UPDATE_BY_SERIAL, {"of_serial": serial, **values})


def settle_tidying(connection: Connection, serial: int, problems: Iterable[tuple[int, str]]) -> None:
    """Keep the steps of a process that failed, each with its reason; the others are done."""
    failed = dict(problems)
    if not failed:
        connection.execute(_DELETE_STEPS, {"serial": serial})
        return
    connection.execute(_SAVE_PROBLEM, [{"of_id": step, "problem": problem} for step, problem in failed.items()])
    connection.execute(_DELETE_STEPS.where(tidying.c.tidying_id.not_in(list(failed))), {"serial": serial})


def forget_moot(connection: Connection, plan: Plan) -> None:
    """Drop steps that failed on a path which is free by now: done later, they would hit what is created there."""
    if plan.creates:
        connection.execute(_FORGET_FAILED, [{"path": item.location} for item in plan.creates])


def not_owned(connection: Connection, serial: int) -> TVProcessError:
    """Return the error of an attempt that lost its process to somebody else."""
    record = first_process(connection, BY_SERIAL, {"serial": serial})
    name = record.process_id if record else str(serial)
    state = record.status.value if record else "unknown"
    return TVProcessError(f"Process '{name}' was taken over by somebody else meanwhile; it is {state} now.")


def _decided(connection: Connection, decision: Decision) -> dict[str, Any]:
    """Return what a decision changes in the row of its process."""
    remaining = decision.changes.tidying
    values: dict[str, Any] = {}
    if decision.status is Status.SUCCEEDED:
        # What had paused it on the way is over.
        values["error"] = None
    elif decision.error is not None:
        values["error"] = encode_error(decision.error)
    if decision.progress is not None:
        values["progress"] = encode_progress(decision.progress)
    if decision.status is Status.SUCCEEDED and remaining:
        values["status"] = Status.COMMITTING.value
    else:
        values |= _ended(connection, decision.status)
    if not remaining:
        values |= {"finished": True, "owner_lock": None}
    return values


def _ended(connection: Connection, status: Status) -> dict[str, Any]:
    return {"status": status.value, "ended_at": now(), "end_order": next_value(connection, "end_order")}


def _forget_superseded(connection: Connection, steps: Iterable[Tidying]) -> None:
    """Drop steps that failed on a path whose content is decided anew: done later, they would undo what is newer."""
    failed = [(row["tidying_id"], as_record(Tidying, row)) for row in connection.execute(_FAILED_STEPS).mappings()]
    moot = [{"of_id": tidying_id} for tidying_id, old in failed if any(_is_moot(old, new) for new in steps)]
    if moot:
        connection.execute(_DELETE_STEP, moot)


def _follow_renaming(connection: Connection, change: RenamedTable) -> None:
    """Let steps that failed in a table's folder follow it, and drop those that would move it elsewhere."""
    connection.execute(_FORGET_MOVES, {"path": change.previous_folder})
    before, after = f"{change.previous_folder}/", f"{change.folder}/"
    for row in connection.execute(_FAILED_STEPS).mappings().all():
        moved = {
            name: after + row[name].removeprefix(before)
            for name in ("source", "target")
            if row[name].startswith(before) and before != after
        }
        if moved:
            connection.execute(_SAVE_PROBLEM, {"of_id": row["tidying_id"], **moved})


def _is_moot(old: Tidying, new: Tidying) -> bool:
    """Return whether a step that failed is overruled by a new one: about the same path, or the folder around it."""
    if old.path == new.path:
        return True
    if new.action not in (TidyingAction.REMOVE, TidyingAction.MOVE_FOLDER, TidyingAction.REPLACE_FOLDER):
        return False
    is_renaming = new.action is TidyingAction.MOVE_FOLDER and "/" not in new.target
    # The folder that the old step would move is gone; so are the files in it, unless it has only another name.
    return old.source == new.source or (old.path.startswith(f"{new.source}/") and not is_renaming)
