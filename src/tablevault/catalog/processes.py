"""The life of processes in the catalog: every step is one SQL transaction."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, delete, func, insert, or_, select, update

from tablevault.catalog import locks
from tablevault.catalog.contents import apply_change
from tablevault.catalog.schema import processes, tidying
from tablevault.catalog.store import Store, current_value, next_value
from tablevault.errors import TVProcessError
from tablevault.model import (
    Begun,
    Blocked,
    BuilderProgress,
    Decision,
    ErrorInfo,
    Lock,
    NewProcess,
    Owner,
    Plan,
    ProcessRecord,
    Status,
    Tidying,
    TidyingAction,
)

Progress = Mapping[str, BuilderProgress]


class Processes:
    """Records what processes do, from their beginning to their end.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- beginning ------------------------------------------------------------------------------------------------

    def begin(self, new: NewProcess, plan: Plan, owner: Owner) -> Begun | Blocked:
        """Record a process with its plan and take all its locks, or do nothing and return who is in the way.

        Raises
        ------
        TVProcessError
            If a process with this id exists and was not reverted.
        """
        with self._store.write() as connection:
            existing = _select_one(connection, _not_reverted(new.process_id))
            if existing is not None:
                raise TVProcessError(
                    f"Process id '{new.process_id}' was taken by another {existing.operation} at the same moment."
                )
            ancestors = _ancestors(connection, new.parent_serial)
            holders = locks.conflicting_holders(connection, plan.locks, ancestors)
            if holders:
                return Blocked(holders)
            serial = _insert(connection, new, plan, owner)
            locks.take(connection, serial, plan.locks)
            _forget_moot(connection, plan)
            return Begun(serial, current_value(connection, "generation"))

    def save_plan(self, serial: int, plan: Plan) -> None:
        """Replace the plan of a process that has not begun to work."""
        with self._store.write() as connection:
            values = {"plan": _dump_plan(plan), "table_name": plan.table_name, "instance_id": plan.instance_id}
            connection.execute(update(processes).where(processes.c.serial == serial).values(**values))
            _forget_moot(connection, plan)

    def withdraw(self, serial: int) -> None:
        """Forget a process that has not begun to work, as if it had never been recorded."""
        with self._store.write() as connection:
            locks.release(connection, serial)
            connection.execute(delete(processes).where(processes.c.serial == serial))

    def record_refused(self, new: NewProcess, error: ErrorInfo) -> None:
        """Record a process that failed while it was prepared: it leaves its line in the log and nothing else."""
        with self._store.write() as connection:
            serial = _insert(connection, new, Plan("", "", ()), None)
            _set_ended(connection, serial, Status.REVERTED)
            values = {"finished": True, "error": _dump_error(error)}
            connection.execute(update(processes).where(processes.c.serial == serial).values(**values))

    def conflicts(self, wanted: Iterable[Lock], parent_serial: int | None) -> tuple[int, ...]:
        """Return the serials of the processes that hold what a child of `parent_serial` wants."""
        with self._store.read() as connection:
            return locks.conflicting_holders(connection, wanted, _ancestors(connection, parent_serial))

    # --- ownership ------------------------------------------------------------------------------------------------

    def claim(self, record: ProcessRecord, owner: Owner) -> bool:
        """Take a process over, if it is still as it was when `record` was read. Return whether it worked."""
        with self._store.write() as connection:
            result = connection.execute(
                update(processes)
                .where(
                    processes.c.serial == record.serial,
                    processes.c.attempt == record.attempt,
                    ~processes.c.finished,
                )
                .values(
                    attempt=record.attempt + 1,
                    owner_lock=owner.lock,
                    owner_host=owner.host,
                    owner_pid=owner.pid,
                    stop_requested=False,
                )
            )
            return result.rowcount == 1

    def set_running(self, serial: int, attempt: int) -> None:
        """Show a claimed process as running again."""
        self._update_owned(serial, attempt, status=Status.RUNNING.value)

    def pause(self, serial: int, attempt: int, error: ErrorInfo | None, progress: Progress | None) -> None:
        """Pause a process: it keeps its locks. `None` leaves the error or progress of before."""
        values: dict[str, Any] = {"status": Status.PAUSED.value}
        if error is not None:
            values["error"] = _dump_error(error)
        if progress is not None:
            values["progress"] = dump_progress(progress)
        self._update_owned(serial, attempt, **values)

    def save_progress(self, serial: int, attempt: int, progress: Progress) -> None:
        """Record how far an execution is, for people who look at it."""
        self._update_owned(serial, attempt, progress=dump_progress(progress))

    def request_stop(self, serial: int) -> None:
        """Ask the owner of a process to stop at its next row or batch."""
        with self._store.write() as connection:
            connection.execute(update(processes).where(processes.c.serial == serial).values(stop_requested=True))

    def _update_owned(self, serial: int, attempt: int, **values: Any) -> None:
        with self._store.write() as connection:
            result = connection.execute(
                update(processes)
                .where(processes.c.serial == serial, processes.c.attempt == attempt, processes.c.ended_at.is_(None))
                .values(**values)
            )
            if result.rowcount != 1:
                raise _not_owned(connection, serial)

    # --- ending ---------------------------------------------------------------------------------------------------

    def decide(self, decisions: Sequence[Decision]) -> None:
        """Commit the whole visible effect of one or more processes: all of them or none.

        Raises
        ------
        TVProcessError
            If one of them is not in the attempt that decides any more; nothing is changed then.
        """
        with self._store.write() as connection:
            for decision in decisions:
                _decide_one(connection, decision)

    def finish(self, serial: int, problems: Iterable[tuple[int, str]] = ()) -> None:
        """Record that a process is tidied up, and release its locks.

        Parameters
        ----------
        serial
            The process.
        problems
            Tidying steps that failed for good, by their id, each with its reason: they stay recorded.
        """
        with self._store.write() as connection:
            _settle_tidying(connection, serial, problems)
            if _status(connection, serial) is Status.COMMITTING:
                _set_ended(connection, serial, Status.SUCCEEDED)
            _finish(connection, serial)

    def settle_tidying(self, serial: int, problems: Iterable[tuple[int, str]]) -> None:
        """Record which tidying steps of a process that is over still fail; the others are done."""
        with self._store.write() as connection:
            _settle_tidying(connection, serial, problems)

    def with_failed_tidying(self) -> list[int]:
        """Return the processes that are over, but for steps on disk that failed."""
        with self._store.read() as connection:
            rows = connection.scalars(select(tidying.c.serial).where(tidying.c.problem.is_not(None)).distinct())
            return [int(serial) for serial in rows]

    def failed_tidying(self) -> list[tuple[Tidying, str]]:
        """Return the steps on disk that failed, each with its reason."""
        with self._store.read() as connection:
            query = select(tidying).where(tidying.c.problem.is_not(None)).order_by(tidying.c.tidying_id)
            return [
                (Tidying(TidyingAction(row["action"]), row["source"], row["target"]), row["problem"])
                for row in connection.execute(query).mappings()
            ]

    def begun(self) -> int:
        """Return the serial number of the process that began last; 0 if none ever did."""
        with self._store.read() as connection:
            return int(connection.scalar(select(func.max(processes.c.serial))) or 0)

    def created(self, path: str) -> bool:
        """Tell whether a process that is over had planned to create this path of the vault."""
        with self._store.read() as connection:
            query = select(processes).where(
                processes.c.finished.is_(True), processes.c.plan.contains(json.dumps(path), autoescape=True)
            )
            records = [_record(row) for row in connection.execute(query).mappings()]
        return any(path in record.plan.data.get("creates", ()) for record in records)

    def tidying_of(self, serial: int) -> list[tuple[int, Tidying]]:
        """Return what remains to be done on disk for a process, in order, each with its id."""
        with self._store.read() as connection:
            rows = connection.execute(
                select(tidying.c.tidying_id, tidying.c.action, tidying.c.source, tidying.c.target)
                .where(tidying.c.serial == serial)
                .order_by(tidying.c.tidying_id)
            )
            return [(row[0], Tidying(TidyingAction(row[1]), row[2], row[3])) for row in rows]

    # --- reading --------------------------------------------------------------------------------------------------

    def get(self, serial: int) -> ProcessRecord | None:
        """Return a process by its serial number."""
        with self._store.read() as connection:
            return _select_one(connection, processes.c.serial == serial)

    def find(self, process_id: str) -> ProcessRecord | None:
        """Return the process with this id: the one that was not reverted if there is one, else the newest."""
        with self._store.read() as connection:
            # A second call that was refused may be newer than the process whose id it wanted.
            holding = _select_one(connection, _not_reverted(process_id))
            return holding or _select_one(connection, processes.c.process_id == process_id)

    def unfinished(self) -> list[ProcessRecord]:
        """Return the processes that are not ended or not tidied up, oldest first."""
        with self._store.read() as connection:
            query = select(processes).where(~processes.c.finished).order_by(processes.c.serial)
            return [_record(row) for row in connection.execute(query).mappings()]

    def children(self, serial: int) -> list[ProcessRecord]:
        """Return the unfinished processes that were begun inside a process, oldest first."""
        return [record for record in self.unfinished() if record.parent_serial == serial]

    def locks_of(self, serial: int) -> tuple[Lock, ...]:
        """Return the locks that a process holds."""
        with self._store.read() as connection:
            return locks.held_by(connection, serial)

    def history(self, filters: Mapping[str, str], limit: int) -> list[ProcessRecord]:
        """Return processes whose columns equal `filters`, newest first, at most `limit` of them."""
        conditions = [processes.c[name] == value for name, value in filters.items()]
        with self._store.read() as connection:
            query = select(processes).where(*conditions).order_by(processes.c.serial.desc()).limit(limit)
            return [_record(row) for row in connection.execute(query).mappings()]

    def ended_after(self, end_order: int) -> list[tuple[int, ProcessRecord]]:
        """Return what has ended since, in the order of the ends, each with its place in that order."""
        with self._store.read() as connection:
            query = (
                select(processes)
                .where(processes.c.end_order > end_order, processes.c.finished.is_(True))
                .order_by(processes.c.end_order)
            )
            return [(row["end_order"], _record(row)) for row in connection.execute(query).mappings()]

    def is_ancestor(self, serial: int, of: int | None) -> bool:
        """Tell whether a process is `of` itself or one of its ancestors."""
        with self._store.read() as connection:
            return serial in _ancestors(connection, of)


def dump_progress(progress: Progress) -> str:
    """Return progress as the catalog keeps it."""
    return json.dumps({name: asdict(item) for name, item in progress.items()})


def _decide_one(connection: Connection, decision: Decision) -> None:
    remaining = decision.changes.tidying
    status = decision.status
    if status is Status.SUCCEEDED and remaining:
        status = Status.COMMITTING
    values: dict[str, Any] = {"status": status.value}
    if decision.status is Status.SUCCEEDED:
        # What had paused it on the way is over.
        values["error"] = None
    elif decision.error is not None:
        values["error"] = _dump_error(decision.error)
    if decision.progress is not None:
        values["progress"] = dump_progress(decision.progress)
    undecided = [Status.RUNNING.value, Status.PAUSED.value]
    result = connection.execute(
        update(processes)
        .where(
            processes.c.serial == decision.serial,
            processes.c.attempt == decision.attempt,
            processes.c.status.in_(undecided),
        )
        .values(**values)
    )
    if result.rowcount != 1:
        raise _not_owned(connection, decision.serial)
    for change in decision.changes.changes:
        apply_change(change, connection, decision.serial)
    if decision.changes.changes:
        next_value(connection, "generation")
    if remaining:
        _forget_superseded(connection, remaining)
        rows = [{"serial": decision.serial, **asdict(step), "action": step.action.value} for step in remaining]
        connection.execute(insert(tidying), rows)
    if status is not Status.COMMITTING:
        _set_ended(connection, decision.serial, status)
    if not remaining:
        _finish(connection, decision.serial)


def _forget_superseded(connection: Connection, steps: Iterable[Tidying]) -> None:
    """Drop steps that failed on a path whose content is decided anew: done later, they would undo what is newer."""
    for step in steps:
        if step.action in (TidyingAction.PUT_FILE, TidyingAction.REMOVE):
            path = step.target or step.source
            puts = and_(tidying.c.action == TidyingAction.PUT_FILE.value, tidying.c.target == path)
            removes = and_(tidying.c.action == TidyingAction.REMOVE.value, tidying.c.source == path)
            connection.execute(delete(tidying).where(tidying.c.problem.is_not(None), or_(puts, removes)))


def _forget_moot(connection: Connection, plan: Plan) -> None:
    """Drop steps that failed on a path which is free by now: done later, they would hit what is created there."""
    paths = plan.data.get("creates", ())
    if paths:
        failed = and_(tidying.c.problem.is_not(None), tidying.c.source.in_(paths))
        connection.execute(delete(tidying).where(failed))


def _settle_tidying(connection: Connection, serial: int, problems: Iterable[tuple[int, str]]) -> None:
    failed = dict(problems)
    for tidying_id, problem in failed.items():
        connection.execute(update(tidying).where(tidying.c.tidying_id == tidying_id).values(problem=problem))
    connection.execute(delete(tidying).where(tidying.c.serial == serial, tidying.c.tidying_id.not_in(list(failed))))


def _set_ended(connection: Connection, serial: int, status: Status) -> None:
    connection.execute(
        update(processes)
        .where(processes.c.serial == serial)
        .values(status=status.value, ended_at=_now(), end_order=next_value(connection, "end_order"))
    )


def _finish(connection: Connection, serial: int) -> None:
    connection.execute(update(processes).where(processes.c.serial == serial).values(finished=True, owner_lock=None))
    locks.release(connection, serial)
    # Whoever waits for these locks may have planned before they were released.
    next_value(connection, "generation")


def _status(connection: Connection, serial: int) -> Status:
    return Status(str(connection.scalar(select(processes.c.status).where(processes.c.serial == serial))))


def _not_owned(connection: Connection, serial: int) -> TVProcessError:
    record = _select_one(connection, processes.c.serial == serial)
    name = record.process_id if record else str(serial)
    state = record.status.value if record else "unknown"
    return TVProcessError(f"Process '{name}' was taken over by somebody else meanwhile; it is {state} now.")


def _ancestors(connection: Connection, serial: int | None) -> set[int]:
    found: set[int] = set()
    while serial is not None and serial not in found:
        found.add(serial)
        serial = connection.scalar(select(processes.c.parent_serial).where(processes.c.serial == serial))
    return found


def _not_reverted(process_id: str) -> ColumnElement[bool]:
    return and_(
        processes.c.process_id == process_id,
        or_(processes.c.status != Status.REVERTED.value, ~processes.c.finished),
    )


def _insert(connection: Connection, new: NewProcess, plan: Plan, owner: Owner | None) -> int:
    result = connection.execute(
        insert(processes).values(
            process_id=new.process_id,
            operation=new.operation,
            author=new.author,
            table_name=plan.table_name,
            instance_id=plan.instance_id,
            arguments=json.dumps(new.arguments),
            plan=_dump_plan(plan),
            parent_serial=new.parent_serial,
            user_given=new.user_given,
            background=new.background,
            status=Status.RUNNING.value if owner else Status.REVERTED.value,
            finished=False,
            attempt=1,
            owner_lock=owner.lock if owner else None,
            owner_host=owner.host if owner else "",
            owner_pid=owner.pid if owner else 0,
            started_at=_now(),
            progress="{}",
            stop_requested=False,
        )
    )
    key = result.inserted_primary_key
    assert key is not None
    return int(key[0])


def _select_one(connection: Connection, condition: ColumnElement[bool]) -> ProcessRecord | None:
    query = select(processes).where(condition).order_by(processes.c.serial.desc()).limit(1)
    row = connection.execute(query).mappings().first()
    return None if row is None else _record(row)


def _record(row: RowMapping) -> ProcessRecord:
    error = json.loads(row["error"]) if row["error"] else None
    return ProcessRecord(
        serial=row["serial"],
        process_id=row["process_id"],
        operation=row["operation"],
        author=row["author"],
        table_name=row["table_name"],
        instance_id=row["instance_id"],
        arguments=json.loads(row["arguments"]),
        plan=_load_plan(row["plan"]),
        parent_serial=row["parent_serial"],
        user_given=bool(row["user_given"]),
        background=bool(row["background"]),
        status=Status(row["status"]),
        finished=bool(row["finished"]),
        attempt=row["attempt"],
        owner_lock=row["owner_lock"],
        owner_host=row["owner_host"],
        owner_pid=row["owner_pid"],
        started_at=datetime.fromisoformat(row["started_at"]),
        ended_at=datetime.fromisoformat(row["ended_at"]) if row["ended_at"] else None,
        error=ErrorInfo(**error) if error else None,
        progress={name: BuilderProgress(**item) for name, item in json.loads(row["progress"]).items()},
        stop_requested=bool(row["stop_requested"]),
    )


def _dump_plan(plan: Plan) -> str:
    return json.dumps(
        {
            "table_name": plan.table_name,
            "instance_id": plan.instance_id,
            "locks": [[lock.resource, lock.exclusive] for lock in plan.locks],
            "data": plan.data,
        }
    )


def _load_plan(text: str) -> Plan:
    plan = json.loads(text)
    held = tuple(Lock(resource, exclusive) for resource, exclusive in plan["locks"])
    return Plan(plan["table_name"], plan["instance_id"], held, plan["data"])


def _dump_error(error: ErrorInfo) -> str:
    return json.dumps({"type": error.type, "message": error.message, "traceback": error.traceback})


def _now() -> str:
    return datetime.now(UTC).isoformat()
