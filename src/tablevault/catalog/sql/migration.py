"""Formats of the catalog, and the upgrade to the newest one."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from sqlalchemy import Dialect, Index, MetaData, delete, insert, select, update
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateColumn, CreateIndex, CreateTable

from tablevault.catalog.sql.codec import damage_named, identity_record
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.creations import record_creates
from tablevault.catalog.sql.schema import (
    ADDED_COLUMNS,
    added_indexes,
    added_metadata,
    counters,
    locks,
    metadata,
    processes,
    vault,
)
from tablevault.layout import FORMAT
from tablevault.values.contents import CatalogIdentity
from tablevault.values.plans import decode_plan
from tablevault.values.processes import Status

_NOT_SUCCEEDED = select(processes.c.serial, processes.c.operation, processes.c.plan).where(
    processes.c.status != Status.SUCCEEDED.value
)


def identity_of(connection: Connection) -> CatalogIdentity:
    """Return a catalog's format, and the vault that it belongs to."""
    try:
        row = connection.execute(select(vault.c.format, vault.c.vault_id, vault.c.address)).mapping()
    except OperationalError:
        # Checked only after a failure, because almost every catalog has the table.
        if connection.has_table(vault.name):
            raise
        return CatalogIdentity(1)
    if row is None:
        raise ValueError("its table 'vault' is empty")
    return identity_record(row)


def record_address(connection: Connection, address: str | None) -> None:
    """Record the vault's folder, or that the catalog is inside it."""
    connection.execute(update(vault).values(address=address))


def create_tables(connection: Connection) -> bool:
    """Create the tables of format 1 in an empty database; return whether it was empty."""
    if connection.has_table(counters.name):
        return False
    for statement in _tables_of_format_1(connection.dialect):
        connection.send(statement)
    connection.execute(insert(counters), [{"name": name, "value": 0} for name in ("generation", "end_order")])
    return True


def upgrade(
    connection: Connection, vault_id: str, created_at: str, address: str | None, migrated_from: int | None
) -> None:
    """Upgrade a catalog of format 1 inside the caller's transaction.

    Raises
    ------
    ValueError
        If two processes hold the same resource exclusively, which no version allows.
    """
    _check_exclusive_locks(connection)
    for statement in _added_by_format_2(connection.dialect):
        connection.send(statement)
    for serial, operation, plan in connection.execute(_NOT_SUCCEEDED):
        with damage_named("processes"):
            record_creates(connection, serial, decode_plan(operation, plan))
    connection.execute(
        insert(vault).values(
            vault_id=vault_id,
            format=FORMAT,
            address=address,
            created_at=created_at,
            migrated_from=migrated_from,
            deleting=False,
        )
    )


# Built once, because building these takes longer than the rest of creating a vault.
@cache
def _tables_of_format_1(dialect: Dialect) -> tuple[str, ...]:
    return tuple(_creations(metadata, dialect))


@cache
def _added_by_format_2(dialect: Dialect) -> tuple[str, ...]:
    columns = (
        f"ALTER TABLE {name} ADD COLUMN {CreateColumn(column).compile(dialect=dialect)}"
        for name, columns in ADDED_COLUMNS.items()
        for column in columns
    )
    return (*_creations(added_metadata, dialect), *columns, *_index_creations(added_indexes(), dialect))


def _creations(created: MetaData, dialect: Dialect) -> Iterator[str]:
    """Yield the statements that create tables, each followed by its indexes."""
    for table in created.sorted_tables:
        yield str(CreateTable(table).compile(dialect=dialect))
        yield from _index_creations(table.indexes, dialect)


def _index_creations(indexes: Iterable[Index], dialect: Dialect) -> Iterator[str]:
    for index in indexes:
        yield str(CreateIndex(index).compile(dialect=dialect))


def _check_exclusive_locks(connection: Connection) -> None:
    """Drop duplicate locks of a process; raise `ValueError` if two processes hold one."""
    holders: dict[str, int] = {}
    query = select(locks).where(locks.c.exclusive.is_(True)).order_by(locks.c.lock_id)
    for row in connection.execute(query).mappings():
        if row["resource"] not in holders:
            holders[row["resource"]] = row["serial"]
        elif holders[row["resource"]] == row["serial"]:
            connection.execute(delete(locks).where(locks.c.lock_id == row["lock_id"]))
        else:
            pair = f"processes {holders[row['resource']]} and {row['serial']}"
            raise ValueError(f"{pair} both hold {row['resource']!r:.100} exclusively")
