"""Keyset-paginated lists of tables and instances, one query per page."""

from __future__ import annotations

from sqlalchemy import bindparam, false, func, select, true

from tablevault.catalog.sql.schema import instances, processes, tables

_LISTED = select(
    instances.c.row_id,
    instances.c.table_id,
    instances.c.instance_id,
    instances.c.version,
    instances.c.temporary,
    instances.c.active,
    instances.c.success,
    instances.c.external_edit,
    instances.c.artifact_state,
    instances.c.row_count,
    instances.c.description,
    instances.c.author,
    instances.c.created_at,
    processes.c.process_id,
).join(processes, processes.c.serial == instances.c.serial)

# Spelled like the partial index `instances_shown`, which SQLite would not use otherwise.
_OF_TABLE = _LISTED.where(
    instances.c.table_id == bindparam("table_id"),
    instances.c.deleted == false(),
    instances.c.row_id < bindparam("before"),
)
_NEWEST_FIRST = instances.c.row_id.desc()
MATERIALIZED = _OF_TABLE.where(instances.c.temporary == false()).order_by(_NEWEST_FIRST).limit(bindparam("most"))
TEMPORARY = _OF_TABLE.where(instances.c.temporary == true()).order_by(_NEWEST_FIRST).limit(bindparam("most"))

_newest = (
    select(func.max(instances.c.row_id))
    .where(
        instances.c.table_id == tables.c.table_id,
        instances.c.temporary == false(),
        instances.c.deleted == false(),
    )
    .correlate(tables)
    .scalar_subquery()
)
NEWEST_OF_EACH = _LISTED.where(
    instances.c.row_id.in_(select(_newest).where(tables.c.table_id.in_(bindparam("table_ids", expanding=True))))
)
TABLES_BY_NAME = (
    select(tables)
    .where(tables.c.deleted == false(), tables.c.name_key > bindparam("after"))
    .order_by(tables.c.name_key)
    .limit(bindparam("most"))
)
