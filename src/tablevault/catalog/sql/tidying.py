"""Pending steps on disk of decided processes, and the record of their results."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from sqlalchemy import bindparam, insert, select, update

from tablevault.catalog.sql import decisions, locks
from tablevault.catalog.sql.codec import as_record, instance_record, integer, table_record
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.schema import instances, processes, tables, tidying
from tablevault.catalog.sql.store import Store
from tablevault.catalog.sql.tags import IS_TAGGED
from tablevault.values.changes import Tidying, TidyingAction
from tablevault.values.contents import ArtifactState, InstanceRecord, TableRecord

_STEPS_OF = (
    select(tidying.c.tidying_id, tidying.c.action, tidying.c.source, tidying.c.target)
    .where(tidying.c.serial == bindparam("serial"))
    .order_by(tidying.c.tidying_id)
)
_PENDING_MOVES = (
    select(tidying.c.action, tidying.c.source, tidying.c.target)
    .where(tidying.c.action.in_([TidyingAction.PUT_FILE.value, TidyingAction.REMOVE.value]))
    .order_by(tidying.c.tidying_id)
)
_OWNER = select(tidying.c.serial).where(tidying.c.tidying_id == bindparam("of_id"))
_HAS_FAILED = tidying.c.problem.is_not(None)
_PROCESSES_WITH_FAILED = select(tidying.c.serial).where(_HAS_FAILED).distinct()
_FAILED = select(tidying).where(_HAS_FAILED).order_by(tidying.c.tidying_id)
_IS_FINISHED = select(processes.c.finished).where(processes.c.serial == bindparam("serial"))
_TABLE = select(tables).where(tables.c.table_id == bindparam("table_id"))
_SUPERSEDED = (
    select(instances, processes.c.process_id)
    .join(processes, processes.c.serial == instances.c.serial)
    .where(instances.c.artifact_state == ArtifactState.SUPERSEDED.value, ~instances.c.deleted, ~IS_TAGGED)
)
"""Not of deleted instances: an import may have put the same instance into their place."""
_UPDATE_INSTANCE = update(instances).where(instances.c.row_id == bindparam("of_row"))
_INSERT_STEP = insert(tidying)


class TidyingSteps:
    """Reads the pending steps of decided processes, and deletes those that are done.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, serial: int) -> list[tuple[int, Tidying]]:
        """Return the steps of a process in their order, each with its id."""
        with self._store.read() as connection:
            return _steps_of(connection, serial)

    def keep_failed(self, serial: int, problems: Iterable[tuple[int, str]]) -> None:
        """Record the steps of a finished process that still fail; delete the others."""
        with self._store.write() as connection:
            decisions.keep_failed_steps(connection, serial, problems)

    def while_undone(self, serial: int, tidying_id: int, do: Callable[[], None]) -> None:
        """Retry a failed step, if it is still recorded.

        The write transaction keeps processes from beginning or deciding meanwhile.
        """
        with self._store.write() as connection:
            # SQLite may reuse the id of a deleted step for one of another process.
            if connection.scalar(_OWNER, {"of_id": tidying_id}) == serial:
                do()

    def processes_with_failed(self) -> list[int]:
        """Return the serial numbers of finished processes with failed steps on disk."""
        with self._store.read() as connection:
            return [integer(serial) for serial in connection.scalars(_PROCESSES_WITH_FAILED)]

    def failed(self) -> list[tuple[Tidying, str]]:
        """Return the steps on disk that failed, each with its reason."""
        with self._store.read() as connection:
            return [(as_record(Tidying, row), row["problem"]) for row in connection.execute(_FAILED).mappings()]

    def drop_superseded(
        self, serial: int, folder_of: Callable[[TableRecord, InstanceRecord], str]
    ) -> list[tuple[int, Tidying]]:
        """Schedule the removal of superseded artifact sets that are neither tagged nor held.

        Parameters
        ----------
        serial
            The process.
        folder_of
            Returns the folder of an instance's artifacts.

        Returns
        -------
        list[tuple[int, Tidying]]
            All steps of the process in their order, each with its id.
        """
        with self._store.write() as connection:
            finished = connection.scalar(_IS_FINISHED, {"serial": serial})
            found = [] if finished else connection.execute(_SUPERSEDED).mappings()
            for instance in map(instance_record, found):
                table = table_record(connection.execute(_TABLE, {"table_id": instance.table_id}).mappings()[0])
                if locks.held_by_others(connection, table, instance, serial):
                    continue
                dropped = {"of_row": instance.row_id, "artifact_state": ArtifactState.DROPPED.value}
                connection.execute(_UPDATE_INSTANCE, dropped)
                folder = folder_of(table, instance)
                step = {"serial": serial, "action": TidyingAction.REMOVE.value, "source": folder, "target": ""}
                connection.execute(_INSERT_STEP, step)
            return _steps_of(connection, serial)

    def pending_moves(self) -> Mapping[str, str]:
        """Return the pending file changes by target, as the staged source or "" for a removal."""
        return self._store.read_once(_PENDING_MOVES, _pending_moves)


def _steps_of(connection: Connection, serial: int) -> list[tuple[int, Tidying]]:
    rows = connection.execute(_STEPS_OF, {"serial": serial}).mappings()
    return [(row["tidying_id"], as_record(Tidying, row)) for row in rows]


def _pending_moves(connection: Connection) -> Mapping[str, str]:
    steps = [as_record(Tidying, row) for row in connection.execute(_PENDING_MOVES).mappings()]
    found = {
        (step.target if step.action is TidyingAction.PUT_FILE else step.source): (
            step.source if step.action is TidyingAction.PUT_FILE else ""
        )
        for step in steps
    }
    return MappingProxyType(found)
