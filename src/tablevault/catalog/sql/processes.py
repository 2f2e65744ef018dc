"""Read access to the catalog's processes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sqlalchemy import Select, and_, bindparam, func, or_, select, text
from sqlalchemy.exc import OperationalError

from tablevault.catalog.sql import locks
from tablevault.catalog.sql.codec import damage_named, file_name, integer, process_record
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.creations import creates_of, was_to_create
from tablevault.catalog.sql.schema import processes, vault
from tablevault.catalog.sql.store import Store, batches
from tablevault.errors import TVProcessError
from tablevault.values.plans import names_its_creations
from tablevault.values.processes import EndedProcess, Lock, ProcessRecord, Status

# Statements are built once, because building one takes longer than running it.
BY_SERIAL = select(processes).where(processes.c.serial == bindparam("serial"))
_STATE = select(processes.c.attempt, processes.c.stop_requested).where(processes.c.serial == bindparam("serial"))
_NEWEST_FIRST = select(processes).order_by(processes.c.serial.desc()).limit(1)
_OF_ID = processes.c.process_id == bindparam("process_id")
_NEWEST_OF_ID = _NEWEST_FIRST.where(_OF_ID)
_HOLDING_ID = _NEWEST_FIRST.where(and_(_OF_ID, or_(processes.c.status != Status.REVERTED.value, ~processes.c.finished)))
_UNFINISHED = select(processes).where(~processes.c.finished).order_by(processes.c.serial)
_BEGUN_INSIDE = (
    select(processes).where(processes.c.parent_serial == bindparam("parent_serial")).order_by(processes.c.serial)
)
_ENDED_AFTER = select(processes).where(processes.c.end_order > bindparam("end_order")).order_by(processes.c.end_order)
"""A reverted process has ended even while it is tidied up: its line must not follow that of a later end."""
_IDS = select(processes.c.serial, processes.c.process_id).where(
    processes.c.serial.in_(bindparam("serials", expanding=True))
)
# The table definition serves both formats and so lacks the columns of format 2.
_WAITING = text("SELECT serial, waiting FROM processes WHERE serial IN :serials AND waiting IS NOT NULL").bindparams(
    bindparam("serials", expanding=True)
)
_PARENT = select(processes.c.parent_serial).where(processes.c.serial == bindparam("serial"))


class Processes:
    """Reads the records of processes.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, serial: int) -> ProcessRecord | None:
        """Return a process by its serial number."""
        with self._store.read() as connection:
            return first_process(connection, BY_SERIAL, {"serial": serial})

    def get_now(self, serial: int) -> ProcessRecord | None:
        """Return the current record of a process, even inside a snapshot."""
        with self._store.read_now() as connection:
            return first_process(connection, BY_SERIAL, {"serial": serial})

    def may_go_on(self, serial: int, attempt: int) -> bool:
        """Return whether an attempt is still the newest, with no stop requested."""
        with self._store.read() as connection:
            row = connection.execute(_STATE, {"serial": serial}).first()
            return row is not None and row[0] == attempt and not row[1]

    def find(self, process_id: str) -> ProcessRecord | None:
        """Return the process with this id that was not reverted, or else the newest."""
        with self._store.read() as connection:
            of_id = {"process_id": process_id}
            newest = first_process(connection, _NEWEST_OF_ID, of_id)
            if newest is None or newest.status is not Status.REVERTED or not newest.finished:
                return newest
            # A refused call may be newer than the process that holds the id.
            return first_process(connection, _HOLDING_ID, of_id) or newest

    def waiting(self, serials: Sequence[int]) -> dict[int, str]:
        """Return the wait reasons of those processes that wait, by serial number."""
        with self._store.read() as connection:
            try:
                return {
                    integer(serial): str(reason)
                    for batch in batches(serials)
                    for serial, reason in connection.execute(_WAITING, {"serials": batch})
                }
            except OperationalError:
                # Checked only after a failure, because only format 1 lacks the column.
                if connection.has_table(vault.name):
                    raise
                return {}

    def unfinished(self) -> list[ProcessRecord]:
        """Return the processes not yet ended or not yet tidied up, oldest first."""
        with self._store.read() as connection:
            return unfinished_in(connection)

    def children(self, serial: int) -> list[ProcessRecord]:
        """Return the unfinished children of a process, oldest first."""
        return [record for record in self.unfinished() if record.parent_serial == serial]

    def begun_inside(self, serial: int) -> list[ProcessRecord]:
        """Return the children of a process, ended or not, oldest first."""
        with self._store.read() as connection:
            return process_records(connection, connection.execute(_BEGUN_INSIDE, {"parent_serial": serial}).mappings())

    def locks_of(self, serial: int) -> tuple[Lock, ...]:
        """Return the locks that a process holds."""
        return self.locks_of_each([serial])[serial]

    def locks_of_each(self, serials: Sequence[int]) -> dict[int, tuple[Lock, ...]]:
        """Return the locks that processes hold, by serial number, in the order taken."""
        with self._store.read() as connection:
            return locks.held_by(connection, serials)

    def ids_of(self, serials: Sequence[int]) -> dict[int, str]:
        """Return the ids of processes, by serial number."""
        found: dict[int, str] = {}
        with self._store.read() as connection:
            for batch in batches(serials):
                rows = connection.execute(_IDS, {"serials": batch})
                found.update((integer(serial), file_name(process_id)) for serial, process_id in rows)
        return found

    def history(self, filters: Mapping[str, str], limit: int, before: int | None = None) -> list[ProcessRecord]:
        """Return up to `limit` processes whose columns equal `filters`, newest first.

        With `before`, only those with a smaller serial number.
        """
        conditions = [processes.c[name] == value for name, value in filters.items()]
        if before is not None:
            conditions.append(processes.c.serial < before)
        with self._store.read() as connection:
            query = select(processes).where(*conditions).order_by(processes.c.serial.desc()).limit(limit)
            return process_records(connection, connection.execute(query).mappings())

    def ended_after(self, end_order: int) -> list[EndedProcess]:
        """Return the processes after a position in end order, each with its own position."""
        with self._store.read() as connection:
            rows = connection.execute(_ENDED_AFTER, {"end_order": end_order}).mappings()
            places = [integer(row["end_order"]) for row in rows]
            return list(map(EndedProcess, places, process_records(connection, rows)))

    def is_ancestor(self, serial: int, of: int | None) -> bool:
        """Return whether a process is `of` itself or one of its ancestors."""
        with self._store.read() as connection:
            return serial in ancestors_of(connection, of)

    def begun(self) -> int:
        """Return the serial number of the newest process, or 0."""
        with self._store.read() as connection:
            return integer(connection.scalar(select(func.max(processes.c.serial))) or 0)

    def created(self, path: str) -> bool:
        """Return whether a finished, unsuccessful process had planned to create a path."""
        with self._store.read() as connection:
            return was_to_create(connection, path)

    def check_id_is_free(self, process_id: str) -> None:
        """Raise `TVProcessError` if a process with this id exists and was not reverted."""
        with self._store.read() as connection:
            check_id_is_free(connection, process_id)

    def conflicts(self, wanted: Sequence[Lock], parent_serial: int | None) -> tuple[int, ...]:
        """Return the serial numbers of the processes whose locks block a child of `parent_serial`."""
        with self._store.read() as connection:
            return locks.conflicting_holders(connection, wanted, ancestors_of(connection, parent_serial))


def ended_process(row: Mapping[str, Any]) -> EndedProcess:
    """Decode the row of a finished process."""
    return EndedProcess(integer(row["end_order"]), process_record(row, ()))


def first_process(connection: Connection, query: Select[Any], parameters: Mapping[str, object]) -> ProcessRecord | None:
    """Return the first process of a query's result."""
    found = process_records(connection, connection.execute(query, parameters).mappings()[:1])
    return found[0] if found else None


def process_records(connection: Connection, rows: Iterable[Mapping[str, Any]]) -> list[ProcessRecord]:
    """Decode process rows; only the plans of unfinished processes include `creates`."""
    read = list(rows)
    with damage_named("processes"):
        active = [row["serial"] for row in read if not row["finished"] and not names_its_creations(row["plan"])]
    creates = creates_of(connection, active) if active else {}
    return [process_record(row, creates.get(row["serial"], ())) for row in read]


def unfinished_in(connection: Connection) -> list[ProcessRecord]:
    """Return the processes not yet ended or not yet tidied up, oldest first."""
    return process_records(connection, connection.execute(_UNFINISHED).mappings())


def check_id_is_free(connection: Connection, process_id: str) -> None:
    """Raise `TVProcessError` if a process with this id exists and was not reverted."""
    existing = first_process(connection, _HOLDING_ID, {"process_id": process_id})
    if existing is not None:
        raise TVProcessError(f"Process id '{process_id}' was taken by another {existing.operation} at the same moment.")


def ancestors_of(connection: Connection, serial: int | None) -> set[int]:
    """Return the serial numbers of a process and its ancestors."""
    found: set[int] = set()
    while serial is not None and serial not in found:
        found.add(serial)
        serial = connection.scalar(_PARENT, {"serial": serial})
    return found
