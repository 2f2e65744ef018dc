"""Tables of the catalog, in plain SQL except for the conditions of SQLite's partial indexes.

A new catalog is created in format 1 and upgraded in the same transaction, so there is only one path to the newest
format. The columns added by format 2 have defaults: rows written by an interpreter that opened the vault earlier stay
valid, and statements that name only columns of format 1 work on both formats.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    func,
    text,
)

metadata = MetaData()
"""Tables of format 1."""

SERIAL = BigInteger().with_variant(Integer, "sqlite")


counters = Table(
    "counters",
    metadata,
    Column("name", String(32), primary_key=True),
    Column("value", SERIAL, nullable=False),
)

tables = Table(
    "tables",
    metadata,
    Column("table_id", SERIAL, primary_key=True, autoincrement=True),
    Column("name", String(128), nullable=False),
    Column("name_key", String(128), nullable=False),
    Column("folder", String(160), nullable=False),
    Column("previous_folder", String(160)),
    Column("allow_multiple_artifacts", Boolean, nullable=False),
    Column("has_side_effects", Boolean, nullable=False),
    Column("description", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("deleted", Boolean, nullable=False, default=False),
    sqlite_autoincrement=True,
)
Index(
    "tables_by_name",
    tables.c.name_key,
    unique=True,
    sqlite_where=text("deleted = 0"),
)

instances = Table(
    "instances",
    metadata,
    Column("row_id", SERIAL, primary_key=True, autoincrement=True),
    Column("table_id", SERIAL, ForeignKey("tables.table_id"), nullable=False),
    Column("instance_id", String(200), nullable=False),
    Column("version", String(128), nullable=False),
    Column("folder", String(200), nullable=False),
    Column("temporary", Boolean, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("success", Boolean, nullable=False),
    Column("external_edit", Boolean, nullable=False),
    Column("origin", SERIAL),
    Column("artifact_state", String(16), nullable=False),
    Column("row_count", SERIAL),
    Column("columns", Text, nullable=False),
    Column("manifest", String(64)),
    Column("description", Text, nullable=False),
    Column("author", Text, nullable=False),
    Column("created_at", Text, nullable=False),
    Column("serial", SERIAL, nullable=False),
    Column("deleted", Boolean, nullable=False, default=False),
    sqlite_autoincrement=True,
)
Index(
    "instances_by_id",
    instances.c.table_id,
    instances.c.instance_id,
    unique=True,
    sqlite_where=text("deleted = 0"),
)
Index("instances_by_version", instances.c.table_id, instances.c.version, instances.c.row_id)
Index(
    "instances_by_version_key",
    instances.c.table_id,
    func.lower(instances.c.version),
    instances.c.version,
    sqlite_where=text("deleted = 0"),
)
Index(
    "instances_superseded",
    instances.c.artifact_state,
    sqlite_where=text("artifact_state = 'superseded'"),
)
Index("instances_by_process", instances.c.serial)

reads = Table(
    "reads",
    metadata,
    Column("read_id", SERIAL, primary_key=True, autoincrement=True),
    Column("row_id", SERIAL, ForeignKey("instances.row_id"), nullable=False),
    Column("column", Text, nullable=False),
    Column("builder", String(128), nullable=False),
    Column("input_row_id", SERIAL, nullable=False),
    Column("input_column", Text, nullable=False),
)
Index("reads_by_instance", reads.c.row_id)
Index("reads_by_input", reads.c.input_row_id)

processes = Table(
    "processes",
    metadata,
    Column("serial", SERIAL, primary_key=True, autoincrement=True),
    Column("process_id", String(200), nullable=False),
    Column("operation", String(40), nullable=False),
    Column("author", Text, nullable=False),
    Column("table_name", String(128), nullable=False),
    Column("instance_id", String(200), nullable=False),
    Column("arguments", Text, nullable=False),
    Column("plan", Text, nullable=False),
    Column("parent_serial", SERIAL),
    Column("user_given", Boolean, nullable=False),
    Column("background", Boolean, nullable=False),
    Column("status", String(16), nullable=False),
    Column("finished", Boolean, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("owner_lock", String(80)),
    Column("owner_host", Text, nullable=False),
    Column("owner_pid", Integer, nullable=False),
    Column("started_at", Text, nullable=False),
    Column("ended_at", Text),
    Column("end_order", SERIAL),
    Column("error", Text),
    Column("progress", Text, nullable=False),
    Column("stop_requested", Boolean, nullable=False),
    sqlite_autoincrement=True,
)
Index(
    "processes_by_id",
    processes.c.process_id,
    unique=True,
    sqlite_where=text("status <> 'reverted'"),
)
Index("processes_all_by_id", processes.c.process_id, processes.c.serial)
Index(
    "processes_unfinished",
    processes.c.serial,
    sqlite_where=text("finished = 0"),
)
Index("processes_by_end", processes.c.end_order)
Index("processes_by_parent", processes.c.parent_serial)
Index("processes_by_table", processes.c.table_name, processes.c.serial)

locks = Table(
    "locks",
    metadata,
    Column("lock_id", SERIAL, primary_key=True, autoincrement=True),
    Column("serial", SERIAL, ForeignKey("processes.serial"), nullable=False),
    Column("resource", String(400), nullable=False),
    Column("exclusive", Boolean, nullable=False),
)
Index("locks_by_resource", locks.c.resource)
Index("locks_by_process", locks.c.serial)

tidying = Table(
    "tidying",
    metadata,
    Column("tidying_id", SERIAL, primary_key=True, autoincrement=True),
    Column("serial", SERIAL, ForeignKey("processes.serial"), nullable=False),
    Column("action", String(20), nullable=False),
    Column("source", Text, nullable=False),
    Column("target", Text, nullable=False),
    Column("problem", Text),
)
Index("tidying_by_process", tidying.c.serial)
Index("tidying_by_target", tidying.c.target)


# --- format 2 ----------------------------------------------------------------------------------------------------

added_metadata = MetaData()
"""Tables that format 2 adds."""


def _process() -> Column[int]:
    return Column("serial", SERIAL, ForeignKey(processes.c.serial), nullable=False)


vault = Table(
    "vault",
    added_metadata,
    Column("vault_id", String(64), primary_key=True),
    Column("format", Integer, nullable=False),
    Column("address", Text),
    Column("created_at", Text, nullable=False),
    Column("migrated_from", Integer),
    Column("deleting", Boolean, nullable=False),
)
"""A single row that identifies the vault."""

settings = Table(
    "settings",
    added_metadata,
    Column("name", String(64), primary_key=True),
    Column("value", Text, nullable=False),
    _process(),
)

creates = Table(
    "creates",
    added_metadata,
    Column("create_id", SERIAL, primary_key=True, autoincrement=True),
    _process(),
    Column("kind", String(16), nullable=False),
    Column("name_key", String(128), nullable=False),
    Column("instance_id", String(200), nullable=False),
    Column("location", Text, nullable=False),
    sqlite_autoincrement=True,
)
"""Tables and instances that a process will make visible, or made visible by succeeding."""
Index("creates_by_process", creates.c.serial)
Index("creates_by_location", creates.c.location)

staged = Table(
    "staged",
    added_metadata,
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
    added_metadata,
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
    added_metadata,
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
    added_metadata,
    Column("confirmed_id", SERIAL, primary_key=True, autoincrement=True),
    Column("row_id", SERIAL, ForeignKey(instances.c.row_id), nullable=False),
    Column("input_row_id", SERIAL, nullable=False),
    _process(),
    sqlite_autoincrement=True,
)
Index("confirmed_by_instance", confirmed.c.row_id)

services = Table(
    "services",
    added_metadata,
    Column("name", String(128), primary_key=True),
    Column("limits", Text, nullable=False),
    Column("version", SERIAL, nullable=False),
    _process(),
)

ADDED_COLUMNS: dict[str, tuple[Column[Any], ...]] = {
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
"""Columns that format 2 adds to tables of format 1."""


def added_indexes() -> Iterator[Index]:
    """Yield the indexes that format 2 adds to tables of format 1.

    They belong to copies of the tables, so that format 1 remains unchanged.
    """
    copy = MetaData()
    held, shown = locks.to_metadata(copy), instances.to_metadata(copy)
    for table in (held, shown):
        table.indexes.clear()
    yield Index(
        "locks_exclusive",
        held.c.resource,
        unique=True,
        sqlite_where=text("exclusive = 1"),
    )
    yield Index(
        "instances_shown",
        shown.c.table_id,
        shown.c.row_id,
        sqlite_where=text("temporary = 0 and deleted = 0"),
    )
