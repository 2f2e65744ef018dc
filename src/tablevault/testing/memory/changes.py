"""Application of each kind of change to a state in memory."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import singledispatch

from tablevault.errors import TVFileError, TVImplementationError, TVLockError
from tablevault.names import fold
from tablevault.testing.memory.arrivals import add_imported
from tablevault.testing.memory.state import State, now
from tablevault.testing.memory.store import URL
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
from tablevault.values.contents import ArtifactState, InstanceRecord, TableRecord


@singledispatch
def apply_change(change: Change, state: State, serial: int) -> None:
    """Apply a change of a process to a state."""
    raise TVImplementationError(f"No handler for change {type(change).__name__}.")


# --- tables -------------------------------------------------------------------------------------------------------


@apply_change.register
def _(change: NewTable, state: State, serial: int) -> None:
    state.put_table(
        TableRecord(
            table_id=state.next_number("table"),
            name=change.name,
            folder=change.folder,
            previous_folder=None,
            allow_multiple_artifacts=change.allow_multiple_artifacts,
            has_side_effects=change.has_side_effects,
            description=change.description,
            author=state.processes[serial].record.author,
            created_at=now(),
        )
    )


@apply_change.register
def _(change: RenamedTable, state: State, serial: int) -> None:
    table = state.tables.get(change.table_id)
    if table is not None:
        renamed = replace(table.record, name=change.name, folder=change.folder, previous_folder=change.previous_folder)
        state.put_table(renamed, table.deleted)


@apply_change.register
def _(change: DeletedTable, state: State, serial: int) -> None:
    for record in list(state.visible_instances(change.table_id)):
        _delete_instance(state, record.row_id)
    if change.table_id in state.tables:
        state.tables[change.table_id] = replace(state.tables[change.table_id], deleted=True)


# --- instances ----------------------------------------------------------------------------------------------------


@apply_change.register
def _(change: NewTemporaryInstance, state: State, serial: int) -> None:
    table_id = state.existing_table(change.table_name) if change.table_id is None else change.table_id
    state.add_instance(_temporary(change, table_id, state, serial), serial)


@apply_change.register
def _(change: MaterializedInstance, state: State, serial: int) -> None:
    temporary = _take_temporary(state, change.temporary_row_id)
    _add_materialized(change, replace(temporary, success=change.success), state, serial)


@apply_change.register
def _(change: WrittenInstance, state: State, serial: int) -> None:
    temporary = _temporary(change, state.existing_table(change.table_name), state, serial)
    _add_materialized(change, temporary, state, serial)


@apply_change.register
def _(change: UnchangedInstance, state: State, serial: int) -> None:
    temporary = _take_temporary(state, change.temporary_row_id)
    active = [
        record.instance_id
        for record in state.visible_instances(temporary.table_id)
        if record.version == temporary.version and record.active and not record.temporary
    ]
    if active[-1:] != [change.instance_id]:
        raise TVLockError(
            f"Instance '{change.instance_id}' is no longer the newest, although this execution confirmed it as "
            "unchanged. Run it again."
        )
    # The planned instance will never become visible.
    state.processes[serial] = replace(state.processes[serial], creations=())


@apply_change.register
def _(change: DeletedInstance, state: State, serial: int) -> None:
    _delete_instance(state, change.row_id)


@apply_change.register
def _(change: ConfirmedInputs, state: State, serial: int) -> None:
    for input_row_id in change.input_row_ids:
        state.check_instance(change.row_id)
        state.confirmed.append((change.row_id, input_row_id))


@apply_change.register
def _(change: ImportedInstances, state: State, serial: int) -> None:
    add_imported(change, state, serial)


def _temporary(
    change: NewTemporaryInstance | WrittenInstance, table_id: int, state: State, serial: int
) -> InstanceRecord:
    """Return a temporary instance that is not yet part of the state."""
    process = state.processes[serial].record
    return InstanceRecord(
        row_id=0,
        table_id=table_id,
        instance_id=change.instance_id,
        version=change.version,
        folder=change.folder,
        temporary=True,
        active=False,
        success=True,
        external_edit=change.external_edit,
        origin=change.origin,
        artifact_state=ArtifactState.PRESENT,
        row_count=None,
        columns=(),
        manifest=None,
        description=change.description,
        author=process.author,
        created_at=now(),
        process_id=process.process_id,
    )


def _take_temporary(state: State, row_id: int) -> InstanceRecord:
    """Delete a temporary instance; return it."""
    if row_id not in state.instances:
        raise TVFileError(f"The catalog {URL} is damaged: it has no instance number {row_id}.")
    _delete_instance(state, row_id)
    return state.instances[row_id].record


def _add_materialized(
    change: MaterializedInstance | WrittenInstance, temporary: InstanceRecord, state: State, serial: int
) -> None:
    """Add the materialized instance that takes the place of a temporary one."""
    process = state.processes[serial].record
    if change.deactivates_others:
        for other, instance in state.instances.items():
            if instance.record.table_id == temporary.table_id:
                state.instances[other] = replace(instance, record=replace(instance.record, active=False))
    if change.replaces_artifacts:
        state.supersede_artifacts(temporary.table_id)
    materialized = replace(
        temporary,
        instance_id=change.instance_id,
        folder=change.folder,
        temporary=False,
        active=True,
        row_count=change.row_count,
        columns=change.columns,
        manifest=change.manifest,
        author=process.author,
        created_at=now(),
        process_id=process.process_id,
    )
    row_id = state.add_instance(materialized, serial)
    state.reads += [(row_id, read) for read in change.reads]
    state.count_failures(row_id, change.failed_cells, change.skipped_cells)


def _delete_instance(state: State, row_id: int) -> None:
    if row_id in state.instances:
        state.instances[row_id] = replace(state.instances[row_id], deleted=True)


# --- tags and services --------------------------------------------------------------------------------------------


@apply_change.register
def _(change: NewTag, state: State, serial: int) -> None:
    _delete_tag(state, change.tag, change.moved_in)
    for _, row_id in change.instances:
        if row_id in state.instances:
            state.add_tag(state.new_tag(change.tag, row_id, change.description, serial))


@apply_change.register
def _(change: DeletedTag, state: State, serial: int) -> None:
    _delete_tag(state, change.tag, change.table_ids)


@apply_change.register
def _(change: ChangedService, state: State, serial: int) -> None:
    state.services.pop(change.name, None)
    if change.limits is not None:
        state.services[change.name] = dict(change.limits)


def _delete_tag(state: State, tag: str, table_ids: Iterable[int]) -> None:
    for table_id in table_ids:
        state.tags.pop((table_id, fold(tag)), None)
