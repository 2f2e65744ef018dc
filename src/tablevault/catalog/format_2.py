"""Format 2 of the catalog: what it adds to the tables of format 1, and how a catalog comes to have it.

A new catalog is made in format 1 and upgraded in the same transaction: there is one way to the newest form. What
format 2 adds has defaults: rows written by an interpreter that had the vault open before are valid, and statements that
name only columns of format 1 work on both.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from sqlalchemy import (
    Boolean,
    Column,
    Connection,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    bindparam,
    delete,
    insert,
    select,
    text,
)
from sqlalchemy.exc import OperationalError
from sqlalchemy.schema import CreateColumn, CreateIndex

from tablevault.catalog.rows import damage_named
from tablevault.catalog.schema import SERIAL, instances, locks, processes, tables
from tablevault.names import fold
from tablevault.plans import decode_plan
from tablevault.values import Creation, Plan, Status

FORMAT = 2
"""Of the vault as a whole: folder, catalog, frames and checkpoints."""

metadata = MetaData()


def _process() -> Column[int]:
    return Column("serial", SERIAL, ForeignKey(processes.c.serial), nullable=False)


vault = Table(
    "vault",
    metadata,
    Column("vault_id", String(64), primary_key=True),
    Column("format", Integer, nullable=False),
    Column("address", Text),
    Column("created_at", Text, nullable=False),
    Column("migrated_from", Integer),
    Column("deleting", Boolean, nullable=False),
)
"""One row: which vault this is the catalog of."""

settings = Table(
    "settings",
    metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    _process(),
)

creates = Table(
    "creates",
    metadata,
    Column("create_id", SERIAL, primary_key=True, autoincrement=True),
    _process(),
    Column("kind", String(16), nullable=False),
    Column("name_key", String(128), nullable=False),
    Column("instance_id", String(200), nullable=False),
    Column("location", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""What a process is going to make visible; what it has made visible, once it has succeeded."""
Index("creates_by_process", creates.c.serial)
Index("creates_by_location", creates.c.location)

staged = Table(
    "staged",
    metadata,
    Column("staged_id", SERIAL, primary_key=True, autoincrement=True),
    _process(),
    Column("name", Text, nullable=False),
    Column("location", Text, nullable=False),
    Column("size", SERIAL, nullable=False),
    Column("sha256", String(64), nullable=False),
    sqlite_autoincrement=True,
)
Index("staged_by_name", staged.c.serial, staged.c.name, unique=True)

parts = Table(
    "parts",
    metadata,
    Column("serial", SERIAL, ForeignKey(processes.c.serial), primary_key=True, autoincrement=False),
    Column("stage", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("start", SERIAL),
    Column("stop", SERIAL),
    Column("attempt", Integer),
    Column("location", Text),
    Column("size", SERIAL),
    Column("sha256", String(64)),
    Column("rows", SERIAL),
    Column("detail", Text),
)

tags = Table(
    "tags",
    metadata,
    Column("tag_id", SERIAL, primary_key=True, autoincrement=True),
    Column("table_id", SERIAL, ForeignKey(tables.c.table_id), nullable=False),
    Column("row_id", SERIAL, ForeignKey(instances.c.row_id), nullable=False),
    Column("tag", String(128), nullable=False),
    Column("tag_key", String(128), nullable=False),
    Column("description", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    _process(),
    sqlite_autoincrement=True,
)
Index("tags_by_key", tags.c.table_id, tags.c.tag_key, unique=True)
Index("tags_by_instance", tags.c.row_id)

confirmed = Table(
    "confirmed",
    metadata,
    Column("confirmed_id", SERIAL, primary_key=True, autoincrement=True),
    Column("row_id", SERIAL, ForeignKey(instances.c.row_id), nullable=False),
    Column("input_row_id", SERIAL, nullable=False),
    _process(),
    sqlite_autoincrement=True,
)
Index("confirmed_by_instance", confirmed.c.row_id)

services = Table(
    "services",
    metadata,
    Column("name", String(128), primary_key=True),
    Column("limits", Text, nullable=False),
    Column("version", SERIAL, nullable=False),
    _process(),
)

_ADDED: dict[str, tuple[Column[Any], ...]] = {
    "instances": (
        Column("failed_cells", SERIAL, nullable=False, server_default=text("0")),
        Column("skipped_cells", SERIAL, nullable=False, server_default=text("0")),
        Column("location", Text),
        Column("parts", Integer, nullable=False, server_default=text("1")),
        Column("partial", SERIAL),
    ),
    "processes": (
        Column("policies", Text),
        Column("budget", Text),
        Column("usage", Text),
        Column("waiting", Text),
        Column("process_key", String(64)),
        Column("pinned", Boolean, nullable=False, server_default=text("false")),
    ),
}
"""Columns that tables of format 1 get."""


def _added_indexes() -> Iterator[Index]:
    """Yield new indexes of tables of format 1; they belong to a copy, so that format 1 stays as it is."""
    copy = MetaData()
    held, shown = locks.to_metadata(copy), instances.to_metadata(copy)
    for table in (held, shown):
        table.indexes.clear()
    yield Index(
        "locks_exclusive",
        held.c.resource,
        unique=True,
        sqlite_where=text("exclusive = 1"),
        postgresql_where=text("exclusive"),
    )
    yield Index(
        "instances_shown",
        shown.c.table_id,
        shown.c.row_id,
        sqlite_where=text("temporary = 0 and deleted = 0"),
        postgresql_where=text("not temporary and not deleted"),
    )


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
    metadata.create_all(connection)
    for name, columns in _ADDED.items():
        for column in columns:
            definition = CreateColumn(column).compile(dialect=connection.dialect)
            connection.exec_driver_sql(f"ALTER TABLE {name} ADD COLUMN {definition}")
    for index in _added_indexes():
        connection.execute(CreateIndex(index))
    for serial, operation, plan in connection.execute(_NOT_SUCCEEDED).all():
        with damage_named("processes"):
            record_creates(connection, serial, decode_plan(operation, plan))
    connection.execute(
        insert(vault).values(
            vault_id=vault_id, format=FORMAT, created_at=created_at, migrated_from=migrated_from, deleting=False
        )
    )


def record_creates(connection: Connection, serial: int, plan: Plan) -> None:
    """Record what a process is going to make visible."""
    rows = [
        {
            "serial": serial,
            "kind": "instance" if item.instance_id else "table",
            "name_key": fold(plan.table_name),
            "instance_id": item.instance_id,
            "location": item.location,
        }
        for item in plan.creates
    ]
    if rows:
        connection.execute(_INSERT_CREATES, rows)


def forget_creates(connection: Connection, serial: int) -> None:
    """Forget what a process was going to make visible: it was planned anew, or is visible without a success."""
    connection.execute(_FORGET_CREATES, {"of_serial": serial})


def creates_of(connection: Connection, serials: Sequence[int]) -> dict[int, tuple[Creation, ...]]:
    """Return what processes are going to make visible, by serial number."""
    found: dict[int, tuple[Creation, ...]] = {}
    for serial, location, instance_id in connection.execute(_CREATES_OF, {"serials": list(serials)}):
        found[serial] = (*found.get(serial, ()), Creation(location, instance_id))
    return found


def was_to_create(connection: Connection, location: str) -> bool:
    """Return whether a process that is over, without success, had planned to create this path of the vault."""
    return connection.scalar(_CREATED, {"location": location}) is not None


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
