"""Locks in the catalog: taken all at once or not at all, in the transaction that records their process."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any

from sqlalchemy import Connection, Select, and_, bindparam, delete, insert, or_, select

from tablevault.catalog.sql.schema import locks, tables
from tablevault.values.contents import InstanceRecord
from tablevault.values.lock_names import lock_on_instance
from tablevault.values.processes import Lock

# Statements are made once: to put one together takes longer than to run it.
_NAME_KEY = select(tables.c.name_key).where(tables.c.table_id == bindparam("table_id"))
_TAKE = insert(locks)
_MOST_AT_ONCE = 20
"""Number of resources in one query: for many more, SQLite would read all locks for each part of it."""
_HELD_BY = (
    select(locks.c.serial, locks.c.resource, locks.c.exclusive)
    .where(locks.c.serial.in_(bindparam("serials", expanding=True)))
    .order_by(locks.c.lock_id)
)
_MOST_PROCESSES = 1_000
"""Processes in one query."""
_ALL = select(locks.c.serial, locks.c.resource, locks.c.exclusive).order_by(locks.c.lock_id)
_RELEASE = delete(locks).where(locks.c.serial == bindparam("serial"))


def conflicting_holders(
    connection: Connection, wanted: Sequence[Lock], ancestors: Collection[int] = ()
) -> tuple[int, ...]:
    """Return the serials of the processes whose locks conflict with the wanted ones.

    A lock covers everything below its resource, so locks above and below conflict too. The locks of an ancestor block
    only changes: a child may read the tables that its ancestors read or build.
    """
    on: dict[str, bool] = {}
    below: dict[str, bool] = {}
    for lock in wanted:
        *above, resource = _path_to(lock.resource)
        on[resource] = on.get(resource, False) or lock.exclusive
        for parent in above:
            below[parent] = below.get(parent, False) or lock.exclusive
    holders: set[int] = set()
    for held_by, held in _overlapping(connection, list(on)):
        # Whether the wanted locks that it overlaps are exclusive.
        met = [on[resource] for resource in _path_to(held.resource) if resource in on]
        if held.resource in below:
            met.append(below[held.resource])
        if any(met) or (met and held.exclusive and held_by not in ancestors):
            holders.add(held_by)
    return tuple(sorted(holders))


def take(connection: Connection, serial: int, wanted: Iterable[Lock]) -> None:
    """Record locks as held by a process."""
    rows = [{"serial": serial, "resource": lock.resource, "exclusive": lock.exclusive} for lock in wanted]
    if rows:
        connection.execute(_TAKE, rows)


def release(connection: Connection, serial: int) -> None:
    """Release all locks of a process."""
    connection.execute(_RELEASE, {"serial": serial})


def held_by(connection: Connection, serials: Sequence[int]) -> dict[int, tuple[Lock, ...]]:
    """Return the locks of processes, by serial number, in the order of their taking."""
    found: dict[int, list[Lock]] = {serial: [] for serial in serials}
    for start in range(0, len(serials), _MOST_PROCESSES):
        rows = connection.execute(_HELD_BY, {"serials": list(serials[start : start + _MOST_PROCESSES])})
        for serial, resource, exclusive in rows:
            found[serial].append(Lock(resource, bool(exclusive)))
    return {serial: tuple(held) for serial, held in found.items()}


def holders_of(connection: Connection, resource: str) -> tuple[int, ...]:
    """Return the serials of all processes with a lock on the resource, above it or below it."""
    return tuple(sorted({serial for serial, _ in _overlapping(connection, [resource])}))


def held_by_others(connection: Connection, instance: InstanceRecord, serial: int) -> bool:
    """Return whether another process holds an instance, or a resource above or below it."""
    key = str(connection.scalar(_NAME_KEY, {"table_id": instance.table_id}))
    holders = holders_of(connection, lock_on_instance(key, instance.instance_id))
    return any(holder != serial for holder in holders)


def exclusive_holders_of(connection: Connection, resource: str) -> tuple[int, ...]:
    """Return the serials of the processes that hold exactly this resource exclusively."""
    rows = connection.scalars(
        select(locks.c.serial).where(locks.c.resource == resource, locks.c.exclusive.is_(True)).distinct()
    )
    return tuple(int(serial) for serial in rows)


def _path_to(resource: str) -> list[str]:
    """Return the resources that cover a resource, itself last."""
    parts = resource.split("/")
    return ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]


def _overlapping(connection: Connection, resources: Sequence[str]) -> Iterator[tuple[int, Lock]]:
    """Yield each lock on the resources, above or below them, with the process that holds it."""
    above = {path for resource in resources for path in _path_to(resource)}
    if len(resources) > _MOST_AT_ONCE:
        # Few locks are held at any time: to look at all of them is faster than to ask for each resource.
        wanted = set(resources)
        for serial, resource, exclusive in connection.execute(_ALL):
            if resource in above or not wanted.isdisjoint(_path_to(resource)):
                yield int(serial), Lock(resource, bool(exclusive))
        return
    bounds: dict[str, str] = {}
    for number, resource in enumerate(resources):
        # "0" is the character after "/": the range holds exactly the resources below this one, and uses the index.
        bounds |= {f"first_{number}": f"{resource}/", f"end_{number}": f"{resource}0"}
    for row in connection.execute(_overlapping_with(len(resources)), {"above": sorted(above), **bounds}).all():
        yield int(row.serial), Lock(row.resource, bool(row.exclusive))


@cache
def _overlapping_with(count: int) -> Select[Any]:
    below = [
        and_(locks.c.resource >= bindparam(f"first_{number}"), locks.c.resource < bindparam(f"end_{number}"))
        for number in range(count)
    ]
    on_or_above = locks.c.resource.in_(bindparam("above", expanding=True))
    return select(locks.c.serial, locks.c.resource, locks.c.exclusive).where(or_(on_or_above, *below))
