"""Tags given by users to instances, one instance per table and tag."""

from __future__ import annotations

from sqlalchemy import bindparam, delete, exists, insert, select

from tablevault.catalog.sql.codec import now
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.schema import instances, processes, tables, tags
from tablevault.catalog.sql.store import batches
from tablevault.names import fold
from tablevault.values.changes import DeletedTag, NewTag

# Statements are built once, because building one takes longer than running it.
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
"""Condition of a query over instances: the instance has a tag."""
_AUTHOR_OF = select(processes.c.author).where(processes.c.serial == bindparam("serial"))
_COMMON = ("tag", "tag_key", "description", "author", "created_at", "serial")
"""Columns with the same value for all instances of a tag."""
_INSERT = insert(tags).from_select(
    ["table_id", "row_id", *_COMMON],
    select(instances.c.table_id, instances.c.row_id, *map(bindparam, _COMMON)).where(
        instances.c.row_id.in_(bindparam("row_ids", expanding=True))
    ),
)
_DELETE = delete(tags).where(
    tags.c.tag_key == bindparam("of_key"), tags.c.table_id.in_(bindparam("table_ids", expanding=True))
)


def set_tag(connection: Connection, change: NewTag, serial: int) -> None:
    """Point a tag to instances, moving it from earlier ones of the same tables."""
    delete_tag(connection, DeletedTag(change.tag, change.moved_in))
    common = {
        "tag": change.tag,
        "tag_key": fold(change.tag),
        "description": change.description,
        "author": connection.scalar(_AUTHOR_OF, {"serial": serial}),
        "created_at": now(),
        "serial": serial,
    }
    for row_ids in batches([row_id for _, row_id in change.instances]):
        connection.execute(_INSERT, {"row_ids": row_ids, **common})


def delete_tag(connection: Connection, change: DeletedTag) -> None:
    """Delete a tag from tables."""
    for table_ids in batches(change.table_ids):
        connection.execute(_DELETE, {"of_key": fold(change.tag), "table_ids": table_ids})
