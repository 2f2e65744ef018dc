"""Import of another vault's instances inside the deciding transaction."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping

from sqlalchemy import bindparam, insert, select, update

from tablevault.catalog.sql.codec import integer, now
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.schema import instances, processes, reads, tables, tags
from tablevault.names import fold
from tablevault.values.changes import (
    ImportedInstance,
    ImportedInstances,
    ImportedTable,
    ImportedTag,
)

_AUTHOR = select(processes.c.author).where(processes.c.serial == bindparam("by_serial")).scalar_subquery()
_INSERT_TABLE = insert(tables).values(author=_AUTHOR).returning(tables.c.table_id)
_SET_ORIGIN = update(instances).where(instances.c.row_id == bindparam("of_row"))
_INSERT_READ = insert(reads)
_INSERT_TAG = insert(tags).values(author=_AUTHOR)
_ROW_OF = (
    select(instances.c.row_id)
    .where(instances.c.instance_id == bindparam("instance_id"))
    .order_by(instances.c.deleted, instances.c.row_id.desc())
    .limit(1)
)
_TABLE_OF = select(instances.c.table_id).where(instances.c.row_id == bindparam("row_id"))
_TAG = select(tags.c.tag_id).where(tags.c.table_id == bindparam("table_id"), tags.c.tag_key == bindparam("tag_key"))

InsertInstance = Callable[[Connection, Mapping[str, object], int], int]
"""Inserts an instance that a process makes visible; returns its row id."""


def insert_imported(
    connection: Connection,
    change: ImportedInstances,
    serial: int,
    insert_instance: InsertInstance,
    supersede: Callable[[Connection, int], object],
) -> dict[int, int]:
    """Insert imported content in order; return the row ids of its instances by position.

    Parameters
    ----------
    connection, change, serial
        The deciding transaction, and the process.
    insert_instance
        Inserts one instance.
    supersede
        Marks the artifacts of all instances of a table as superseded.
    """
    numbers = [_table(connection, table, serial) for table in change.tables]
    rows: dict[int, int] = {}
    # Instances known only from lineages come first, so that the others can refer to them.
    for place, item in sorted(enumerate(change.instances), key=lambda placed: not placed[1].is_hidden):
        table_id = numbers[item.table]
        if item.replaces_artifacts:
            supersede(connection, table_id)
        rows[place] = insert_instance(connection, _instance(item, table_id), serial)
    by_id = {change.instances[place].instance_id: row_id for place, row_id in rows.items()}
    for place, item in enumerate(change.instances):
        origin = _row(connection, by_id, item.origin_id) if item.origin_id else None
        if origin is not None:
            connection.execute(_SET_ORIGIN, {"of_row": rows[place], "origin": origin})
        for read in item.reads:
            input_row = _row(connection, by_id, read.input_id)
            if input_row is not None:
                facts = {"column": read.column, "builder": read.builder, "input_column": read.input_column}
                connection.execute(_INSERT_READ, {"row_id": rows[place], "input_row_id": input_row, **facts})
    for tag in change.tags:
        _tag(connection, tag, rows[tag.instance], serial)
    return rows


def _table(connection: Connection, table: ImportedTable, serial: int) -> int:
    if table.table_id is not None:
        return table.table_id
    row = {
        "name": table.name,
        "name_key": fold(table.name),
        "folder": table.folder,
        "allow_multiple_artifacts": table.allow_multiple_artifacts,
        "has_side_effects": table.has_side_effects,
        "description": table.description,
        "created_at": now(),
        "deleted": table.is_hidden,
        "by_serial": serial,
    }
    return integer(connection.scalar(_INSERT_TABLE, row))


def _instance(item: ImportedInstance, table_id: int) -> dict[str, object]:
    return {
        "table_id": table_id,
        "instance_id": item.instance_id,
        "version": item.version,
        "folder": item.folder,
        "temporary": False,
        "active": item.active,
        "success": item.success,
        "external_edit": item.external_edit,
        "origin": None,
        "artifact_state": item.artifact_state.value,
        "row_count": item.row_count,
        "columns": json.dumps([[column.name, column.type_name] for column in item.columns]),
        "manifest": item.manifest,
        "description": item.description,
        "deleted": item.is_hidden,
    }


def _row(connection: Connection, rows: Mapping[str, int], instance_id: str) -> int | None:
    """Return an instance's row id, from this import or else from the catalog."""
    if instance_id in rows:
        return rows[instance_id]
    found = connection.scalar(_ROW_OF, {"instance_id": instance_id})
    return None if found is None else integer(found)


def _tag(connection: Connection, tag: ImportedTag, row_id: int, serial: int) -> None:
    """Set a tag, unless its table already has one of this name."""
    table_id = connection.scalar(_TABLE_OF, {"row_id": row_id})
    key = {"table_id": table_id, "tag_key": fold(tag.tag)}
    if connection.scalar(_TAG, key) is not None:
        return
    row = {**key, "row_id": row_id, "tag": tag.tag, "description": tag.description, "created_at": now()}
    connection.execute(_INSERT_TAG, {**row, "serial": serial, "by_serial": serial})
