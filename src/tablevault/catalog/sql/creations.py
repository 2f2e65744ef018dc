"""Pending tables and instances of processes, inside the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import bindparam, delete, insert, select

from tablevault.catalog.sql.codec import creation_record
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.schema import creates, processes
from tablevault.names import fold
from tablevault.values.processes import Creation, Plan, Status

_INSERT_CREATES = insert(creates)
_FORGET_CREATES = delete(creates).where(creates.c.serial == bindparam("of_serial"))
_CREATED = (
    select(creates.c.create_id)
    .join(processes, processes.c.serial == creates.c.serial)
    .where(
        creates.c.location == bindparam("location"),
        processes.c.finished.is_(True),
        processes.c.status != Status.SUCCEEDED.value,
    )
    .limit(1)
)
_CREATES_OF = (
    select(creates.c.serial, creates.c.location, creates.c.instance_id)
    .where(creates.c.serial.in_(bindparam("serials", expanding=True)))
    .order_by(creates.c.create_id)
)


def record_creates(connection: Connection, serial: int, plan: Plan) -> None:
    """Record the pending tables and instances of a process."""
    rows = [
        {
            "serial": serial,
            "kind": "instance" if item.instance_id else "table",
            "name_key": fold(item.table_name or plan.table_name),
            "instance_id": item.instance_id,
            "location": item.location,
        }
        for item in plan.creates
    ]
    if rows:
        connection.execute(_INSERT_CREATES, rows)


def forget_creates(connection: Connection, serial: int) -> None:
    """Delete the creations of a process that was replanned, or made them visible without success."""
    connection.execute(_FORGET_CREATES, {"of_serial": serial})


def creates_of(connection: Connection, serials: Sequence[int]) -> dict[int, tuple[Creation, ...]]:
    """Return the creations of processes, by serial number."""
    found: dict[int, tuple[Creation, ...]] = {}
    for serial, location, instance_id in connection.execute(_CREATES_OF, {"serials": list(serials)}):
        found[serial] = (*found.get(serial, ()), creation_record(location, instance_id))
    return found


def was_to_create(connection: Connection, location: str) -> bool:
    """Return whether a finished, unsuccessful process had planned to create a path."""
    return connection.scalar(_CREATED, {"location": location}) is not None
