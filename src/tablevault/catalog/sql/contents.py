"""Read access to the catalog's tables and instances."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from itertools import chain
from typing import Any, TypeVar

from sqlalchemy import Select, Table, and_, bindparam, exists, func, literal, or_, select, text
from sqlalchemy.exc import OperationalError

from tablevault.catalog.sql import listings, locks
from tablevault.catalog.sql.codec import (
    file_name,
    instance_record,
    integer,
    listed_instance,
    named_instances,
    read_limits_row,
    read_record,
    table_record,
    tag_record,
)
from tablevault.catalog.sql.connection import Connection, Row
from tablevault.catalog.sql.schema import confirmed, counters, instances, processes, reads, services, tables, tags
from tablevault.catalog.sql.schema import locks as held_locks
from tablevault.catalog.sql.store import Store, batches
from tablevault.catalog.sql.tags import TAGS
from tablevault.names import fold, tag_in
from tablevault.values.changes import Read
from tablevault.values.contents import (
    InstanceRecord,
    ListedInstance,
    NamedInstance,
    Selected,
    Selection,
    TableRecord,
    TagRecord,
)
from tablevault.values.lock_names import lock_on_table
from tablevault.values.processes import Status

Result = TypeVar("Result")

# Statements are built once, because building one takes longer than running it.
_GENERATION = select(counters.c.value).where(counters.c.name == "generation")
_WITH_GENERATION = _GENERATION.scalar_subquery().label("generation")
_TABLE_BY_NAME = select(_WITH_GENERATION, *tables.c).select_from(
    select(literal(1).label("always"))
    .subquery()
    .outerjoin(tables, and_(tables.c.name_key == bindparam("name_key"), ~tables.c.deleted))
)
"""Always returns one row; the columns of a missing table are null."""
_TABLE_BY_ID = select(tables).where(tables.c.table_id == bindparam("table_id"))
_TABLES = select(tables).where(~tables.c.deleted).order_by(tables.c.table_id)

# Both tables have a `serial` column, so only the process id is selected from `processes`.
_INSTANCES = select(instances, processes.c.process_id).join(processes, processes.c.serial == instances.c.serial)
_PRESENT = _INSTANCES.where(instances.c.table_id == bindparam("table_id"), ~instances.c.deleted)
_INSTANCE_BY_ID = _PRESENT.where(instances.c.instance_id == bindparam("instance_id"))
_INSTANCE_BY_ROW = _INSTANCES.where(instances.c.row_id == bindparam("row_id"))
_IDS = (
    select(instances.c.instance_id)
    .where(instances.c.table_id == bindparam("table_id"), ~instances.c.deleted)
    .order_by(instances.c.row_id)
)
_NEWEST_ACTIVE = (
    select(func.max(instances.c.row_id))
    .where(~instances.c.deleted, instances.c.temporary.is_(False), instances.c.active.is_(True))
    .group_by(instances.c.table_id, instances.c.version)
)
_CURRENT = _INSTANCES.where(
    ~instances.c.deleted, or_(instances.c.temporary.is_(True), instances.c.row_id.in_(_NEWEST_ACTIVE))
).order_by(instances.c.row_id)
_NAMED = (
    select(
        tables.c.table_id,
        tables.c.name,
        instances.c.row_id,
        instances.c.instance_id,
        instances.c.artifact_state,
        instances.c.columns,
    )
    .join(tables, tables.c.table_id == instances.c.table_id)
    .where(~tables.c.deleted)
    .order_by(tables.c.table_id)
)
_CANDIDATES = instances.alias()
_NEWEST_SUCCESSFUL = _NAMED.where(
    # One index step per table, regardless of its number of instances.
    instances.c.row_id
    == select(_CANDIDATES.c.row_id)
    .where(
        _CANDIDATES.c.table_id == tables.c.table_id,
        _CANDIDATES.c.version == bindparam("version"),
        ~_CANDIDATES.c.deleted,
        _CANDIDATES.c.temporary.is_(False),
        _CANDIDATES.c.active.is_(True),
        _CANDIDATES.c.success.is_(True),
    )
    .order_by(_CANDIDATES.c.row_id.desc())
    .limit(1)
    .scalar_subquery()
)
_FOLDERS = select(instances.c.folder).where(instances.c.table_id == bindparam("table_id"), ~instances.c.deleted)
_INSTANCE_NAMED = (
    _INSTANCES.where(instances.c.instance_id == bindparam("instance_id"), instances.c.temporary.is_(False))
    .order_by(instances.c.deleted, instances.c.row_id.desc())
    .limit(1)
)
_TAGGED = _INSTANCES.join(tags, tags.c.row_id == instances.c.row_id).where(
    tags.c.table_id == bindparam("table_id"), tags.c.tag_key == bindparam("tag_key"), ~instances.c.deleted
)
_TAGGED_INSTANCES = _NAMED.join(tags, tags.c.row_id == instances.c.row_id).where(
    tags.c.tag_key == bindparam("tag_key"), ~instances.c.deleted
)
_TAGGED_INSTANCES_OF = _TAGGED_INSTANCES.where(tags.c.table_id.in_(bindparam("table_ids", expanding=True)))
_IS_HELD = exists().where(
    held_locks.c.resource == literal(lock_on_table("")) + tables.c.name_key, held_locks.c.exclusive.is_(True)
)
_OF_TABLE = "table "
"""Prefix for a table's columns, whose names clash with those of an instance."""
_SELECTED = (
    select(
        *(column.label(_OF_TABLE + column.name) for column in tables.c),
        instances,
        processes.c.process_id,
        _IS_HELD.label("is_held"),
        _WITH_GENERATION,
    )
    .join(instances, instances.c.table_id == tables.c.table_id)
    .join(processes, processes.c.serial == instances.c.serial)
    .where(tables.c.name_key == bindparam("name_key"), ~tables.c.deleted, ~instances.c.deleted)
)
_SELECTED_BY_ID = _SELECTED.where(instances.c.instance_id == bindparam("instance_id"))
_LAST = select(instances.c.row_id).where(instances.c.temporary.is_(False)).order_by(instances.c.row_id.desc()).limit(1)
_LAST_MADE = _LAST.where(instances.c.created_at <= bindparam("moment"))
_LAST_MADE_BY = _LAST.where(instances.c.serial == bindparam("serial"))
_LAST_ENDED = _LAST.join(processes, processes.c.serial == instances.c.serial).where(
    processes.c.end_order <= bindparam("end_order")
)
_LAST_END = (
    select(processes.c.end_order)
    .where(processes.c.status == Status.SUCCEEDED.value, processes.c.ended_at <= bindparam("moment"))
    .order_by(processes.c.end_order.desc())
    .limit(1)
)
_END_OF = select(processes.c.end_order).where(processes.c.serial == bindparam("serial"))
_NEWEST_UNTIL = (
    _INSTANCES.where(
        instances.c.table_id == bindparam("table_id"),
        instances.c.version == bindparam("version"),
        instances.c.temporary.is_(False),
        instances.c.row_id <= bindparam("place"),
    )
    .order_by(instances.c.row_id.desc())
    .limit(1)
)
# The table definition serves both formats and so lacks the columns of format 2.
_FAILURE_COUNTS = text(
    "SELECT row_id, failed_cells, skipped_cells FROM instances WHERE failed_cells > 0 OR skipped_cells > 0"
)
_FAILURE_COUNTS_OF = text(
    "SELECT row_id, failed_cells, skipped_cells FROM instances "
    "WHERE row_id IN :row_ids AND (failed_cells > 0 OR skipped_cells > 0)"
).bindparams(bindparam("row_ids", expanding=True))
_ANY = 2**62
"""Greater than any row id."""
_SELECTED_BY_TAG = _SELECTED.join(tags, tags.c.row_id == instances.c.row_id).where(
    tags.c.tag_key == bindparam("tag_key")
)
_VERSION_LIKE = (
    select(instances.c.version)
    .where(
        instances.c.table_id == bindparam("table_id"),
        ~instances.c.deleted,
        func.lower(instances.c.version) == bindparam("version_key"),
    )
    .limit(1)
)
_OUTERMOST_VERSIONS_LIKE = select(
    _VERSION_LIKE.order_by(instances.c.version).scalar_subquery(),
    _VERSION_LIKE.order_by(instances.c.version.desc()).scalar_subquery(),
)
"""The first and last match; if both are the same version, so are all between them."""
_READS_OF = select(reads).where(reads.c.row_id == bindparam("row_id")).order_by(reads.c.read_id)
_CONFIRMED_OF = (
    select(confirmed.c.input_row_id).where(confirmed.c.row_id == bindparam("row_id")).order_by(confirmed.c.confirmed_id)
)
_SHARE_ARTIFACTS = select(
    exists().where(
        tables.c.table_id.in_(bindparam("table_ids", expanding=True)), tables.c.allow_multiple_artifacts.is_(False)
    )
)
_SERVICES = select(services.c.name, services.c.limits).order_by(services.c.name)
_READERS_OF = select(reads).where(reads.c.input_row_id == bindparam("row_id")).order_by(reads.c.read_id)


class Contents:
    """Reads the visible tables and instances of a vault.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def generation(self) -> int:
        """Return a number that grows with every visible change."""
        return self._store.read_once(_GENERATION, lambda connection: integer(connection.scalar(_GENERATION) or 0))

    def table(self, name: str) -> TableRecord | None:
        """Return the table of this name, ignoring case."""

        def read(connection: Connection) -> TableRecord | None:
            row = connection.execute(_TABLE_BY_NAME, {"name_key": name_key}).mappings()[0]
            self._keep_generation(row)
            return None if row["table_id"] is None else table_record(row)

        name_key = fold(name)
        return self._store.read_once((_TABLE_BY_NAME, name_key), read)

    def table_by_id(self, table_id: int) -> TableRecord | None:
        """Return a table by its immutable id, even a deleted one."""
        return self._first(_TABLE_BY_ID, {"table_id": table_id}, table_record)

    def tables(self) -> list[TableRecord]:
        """Return all tables in creation order."""
        with self._store.read() as connection:
            return [table_record(row) for row in connection.execute(_TABLES).mappings()]

    def instance(self, table_id: int, instance_id: str) -> InstanceRecord | None:
        """Return the instance of a table with exactly this id."""
        return self._first(_INSTANCE_BY_ID, {"table_id": table_id, "instance_id": instance_id}, instance_record)

    def instance_by_row(self, row_id: int) -> InstanceRecord | None:
        """Return an instance by its row id, even a deleted one."""
        return self._first(_INSTANCE_BY_ROW, {"row_id": row_id}, instance_record)

    def instances(
        self, table_id: int, version: str | None = None, temporary: bool | None = None
    ) -> list[InstanceRecord]:
        """Return the instances of a table, oldest first.

        `None` selects all versions, or both temporary and materialized instances.
        """
        values = {"table_id": table_id} if version is None else {"table_id": table_id, "version": version}
        query = _instances_of_table(version is not None, temporary)
        with self._store.read() as connection:
            return [instance_record(row) for row in connection.execute(query, values).mappings()]

    def instance_ids(
        self, table_id: int, version: str | None, with_temporary: bool, until: int | None = None
    ) -> list[str]:
        """Return the ids of a table's instances in commit order, without reading their records.

        Parameters
        ----------
        table_id
            The table.
        version
            Version of the instances; `None` for all.
        with_temporary
            Whether to include temporary instances.
        until
            Last row id to include; `None` for all.
        """
        query = _IDS
        if version is not None:
            query = query.where(instances.c.version == version)
        if not with_temporary:
            query = query.where(instances.c.temporary.is_(False))
        if until is not None:
            query = query.where(instances.c.row_id <= until)
        with self._store.read() as connection:
            return [file_name(found) for found in connection.scalars(query, {"table_id": table_id})]

    def version_like(self, table_id: int, version: str) -> str | None:
        """Return a version of a table that differs from this one only in case, if any."""
        with self._store.read() as connection:
            values = {"table_id": table_id, "version_key": fold(version)}
            found = connection.execute(_OUTERMOST_VERSIONS_LIKE, values).all()[0]
        return next((str(other) for other in found if other not in (None, version)), None)

    def newest(
        self, table_id: int, version: str | None = None, active_only: bool = True, successful_only: bool = False
    ) -> InstanceRecord | None:
        """Return the newest materialized instance, of one version or of any."""
        query = _newest(version is not None, active_only, successful_only)
        values = {"table_id": table_id} if version is None else {"table_id": table_id, "version": version}
        return self._first(query, values, instance_record)

    def place_at(self, moment: datetime) -> int:
        """Return the row id of the last materialized instance as of a moment.

        Commits keep their order even if the clock was set back. Returns 0 if no instance existed.
        """
        with self._store.read() as connection:
            values = {"moment": moment.astimezone(UTC).isoformat()}
            made = connection.scalar(_LAST_MADE, values)
            # The last commit up to the moment may make no instance, and follow instances with later clock times.
            ended = connection.scalar(_LAST_END, values)
            before = connection.scalar(_LAST_ENDED, {"end_order": ended}) if ended is not None else None
            return max(made or 0, before or 0)

    def place_of(self, serial: int) -> int | None:
        """Return the row id of the last instance that a process materialized."""
        with self._store.read() as connection:
            place: int | None = connection.scalar(_LAST_MADE_BY, {"serial": serial})
            return place

    def place_after(self, serial: int) -> int:
        """Return the row id of the last instance materialized by the time a process ended."""
        with self._store.read() as connection:
            ended = connection.scalar(_END_OF, {"serial": serial})
            place = connection.scalar(_LAST) if ended is None else connection.scalar(_LAST_ENDED, {"end_order": ended})
            return place or 0

    def newest_until(
        self, table_id: int, version: str, place: int, successful_only: bool = False
    ) -> InstanceRecord | None:
        """Return the newest materialized instance of a version up to a row id.

        The instance may be deleted.
        """
        query = _NEWEST_UNTIL.where(instances.c.success.is_(True)) if successful_only else _NEWEST_UNTIL
        return self._first(query, {"table_id": table_id, "version": version, "place": place}, instance_record)

    def current(self) -> list[InstanceRecord]:
        """Return all temporary instances, and the newest active materialized one of each table and version."""
        with self._store.read() as connection:
            return [instance_record(row) for row in connection.execute(_CURRENT).mappings()]

    def select(self, selection: Selection) -> Selected | None:
        """Return the selected instance, read in one statement, or `None`."""
        values = {"name_key": fold(selection.table_name)}
        tag = tag_in(selection.instance_id)
        if tag is not None:
            query, values["tag_key"] = _SELECTED_BY_TAG, fold(tag)
        elif selection.instance_id:
            query, values["instance_id"] = _SELECTED_BY_ID, selection.instance_id
        else:
            query = _newest_selected(selection.active_only, selection.successful_only)
            values["version"] = selection.version
        with self._store.read() as connection:
            row = _of_added(connection, tags, lambda: connection.execute(query, values).mapping(), without=None)
            if row is None:
                return None
            self._keep_generation(row)
            table = {name.removeprefix(_OF_TABLE): value for name, value in row.items() if name.startswith(_OF_TABLE)}
            return Selected(table_record(table), instance_record(row), bool(row["is_held"]))

    def newest_successful(self, version: str) -> list[NamedInstance]:
        """Return each table's newest active successful instance of a version, in table order."""
        with self._store.read() as connection:
            return named_instances(connection.execute(_NEWEST_SUCCESSFUL, {"version": version}).all())

    def listed_tables(self, after: str, most: int) -> list[TableRecord]:
        """Return the first tables after a name, sorted by name ignoring case."""
        with self._store.read() as connection:
            rows = connection.execute(listings.TABLES_BY_NAME, {"after": fold(after), "most": most}).mappings()
            return [table_record(row) for row in rows]

    def newest_listed(self, table_ids: Sequence[int]) -> dict[int, ListedInstance]:
        """Return the newest materialized instance of each table that has one, by table id."""
        with self._store.read() as connection:
            rows = chain.from_iterable(
                connection.execute(listings.NEWEST_OF_EACH, {"table_ids": batch}).mappings()
                for batch in batches(table_ids)
            )
            return {item.table_id: item for item in map(listed_instance, rows)}

    def listed_instances(self, table_id: int, temporary: bool, before: int | None, most: int) -> list[ListedInstance]:
        """Return instances of a table, newest first.

        Parameters
        ----------
        table_id
            The table.
        temporary
            Whether to return temporary rather than materialized instances.
        before
            Exclusive upper bound of the row ids; `None` for all.
        most
            Maximum number of instances.
        """
        query = listings.TEMPORARY if temporary else listings.MATERIALIZED
        values = {"table_id": table_id, "before": _ANY if before is None else before, "most": most}
        with self._store.read() as connection:
            return [listed_instance(row) for row in connection.execute(query, values).mappings()]

    def failure_counts(self, row_ids: Sequence[int] | None = None) -> dict[int, tuple[int, int]]:
        """Return nonzero counts of failed and skipped rows, by row id.

        `None` selects all instances.
        """
        with self._store.read() as connection:
            rows: Sequence[Row] = _of_added(connection, tags, lambda: _failure_rows(connection, row_ids), without=())
            return {integer(row_id): (integer(failed), integer(skipped)) for row_id, failed, skipped in rows}

    def tags(
        self,
        *,
        tag: str | None = None,
        table_id: int | None = None,
        row_id: int | None = None,
        row_ids: Sequence[int] | None = None,
    ) -> list[TagRecord]:
        """Return tags ordered by tag, then table.

        Parameters
        ----------
        tag, table_id, row_id, row_ids
            Filters by name (ignoring case), table, instance, and several instances.
        """
        query = TAGS
        if tag is not None:
            query = query.where(tags.c.tag_key == fold(tag))
        if table_id is not None:
            query = query.where(tags.c.table_id == table_id)
        if row_id is not None:
            query = query.where(tags.c.row_id == row_id)
        queries = [query]
        if row_ids is not None:
            queries = [query.where(tags.c.row_id.in_(batch)) for batch in batches(row_ids)]
        with self._store.read() as connection:
            rows: Sequence[Mapping[str, Any]] = _of_added(
                connection,
                tags,
                lambda: [row for each in queries for row in connection.execute(each).mappings()],
                without=(),
            )
            if len(queries) > 1:
                rows = sorted(rows, key=lambda row: (fold(row["tag"]), fold(row["table_name"])))
            return [tag_record(row) for row in rows]

    def tagged_instances(self, tag: str, table_ids: Sequence[int] | None = None) -> list[NamedInstance]:
        """Return the instances with a tag, ignoring case, in table order.

        Parameters
        ----------
        tag
            The tag.
        table_ids
            Tables to search; `None` for all.
        """
        values: dict[str, object] = {"tag_key": fold(tag)}
        with self._store.read() as connection:

            def read() -> list[NamedInstance]:
                if table_ids is None:
                    return named_instances(connection.execute(_TAGGED_INSTANCES, values).all())
                found: list[NamedInstance] = []
                for batch in batches(sorted(table_ids)):
                    rows = connection.execute(_TAGGED_INSTANCES_OF, {**values, "table_ids": batch}).all()
                    found += named_instances(rows)
                return found

            return _of_added(connection, tags, read, without=[])

    def tagged(self, table_id: int, tag: str) -> InstanceRecord | None:
        """Return the instance of a table with a tag, ignoring case."""
        with self._store.read() as connection:
            values = {"table_id": table_id, "tag_key": fold(tag)}
            row = _of_added(connection, tags, lambda: connection.execute(_TAGGED, values).mapping(), without=None)
            return None if row is None else instance_record(row)

    def reads_of(self, row_id: int) -> list[Read]:
        """Return the columns from which an instance was computed."""

        def read(connection: Connection) -> tuple[Read, ...]:
            return tuple(read_record(row) for row in connection.execute(_READS_OF, {"row_id": row_id}).mappings())

        return list(self._store.read_once((_READS_OF, row_id), read))

    def confirmed_inputs(self, row_id: int) -> list[int]:
        """Return the row ids of the inputs that left an instance unchanged, in recorded order."""

        def read(connection: Connection) -> tuple[int, ...]:
            return _of_added(
                connection,
                confirmed,
                lambda: tuple(map(integer, connection.scalars(_CONFIRMED_OF, {"row_id": row_id}))),
                without=tuple[int, ...](),
            )

        return list(self._store.read_once((_CONFIRMED_OF, row_id), read))

    def share_artifacts(self, table_ids: Sequence[int]) -> bool:
        """Return whether any of the tables shares one set of artifacts between its instances."""
        with self._store.read() as connection:
            return any(connection.scalar(_SHARE_ARTIFACTS, {"table_ids": batch}) for batch in batches(table_ids))

    def services(self) -> dict[str, dict[str, float]]:
        """Return the limits of each service, by its name."""
        with self._store.read() as connection:
            return _of_added(
                connection,
                services,
                lambda: {name: read_limits_row(limits) for name, limits in connection.execute(_SERVICES)},
                without=dict[str, dict[str, float]](),
            )

    def readers_of(self, row_id: int) -> list[tuple[int, Read]]:
        """Return the row ids of the instances computed from an instance, each with its read."""
        with self._store.read() as connection:
            rows = connection.execute(_READERS_OF, {"row_id": row_id}).mappings()
            return [(integer(row["row_id"]), read_record(row)) for row in rows]

    def instance_folders(self, table_id: int) -> set[str]:
        """Return the folder names of a table's instances, without reading their records."""
        with self._store.read() as connection:
            return {file_name(found) for found in connection.scalars(_FOLDERS, {"table_id": table_id})}

    def instance_named(self, instance_id: str) -> InstanceRecord | None:
        """Return the instance of this id in any table, preferring one that is not deleted."""
        return self._first(_INSTANCE_NAMED, {"instance_id": instance_id}, instance_record)

    def input_pairs(self) -> list[tuple[int, int]]:
        """Return the row ids of instances and their inputs in pairs, including deleted ones."""
        query = select(reads.c.row_id, reads.c.input_row_id).distinct().order_by(reads.c.row_id, reads.c.input_row_id)
        with self._store.read() as connection:
            return [(integer(row_id), integer(input_row_id)) for row_id, input_row_id in connection.execute(query)]

    def origins(self) -> list[tuple[int, int]]:
        """Return the row ids of materialized instances and their origins in pairs, including deleted ones."""
        query = (
            select(instances.c.row_id, instances.c.origin)
            .where(instances.c.origin.is_not(None), instances.c.temporary.is_(False))
            .order_by(instances.c.row_id)
        )
        with self._store.read() as connection:
            return [(integer(row_id), integer(origin)) for row_id, origin in connection.execute(query)]

    def side_effects_by(self, table_name: str) -> tuple[int, ...]:
        """Return the serials of the processes that hold a whole table exclusively."""
        with self._store.read() as connection:
            return locks.exclusive_holders_of(connection, lock_on_table(fold(table_name)))

    def _keep_generation(self, row: Mapping[str, Any]) -> None:
        """Let a snapshot know the generation that came with a row, since a plan needs both."""
        self._store.keep(_GENERATION, integer(row["generation"] or 0))

    def _first(
        self, query: Select[Any], parameters: Mapping[str, object], record: Callable[[Mapping[str, Any]], Result]
    ) -> Result | None:
        def read(connection: Connection) -> Result | None:
            row = connection.execute(query, parameters).mapping()
            return None if row is None else record(row)

        return self._store.read_once((query, *parameters.values()), read)


def _failure_rows(connection: Connection, row_ids: Sequence[int] | None) -> list[Row]:
    if row_ids is None:
        return connection.execute(_FAILURE_COUNTS).all()
    found = (connection.execute(_FAILURE_COUNTS_OF, {"row_ids": batch}) for batch in batches(row_ids))
    return list(chain.from_iterable(found))


def _of_added(connection: Connection, table: Table, read: Callable[[], Result], without: Result) -> Result:
    """Return the content of a format 2 table; `without` in format 1, which lacks it."""
    try:
        return read()
    except OperationalError:
        # Checked only after a failure, because almost every catalog has the table.
        if connection.has_table(table.name):
            raise
        return without


@cache
def _instances_of_table(of_version: bool, temporary: bool | None) -> Select[Any]:
    query = _PRESENT.order_by(instances.c.row_id)
    if of_version:
        query = query.where(instances.c.version == bindparam("version"))
    return query if temporary is None else query.where(instances.c.temporary.is_(temporary))


@cache
def _newest(of_version: bool, active_only: bool, successful_only: bool) -> Select[Any]:
    query = _PRESENT.where(instances.c.temporary.is_(False)).order_by(instances.c.row_id.desc()).limit(1)
    if of_version:
        query = query.where(instances.c.version == bindparam("version"))
    if active_only:
        query = query.where(instances.c.active.is_(True))
    if successful_only:
        query = query.where(instances.c.success.is_(True))
    return query


@cache
def _newest_selected(active_only: bool, successful_only: bool) -> Select[Any]:
    query = _SELECTED.where(instances.c.version == bindparam("version"), instances.c.temporary.is_(False))
    if active_only:
        query = query.where(instances.c.active.is_(True))
    if successful_only:
        query = query.where(instances.c.success.is_(True))
    return query.order_by(instances.c.row_id.desc()).limit(1)
