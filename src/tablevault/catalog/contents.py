"""Tables and instances in the catalog: how they are found, and how changes to them become visible."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, singledispatch
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, exists, func, insert, select, update

from tablevault.catalog import locks
from tablevault.catalog.process_rows import now
from tablevault.catalog.rows import as_record, damage_named, file_name
from tablevault.catalog.schema import instances, processes, reads, tables, tidying
from tablevault.catalog.schema import locks as held_locks
from tablevault.catalog.store import Store, current_value
from tablevault.errors import TVImplementationError
from tablevault.names import fold
from tablevault.values import (
    ArtifactState,
    Change,
    DeletedInstance,
    DeletedTable,
    InstanceRecord,
    MaterializedInstance,
    NewTable,
    NewTemporaryInstance,
    Read,
    RenamedTable,
    Selected,
    Selection,
    TableRecord,
    Tidying,
    TidyingAction,
    WrittenInstance,
)

# Statements are made once: to put one together takes longer than to run it.
_TABLE_BY_NAME = select(tables).where(tables.c.name_key == bindparam("name_key"), ~tables.c.deleted)
_TABLE_BY_ID = select(tables).where(tables.c.table_id == bindparam("table_id"))
_TABLES = select(tables).where(~tables.c.deleted).order_by(tables.c.table_id)
_NAME_KEY = select(tables.c.name_key).where(tables.c.table_id == bindparam("table_id"))

# Both have a serial number; only the process's id is wanted from the other side.
_INSTANCES = select(instances, processes.c.process_id).join(processes, processes.c.serial == instances.c.serial)
_PRESENT = _INSTANCES.where(instances.c.table_id == bindparam("table_id"), ~instances.c.deleted)
_INSTANCE_BY_ID = _PRESENT.where(instances.c.instance_id == bindparam("instance_id"))
_INSTANCE_BY_ROW = _INSTANCES.where(instances.c.row_id == bindparam("row_id"))
_INSTANCES_MADE_BY = _INSTANCES.where(instances.c.serial == bindparam("serial")).order_by(instances.c.row_id)
_SUPERSEDED = _INSTANCES.where(instances.c.artifact_state == ArtifactState.SUPERSEDED.value)
_IS_HELD = exists().where(held_locks.c.resource == "table/" + tables.c.name_key, held_locks.c.exclusive.is_(True))
_OF_TABLE = "table "
"""Before the names of a table's columns, where an instance's have the same names."""
_SELECTED = (
    select(
        *(column.label(_OF_TABLE + column.name) for column in tables.c),
        instances,
        processes.c.process_id,
        _IS_HELD.label("is_held"),
    )
    .join(instances, instances.c.table_id == tables.c.table_id)
    .join(processes, processes.c.serial == instances.c.serial)
    .where(tables.c.name_key == bindparam("name_key"), ~tables.c.deleted, ~instances.c.deleted)
)
_SELECTED_BY_ID = _SELECTED.where(instances.c.instance_id == bindparam("instance_id"))
_VERSION_LIKE = (
    select(instances.c.version)
    .where(
        instances.c.table_id == bindparam("table_id"),
        ~instances.c.deleted,
        func.lower(instances.c.version) == bindparam("version_key"),
    )
    .limit(1)
)
_FIRST_VERSION_LIKE = _VERSION_LIKE.order_by(instances.c.version)
_LAST_VERSION_LIKE = _VERSION_LIKE.order_by(instances.c.version.desc())
_READS_OF = select(reads).where(reads.c.row_id == bindparam("row_id")).order_by(reads.c.read_id)
_READERS_OF = select(reads).where(reads.c.input_row_id == bindparam("row_id")).order_by(reads.c.read_id)
_PENDING_MOVES = (
    select(tidying.c.action, tidying.c.source, tidying.c.target)
    .where(tidying.c.action.in_([TidyingAction.PUT_FILE.value, TidyingAction.REMOVE.value]))
    .order_by(tidying.c.tidying_id)
)

_AUTHOR = select(processes.c.author).where(processes.c.serial == bindparam("by_serial")).scalar_subquery()
_INSERT_TABLE = insert(tables).values(author=_AUTHOR)
_INSERT_INSTANCE = insert(instances).values(author=_AUTHOR)
_INSERT_READS = insert(reads)
_UPDATE_INSTANCE = update(instances).where(instances.c.row_id == bindparam("of_row"))
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
    instances.c.success.is_(True),
    instances.c.artifact_state == ArtifactState.PRESENT.value,
).values(artifact_state=ArtifactState.SUPERSEDED.value)


class Contents:
    """Reads what is visible in a vault.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def generation(self) -> int:
        """Return a number that grows with every visible change."""
        with self._store.read() as connection:
            return current_value(connection, "generation")

    def table(self, name: str) -> TableRecord | None:
        """Return the table of this name, in any case of its letters."""
        with self._store.read() as connection:
            row = connection.execute(_TABLE_BY_NAME, {"name_key": fold(name)}).mappings().first()
            return None if row is None else _table(row)

    def table_by_id(self, table_id: int) -> TableRecord | None:
        """Return a table by its immutable id, also a deleted one."""
        with self._store.read() as connection:
            row = connection.execute(_TABLE_BY_ID, {"table_id": table_id}).mappings().first()
            return None if row is None else _table(row)

    def tables(self) -> list[TableRecord]:
        """Return all tables in the order of their creation."""
        with self._store.read() as connection:
            return [_table(row) for row in connection.execute(_TABLES).mappings()]

    def instance(self, table_id: int, instance_id: str) -> InstanceRecord | None:
        """Return the instance of a table with exactly this id."""
        return self._first(_INSTANCE_BY_ID, {"table_id": table_id, "instance_id": instance_id})

    def instance_by_row(self, row_id: int) -> InstanceRecord | None:
        """Return an instance by its row id, also a deleted one."""
        return self._first(_INSTANCE_BY_ROW, {"row_id": row_id})

    def instances(
        self, table_id: int, version: str | None = None, temporary: bool | None = None
    ) -> list[InstanceRecord]:
        """Return the instances of a table, oldest first: of one version or all, temporary or materialized or both."""
        query = _PRESENT.order_by(instances.c.row_id)
        if version is not None:
            query = query.where(instances.c.version == version)
        if temporary is not None:
            query = query.where(instances.c.temporary.is_(temporary))
        with self._store.read() as connection:
            return [_instance(row) for row in connection.execute(query, {"table_id": table_id}).mappings()]

    def version_like(self, table_id: int, version: str) -> str | None:
        """Return the version of a table that equals this one but for the case of its letters; `None` if none does."""
        with self._store.read() as connection:
            for query in (_FIRST_VERSION_LIKE, _LAST_VERSION_LIKE):
                found = connection.scalar(query, {"table_id": table_id, "version_key": fold(version)})
                if found is not None and found != version:
                    return str(found)
        return None

    def newest(
        self, table_id: int, version: str | None = None, active_only: bool = True, successful_only: bool = False
    ) -> InstanceRecord | None:
        """Return the newest materialized instance, of one version or of any."""
        query = _PRESENT.where(instances.c.temporary.is_(False)).order_by(instances.c.row_id.desc()).limit(1)
        if version is not None:
            query = query.where(instances.c.version == version)
        if active_only:
            query = query.where(instances.c.active.is_(True))
        if successful_only:
            query = query.where(instances.c.success.is_(True))
        return self._first(query, {"table_id": table_id})

    def select(self, selection: Selection) -> Selected | None:
        """Return the instance that a selection means, in one statement; `None` if there is none."""
        values = {"name_key": fold(selection.table_name)}
        if selection.instance_id:
            query, values["instance_id"] = _SELECTED_BY_ID, selection.instance_id
        else:
            query = _newest_selected(selection.active_only, selection.successful_only)
            values["version"] = selection.version
        with self._store.read() as connection:
            row = connection.execute(query, values).mappings().first()
            if row is None:
                return None
            table = {name.removeprefix(_OF_TABLE): value for name, value in row.items() if name.startswith(_OF_TABLE)}
            return Selected(_table(table), _instance(row), bool(row["is_held"]))

    def made_by(self, serial: int) -> list[InstanceRecord]:
        """Return the instances that a process made visible."""
        with self._store.read() as connection:
            return [_instance(row) for row in connection.execute(_INSTANCES_MADE_BY, {"serial": serial}).mappings()]

    def superseded(self, serial: int) -> list[InstanceRecord]:
        """Return the instances whose artifacts are superseded, and that no process but this one holds or reads."""
        with self._store.read() as connection:
            found = [_instance(row) for row in connection.execute(_SUPERSEDED).mappings().all()]
            return [item for item in found if not _held_by_others(connection, item, serial)]

    def drop_artifacts(self, serial: int, instance: InstanceRecord, folder: str) -> None:
        """Let a decided process remove a superseded set of artifacts, unless somebody began to read it meanwhile."""
        with self._store.write() as connection:
            finished = connection.scalar(select(processes.c.finished).where(processes.c.serial == serial))
            if finished or _held_by_others(connection, instance, serial):
                return
            result = connection.execute(
                update(instances)
                .where(
                    instances.c.row_id == instance.row_id,
                    instances.c.artifact_state == ArtifactState.SUPERSEDED.value,
                )
                .values(artifact_state=ArtifactState.DROPPED.value)
            )
            if result.rowcount == 1:
                values = {"serial": serial, "action": TidyingAction.REMOVE.value, "source": folder, "target": ""}
                connection.execute(insert(tidying).values(**values))

    def reads_of(self, row_id: int) -> list[Read]:
        """Return what the columns of an instance were computed from."""
        with self._store.read() as connection:
            return [_read(row) for row in connection.execute(_READS_OF, {"row_id": row_id}).mappings()]

    def readers_of(self, row_id: int) -> list[tuple[int, Read]]:
        """Return the row ids of the instances that were computed from an instance, each with what was read."""
        with self._store.read() as connection:
            rows = connection.execute(_READERS_OF, {"row_id": row_id}).mappings()
            return [(row["row_id"], _read(row)) for row in rows]

    def origins(self) -> list[tuple[int, int]]:
        """Return the row ids of the materialized instances that have an origin, deleted ones too, each with it."""
        query = (
            select(instances.c.row_id, instances.c.origin)
            .where(instances.c.origin.is_not(None), instances.c.temporary.is_(False))
            .order_by(instances.c.row_id)
        )
        with self._store.read() as connection:
            return [(row_id, origin) for row_id, origin in connection.execute(query)]

    def side_effects_by(self, table_name: str) -> tuple[int, ...]:
        """Return the serials of the processes that hold a whole table exclusively."""
        with self._store.read() as connection:
            return locks.exclusive_holders_of(connection, f"table/{fold(table_name)}")

    def pending_moves(self) -> dict[str, str]:
        """Return the files that are about to be put in place or removed: target -> staged source (or "")."""
        with self._store.read() as connection:
            steps = [as_record(Tidying, row) for row in connection.execute(_PENDING_MOVES).mappings()]
        return {
            (step.target if step.action is TidyingAction.PUT_FILE else step.source): (
                step.source if step.action is TidyingAction.PUT_FILE else ""
            )
            for step in steps
        }

    def _first(self, query: Select[Any], parameters: Mapping[str, object]) -> InstanceRecord | None:
        with self._store.read() as connection:
            row = connection.execute(query, parameters).mappings().first()
            return None if row is None else _instance(row)


@cache
def _newest_selected(active_only: bool, successful_only: bool) -> Select[Any]:
    query = _SELECTED.where(instances.c.version == bindparam("version"), instances.c.temporary.is_(False))
    if active_only:
        query = query.where(instances.c.active.is_(True))
    if successful_only:
        query = query.where(instances.c.success.is_(True))
    return query.order_by(instances.c.row_id.desc()).limit(1)


# --- changes ------------------------------------------------------------------------------------------------------


@singledispatch
def apply_change(change: Change, connection: Connection, serial: int) -> None:
    """Apply one change inside the deciding transaction."""
    raise TVImplementationError(f"No rule makes {type(change).__name__} visible.")


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
    row = {
        "table_id": change.table_id,
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
    gone = {"of_row": change.temporary_row_id, "deleted": True}
    temporary = connection.execute(_DELETE_TEMPORARY, gone).mappings().one()
    if change.deactivates_others:
        connection.execute(_UPDATE_OF_TABLE, {"of_table": temporary["table_id"], "active": False})
    if change.replaces_artifacts:
        connection.execute(_SUPERSEDE_ARTIFACTS, {"of_table": temporary["table_id"]})
    _insert_materialized(connection, change, {**temporary, "success": change.success}, serial)


@apply_change.register
def _(change: WrittenInstance, connection: Connection, serial: int) -> None:
    table = connection.execute(_TABLE_BY_NAME, {"name_key": fold(change.table_name)}).mappings().one()
    if change.replaces_artifacts:
        connection.execute(_SUPERSEDE_ARTIFACTS, {"of_table": table["table_id"]})
    facts = {
        "table_id": table["table_id"],
        "version": change.version,
        "external_edit": True,
        "origin": None,
        "description": change.description,
        "success": True,
    }
    _insert_materialized(connection, change, facts, serial)


@apply_change.register
def _(change: DeletedInstance, connection: Connection, serial: int) -> None:
    connection.execute(_UPDATE_INSTANCE, {"of_row": change.row_id, "deleted": True})


def _insert_materialized(
    connection: Connection, change: MaterializedInstance | WrittenInstance, facts: Mapping[str, object], serial: int
) -> None:
    """Insert an active instance with what it was computed from."""
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
        connection.execute(_INSERT_READS, [_read_row(row_id, read) for read in change.reads])


def _insert_instance(connection: Connection, row: Mapping[str, object], serial: int) -> int:
    """Insert an instance that a process makes visible; return its row id."""
    made = {
        "artifact_state": ArtifactState.PRESENT.value,
        "created_at": now(),
        "serial": serial,
        "by_serial": serial,
        "deleted": False,
    }
    key = connection.execute(_INSERT_INSTANCE, {**row, **made}).inserted_primary_key
    assert key is not None
    return int(key[0])


def _held_by_others(connection: Connection, instance: InstanceRecord, serial: int) -> bool:
    key = connection.scalar(_NAME_KEY, {"table_id": instance.table_id})
    holders = locks.holders_of(connection, f"table/{key}/instance/{instance.instance_id}")
    return any(holder != serial for holder in holders)


# --- rows ---------------------------------------------------------------------------------------------------------


def _table(row: Mapping[Any, Any]) -> TableRecord:
    with damage_named("tables"):
        previous = row["previous_folder"]
        checked = {
            "folder": file_name(row["folder"]),
            "previous_folder": None if previous is None else file_name(previous),
            "allow_multiple_artifacts": bool(row["allow_multiple_artifacts"]),
            "has_side_effects": bool(row["has_side_effects"]),
        }
        return as_record(TableRecord, {**row, **checked})


def _instance(row: RowMapping) -> InstanceRecord:
    with damage_named("instances"):
        checked = {
            "instance_id": file_name(row["instance_id"]),
            "folder": file_name(row["folder"]),
            "temporary": bool(row["temporary"]),
            "active": bool(row["active"]),
            "success": bool(row["success"]),
            "external_edit": bool(row["external_edit"]),
            "columns": [{"name": name, "type_name": kind} for name, kind in json.loads(row["columns"])],
        }
        return as_record(InstanceRecord, {**row, **checked})


def _read(row: RowMapping) -> Read:
    with damage_named("reads"):
        return as_record(Read, row)


def _read_row(row_id: int, read: Read) -> Mapping[str, object]:
    return {
        "row_id": row_id,
        "column": read.column,
        "builder": read.builder,
        "input_row_id": read.input_row_id,
        "input_column": read.input_column,
    }
