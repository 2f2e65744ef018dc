"""Processes as rows of the catalog: the statements that find them, and what their columns mean."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, RowMapping, Select, bindparam, insert, select, update

from tablevault.catalog.rows import as_record, damage_named, file_name
from tablevault.catalog.schema import processes
from tablevault.values import BuilderProgress, ErrorInfo, JsonObject, NewProcess, Owner, Plan, ProcessRecord, Status

Progress = Mapping[str, BuilderProgress]

# Statements are made once: to put one together takes longer than to run it.
BY_SERIAL = select(processes).where(processes.c.serial == bindparam("serial"))
UPDATE_BY_SERIAL = update(processes).where(processes.c.serial == bindparam("of_serial"))
_INSERT = insert(processes)


def first_process(connection: Connection, query: Select[Any], parameters: Mapping[str, object]) -> ProcessRecord | None:
    """Return the first process that a query finds."""
    row = connection.execute(query, parameters).mappings().first()
    return None if row is None else process_record(row)


def insert_process(connection: Connection, new: NewProcess, plan: Plan, owner: Owner | None) -> int:
    """Record a new process, a refused one if it has no owner; return its serial number."""
    row = {
        "process_id": new.process_id,
        "operation": new.operation,
        "author": new.author,
        "table_name": plan.table_name,
        "instance_id": plan.instance_id,
        "arguments": json.dumps(new.arguments),
        "plan": dump_plan(plan),
        "parent_serial": new.parent_serial,
        "user_given": new.user_given,
        "background": new.background,
        "status": Status.RUNNING.value if owner else Status.REVERTED.value,
        "finished": False,
        "attempt": 1,
        "owner_lock": owner.lock if owner else None,
        "owner_host": owner.host if owner else "",
        "owner_pid": owner.pid if owner else 0,
        "started_at": now(),
        "progress": "{}",
        "stop_requested": False,
    }
    key = connection.execute(_INSERT, row).inserted_primary_key
    assert key is not None
    return int(key[0])


def process_record(row: RowMapping) -> ProcessRecord:
    """Return a row as what it means."""
    with damage_named("processes"):
        checked = {
            "process_id": file_name(row["process_id"]),
            "arguments": json.loads(row["arguments"]),
            "plan": _load_plan(row["plan"]),
            "error": json.loads(row["error"]) if row["error"] else None,
            "progress": json.loads(row["progress"]),
            "user_given": bool(row["user_given"]),
            "background": bool(row["background"]),
            "finished": bool(row["finished"]),
            "stop_requested": bool(row["stop_requested"]),
        }
        return as_record(ProcessRecord, {**row, **checked})


def dump_progress(progress: Progress) -> str:
    """Return progress as the catalog keeps it."""
    return json.dumps({name: asdict(item) for name, item in progress.items()})


def dump_plan(plan: Plan) -> str:
    """Return a plan as the catalog keeps it."""
    return json.dumps(
        {
            "table_name": plan.table_name,
            "instance_id": plan.instance_id,
            "locks": [[lock.resource, lock.exclusive] for lock in plan.locks],
            "data": plan.data,
        }
    )


def dump_error(error: ErrorInfo) -> str:
    """Return an error as the catalog keeps it."""
    return json.dumps({"type": error.type, "message": error.message, "traceback": error.traceback})


def now() -> str:
    """Return the time as the catalog keeps it."""
    return datetime.now(UTC).isoformat()


def _load_plan(text: str) -> JsonObject:
    plan: JsonObject = json.loads(text)
    held = [{"resource": resource, "exclusive": exclusive} for resource, exclusive in plan["locks"]]
    return {**plan, "locks": held}
