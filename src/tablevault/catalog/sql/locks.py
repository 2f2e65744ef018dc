"""Locks of processes, which the database takes when a process is recorded, and releases when it is finished."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import ColumnElement, Select, and_, bindparam, exists, or_, select

from tablevault.catalog.sql.codec import integer, lock_record
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.schema import locks
from tablevault.catalog.sql.store import batches
from tablevault.names import fold
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.lock_names import lock_on_instance
from tablevault.values.processes import Lock

# Statements are built once, because building one takes longer than running it.
MAXIMUM_AT_ONCE = 20
"""Maximum number of resources in one query; beyond it, SQLite scans all locks for each term."""
_HELD_BY = (
    select(locks.c.serial, locks.c.resource, locks.c.exclusive)
    .where(locks.c.serial.in_(bindparam("serials", expanding=True)))
    .order_by(locks.c.lock_id)
)
_ALL = select(locks.c.serial, locks.c.resource, locks.c.exclusive).order_by(locks.c.lock_id)
_EXCLUSIVE_HOLDERS = (
    select(locks.c.serial).where(locks.c.resource == bindparam("resource"), locks.c.exclusive.is_(True)).distinct()
)


def conflicting_holders(
    connection: Connection, wanted: Sequence[Lock], ancestors: Collection[int] = ()
) -> tuple[int, ...]:
    """Return the serials of the processes whose locks conflict with the wanted ones.

    A lock covers everything below its resource, so locks above and below conflict too. The locks of an ancestor block
    only changes: a child may read the tables that its ancestors read or build.
    """
    on: dict[str, bool] = {}
    for lock in wanted:
        on[lock.resource] = on.get(lock.resource, False) or lock.exclusive
    ordered = sorted(on)
    holders: set[int] = set()
    for held_by, held in _near(connection, ordered):
        overlapped = [resource for resource in _path_to(held.resource) if resource in on]
        first, end = _bounds_below(held.resource)
        overlapped += ordered[bisect_left(ordered, first) : bisect_left(ordered, end)]
        is_exclusive = held.exclusive and held_by not in ancestors
        if overlapped and (is_exclusive or any(on[resource] for resource in overlapped)):
            holders.add(held_by)
    return tuple(sorted(holders))


def held_by(connection: Connection, serials: Sequence[int]) -> dict[int, tuple[Lock, ...]]:
    """Return the locks of processes, by serial number, in the order taken."""
    found: dict[int, list[Lock]] = {serial: [] for serial in serials}
    for batch in batches(list(found)):
        for serial, resource, exclusive in connection.execute(_HELD_BY, {"serials": batch}):
            found[serial].append(lock_record(resource, exclusive))
    return {serial: tuple(held) for serial, held in found.items()}


def holders_of(connection: Connection, resource: str) -> tuple[int, ...]:
    """Return the serials of all processes with a lock on, above or below the resource."""
    return tuple(sorted({serial for serial, _ in _near(connection, [resource])}))


def held_by_others(connection: Connection, table: TableRecord, instance: InstanceRecord, serial: int) -> bool:
    """Return whether another process holds an instance, or a resource above or below it."""
    holders = holders_of(connection, lock_on_instance(fold(table.name), instance.instance_id))
    return any(holder != serial for holder in holders)


def exclusive_holders_of(connection: Connection, resource: str) -> tuple[int, ...]:
    """Return the serials of the processes that hold exactly this resource exclusively."""
    return tuple(map(integer, connection.scalars(_EXCLUSIVE_HOLDERS, {"resource": resource})))


def _path_to(resource: str) -> list[str]:
    """Return the resources that cover a resource, ending with itself."""
    parts = resource.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _bounds_below(resource: str) -> tuple[str, str]:
    """Return the half-open text range of the resources below one."""
    # "0" is the character after "/".
    return f"{resource}/", f"{resource}0"


def _near(connection: Connection, resources: Sequence[str]) -> Iterator[tuple[int, Lock]]:
    """Yield the locks on, above or below the resources, with their holders.

    For many resources, all locks are yielded.
    """
    if len(resources) > MAXIMUM_AT_ONCE:
        # Few locks are held at any time, so reading them all is faster than one lookup per resource.
        rows = connection.execute(_ALL).all()
    else:
        rows = connection.execute(_locks_near(len(resources)), values_near(resources)).all()
    for serial, resource, exclusive in rows:
        yield integer(serial), lock_record(resource, exclusive)


@cache
def _locks_near(count: int) -> Select[Any]:
    return select(locks.c.serial, locks.c.resource, locks.c.exclusive).where(_is_near(count))


def none_near(count: int) -> ColumnElement[bool]:
    """Return the condition that no conflicting lock is near `count` resources.

    Locks on, above and below them conflict. `values_near` gives the values.
    """
    return ~exists().where(_is_near(count))


def values_near(resources: Sequence[str]) -> dict[str, object]:
    """Return the parameters of a statement about locks on, above or below the resources."""
    values: dict[str, object] = {"above": sorted({path for resource in resources for path in _path_to(resource)})}
    for number, resource in enumerate(resources):
        values[f"first_{number}"], values[f"end_{number}"] = _bounds_below(resource)
    return values


def _is_near(count: int) -> ColumnElement[bool]:
    on_or_above = locks.c.resource.in_(bindparam("above", expanding=True))
    # A range can use the index.
    below = [
        and_(locks.c.resource >= bindparam(f"first_{number}"), locks.c.resource < bindparam(f"end_{number}"))
        for number in range(count)
    ]
    return or_(on_or_above, *below)
