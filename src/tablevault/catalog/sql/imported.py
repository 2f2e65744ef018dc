"""Copying another catalog's content with its numbers, ids, authors and times."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import Table, insert

from tablevault.catalog.sql.changes import COUNT_FAILURES
from tablevault.catalog.sql.codec import encode_error, encode_progress
from tablevault.catalog.sql.connection import Connection
from tablevault.catalog.sql.schema import instances, processes, reads, tables, tags
from tablevault.catalog.sql.store import Store, advance
from tablevault.names import fold
from tablevault.values.changes import Imported
from tablevault.values.contents import InstanceRecord, TableRecord, TagRecord
from tablevault.values.plans import encode_plan
from tablevault.values.processes import ProcessRecord, Status


def record_imported(store: Store, imported: Imported) -> None:
    """Insert all content into an empty catalog in one transaction."""
    makers = {record.process_id: record.serial for record in imported.processes if record.status is not Status.REVERTED}
    with store.write() as connection:
        ended = [_process(record, advance(connection, "end_order")["end_order"]) for record in imported.processes]
        _insert(connection, processes, ended)
        _insert(connection, tables, [_table(record, imported.hidden_tables) for record in imported.tables])
        made = [
            _instance(record, makers[record.process_id], imported.hidden_instances) for record in imported.instances
        ]
        _insert(connection, instances, made)
        _insert(connection, reads, [{"row_id": row_id, **asdict(read)} for row_id, read in imported.reads])
        _insert(connection, tags, [_tag(record, makers[record.process_id]) for record in imported.tags])
        for row_id, (failed, skipped) in imported.failures.items():
            connection.execute(COUNT_FAILURES, {"failed": failed, "skipped": skipped, "of_row": row_id})
        advance(connection, "generation")


def _insert(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> None:
    if rows:
        connection.execute(insert(table), rows)


def _process(record: ProcessRecord, end_order: int) -> dict[str, Any]:
    return {
        "serial": record.serial,
        "process_id": record.process_id,
        "operation": record.operation,
        "author": record.author,
        "table_name": record.table_name,
        "instance_id": record.instance_id,
        "arguments": json.dumps(record.arguments),
        "plan": encode_plan(record.plan),
        "parent_serial": record.parent_serial,
        "user_given": record.user_given,
        "background": record.background,
        "status": record.status.value,
        "finished": record.finished,
        "attempt": record.attempt,
        "owner_lock": record.owner_lock,
        "owner_host": record.owner_host,
        "owner_pid": record.owner_pid,
        "started_at": record.started_at.isoformat(),
        "ended_at": record.ended_at.isoformat() if record.ended_at else None,
        "end_order": end_order,
        "error": encode_error(record.error) if record.error else None,
        "progress": encode_progress(record.progress),
        "stop_requested": record.stop_requested,
    }


def _table(record: TableRecord, hidden: frozenset[int]) -> dict[str, Any]:
    return {
        **asdict(record),
        "name_key": fold(record.name),
        "created_at": record.created_at.isoformat(),
        "deleted": record.table_id in hidden,
    }


def _instance(record: InstanceRecord, serial: int, hidden: frozenset[int]) -> dict[str, Any]:
    row = asdict(record)
    del row["process_id"]
    return {
        **row,
        "artifact_state": record.artifact_state.value,
        "columns": json.dumps([[column.name, column.type_name] for column in record.columns]),
        "created_at": record.created_at.isoformat(),
        "serial": serial,
        "deleted": record.row_id in hidden,
    }


def _tag(record: TagRecord, serial: int) -> dict[str, Any]:
    return {
        "table_id": record.table_id,
        "row_id": record.row_id,
        "tag": record.tag,
        "tag_key": fold(record.tag),
        "description": record.description,
        "author": record.author,
        "created_at": record.created_at.isoformat(),
        "serial": serial,
    }
