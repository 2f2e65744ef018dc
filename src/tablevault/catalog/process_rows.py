"""Processes as rows of the catalog: the statements that find them, and what their columns mean."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import msgspec
from sqlalchemy import Connection, RowMapping, Select, bindparam, exists, insert, select, update

from tablevault.catalog.format_2 import creates_of
from tablevault.catalog.rows import as_record, damage_named, file_name
from tablevault.catalog.schema import counters, processes, tidying
from tablevault.plans import decode_plan, encode_plan, names_its_creations
from tablevault.values import (
    Begun,
    BuilderProgress,
    Creation,
    ErrorInfo,
    NewProcess,
    Owner,
    Plan,
    ProcessRecord,
    Status,
)

Progress = Mapping[str, BuilderProgress]

_encode = msgspec.json.Encoder().encode

# Statements are made once: to put one together takes longer than to run it.
BY_SERIAL = select(processes).where(processes.c.serial == bindparam("serial"))
UPDATE_BY_SERIAL = update(processes).where(processes.c.serial == bindparam("of_serial"))
_INSERT = insert(processes).returning(processes.c.serial)
_INSERT_AND_LOOK = insert(processes).returning(
    processes.c.serial,
    select(counters.c.value).where(counters.c.name == "generation").scalar_subquery(),
    exists().where(tidying.c.problem.is_not(None)),
)


def first_process(connection: Connection, query: Select[Any], parameters: Mapping[str, object]) -> ProcessRecord | None:
    """Return the first process that a query finds."""
    found = process_records(connection, connection.execute(query, parameters).mappings().fetchmany(1))
    return found[0] if found else None


def insert_refused(connection: Connection, new: NewProcess, plan: Plan) -> int:
    """Record a process that never began to work; return its serial number."""
    return int(connection.execute(_INSERT, _new_row(new, plan, None)).scalar_one())


def insert_process(connection: Connection, new: NewProcess, plan: Plan, owner: Owner) -> tuple[Begun, bool]:
    """Record a new process; return it, and whether tidying steps of any process have failed."""
    serial, generation, has_failed_steps = connection.execute(_INSERT_AND_LOOK, _new_row(new, plan, owner)).one()
    return Begun(int(serial), int(generation)), bool(has_failed_steps)


def _new_row(new: NewProcess, plan: Plan, owner: Owner | None) -> dict[str, object]:
    return {
        "process_id": new.process_id,
        "operation": new.operation,
        "author": new.author,
        "table_name": plan.table_name,
        "instance_id": plan.instance_id,
        "arguments": json.dumps(new.arguments),
        "plan": encode_plan(plan),
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


def process_records(connection: Connection, rows: Iterable[RowMapping]) -> list[ProcessRecord]:
    """Return rows as records; the plans of processes that are not over include what these are going to create."""
    read = list(rows)
    with damage_named("processes"):
        active = [row["serial"] for row in read if not row["finished"] and not names_its_creations(row["plan"])]
    creates = creates_of(connection, active) if active else {}
    return [_process_record(row, creates.get(row["serial"], ())) for row in read]


def encode_progress(progress: Progress) -> str:
    """Return progress as the catalog keeps it."""
    return _encode(progress).decode()


def encode_error(error: ErrorInfo) -> str:
    """Return an error as the catalog keeps it."""
    return _encode(error).decode()


def now() -> str:
    """Return the time as the catalog keeps it."""
    return datetime.now(UTC).isoformat()


def _process_record(row: RowMapping, creates: tuple[Creation, ...]) -> ProcessRecord:
    with damage_named("processes"):
        checked = {
            "process_id": file_name(row["process_id"]),
            "arguments": json.loads(row["arguments"]),
            "plan": {},
            "error": json.loads(row["error"]) if row["error"] else None,
            "progress": json.loads(row["progress"]),
            "user_given": bool(row["user_given"]),
            "background": bool(row["background"]),
            "finished": bool(row["finished"]),
            "stop_requested": bool(row["stop_requested"]),
        }
        record = as_record(ProcessRecord, {**row, **checked})
        return replace(record, plan=decode_plan(record.operation, row["plan"], creates))
