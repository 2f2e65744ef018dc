"""Content of other catalogs that a state in memory takes over."""

from __future__ import annotations

import json
from dataclasses import replace

import msgspec

from tablevault.names import fold
from tablevault.testing.memory.state import Process, State, now
from tablevault.values.changes import Imported, ImportedInstance, ImportedInstances, ImportedTable, Read
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.processes import Status


def add_imported(change: ImportedInstances, state: State, serial: int) -> None:
    """Add instances of another vault, in order, with new numbers."""
    table_ids = [_table(table, state, serial) for table in change.tables]
    # Instances known only from lineages come first, so that the others can refer to them.
    rows: dict[int, int] = {}
    for place, item in sorted(enumerate(change.instances), key=lambda placed: not placed[1].is_hidden):
        table_id = table_ids[item.table]
        if item.replaces_artifacts:
            state.supersede_artifacts(table_id)
        rows[place] = state.add_instance(_instance(item, table_id, state, serial), serial, item.is_hidden)
    named = {change.instances[place].instance_id: row_id for place, row_id in rows.items()}
    for place, item in enumerate(change.instances):
        row_id = rows[place]
        origin = _row_named(item.origin_id, named, state) if item.origin_id else None
        instance = state.instances[row_id]
        state.instances[row_id] = replace(instance, record=replace(instance.record, origin=origin))
        for read in item.reads:
            input_row_id = _row_named(read.input_id, named, state)
            if input_row_id is not None:
                state.reads.append((row_id, Read(read.column, read.builder, input_row_id, read.input_column)))
        state.count_failures(row_id, item.failed_cells, item.skipped_cells)
    for tag in change.tags:
        new = state.new_tag(tag.tag, rows[tag.instance], tag.description, serial)
        if (new.table_id, fold(new.tag)) not in state.tags:
            state.add_tag(new)


def _table(table: ImportedTable, state: State, serial: int) -> int:
    if table.table_id is not None:
        return table.table_id
    record = TableRecord(
        table_id=state.next_number("table"),
        name=table.name,
        folder=table.folder,
        previous_folder=None,
        allow_multiple_artifacts=table.allow_multiple_artifacts,
        has_side_effects=table.has_side_effects,
        description=table.description,
        author=state.processes[serial].record.author,
        created_at=now(),
    )
    state.put_table(record, table.is_hidden)
    return record.table_id


def _instance(item: ImportedInstance, table_id: int, state: State, serial: int) -> InstanceRecord:
    process = state.processes[serial].record
    return InstanceRecord(
        row_id=0,
        table_id=table_id,
        instance_id=item.instance_id,
        version=item.version,
        folder=item.folder,
        temporary=False,
        active=item.active,
        success=item.success,
        external_edit=item.external_edit,
        origin=None,
        artifact_state=item.artifact_state,
        row_count=item.row_count,
        columns=item.columns,
        manifest=item.manifest,
        description=item.description,
        author=process.author,
        created_at=now(),
        process_id=process.process_id,
    )


def _row_named(instance_id: str, named: dict[str, int], state: State) -> int | None:
    """Return the row id of an instance of the import, or else of the catalog, preferably an existing one."""
    if instance_id in named:
        return named[instance_id]
    known = [item for item in state.instances.values() if item.record.instance_id == instance_id]
    newest = max(known, key=lambda item: (not item.deleted, item.record.row_id), default=None)
    return None if newest is None else newest.record.row_id


def add_whole_catalog(imported: Imported, state: State) -> None:
    """Add the content of another catalog with its numbers, ids, authors and times to an empty state."""
    makers = {record.process_id: record.serial for record in imported.processes if record.status is not Status.REVERTED}
    state.generation += 1
    for place, record in enumerate(imported.processes, 1):
        plan = msgspec.structs.replace(record.plan, creates=())
        state.add_process(
            Process(replace(record, arguments={}, plan=plan), arguments=json.dumps(record.arguments), place=place)
        )
    state.ends = len(imported.processes)
    for table in imported.tables:
        state.put_table(table, table.table_id in imported.hidden_tables)
    for instance in imported.instances:
        maker = makers[instance.process_id]
        state.put_instance(instance, maker, instance.row_id in imported.hidden_instances)
    for row_id, _ in imported.reads:
        state.check_instance(row_id)
    state.reads += imported.reads
    for tag in imported.tags:
        state.add_tag(tag)
    for row_id, (failed, skipped) in imported.failures.items():
        state.count_failures(row_id, failed, skipped)
    state.keep_numbers()
