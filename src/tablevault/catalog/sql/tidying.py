"""Steps on disk that processes have left, and how they are recorded as done or failed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType

from sqlalchemy import bindparam, insert, select, update

from tablevault.catalog.sql import decisions, locks
from tablevault.catalog.sql.codec import as_record
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.schema import instances, processes, tidying
from tablevault.catalog.sql.store import Store
from tablevault.catalog.sql.tags import IS_TAGGED
from tablevault.values.changes import Tidying, TidyingAction
from tablevault.values.contents import ArtifactState, InstanceRecord

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


class TidyingSteps:
    """Reads and settles the steps that decided processes have left.

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
            rows = connection.execute(_STEPS_OF, {"serial": serial})
            return [(row["tidying_id"], as_record(Tidying, row)) for row in rows.mappings()]

    def settle(self, serial: int, problems: Iterable[tuple[int, str]]) -> None:
        """Record which tidying steps of a process that is over still fail; the others are done."""
        with self._store.write() as connection:
            decisions.settle_tidying(connection, serial, problems)

    def while_undone(self, serial: int, tidying_id: int, do: Callable[[], None]) -> None:
        """Do a step that had failed, if it is still recorded; nothing is begun or decided while this runs."""
        with self._store.write() as connection:
            # SQLite gives the id of a deleted step to a new one, of any process.
            if connection.scalar(select(tidying.c.serial).where(tidying.c.tidying_id == tidying_id)) == serial:
                do()

    def processes_with_failed(self) -> list[int]:
        """Return the processes that are over, but for steps on disk that failed."""
        with self._store.read() as connection:
            rows = connection.scalars(select(tidying.c.serial).where(tidying.c.problem.is_not(None)).distinct())
            return [int(serial) for serial in rows]

    def failed(self) -> list[tuple[Tidying, str]]:
        """Return the steps on disk that failed, each with its reason."""
        with self._store.read() as connection:
            query = select(tidying).where(tidying.c.problem.is_not(None)).order_by(tidying.c.tidying_id)
            return [(as_record(Tidying, row), row["problem"]) for row in connection.execute(query).mappings()]

    def drop_artifacts(self, serial: int, instance: InstanceRecord, folder: str) -> None:
        """Let a decided process remove a superseded set of artifacts, unless it is tagged or held by now."""
        with self._store.write() as connection:
            finished = connection.scalar(select(processes.c.finished).where(processes.c.serial == serial))
            if finished or locks.held_by_others(connection, instance, serial):
                return
            result = connection.execute(
                update(instances)
                .where(
                    instances.c.row_id == instance.row_id,
                    instances.c.artifact_state == ArtifactState.SUPERSEDED.value,
                    ~IS_TAGGED,
                )
                .values(artifact_state=ArtifactState.DROPPED.value)
            )
            if result.rowcount == 1:
                values = {"serial": serial, "action": TidyingAction.REMOVE.value, "source": folder, "target": ""}
                connection.execute(insert(tidying).values(**values))

    def pending_moves(self) -> Mapping[str, str]:
        """Return the files that are about to be put in place or removed: target -> staged source (or "")."""
        return self._store.read_once(_PENDING_MOVES, _pending_moves)


def _pending_moves(connection: Connection) -> Mapping[str, str]:
    steps = [as_record(Tidying, row) for row in connection.execute(_PENDING_MOVES).mappings()]
    found = {
        (step.target if step.action is TidyingAction.PUT_FILE else step.source): (
            step.source if step.action is TidyingAction.PUT_FILE else ""
        )
        for step in steps
    }
    return MappingProxyType(found)
