"""Transitions of processes in memory."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

import msgspec

from tablevault.errors import TVProcessError
from tablevault.testing.memory.changes import apply_change
from tablevault.testing.memory.processes import as_record, check_id_is_free, recorded
from tablevault.testing.memory.state import Process, State, contradiction, now
from tablevault.testing.memory.steps import drop_overridden, drop_steps_on, follow_renaming
from tablevault.testing.memory.store import Store
from tablevault.values.changes import (
    Decision,
    MaterializedInstance,
    Remaining,
    RenamedTable,
    UnchangedInstance,
    WrittenInstance,
)
from tablevault.values.contents import JsonObject
from tablevault.values.plans import Unplanned
from tablevault.values.processes import (
    Begun,
    Blocked,
    EndedProcess,
    ErrorInfo,
    NewProcess,
    Owner,
    Plan,
    ProcessRecord,
    Progress,
    Status,
)

_NOBODY = Owner("", "", 0)


class Transitions:
    """Adapter of `tablevault.ports.Transitions`.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    # --- beginning ------------------------------------------------------------------------------------------------

    def begin(self, new: NewProcess, plan: Plan, owner: Owner) -> Begun | Blocked:
        """Record a process and take its locks, or return the holders of conflicting ones."""
        with self._store.write() as state:
            if new.user_given:
                check_id_is_free(state, new.process_id)
            holders = state.conflicts(plan.locks, new.parent_serial)
            if holders:
                return Blocked(holders)
            process = _new(state, new, plan, owner)
            state.add_process(process)
            state.take(process.record.serial, plan.locks)
            has_failed_steps = bool(state.failed_steps())
            drop_steps_on(state, plan)
            return Begun(process.record.serial, state.generation, has_failed_steps)

    def save_plan(self, serial: int, plan: Plan) -> None:
        """Replace the plan of a process that has not begun to work."""
        with self._store.write() as state:
            drop_steps_on(state, plan)
            if serial in state.processes:
                process = state.processes[serial]
                record = replace(
                    process.record,
                    table_name=plan.table_name,
                    instance_id=plan.instance_id,
                    plan=msgspec.structs.replace(plan, creates=()),
                )
                state.processes[serial] = replace(process, record=record, creations=plan.creates)

    def withdraw(self, serial: int) -> None:
        """Forget a process that has not begun to work, and release its locks."""
        with self._store.write() as state:
            state.processes.pop(serial, None)
            state.release(serial)

    def record_refused(self, new: NewProcess, table_name: str, error: ErrorInfo) -> None:
        """Record a process that failed during planning."""
        with self._store.write() as state:
            process = state.end(_new(state, new, Unplanned(table_name=table_name), _NOBODY))
            refused = replace(process.record, status=Status.REVERTED, finished=True, owner_lock=None, error=error)
            state.add_process(replace(process, record=refused))

    # --- ownership ------------------------------------------------------------------------------------------------

    def claim(self, record: ProcessRecord, owner: Owner) -> ProcessRecord | None:
        """Begin the next attempt of an unfinished process, unless another owner was faster."""
        with self._store.write() as state:
            process = state.processes.get(record.serial)
            if process is None or process.record.attempt != record.attempt or process.record.finished:
                return None
            claimed = replace(
                process.record,
                attempt=record.attempt + 1,
                owner_lock=owner.lock,
                owner_host=owner.host,
                owner_pid=owner.pid,
                stop_requested=False,
            )
            state.processes[record.serial] = replace(process, record=claimed)
            return recorded(state, record.serial)

    def replace_arguments(self, serial: int, attempt: int, arguments: JsonObject) -> None:
        """Replace the recorded arguments of a claimed process."""
        with self._store.write() as state:
            state.processes[serial] = replace(_owned(state, serial, attempt), arguments=json.dumps(arguments))

    def set_running(self, serial: int, attempt: int) -> None:
        """Mark a claimed process as running again."""
        with self._store.write() as state:
            process = _owned(state, serial, attempt)
            state.processes[serial] = replace(process, record=replace(process.record, status=Status.RUNNING))

    def pause(
        self,
        serial: int,
        attempt: int,
        error: ErrorInfo | None,
        progress: Progress | None,
        waiting: str | None = None,
    ) -> None:
        """Pause a process, which keeps its locks; `None` keeps the former value."""
        with self._store.write() as state:
            process = _owned(state, serial, attempt)
            paused = replace(
                process.record,
                status=Status.PAUSED,
                error=process.record.error if error is None else error,
                progress=process.record.progress if progress is None else deepcopy(progress),
            )
            reason = process.waiting if waiting is None else waiting
            state.processes[serial] = replace(process, record=paused, waiting=reason)

    def save_progress(self, serial: int, attempt: int, progress: Progress, waiting: str = "") -> None:
        """Record the progress of an execution, and the reason why its calls wait."""
        with self._store.write() as state:
            process = _owned(state, serial, attempt)
            record = replace(process.record, progress=deepcopy(progress))
            state.processes[serial] = replace(process, record=record, waiting=waiting)

    def request_stop(self, serial: int) -> None:
        """Ask the owner of a process to stop."""
        with self._store.write() as state:
            if serial in state.processes:
                process = state.processes[serial]
                state.processes[serial] = replace(process, record=replace(process.record, stop_requested=True))

    # --- ending ---------------------------------------------------------------------------------------------------

    def decide(self, decisions: Sequence[Decision]) -> Mapping[int, Remaining | EndedProcess]:
        """Commit the visible effect of one or more processes atomically."""
        with self._store.write() as state:
            made = _made_by(decisions)
            return {item.serial: _decide(state, item, made.get(item.serial)) for item in decisions}

    def finish(self, serial: int, problems: Iterable[tuple[int, str]] = ()) -> EndedProcess | None:
        """Record that a decided process is tidied up, and release its locks."""
        with self._store.write() as state:
            process = state.processes.get(serial)
            if process is None or process.record.finished:
                return None
            if not process.record.is_decided:
                raise contradiction(f"process '{process.record.process_id}' is not decided")
            if process.record.status is Status.COMMITTING:
                process = state.end(replace(process, record=replace(process.record, status=Status.SUCCEEDED)))
            state.keep_failed(serial, problems)
            state.generation += 1
            return _finish(state, process)


def _new(state: State, new: NewProcess, plan: Plan, owner: Owner) -> Process:
    """Return a process that begins, and is not yet part of the state."""
    record = ProcessRecord(
        serial=state.next_number("process"),
        process_id=new.process_id,
        operation=new.operation,
        author=new.author,
        table_name=plan.table_name,
        instance_id=plan.instance_id,
        arguments={},
        plan=msgspec.structs.replace(plan, creates=()),
        parent_serial=new.parent_serial,
        user_given=new.user_given,
        background=new.background,
        status=Status.RUNNING,
        finished=False,
        attempt=1,
        owner_lock=owner.lock,
        owner_host=owner.host,
        owner_pid=owner.pid,
        started_at=now(),
        ended_at=None,
        error=None,
        progress={},
        stop_requested=False,
    )
    return Process(record, arguments=json.dumps(new.arguments), creations=plan.creates)


def _owned(state: State, serial: int, attempt: int) -> Process:
    """Return an undecided process; raise `TVProcessError` unless it is in this attempt."""
    process = state.processes.get(serial)
    if process is None or process.record.attempt != attempt or process.record.is_decided:
        name, status = (process.record.process_id, process.record.status) if process else (serial, "unknown")
        raise TVProcessError(f"Process '{name}' was taken over meanwhile; it is {status} now.")
    return process


def _made_by(decisions: Sequence[Decision]) -> dict[int, str]:
    """Return the instance that each process makes or leaves unchanged, by serial number.

    The first process decides for the others: it stands for the first instance that any of them makes.
    """
    made = {
        decision.serial: change.instance_id
        for decision in decisions
        for change in decision.changes.changes
        if isinstance(change, MaterializedInstance | WrittenInstance | UnchangedInstance)
    }
    return {decisions[0].serial: next(iter(made.values())), **made} if made else {}


def _decide(state: State, decision: Decision, made: str | None) -> Remaining | EndedProcess:
    """Apply one decision; return the remaining work of its process, or its end."""
    serial, changes = decision.serial, decision.changes
    process = _owned(state, serial, decision.attempt)
    succeeds = decision.status is Status.SUCCEEDED
    is_left_open = succeeds and changes.leaves_work
    record = replace(
        process.record,
        status=Status.COMMITTING if is_left_open else decision.status,
        # A success clears the error of an earlier pause.
        error=None if succeeds else decision.error or process.record.error,
        progress=process.record.progress if decision.progress is None else deepcopy(decision.progress),
        instance_id=process.record.instance_id if made is None else made,
    )
    process = replace(process, record=record, waiting=process.waiting if succeeds else decision.waiting)
    if changes.changes and not succeeds:
        # A stop that materializes. After a success, the status shows that nothing is pending.
        process = replace(process, creations=())
    state.processes[serial] = process if is_left_open else state.end(process)
    for change in changes.changes:
        if isinstance(change, RenamedTable):
            follow_renaming(state, change)
        apply_change(change, state, serial)
    state.generation += 1
    if not changes.leaves_work:
        return _finish(state, state.processes[serial])
    drop_overridden(state, changes.tidying)
    for step in changes.tidying:
        state.add_step(serial, step)
    return Remaining(tuple(state.steps_of(serial)), not changes.tidying or bool(state.superseded()))


def _finish(state: State, process: Process) -> EndedProcess:
    """Release the locks of an ended process; return it as it ended."""
    record = replace(process.record, finished=True, owner_lock=None)
    state.processes[record.serial] = finished = replace(process, record=record)
    state.release(record.serial)
    return EndedProcess(finished.place or 0, as_record(finished))
