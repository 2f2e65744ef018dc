"""Transitions of processes between states, one transaction each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Insert, bindparam, delete, exists, insert, select, text

from tablevault.catalog.sql import decisions, locks
from tablevault.catalog.sql.codec import encode_error, encode_progress, process_row
from tablevault.catalog.sql.connection import Connection, Row
from tablevault.catalog.sql.creations import forget_creates, record_creates
from tablevault.catalog.sql.processes import BY_SERIAL, ancestors_of, check_id_is_free, first_process
from tablevault.catalog.sql.schema import counters, processes, tidying
from tablevault.catalog.sql.store import Store
from tablevault.values.changes import Decision, Remaining
from tablevault.values.contents import JsonObject
from tablevault.values.plans import Unplanned, encode_plan
from tablevault.values.processes import (
    Begun,
    Blocked,
    EndedProcess,
    ErrorInfo,
    Lock,
    NewProcess,
    Owner,
    Plan,
    ProcessRecord,
    Progress,
    Status,
)

_INSERT = insert(processes).returning(processes.c.serial)
_BEGUN = (
    processes.c.serial,
    select(counters.c.value).where(counters.c.name == "generation").scalar_subquery(),
    exists().where(tidying.c.problem.is_not(None)),
)
_BEGIN = insert(processes).returning(*_BEGUN)
# The table definition serves both formats and so lacks the columns of format 2.
_SAVE_WAITING = text("UPDATE processes SET waiting = :waiting WHERE serial = :of_serial AND waiting IS NOT :waiting")
_CLAIM = decisions.UPDATE_BY_SERIAL.where(processes.c.attempt == bindparam("of_attempt"), ~processes.c.finished)


def _begin_alone(connection: Connection, row: Mapping[str, object], wanted: Sequence[Lock]) -> Row | None:
    """Insert a process if no lock is held near the wanted ones.

    This is the usual case.
    """
    if len(wanted) > locks.MAXIMUM_AT_ONCE:
        return None
    values = {**row, **locks.values_near([lock.resource for lock in wanted])}
    return connection.execute(_insert_alone(tuple(row), len(wanted)), values).first()


@cache
def _insert_alone(names: tuple[str, ...], resources: int) -> Insert:
    columns = [processes.c[name] for name in names]
    row = select(*(bindparam(column.name, type_=column.type) for column in columns))
    return insert(processes).from_select(columns, row.where(locks.none_near(resources))).returning(*_BEGUN)


class Transitions:
    """Records the life cycle of processes.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, new: NewProcess, plan: Plan, owner: Owner) -> Begun | Blocked:
        """Record a process and take its locks, or return the holders of conflicting ones.

        Raises
        ------
        TVProcessError
            If a process with this id exists and was not reverted.
        """
        with self._store.write() as connection:
            if new.user_given:
                check_id_is_free(connection, new.process_id)
            row = process_row(new, plan, owner)
            begun = _begin_alone(connection, row, plan.locks)
            if begun is None:
                ancestors = ancestors_of(connection, new.parent_serial)
                holders = locks.conflicting_holders(connection, plan.locks, ancestors)
                if holders:
                    return Blocked(holders)
                begun = connection.execute(_BEGIN, row).all()[0]
            serial, generation, has_failed_steps = begun
            record_creates(connection, serial, plan)
            if has_failed_steps:
                decisions.forget_moot(connection, plan)
            return Begun(serial, generation, bool(has_failed_steps))

    def save_plan(self, serial: int, plan: Plan) -> None:
        """Replace the plan of a process that has not started its work."""
        with self._store.write() as connection:
            values = {"plan": encode_plan(plan), "table_name": plan.table_name, "instance_id": plan.instance_id}
            connection.execute(decisions.UPDATE_BY_SERIAL, {"of_serial": serial, **values})
            forget_creates(connection, serial)
            record_creates(connection, serial, plan)
            decisions.forget_moot(connection, plan)

    def withdraw(self, serial: int) -> None:
        """Delete the record of a process that has not started its work."""
        with self._store.write() as connection:
            connection.execute(delete(processes).where(processes.c.serial == serial))

    def record_refused(self, new: NewProcess, table_name: str, error: ErrorInfo) -> None:
        """Record a process that failed during planning, for the log only."""
        with self._store.write() as connection:
            row = process_row(new, Unplanned(table_name=table_name), None)
            serial = connection.scalar(_INSERT, row)
            decisions.refuse(connection, serial, encode_error(error))

    # --- ownership ------------------------------------------------------------------------------------------------

    def claim(self, record: ProcessRecord, owner: Owner) -> ProcessRecord | None:
        """Take a process over, unless another attempt has since `record` was read.

        Its owner may have decided and died in the meantime: only the returned record is authoritative.
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

    def replace_arguments(self, serial: int, attempt: int, arguments: JsonObject) -> None:
        """Replace the arguments of a claimed process, some of which a later call may override."""
        self._update_undecided(serial, attempt, arguments=json.dumps(arguments))

    def set_running(self, serial: int, attempt: int) -> None:
        """Show a claimed process as running again."""
        self._update_undecided(serial, attempt, status=Status.RUNNING.value)

    def pause(
        self,
        serial: int,
        attempt: int,
        error: ErrorInfo | None,
        progress: Progress | None,
        waiting: str | None = None,
    ) -> None:
        """Pause a process, which keeps its locks.

        `None` keeps the previous error, progress or wait reason.
        """
        values: dict[str, Any] = {"status": Status.PAUSED.value}
        if error is not None:
            values["error"] = encode_error(error)
        if progress is not None:
            values["progress"] = encode_progress(progress)
        with self._store.write() as connection:
            self._update_in(connection, serial, attempt, **values)
            if waiting is not None:
                connection.execute(_SAVE_WAITING, {"waiting": waiting or None, "of_serial": serial})

    def save_progress(self, serial: int, attempt: int, progress: Progress, waiting: str = "") -> None:
        """Record the progress and the wait reason of an execution."""
        with self._store.write() as connection:
            self._update_in(connection, serial, attempt, progress=encode_progress(progress))
            connection.execute(_SAVE_WAITING, {"waiting": waiting or None, "of_serial": serial})

    def request_stop(self, serial: int) -> None:
        """Ask the owner of a process to stop at its next row or batch."""
        with self._store.write() as connection:
            connection.execute(decisions.UPDATE_BY_SERIAL, {"of_serial": serial, "stop_requested": True})

    def _update_undecided(self, serial: int, attempt: int, **values: Any) -> None:
        """Update an undecided process that this attempt owns."""
        with self._store.write() as connection:
            self._update_in(connection, serial, attempt, **values)

    def _update_in(self, connection: Connection, serial: int, attempt: int, **values: Any) -> None:
        fence = {"of_serial": serial, "of_attempt": attempt}
        if connection.execute(decisions.UPDATE_UNDECIDED, {**fence, **values}).rowcount != 1:
            raise decisions.not_owned(connection, serial)

    # --- ending ---------------------------------------------------------------------------------------------------

    def decide(self, together: Sequence[Decision]) -> dict[int, Remaining | EndedProcess]:
        """Commit the decisions of one or more processes atomically.

        Return the remaining work or the end of each process, by serial number.

        Raises
        ------
        TVProcessError
            If another attempt has taken one of them over; nothing is changed then.
        """
        with self._store.write() as connection:
            made = decisions.instances_made_by(together)
            decided = {item.serial: decisions.decide_one(connection, item, made.get(item.serial)) for item in together}
            for item in together:
                if item.status is not Status.SUCCEEDED:
                    connection.execute(_SAVE_WAITING, {"waiting": item.waiting or None, "of_serial": item.serial})
        return decided

    def finish(self, serial: int, problems: Iterable[tuple[int, str]] = ()) -> EndedProcess | None:
        """Record that a decided process is tidied up, and release its locks.

        Returns `None`, without effect, if it is finished.

        Parameters
        ----------
        serial
            The process.
        problems
            Ids of steps that failed permanently, each with its reason; they stay recorded.
        """
        with self._store.write() as connection:
            return decisions.finish(connection, serial, problems)
