"""Conversion between catalog rows and records.

A row that no version of TableVault writes counts as damage.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any, TypeVar

import msgspec

from tablevault.names import is_file_name
from tablevault.values.changes import Read
from tablevault.values.contents import (
    CatalogIdentity,
    ColumnRecord,
    InstanceRecord,
    ListedInstance,
    NamedInstance,
    TableRecord,
    TagRecord,
)
from tablevault.values.plans import decode_plan, encode_plan
from tablevault.values.processes import (
    Creation,
    ErrorInfo,
    Lock,
    NewProcess,
    Owner,
    Plan,
    ProcessRecord,
    Progress,
    Status,
)

Record = TypeVar("Record")

_encode = msgspec.json.Encoder().encode


@contextmanager
def damage_named(what: str) -> Iterator[None]:
    """Wrap decoding errors in the `ValueError` that the store translates."""
    try:
        yield
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise ValueError(f"a row of {what} is invalid ({type(error).__name__}: {error!s:.200})") from error


# Annotations are resolved once, on first use. Do it here, before a program that freezes the clock replaces the
# `datetime` class.
for _kind in (TableRecord, InstanceRecord, ListedInstance, NamedInstance, ProcessRecord, TagRecord):
    msgspec.json.Decoder(_kind)


def as_record(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Return a record of type-checked values, because SQLite stores any type in any column."""
    return msgspec.convert(values, type=kind)


def file_name(text: Any) -> str:
    """Return a file or folder name; raise `ValueError` if it could escape its folder."""
    if not isinstance(text, str) or not is_file_name(text):
        raise ValueError(f"{text!r:.100} is not the name of a file or folder")
    return text


def integer(value: Any) -> int:
    """Return the value of an integer column; raise `ValueError` for a value of another type."""
    if type(value) is not int:
        raise ValueError(f"{value!r:.100} is not an integer")
    return value


def now() -> str:
    """Return the current time in the catalog's format."""
    return datetime.now(UTC).isoformat()


# --- processes ---------------------------------------------------------------------------------------------------


def process_record(row: Mapping[str, Any], creates: tuple[Creation, ...]) -> ProcessRecord:
    """Return the record of a process, with the pending creations of its plan."""
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


def process_row(new: NewProcess, plan: Plan, owner: Owner | None) -> dict[str, object]:
    """Return the row of a new process, which is refused if it has no owner."""
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
        "finished": owner is None,
        "attempt": 1,
        "owner_lock": owner.lock if owner else None,
        "owner_host": owner.host if owner else "",
        "owner_pid": owner.pid if owner else 0,
        "started_at": now(),
        "progress": "{}",
        "stop_requested": False,
    }


def encode_progress(progress: Progress) -> str:
    """Encode progress for the catalog."""
    return _encode(progress).decode()


def encode_error(error: ErrorInfo) -> str:
    """Encode an error for the catalog."""
    return _encode(error).decode()


def lock_record(resource: Any, exclusive: Any) -> Lock:
    """Return the record of a lock."""
    with damage_named("locks"):
        return as_record(Lock, {"resource": resource, "exclusive": bool(exclusive)})


def creation_record(location: Any, instance_id: Any) -> Creation:
    """Return the record of a pending table or instance."""
    with damage_named("creates"):
        return as_record(Creation, {"location": location, "instance_id": instance_id})


# --- contents ----------------------------------------------------------------------------------------------------


def table_record(row: Mapping[str, Any]) -> TableRecord:
    """Return the record of a table."""
    with damage_named("tables"):
        previous = row["previous_folder"]
        checked = {
            "folder": file_name(row["folder"]),
            "previous_folder": None if previous is None else file_name(previous),
            "allow_multiple_artifacts": bool(row["allow_multiple_artifacts"]),
            "has_side_effects": bool(row["has_side_effects"]),
        }
        return as_record(TableRecord, {**row, **checked})


@lru_cache(maxsize=256)
def _columns(text: str) -> tuple[ColumnRecord, ...]:
    """Decode the columns of an instance; cached, as most instances of a table share them."""
    named = [{"name": name, "type_name": kind} for name, kind in json.loads(text)]
    return msgspec.convert(named, type=tuple[ColumnRecord, ...])


def instance_record(row: Mapping[str, Any]) -> InstanceRecord:
    """Return the record of an instance."""
    with damage_named("instances"):
        checked = {
            "instance_id": file_name(row["instance_id"]),
            "folder": file_name(row["folder"]),
            "temporary": bool(row["temporary"]),
            "active": bool(row["active"]),
            "success": bool(row["success"]),
            "external_edit": bool(row["external_edit"]),
            "columns": _columns(row["columns"]),
        }
        return as_record(InstanceRecord, {**row, **checked})


def named_instances(rows: Iterable[Sequence[Any]]) -> list[NamedInstance]:
    """Decode named instances from rows whose values are in field order."""
    with damage_named("instances"):
        decoded = [
            (table_id, table_name, row_id, file_name(instance_id), artifact_state, _columns(columns))
            for table_id, table_name, row_id, instance_id, artifact_state, columns in rows
        ]
        return msgspec.convert(decoded, type=list[NamedInstance])


def listed_instance(row: Mapping[str, Any]) -> ListedInstance:
    """Return the list entry of an instance."""
    with damage_named("instances"):
        flags = {name: bool(row[name]) for name in ("temporary", "active", "success", "external_edit")}
        return as_record(ListedInstance, {**row, "instance_id": file_name(row["instance_id"]), **flags})


def tag_record(row: Mapping[str, Any]) -> TagRecord:
    """Return the record of a tag."""
    with damage_named("tags"):
        return as_record(TagRecord, {**row, "instance_id": file_name(row["instance_id"])})


def read_limits_row(text: str) -> dict[str, float]:
    """Return the recorded limits of a service."""
    with damage_named("services"):
        return msgspec.json.decode(text, type=dict[str, int | float])


def identity_record(row: Mapping[str, Any]) -> CatalogIdentity:
    """Return the identity of a catalog that records it, in format 2 or newer."""
    with damage_named("vault"):
        if row["vault_id"] is None:
            raise ValueError("it names no vault")
        return as_record(CatalogIdentity, row)


def read_record(row: Mapping[str, Any]) -> Read:
    """Return the record of a read column."""
    with damage_named("reads"):
        return as_record(Read, row)


def read_row(row_id: int, read: Read) -> Mapping[str, object]:
    """Return the row that records a read column."""
    return {
        "row_id": row_id,
        "column": read.column,
        "builder": read.builder,
        "input_row_id": read.input_row_id,
        "input_column": read.input_column,
    }
