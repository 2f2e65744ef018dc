"""Tags: names that users give to instances, one instance per table and tag."""

from __future__ import annotations

from sqlalchemy import Connection, bindparam, delete, exists, insert, select

from tablevault.catalog.sql.codec import now
from tablevault.catalog.sql.schema import instances, processes, tables, tags
from tablevault.names import fold
from tablevault.values.changes import DeletedTag, NewTag

# Statements are made once: to put one together takes longer than to run it.
TAGS = (
    select(
        tags.c.tag,
        tags.c.table_id,
        tables.c.name.label("table_name"),
        tags.c.row_id,
        instances.c.instance_id,
        tags.c.description,
        tags.c.author,
        tags.c.created_at,
        processes.c.process_id,
    )
    .join(tables, tables.c.table_id == tags.c.table_id)
    .join(instances, instances.c.row_id == tags.c.row_id)
    .join(processes, processes.c.serial == tags.c.serial)
    .order_by(tags.c.tag_key, tables.c.name_key)
)
IS_TAGGED = exists().where(tags.c.row_id == instances.c.row_id)
"""Whether an instance has a tag; part of a query over instances."""
_AUTHOR_OF = select(processes.c.author).where(processes.c.serial == bindparam("serial"))
_INSERT = insert(tags)
_DELETE = delete(tags).where(tags.c.table_id == bindparam("of_table"), tags.c.tag_key == bindparam("of_key"))


def set_tag(connection: Connection, change: NewTag, serial: int) -> None:
    """Let a tag name instances; it leaves those of the same tables that it named before."""
    key = fold(change.tag)
    connection.execute(_DELETE, [{"of_table": table_id, "of_key": key} for table_id, _ in change.instances])
    common = {
        "tag": change.tag,
        "tag_key": key,
        "description": change.description,
        "author": connection.scalar(_AUTHOR_OF, {"serial": serial}),
        "created_at": now(),
        "serial": serial,
    }
    rows = [{"table_id": table_id, "row_id": row_id, **common} for table_id, row_id in change.instances]
    connection.execute(_INSERT, rows)


def delete_tag(connection: Connection, change: DeletedTag) -> None:
    """Delete a tag of a table."""
    connection.execute(_DELETE, {"of_table": change.table_id, "of_key": fold(change.tag)})
