"""Reads of processes in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import msgspec

from tablevault.errors import TVProcessError
from tablevault.testing.memory.state import Process, State
from tablevault.testing.memory.store import Store
from tablevault.values.processes import EndedProcess, Lock, ProcessRecord, Status


class Processes:
    """Adapter of `tablevault.ports.Processes`.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def get(self, serial: int) -> ProcessRecord | None:
        """Return a process by its serial number."""
        return recorded(self._store.state, serial)

    def get_now(self, serial: int) -> ProcessRecord | None:
        """Return the current state of a process, even inside a snapshot."""
        return recorded(self._store.newest, serial)

    def may_go_on(self, serial: int, attempt: int) -> bool:
        """Return whether an attempt is the newest and was not asked to stop."""
        process = self._store.state.processes.get(serial)
        return process is not None and process.record.attempt == attempt and not process.record.stop_requested

    def find(self, process_id: str) -> ProcessRecord | None:
        """Return the process that holds an id, or else the newest with it."""
        state = self._store.state
        newest = [process for process in _newest_first(state) if process.record.process_id == process_id]
        found = next((process for process in newest if process.holds_id), newest[0] if newest else None)
        return None if found is None else as_record(found)

    def waiting(self, serials: Sequence[int]) -> dict[int, str]:
        """Return the wait reasons of processes that have one."""
        found = ((serial, self._store.state.processes.get(serial)) for serial in serials)
        return {serial: process.waiting for serial, process in found if process is not None and process.waiting}

    def unfinished(self) -> list[ProcessRecord]:
        """Return the processes that have not ended or are not tidied up, oldest first."""
        return _records(process for process in self._store.state.processes.values() if not process.record.finished)

    def children(self, serial: int) -> list[ProcessRecord]:
        """Return the unfinished children of a process, oldest first."""
        return [record for record in self.unfinished() if record.parent_serial == serial]

    def begun_inside(self, serial: int) -> list[ProcessRecord]:
        """Return the children of a process, oldest first."""
        known = self._store.state.processes.values()
        return _records(process for process in known if process.record.parent_serial == serial)

    def locks_of(self, serial: int) -> tuple[Lock, ...]:
        """Return the locks that a process holds, in order of acquisition."""
        return tuple(lock for holder, lock in self._store.state.locks if holder == serial)

    def locks_of_each(self, serials: Sequence[int]) -> dict[int, tuple[Lock, ...]]:
        """Return the locks that processes hold, by serial number."""
        held: dict[int, list[Lock]] = {serial: [] for serial in serials}
        for holder, lock in self._store.state.locks:
            if holder in held:
                held[holder].append(lock)
        return {serial: tuple(locks) for serial, locks in held.items()}

    def ids_of(self, serials: Sequence[int]) -> dict[int, str]:
        """Return the ids of processes, by serial number."""
        known = self._store.state.processes
        return {serial: known[serial].record.process_id for serial in serials if serial in known}

    def history(self, filters: Mapping[str, str], limit: int, before: int | None = None) -> list[ProcessRecord]:
        """Return processes whose fields equal `filters`, newest first."""
        found = [
            process
            for process in _newest_first(self._store.state)
            if all(getattr(process.record, name) == value for name, value in filters.items())
            and (before is None or process.record.serial < before)
        ]
        return _records(found[:limit])

    def ended_after(self, end_order: int) -> list[EndedProcess]:
        """Return the processes that ended later, in order of their end."""
        places = {process.place: process for process in self._store.state.processes.values()}
        return [
            EndedProcess(place, as_record(process))
            for place, process in sorted((place, each) for place, each in places.items() if place is not None)
            if place > end_order
        ]

    def is_ancestor(self, serial: int, of: int | None) -> bool:
        """Return whether a process is `of` itself or one of its ancestors."""
        return serial in self._store.state.ancestors(of)

    def begun(self) -> int:
        """Return the serial number of the process that began last, or 0."""
        return max(self._store.state.processes, default=0)

    def created(self, path: str) -> bool:
        """Return whether a finished, unsuccessful process had planned to create a path."""
        return any(
            process.record.finished
            and process.record.status is not Status.SUCCEEDED
            and any(creation.location == path for creation in process.creations)
            for process in self._store.state.processes.values()
        )

    def check_id_is_free(self, process_id: str) -> None:
        """Raise `TVProcessError` if a process holds this id."""
        check_id_is_free(self._store.state, process_id)

    def conflicts(self, wanted: Sequence[Lock], parent_serial: int | None) -> tuple[int, ...]:
        """Return the processes whose locks block a child of `parent_serial`."""
        return self._store.state.conflicts(wanted, parent_serial)


def as_record(process: Process) -> ProcessRecord:
    """Return the record of a process, with its creations until it is finished."""
    record = process.record
    plan = record.plan if record.finished else msgspec.structs.replace(record.plan, creates=process.creations)
    return replace(record, arguments=json.loads(process.arguments), plan=plan)


def recorded(state: State, serial: int) -> ProcessRecord | None:
    """Return the record of the process with a serial number."""
    process = state.processes.get(serial)
    return None if process is None else as_record(process)


def check_id_is_free(state: State, process_id: str) -> None:
    """Raise `TVProcessError` if a process holds this id."""
    for process in _newest_first(state):
        if process.record.process_id == process_id and process.holds_id:
            operation = process.record.operation
            raise TVProcessError(f"Process id '{process_id}' was taken by another {operation} at the same moment.")


def _newest_first(state: State) -> list[Process]:
    return list(reversed(state.processes.values()))


def _records(processes: Iterable[Process]) -> list[ProcessRecord]:
    return list(map(as_record, processes))
