"""Locks in the catalog: taken all at once or not at all, in the transaction that records their process."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, delete, insert, or_, select

from tablevault.catalog.schema import locks
from tablevault.values import Lock

# Statements are made once: to put one together takes longer than to run it.
_TAKE = insert(locks)
_RELEASE = delete(locks).where(locks.c.serial == bindparam("serial"))


def conflicting_holders(connection: Connection, wanted: Iterable[Lock], ancestors: Collection[int]) -> tuple[int, ...]:
    """Return the serials of the processes whose locks conflict with the wanted ones.

    A lock covers what is below its resource, so those above and below conflict too. What an ancestor holds blocks
    only changes: a child may read what its ancestors read or build.
    """
    holders: set[int] = set()
    for lock in wanted:
        for serial, exclusive in _overlapping(connection, lock.resource):
            shared = not (lock.exclusive or exclusive)
            read_by_child = serial in ancestors and not lock.exclusive
            if not (shared or read_by_child):
                holders.add(serial)
    return tuple(sorted(holders))


def take(connection: Connection, serial: int, wanted: Iterable[Lock]) -> None:
    """Record locks as held by a process."""
    rows = [{"serial": serial, "resource": lock.resource, "exclusive": lock.exclusive} for lock in wanted]
    if rows:
        connection.execute(_TAKE, rows)


def release(connection: Connection, serial: int) -> None:
    """Release all locks of a process."""
    connection.execute(_RELEASE, {"serial": serial})


def held_by(connection: Connection, serial: int) -> tuple[Lock, ...]:
    """Return the locks of a process."""
    rows = connection.execute(
        select(locks.c.resource, locks.c.exclusive).where(locks.c.serial == serial).order_by(locks.c.lock_id)
    )
    return tuple(Lock(resource, bool(exclusive)) for resource, exclusive in rows)


def holders_of(connection: Connection, resource: str) -> tuple[int, ...]:
    """Return the serials of all processes with a lock on the resource, above it or below it."""
    return tuple(sorted({serial for serial, _ in _overlapping(connection, resource)}))


def exclusive_holders_of(connection: Connection, resource: str) -> tuple[int, ...]:
    """Return the serials of the processes that hold exactly this resource exclusively."""
    rows = connection.scalars(
        select(locks.c.serial).where(locks.c.resource == resource, locks.c.exclusive.is_(True)).distinct()
    )
    return tuple(int(serial) for serial in rows)


def _overlapping(connection: Connection, resource: str) -> Iterable[tuple[int, bool]]:
    """Return the holder and the kind of each lock on a resource, above it or below it."""
    parts = resource.split("/")
    above = {f"above_{depth}": "/".join(parts[: depth + 1]) for depth in range(len(parts))}
    # "0" is the character after "/": the range holds exactly the resources below this one, and uses the index.
    rows = connection.execute(_overlapping_at(len(parts)), {**above, "first": f"{resource}/", "end": f"{resource}0"})
    return [(int(serial), bool(exclusive)) for serial, exclusive in rows]


@cache
def _overlapping_at(depth: int) -> Select[Any]:
    above = [locks.c.resource == bindparam(f"above_{number}") for number in range(depth)]
    below = and_(locks.c.resource >= bindparam("first"), locks.c.resource < bindparam("end"))
    return select(locks.c.serial, locks.c.exclusive).where(or_(*above, below))
