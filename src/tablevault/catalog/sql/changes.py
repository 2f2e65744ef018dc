"""Application of each kind of change inside the deciding transaction."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from sqlalchemy import bindparam, delete, insert, select, text, update

from tablevault.catalog.sql.arrivals import insert_imported
from tablevault.catalog.sql.codec import integer, now, read_row
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.creations import forget_creates
from tablevault.catalog.sql.schema import confirmed, instances, processes, reads, services, tables
from tablevault.catalog.sql.tags import delete_tag, set_tag
from tablevault.errors import TVImplementationError, TVLockError
from tablevault.names import fold
from tablevault.values.changes import (
    Change,
    ChangedService,
    ConfirmedInputs,
    DeletedInstance,
    DeletedTable,
    DeletedTag,
    ImportedInstances,
    MaterializedInstance,
    NewTable,
    NewTag,
    NewTemporaryInstance,
    RenamedTable,
    UnchangedInstance,
    WrittenInstance,
)
from tablevault.values.contents import ArtifactState

# Statements are built once, because building one takes longer than running it.
_ID_OF_TABLE = select(tables.c.table_id).where(tables.c.name_key == bindparam("name_key"), ~tables.c.deleted)
_AUTHOR = select(processes.c.author).where(processes.c.serial == bindparam("by_serial")).scalar_subquery()
_INSERT_TABLE = insert(tables).values(author=_AUTHOR)
_INSERT_INSTANCE = insert(instances).values(author=_AUTHOR).returning(instances.c.row_id)
_INSERT_READS = insert(reads)
_INSERT_CONFIRMED = insert(confirmed)
_NEWEST_ACTIVE = (
    select(instances.c.instance_id)
    .where(
        instances.c.table_id == bindparam("table_id"),
        instances.c.version == bindparam("version"),
        instances.c.temporary.is_(False),
        instances.c.active.is_(True),
        instances.c.deleted.is_(False),
    )
    .order_by(instances.c.row_id.desc())
    .limit(1)
)
_UPDATE_INSTANCE = update(instances).where(instances.c.row_id == bindparam("of_row"))
# The table definition serves both formats and so lacks the columns of format 2.
COUNT_FAILURES = text("UPDATE instances SET failed_cells = :failed, skipped_cells = :skipped WHERE row_id = :of_row")
_DELETE_TEMPORARY = _UPDATE_INSTANCE.returning(
    instances.c.table_id,
    instances.c.version,
    instances.c.external_edit,
    instances.c.origin,
    instances.c.description,
)
_UPDATE_OF_TABLE = update(instances).where(instances.c.table_id == bindparam("of_table"))
_SUPERSEDE_ARTIFACTS = _UPDATE_OF_TABLE.where(
    instances.c.temporary.is_(False),
    instances.c.deleted.is_(False),
    instances.c.success.is_(True),
    instances.c.artifact_state == ArtifactState.PRESENT.value,
).values(artifact_state=ArtifactState.SUPERSEDED.value)


@singledispatch
def apply_change(change: Change, connection: Connection, serial: int) -> None:
    """Apply one change inside the deciding transaction."""
    raise TVImplementationError(f"No handler for change {type(change).__name__}.")


@apply_change.register
def _(change: NewTable, connection: Connection, serial: int) -> None:
    row = {
        "name": change.name,
        "name_key": fold(change.name),
        "folder": change.folder,
        "allow_multiple_artifacts": change.allow_multiple_artifacts,
        "has_side_effects": change.has_side_effects,
        "description": change.description,
        "created_at": now(),
        "deleted": False,
    }
    connection.execute(_INSERT_TABLE, {"by_serial": serial, **row})


@apply_change.register
def _(change: RenamedTable, connection: Connection, serial: int) -> None:
    connection.execute(
        update(tables)
        .where(tables.c.table_id == change.table_id)
        .values(
            name=change.name,
            name_key=fold(change.name),
            previous_folder=change.previous_folder,
            folder=change.folder,
        )
    )


@apply_change.register
def _(change: DeletedTable, connection: Connection, serial: int) -> None:
    connection.execute(_UPDATE_OF_TABLE, {"of_table": change.table_id, "deleted": True})
    connection.execute(update(tables).where(tables.c.table_id == change.table_id).values(deleted=True))


@apply_change.register
def _(change: NewTemporaryInstance, connection: Connection, serial: int) -> None:
    table_id = change.table_id
    if table_id is None:
        table_id = _id_of_table(connection, change.table_name)
    row = {
        "table_id": table_id,
        "instance_id": change.instance_id,
        "version": change.version,
        "folder": change.folder,
        "temporary": True,
        "active": False,
        "success": True,
        "external_edit": change.external_edit,
        "origin": change.origin,
        "columns": "[]",
        "description": change.description,
    }
    _insert_instance(connection, row, serial)


@apply_change.register
def _(change: MaterializedInstance, connection: Connection, serial: int) -> None:
    temporary = _deleted_temporary(connection, change.temporary_row_id)
    if change.deactivates_others:
        connection.execute(_UPDATE_OF_TABLE, {"of_table": temporary["table_id"], "active": False})
    if change.replaces_artifacts:
        connection.execute(_SUPERSEDE_ARTIFACTS, {"of_table": temporary["table_id"]})
    _insert_materialized(connection, change, {**temporary, "success": change.success}, serial)


@apply_change.register
def _(change: WrittenInstance, connection: Connection, serial: int) -> None:
    table_id = _id_of_table(connection, change.table_name)
    if change.deactivates_others:
        connection.execute(_UPDATE_OF_TABLE, {"of_table": table_id, "active": False})
    if change.replaces_artifacts:
        connection.execute(_SUPERSEDE_ARTIFACTS, {"of_table": table_id})
    facts = {
        "table_id": table_id,
        "version": change.version,
        "external_edit": change.external_edit,
        "origin": change.origin,
        "description": change.description,
        "success": True,
    }
    _insert_materialized(connection, change, facts, serial)


@apply_change.register
def _(change: UnchangedInstance, connection: Connection, serial: int) -> None:
    temporary = _deleted_temporary(connection, change.temporary_row_id)
    of_version = {"table_id": temporary["table_id"], "version": temporary["version"]}
    newest = connection.scalar(_NEWEST_ACTIVE, of_version)
    if newest != change.instance_id:
        raise TVLockError(
            f"Instance '{newest}' was created while this execution confirmed '{change.instance_id}' as unchanged. "
            "Run it again."
        )
    # The planned instance will never become visible.
    forget_creates(connection, serial)


@apply_change.register
def _(change: ConfirmedInputs, connection: Connection, serial: int) -> None:
    rows = [{"row_id": change.row_id, "input_row_id": row_id, "serial": serial} for row_id in change.input_row_ids]
    if rows:
        connection.execute(_INSERT_CONFIRMED, rows)


@apply_change.register
def _(change: ImportedInstances, connection: Connection, serial: int) -> None:
    def supersede(inside: Connection, table_id: int) -> object:
        return inside.execute(_SUPERSEDE_ARTIFACTS, {"of_table": table_id})

    rows = insert_imported(connection, change, serial, _insert_instance, supersede)
    for place, item in enumerate(change.instances):
        if item.failed_cells or item.skipped_cells:
            counts = {"failed": item.failed_cells, "skipped": item.skipped_cells, "of_row": rows[place]}
            connection.execute(COUNT_FAILURES, counts)


@apply_change.register
def _(change: DeletedInstance, connection: Connection, serial: int) -> None:
    connection.execute(_UPDATE_INSTANCE, {"of_row": change.row_id, "deleted": True})


@apply_change.register
def _(change: NewTag, connection: Connection, serial: int) -> None:
    set_tag(connection, change, serial)


@apply_change.register
def _(change: DeletedTag, connection: Connection, serial: int) -> None:
    delete_tag(connection, change)


def _deleted_temporary(connection: Connection, row_id: int) -> Mapping[str, Any]:
    """Delete a temporary instance; return its recorded fields."""
    found = connection.execute(_DELETE_TEMPORARY, {"of_row": row_id, "deleted": True}).mapping()
    if found is None:
        raise ValueError(f"it has no instance number {row_id}")
    return found


def _id_of_table(connection: Connection, name: str) -> int:
    """Return the id of an existing table, regardless of case."""
    found = connection.scalar(_ID_OF_TABLE, {"name_key": fold(name)})
    if found is None:
        raise TVImplementationError(f"The catalog refused a change: there is no table '{name}'.")
    return integer(found)


def _insert_materialized(
    connection: Connection, change: MaterializedInstance | WrittenInstance, facts: Mapping[str, object], serial: int
) -> None:
    """Insert an active instance with its reads and failure counts."""
    row = {
        **facts,
        "instance_id": change.instance_id,
        "folder": change.folder,
        "temporary": False,
        "active": True,
        "row_count": change.row_count,
        "columns": json.dumps([[column.name, column.type_name] for column in change.columns]),
        "manifest": change.manifest,
    }
    row_id = _insert_instance(connection, row, serial)
    if change.reads:
        connection.execute(_INSERT_READS, [read_row(row_id, read) for read in change.reads])
    if change.failed_cells or change.skipped_cells:
        counts = {"failed": change.failed_cells, "skipped": change.skipped_cells, "of_row": row_id}
        connection.execute(COUNT_FAILURES, counts)


def _insert_instance(connection: Connection, row: Mapping[str, object], serial: int) -> int:
    """Insert an instance that a process makes visible; return its row id."""
    made = {
        "artifact_state": ArtifactState.PRESENT.value,
        "created_at": now(),
        "serial": serial,
        "by_serial": serial,
        "deleted": False,
    }
    return integer(connection.scalar(_INSERT_INSTANCE, {**made, **row}))


@apply_change.register
def _(change: ChangedService, connection: Connection, serial: int) -> None:
    of_name = services.c.name == change.name
    known = connection.scalar(select(services.c.version).where(of_name))
    connection.execute(delete(services).where(of_name))
    if change.limits is not None:
        row = {"name": change.name, "limits": json.dumps(dict(change.limits)), "version": (known or 0) + 1}
        connection.execute(insert(services), {**row, "serial": serial})
