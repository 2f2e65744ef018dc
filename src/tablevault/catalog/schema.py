"""The catalog's tables in format 1, to which `format_2` adds: plain SQL that SQLite and PostgreSQL share."""

from __future__ import annotations

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
    postgresql_where=text("not deleted"),
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
    postgresql_where=text("not deleted"),
)
Index("instances_by_version", instances.c.table_id, instances.c.version, instances.c.row_id)
Index(
    "instances_by_version_key",
    instances.c.table_id,
    func.lower(instances.c.version),
    instances.c.version,
    sqlite_where=text("deleted = 0"),
    postgresql_where=text("not deleted"),
)
Index(
    "instances_superseded",
    instances.c.artifact_state,
    sqlite_where=text("artifact_state = 'superseded'"),
    postgresql_where=text("artifact_state = 'superseded'"),
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
    postgresql_where=text("status <> 'reverted'"),
)
Index("processes_all_by_id", processes.c.process_id, processes.c.serial)
Index(
    "processes_unfinished",
    processes.c.serial,
    sqlite_where=text("finished = 0"),
    postgresql_where=text("not finished"),
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
