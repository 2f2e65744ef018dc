"""Reads of tables and instances in memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime

from tablevault.names import fold, tag_in
from tablevault.testing.memory.state import Instance, State
from tablevault.testing.memory.store import Store
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
from tablevault.values.processes import Lock, Status


class Contents:
    """Adapter of `tablevault.ports.Contents`.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def generation(self) -> int:
        """Return the number of visible changes and released processes."""
        return self._store.state.generation

    # --- tables ---------------------------------------------------------------------------------------------------

    def table(self, name: str) -> TableRecord | None:
        """Return the table of this name, regardless of case."""
        return self._store.state.table_named(name)

    def table_by_id(self, table_id: int) -> TableRecord | None:
        """Return a table by its id, even a deleted one."""
        table = self._store.state.tables.get(table_id)
        return None if table is None else table.record

    def tables(self) -> list[TableRecord]:
        """Return all tables in the order of their creation."""
        return list(self._store.state.visible_tables())

    def listed_tables(self, after: str, most: int) -> list[TableRecord]:
        """Return the first tables after a name, in the order of their names."""
        by_name = {fold(table.name): table for table in self._store.state.visible_tables()}
        return [table for name, table in sorted(by_name.items()) if name > fold(after)][:most]

    def share_artifacts(self, table_ids: Sequence[int]) -> bool:
        """Return whether any of the tables has one set of artifacts."""
        known = self._store.state.tables
        return any(not known[each].record.allow_multiple_artifacts for each in table_ids if each in known)

    def side_effects_by(self, table_name: str) -> tuple[int, ...]:
        """Return the processes that hold a whole table exclusively."""
        return _holders_of_table(self._store.state, table_name)

    # --- instances ------------------------------------------------------------------------------------------------

    def instance(self, table_id: int, instance_id: str) -> InstanceRecord | None:
        """Return the instance of a table with this id."""
        return _with_id(self._store.state, table_id, instance_id)

    def instance_by_row(self, row_id: int) -> InstanceRecord | None:
        """Return an instance by its row id, even a deleted one."""
        instance = self._store.state.instances.get(row_id)
        return None if instance is None else instance.record

    def instance_named(self, instance_id: str) -> InstanceRecord | None:
        """Return the materialized instance of this id in any table, preferably an existing one."""
        state = self._store.state
        found = [item for item in _materialized(state) if item.record.instance_id == instance_id]
        newest = max(found, key=lambda item: (not item.deleted, item.record.row_id), default=None)
        return None if newest is None else newest.record

    def instances(
        self, table_id: int, version: str | None = None, temporary: bool | None = None
    ) -> list[InstanceRecord]:
        """Return the instances of a table in the order of their commits."""
        return [
            record
            for record in self._store.state.visible_instances(table_id)
            if version in (None, record.version) and temporary in (None, record.temporary)
        ]

    def instance_ids(
        self, table_id: int, version: str | None, with_temporary: bool, until: int | None = None
    ) -> list[str]:
        """Return the ids of a table's instances in the order of their commits."""
        return [
            record.instance_id
            for record in self.instances(table_id, version, None if with_temporary else False)
            if until is None or record.row_id <= until
        ]

    def instance_folders(self, table_id: int) -> set[str]:
        """Return the folder names of a table's instances."""
        return {record.folder for record in self._store.state.visible_instances(table_id)}

    def version_like(self, table_id: int, version: str) -> str | None:
        """Return a version of a table that differs only in case."""
        known = {record.version for record in self._store.state.visible_instances(table_id)}
        alike = sorted(other for other in known if fold(other) == fold(version))
        return next((other for other in alike[:1] + alike[-1:] if other != version), None)

    def newest(
        self, table_id: int, version: str | None = None, active_only: bool = True, successful_only: bool = False
    ) -> InstanceRecord | None:
        """Return the newest materialized instance of a table."""
        return _newest(self._store.state, table_id, version, active_only, successful_only)

    def newest_successful(self, version: str) -> list[NamedInstance]:
        """Return the newest active successful instance of each table, all of one version."""
        state = self._store.state
        found = ((table, _newest(state, table.table_id, version, True, True)) for table in state.visible_tables())
        return [NamedInstance.of(table, instance) for table, instance in found if instance is not None]

    def current(self) -> list[InstanceRecord]:
        """Return the temporary instances, and the newest active one of each table and version."""
        records = list(self._store.state.visible_instances())
        materialized = (record for record in records if record.active and not record.temporary)
        newest = {(record.table_id, record.version): record.row_id for record in materialized}
        return [record for record in records if record.temporary or record.row_id in newest.values()]

    def select(self, selection: Selection) -> Selected | None:
        """Return the selected instance with its table."""
        state = self._store.state
        table = state.table_named(selection.table_name)
        if table is None:
            return None
        tag = tag_in(selection.instance_id)
        if tag is not None:
            instance = _tagged(state, table.table_id, tag)
        elif selection.instance_id:
            instance = _with_id(state, table.table_id, selection.instance_id)
        else:
            only = selection.active_only, selection.successful_only
            instance = _newest(state, table.table_id, selection.version, *only)
        held = bool(_holders_of_table(state, table.name))
        return None if instance is None else Selected(table, instance, held)

    def newest_listed(self, table_ids: Sequence[int]) -> dict[int, ListedInstance]:
        """Return the newest materialized instance of each table that has one."""
        state = self._store.state
        found = {table_id: _newest(state, table_id, None, False, False) for table_id in table_ids}
        return {table_id: _listed(record) for table_id, record in found.items() if record is not None}

    def listed_instances(self, table_id: int, temporary: bool, before: int | None, most: int) -> list[ListedInstance]:
        """Return instances of a table, newest first."""
        found = reversed(self.instances(table_id, None, temporary))
        return [_listed(record) for record in found if before is None or record.row_id < before][:most]

    def failure_counts(self, row_ids: Sequence[int] | None = None) -> dict[int, tuple[int, int]]:
        """Return the counts of failed and skipped rows of instances that have any."""
        return {
            row_id: (item.failed_cells, item.skipped_cells)
            for row_id, item in self._store.state.instances.items()
            if (row_ids is None or row_id in row_ids) and (item.failed_cells or item.skipped_cells)
        }

    # --- past instances -------------------------------------------------------------------------------------------

    def place_at(self, moment: datetime) -> int:
        """Return the row id of the last materialized instance at a moment."""
        state, moment = self._store.state, moment.astimezone(UTC)
        made = max((item.record.row_id for item in _materialized(state) if item.record.created_at <= moment), default=0)
        ends = [
            process.place
            for process in state.processes.values()
            if process.place is not None
            and process.record.status is Status.SUCCEEDED
            and process.record.ended_at is not None
            and process.record.ended_at <= moment
        ]
        return max(made, _made_until_end(state, max(ends))) if ends else made

    def place_of(self, serial: int) -> int | None:
        """Return the row id of the last materialized instance that a process has made."""
        made = (item.record.row_id for item in _materialized(self._store.state) if item.serial == serial)
        return max(made, default=None)

    def place_after(self, serial: int) -> int:
        """Return the row id of the last instance materialized by a process's end."""
        state = self._store.state
        process = state.processes.get(serial)
        if process is None or process.place is None:
            return max((item.record.row_id for item in _materialized(state)), default=0)
        return _made_until_end(state, process.place)

    def newest_until(
        self, table_id: int, version: str, place: int, successful_only: bool = False
    ) -> InstanceRecord | None:
        """Return the last materialized instance of a version up to a row id, even a deleted one."""
        records = (item.record for item in _materialized(self._store.state))
        found = [
            record
            for record in records
            if (record.table_id, record.version) == (table_id, version)
            and record.row_id <= place
            and (record.success or not successful_only)
        ]
        return found[-1] if found else None

    # --- tags -----------------------------------------------------------------------------------------------------

    def tags(
        self,
        *,
        tag: str | None = None,
        table_id: int | None = None,
        row_id: int | None = None,
        row_ids: Sequence[int] | None = None,
    ) -> list[TagRecord]:
        """Return tags ordered by tag, then table."""
        state = self._store.state
        found = [
            replace(each, table_name=state.tables[each.table_id].record.name)
            for each in state.tags.values()
            if (tag is None or fold(each.tag) == fold(tag))
            and table_id in (None, each.table_id)
            and row_id in (None, each.row_id)
            and (row_ids is None or each.row_id in row_ids)
        ]
        return sorted(found, key=lambda each: (fold(each.tag), fold(each.table_name)))

    def tagged(self, table_id: int, tag: str) -> InstanceRecord | None:
        """Return the instance of a table that a tag names."""
        return _tagged(self._store.state, table_id, tag)

    def tagged_instances(self, tag: str, table_ids: Sequence[int] | None = None) -> list[NamedInstance]:
        """Return the instances that a tag names, in the order of the tables."""
        state = self._store.state
        found = (
            (table, _tagged(state, table.table_id, tag))
            for table in state.visible_tables()
            if table_ids is None or table.table_id in table_ids
        )
        return [NamedInstance.of(table, instance) for table, instance in found if instance is not None]

    # --- inputs and services --------------------------------------------------------------------------------------

    def reads_of(self, row_id: int) -> list[Read]:
        """Return the columns that an instance was computed from."""
        return [read for dependent, read in self._store.state.reads if dependent == row_id]

    def readers_of(self, row_id: int) -> list[tuple[int, Read]]:
        """Return the row ids of the instances computed from an instance, each with its read."""
        return [(dependent, read) for dependent, read in self._store.state.reads if read.input_row_id == row_id]

    def input_pairs(self) -> list[tuple[int, int]]:
        """Return pairs of row ids of instances and their inputs."""
        return sorted({(dependent, read.input_row_id) for dependent, read in self._store.state.reads})

    def origins(self) -> list[tuple[int, int]]:
        """Return pairs of row ids of materialized instances and their origins."""
        records = (item.record for item in _materialized(self._store.state))
        return [(record.row_id, record.origin) for record in records if record.origin is not None]

    def confirmed_inputs(self, row_id: int) -> list[int]:
        """Return the row ids of the instances that an instance was confirmed against."""
        return [input_row_id for confirmed, input_row_id in self._store.state.confirmed if confirmed == row_id]

    def services(self) -> dict[str, dict[str, float]]:
        """Return the limits of each service, by its name."""
        return {name: dict(limits) for name, limits in sorted(self._store.state.services.items())}


def _materialized(state: State) -> Iterator[Instance]:
    """Yield the materialized instances in the order of their commits, even deleted ones."""
    return (item for item in state.instances.values() if not item.record.temporary)


def _made_until_end(state: State, place: int) -> int:
    """Return the last row id made by a process up to a position in the order of ends, or 0."""
    ended = {serial for serial, process in state.processes.items() if process.place and process.place <= place}
    return max((item.record.row_id for item in _materialized(state) if item.serial in ended), default=0)


def _newest(
    state: State, table_id: int, version: str | None, active_only: bool, successful_only: bool
) -> InstanceRecord | None:
    found = [
        record
        for record in state.visible_instances(table_id)
        if not record.temporary
        and version in (None, record.version)
        and (record.active or not active_only)
        and (record.success or not successful_only)
    ]
    return found[-1] if found else None


def _with_id(state: State, table_id: int, instance_id: str) -> InstanceRecord | None:
    return next((item for item in state.visible_instances(table_id) if item.instance_id == instance_id), None)


def _tagged(state: State, table_id: int, tag: str) -> InstanceRecord | None:
    found = state.tags.get((table_id, fold(tag)))
    if found is None or state.instances[found.row_id].deleted:
        return None
    return state.instances[found.row_id].record


def _holders_of_table(state: State, table_name: str) -> tuple[int, ...]:
    whole = Lock(lock_on_table(fold(table_name)), exclusive=True)
    return tuple(serial for serial, lock in state.locks if lock == whole)


def _listed(record: InstanceRecord) -> ListedInstance:
    return ListedInstance(**{each.name: getattr(record, each.name) for each in fields(ListedInstance)})
