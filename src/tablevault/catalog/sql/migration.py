"""The format of a catalog, and how an older catalog comes to have the newest."""

from __future__ import annotations

from sqlalchemy import Connection, delete, insert, select
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateColumn, CreateIndex

from tablevault.catalog.sql.codec import damage_named
from tablevault.catalog.sql.creations import record_creates
from tablevault.catalog.sql.schema import ADDED_COLUMNS, added_indexes, added_metadata, locks, processes, vault
from tablevault.layout import FORMAT
from tablevault.plans import decode_plan
from tablevault.values import Status

_NOT_SUCCEEDED = select(processes.c.serial, processes.c.operation, processes.c.plan).where(
    processes.c.status != Status.SUCCEEDED.value
)


def identity_of(connection: Connection) -> tuple[int, str | None]:
    """Return the format that a catalog has, and the id of its vault, which format 1 does not say."""
    try:
        row = connection.execute(select(vault.c.format, vault.c.vault_id)).one_or_none()
    except OperationalError:
        # Asked for only now: almost every catalog has the table.
        if connection.dialect.has_table(connection, vault.name):
            raise
        return 1, None
    if row is None:
        raise ValueError("its table 'vault' is empty")
    return int(row[0]), str(row[1])


def upgrade(connection: Connection, vault_id: str, created_at: str, migrated_from: int | None) -> None:
    """Give a catalog of format 1 this one, inside a transaction of the caller's.

    Raises
    ------
    ValueError
        If two processes hold the same resource exclusively, which no version lets happen.
    """
    _check_exclusive_locks(connection)
    added_metadata.create_all(connection)
    for name, columns in ADDED_COLUMNS.items():
        for column in columns:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN {definition}")
    for index in added_indexes():
        connection.execute(CreateIndex(index))
    for serial, operation, plan in connection.execute(_NOT_SUCCEEDED).all():
        with damage_named("processes"):
            record_creates(connection, serial, decode_plan(operation, plan))
    connection.execute(
        insert(vault).values(
            vault_id=vault_id, format=FORMAT, created_at=created_at, migrated_from=migrated_from, deleting=False
        )
    )


def _check_exclusive_locks(connection: Connection) -> None:
    """Drop a lock that a process holds twice; raise `ValueError` for one that two hold."""
    holders: dict[str, int] = {}
    query = select(locks).where(locks.c.exclusive.is_(True)).order_by(locks.c.lock_id)
    for row in connection.execute(query).mappings().all():
        if row["resource"] not in holders:
            holders[row["resource"]] = row["serial"]
        elif holders[row["resource"]] == row["serial"]:
            connection.execute(delete(locks).where(locks.c.lock_id == row["lock_id"]))
        else:
            pair = f"processes {holders[row['resource']]} and {row['serial']}"
            raise ValueError(f"{pair} both hold {row['resource']!r:.100} exclusively")
