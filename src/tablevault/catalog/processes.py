"""The life of processes in the catalog: every step is one SQL transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, and_, bindparam, delete, func, or_, select

from tablevault.catalog import deciding, format_2, locks
from tablevault.catalog.process_rows import (
    BY_SERIAL,
    UPDATE_BY_SERIAL,
    Progress,
    encode_error,
    encode_progress,
    first_process,
    insert_process,
    insert_refused,
    process_records,
)
from tablevault.catalog.rows import as_record
from tablevault.catalog.schema import processes, tidying
from tablevault.catalog.store import Store
from tablevault.errors import TVProcessError
from tablevault.plans import Unplanned, encode_plan
from tablevault.values import (
    Begun,
    Blocked,
    Decision,
    ErrorInfo,
    Lock,
    NewProcess,
    Owner,
    Plan,
    ProcessRecord,
    Status,
    Tidying,
)

# Statements are made once: to put one together takes longer than to run it.
_NEWEST_FIRST = select(processes).order_by(processes.c.serial.desc()).limit(1)
_OF_ID = processes.c.process_id == bindparam("process_id")
_NEWEST_OF_ID = _NEWEST_FIRST.where(_OF_ID)
_HOLDING_ID = _NEWEST_FIRST.where(and_(_OF_ID, or_(processes.c.status != Status.REVERTED.value, ~processes.c.finished)))
_UNFINISHED = select(processes).where(~processes.c.finished).order_by(processes.c.serial)
_ENDED_AFTER = (
    select(processes)
    .where(processes.c.end_order > bindparam("end_order"), processes.c.finished.is_(True))
    .order_by(processes.c.end_order)
)
_PARENT = select(processes.c.parent_serial).where(processes.c.serial == bindparam("serial"))
_IS_FINISHED = select(processes.c.finished).where(processes.c.serial == bindparam("serial"))
_CLAIM = UPDATE_BY_SERIAL.where(processes.c.attempt == bindparam("of_attempt"), ~processes.c.finished)
_TIDYING = (
    select(tidying.c.tidying_id, tidying.c.action, tidying.c.source, tidying.c.target)
    .where(tidying.c.serial == bindparam("serial"))
    .order_by(tidying.c.tidying_id)
)


class Processes:
    """Records what processes do, from their beginning to their end.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._finished: set[int] = set()
        """Processes that were decided here and needed no tidying: nothing takes that back."""

    # --- beginning ------------------------------------------------------------------------------------------------

    def begin(self, new: NewProcess, plan: Plan, owner: Owner) -> Begun | Blocked:
        """Record a process with its plan and take all its locks, or do nothing and return who is in the way.

        Raises
        ------
        TVProcessError
            If a process with this id exists and was not reverted.
        """
        with self._store.write() as connection:
            if new.user_given:
                _check_id_is_free(connection, new.process_id)
            ancestors = _ancestors(connection, new.parent_serial)
            holders = locks.conflicting_holders(connection, plan.locks, ancestors)
            if holders:
                return Blocked(holders)
            begun, has_failed_steps = insert_process(connection, new, plan, owner)
            locks.take(connection, begun.serial, plan.locks)
            format_2.record_creates(connection, begun.serial, plan)
            if has_failed_steps:
                deciding.forget_moot(connection, plan)
            return begun

    def check_id_is_free(self, process_id: str) -> None:
        """Raise `TVProcessError` if a process with this id exists and was not reverted."""
        with self._store.read() as connection:
            _check_id_is_free(connection, process_id)

    def save_plan(self, serial: int, plan: Plan) -> None:
        """Replace the plan of a process that has not begun to work."""
        with self._store.write() as connection:
            values = {"plan": encode_plan(plan), "table_name": plan.table_name, "instance_id": plan.instance_id}
            connection.execute(UPDATE_BY_SERIAL, {"of_serial": serial, **values})
            format_2.forget_creates(connection, serial)
            format_2.record_creates(connection, serial, plan)
            deciding.forget_moot(connection, plan)

    def withdraw(self, serial: int) -> None:
        """Forget a process that has not begun to work, as if it had never been recorded."""
        with self._store.write() as connection:
            locks.release(connection, serial)
            format_2.forget_creates(connection, serial)
            connection.execute(delete(processes).where(processes.c.serial == serial))

    def record_refused(self, new: NewProcess, table_name: str, error: ErrorInfo) -> None:
        """Record a process that failed while it was prepared: it leaves its line in the log and nothing else."""
        with self._store.write() as connection:
            serial = insert_refused(connection, new, Unplanned(table_name=table_name))
            deciding.refuse(connection, serial, encode_error(error))

    def conflicts(self, wanted: Sequence[Lock], parent_serial: int | None) -> tuple[int, ...]:
        """Return the serials of the processes that hold what a child of `parent_serial` wants."""
        with self._store.read() as connection:
            return locks.conflicting_holders(connection, wanted, _ancestors(connection, parent_serial))

    # --- ownership ------------------------------------------------------------------------------------------------

    def claim(self, record: ProcessRecord, owner: Owner) -> ProcessRecord | None:
        """Take a process over, if nobody else has since `record` was read; return it as it is now, else `None`.

        Its owner may have decided in between, and died then: only what is returned is beyond doubt.
        """
        taken = {
            "attempt": record.attempt + 1,
            "owner_lock": owner.lock,
            "owner_host": owner.host,
            "owner_pid": owner.pid,
            "stop_requested": False,
        }
        with self._store.write() as connection:
            fence = {"of_serial": record.serial, "of_attempt": record.attempt}
            if connection.execute(_CLAIM, {**fence, **taken}).rowcount != 1:
                return None
            return first_process(connection, BY_SERIAL, {"serial": record.serial})

    def set_running(self, serial: int, attempt: int) -> None:
        """Show a claimed process as running again."""
        self._update_undecided(serial, attempt, status=Status.RUNNING.value)

    def pause(self, serial: int, attempt: int, error: ErrorInfo | None, progress: Progress | None) -> None:
        """Pause a process: it keeps its locks. `None` leaves the error or progress of before."""
        values: dict[str, Any] = {"status": Status.PAUSED.value}
        if error is not None:
            values["error"] = encode_error(error)
        if progress is not None:
            values["progress"] = encode_progress(progress)
        self._update_undecided(serial, attempt, **values)

    def save_progress(self, serial: int, attempt: int, progress: Progress) -> None:
        """Record how far an execution is, for people who look at it."""
        self._update_undecided(serial, attempt, progress=encode_progress(progress))

    def request_stop(self, serial: int) -> None:
        """Ask the owner of a process to stop at its next row or batch."""
        with self._store.write() as connection:
            connection.execute(UPDATE_BY_SERIAL, {"of_serial": serial, "stop_requested": True})

    def _update_undecided(self, serial: int, attempt: int, **values: Any) -> None:
        """Change a process that this attempt owns. Nothing takes back a decision, also not the attempt that made it."""
        with self._store.write() as connection:
            fence = {"of_serial": serial, "of_attempt": attempt}
            if connection.execute(deciding.UPDATE_UNDECIDED, {**fence, **values}).rowcount != 1:
                raise deciding.not_owned(connection, serial)

    # --- ending ---------------------------------------------------------------------------------------------------

    def decide(self, decisions: Sequence[Decision]) -> None:
        """Commit the whole visible effect of one or more processes: all of them or none.

        Raises
        ------
        TVProcessError
            If one of them is not in the attempt that decides any more; nothing is changed then.
        """
        with self._store.write() as connection:
            made = deciding.instance_made_by(decisions)
            for decision in decisions:
                deciding.decide_one(connection, decision, made)
        self._finished.update(decision.serial for decision in decisions if not decision.changes.tidying)

    def finish(self, serial: int, problems: Iterable[tuple[int, str]] = ()) -> None:
        """Record that a decided process is tidied up, and release its locks; fine if somebody else did it.

        Parameters
        ----------
        serial
            The process.
        problems
            Tidying steps that failed for good, by their id, each with its reason: they stay recorded.
        """
        with self._store.write() as connection:
            deciding.finish(connection, serial, problems)

    def settle_tidying(self, serial: int, problems: Iterable[tuple[int, str]]) -> None:
        """Record which tidying steps of a process that is over still fail; the others are done."""
        with self._store.write() as connection:
            deciding.settle_tidying(connection, serial, problems)

    def while_undone(self, tidying_id: int, do: Callable[[], None]) -> None:
        """Do a step that had failed, if it is still recorded: nobody decides anything while this runs."""
        with self._store.write() as connection:
            if connection.scalar(select(tidying.c.serial).where(tidying.c.tidying_id == tidying_id)) is not None:
                do()

    def with_failed_tidying(self) -> list[int]:
        """Return the processes that are over, but for steps on disk that failed."""
        with self._store.read() as connection:
            rows = connection.scalars(select(tidying.c.serial).where(tidying.c.problem.is_not(None)).distinct())
            return [int(serial) for serial in rows]

    def failed_tidying(self) -> list[tuple[Tidying, str]]:
        """Return the steps on disk that failed, each with its reason."""
        with self._store.read() as connection:
            query = select(tidying).where(tidying.c.problem.is_not(None)).order_by(tidying.c.tidying_id)
            return [(as_record(Tidying, row), row["problem"]) for row in connection.execute(query).mappings()]

    def begun(self) -> int:
        """Return the serial number of the process that began last; 0 if none ever did."""
        with self._store.read() as connection:
            return int(connection.scalar(select(func.max(processes.c.serial))) or 0)

    def created(self, path: str) -> bool:
        """Return whether a process that is over, without success, had planned to create this path of the vault."""
        with self._store.read() as connection:
            return format_2.was_to_create(connection, path)

    def tidying_of(self, serial: int) -> list[tuple[int, Tidying]]:
        """Return what remains to be done on disk for a process, in order, each with its id."""
        with self._store.read() as connection:
            rows = connection.execute(_TIDYING, {"serial": serial})
            return [(row["tidying_id"], as_record(Tidying, row)) for row in rows.mappings()]

    # --- reading --------------------------------------------------------------------------------------------------

    def get(self, serial: int) -> ProcessRecord | None:
        """Return a process by its serial number."""
        with self._store.read() as connection:
            return first_process(connection, BY_SERIAL, {"serial": serial})

    def get_now(self, serial: int) -> ProcessRecord | None:
        """Return a process as it is at this moment, also inside a snapshot."""
        with self._store.read_now() as connection:
            return first_process(connection, BY_SERIAL, {"serial": serial})

    def is_finished(self, serial: int) -> bool:
        """Return whether a process is over, and nothing remains to be done for it on disk."""
        if serial in self._finished:
            return True
        with self._store.read() as connection:
            return connection.scalar(_IS_FINISHED, {"serial": serial}) is not False

    def find(self, process_id: str) -> ProcessRecord | None:
        """Return the process with this id: the one that was not reverted if there is one, else the newest."""
        with self._store.read() as connection:
            # A second call that was refused may be newer than the process whose id it wanted.
            of_id = {"process_id": process_id}
            return first_process(connection, _HOLDING_ID, of_id) or first_process(connection, _NEWEST_OF_ID, of_id)

    def unfinished(self) -> list[ProcessRecord]:
        """Return the processes that are not ended or not tidied up, oldest first."""
        with self._store.read() as connection:
            return self.unfinished_in(connection)

    def unfinished_in(self, connection: Connection) -> list[ProcessRecord]:
        """Return the same inside a transaction of the caller's."""
        return process_records(connection, connection.execute(_UNFINISHED).mappings())

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
            return process_records(connection, connection.execute(query).mappings())

    def ended_after(self, end_order: int) -> list[tuple[int, ProcessRecord]]:
        """Return what has ended since, in the order of the ends, each with its place in that order."""
        with self._store.read() as connection:
            rows = connection.execute(_ENDED_AFTER, {"end_order": end_order}).mappings().all()
            places = [int(row["end_order"]) for row in rows]
            return list(zip(places, process_records(connection, rows), strict=True))

    def is_ancestor(self, serial: int, of: int | None) -> bool:
        """Return whether a process is `of` itself or one of its ancestors."""
        with self._store.read() as connection:
            return serial in _ancestors(connection, of)


def _check_id_is_free(connection: Connection, process_id: str) -> None:
    existing = first_process(connection, _HOLDING_ID, {"process_id": process_id})
    if existing is not None:
        raise TVProcessError(f"Process id '{process_id}' was taken by another {existing.operation} at the same moment.")


def _ancestors(connection: Connection, serial: int | None) -> set[int]:
    found: set[int] = set()
    while serial is not None and serial not in found:
        found.add(serial)
        serial = connection.scalar(_PARENT, {"serial": serial})
    return found
