"""Conversion of the version 0.1.x history to ended processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tablevault import names
from tablevault.errors import TVArgumentError
from tablevault.legacy.source import LegacyProcess
from tablevault.names import TEMPORARY_PREFIX
from tablevault.values.contents import JsonObject
from tablevault.values.plans import Unplanned
from tablevault.values.processes import ErrorInfo, ProcessRecord, Status

_STOPPED = "User Stopped"
"""The error message that version 0.1.x recorded for stopped processes."""

_MAXIMUM_OPERATION_LENGTH = 40


def import_history(processes: Sequence[LegacyProcess], notes: list[str]) -> dict[str, ProcessRecord]:
    """Return process records by former id, in the order in which they ended.

    Parameters
    ----------
    processes
        The processes, in the order in which they ended.
    notes
        Receives deviations from the source.
    """
    serials: dict[int, int] = {}
    by_start = sorted(range(len(processes)), key=lambda place: (processes[place].started_at, -place))
    for serial, place in enumerate(by_start, start=1):
        serials[place] = serial
    places = {process.process_id: place for place, process in enumerate(processes)}
    records: dict[str, ProcessRecord] = {}
    for place, process in enumerate(processes):
        if places[process.process_id] != place:
            notes.append(f"process '{process.process_id}' appears twice in the log; its last entry was imported")
            continue
        parent = serials[places[process.parent_id]] if process.parent_id is not None else None
        records[process.process_id] = _record(process, serials[place], parent, _free_id(process, notes))
    return records


def _free_id(process: LegacyProcess, notes: list[str]) -> str:
    try:
        return names.check_process_id(process.process_id)
    except TVArgumentError:
        made = names.new_process_id()
        notes.append(f"process '{process.process_id}' was renamed to '{made}', because its id is no longer valid")
        return made


def _record(process: LegacyProcess, serial: int, parent: int | None, process_id: str) -> ProcessRecord:
    status = _status(process)
    error = None
    if process.error is not None and not process.succeeded:
        error = ErrorInfo(process.error[0], process.error[1], "")
    table_name, instance_id = process.fact("table_name"), process.fact("instance_id")
    return ProcessRecord(
        serial=serial,
        process_id=process_id,
        operation=process.operation[:_MAXIMUM_OPERATION_LENGTH],
        author=process.author,
        table_name=table_name,
        instance_id=instance_id,
        arguments=_arguments(process.data, instance_id),
        plan=Unplanned(table_name=table_name, instance_id=instance_id),
        parent_serial=parent,
        user_given=process.user_given,
        background=process.data.get("background") is True,
        status=status,
        finished=True,
        attempt=1,
        owner_lock=None,
        owner_host="",
        owner_pid=0,
        started_at=process.started_at,
        ended_at=process.ended_at,
        error=error,
        progress={},
        stop_requested=False,
    )


def _status(process: LegacyProcess) -> Status:
    if process.succeeded:
        return Status.SUCCEEDED
    stopped = process.error is not None and process.error[1] == _STOPPED
    return Status.STOPPED if stopped else Status.REVERTED


def _arguments(data: Mapping[str, object], instance_id: str) -> JsonObject:
    """Return the arguments under their current names, so that scripts with fixed ids can be rerun."""
    arguments = dict(data)
    if instance_id.startswith(TEMPORARY_PREFIX):
        arguments.setdefault("version", instance_id.removeprefix(TEMPORARY_PREFIX))
    return arguments
