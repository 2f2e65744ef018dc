"""Remaining steps on disk in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from tablevault.names import fold
from tablevault.testing.memory.state import State
from tablevault.testing.memory.store import Store
from tablevault.values.changes import RenamedTable, Tidying, TidyingAction
from tablevault.values.contents import ArtifactState, InstanceRecord, TableRecord
from tablevault.values.lock_names import lock_on_instance
from tablevault.values.processes import Lock, Plan

_ON_FOLDERS = (TidyingAction.REMOVE, TidyingAction.MOVE_FOLDER, TidyingAction.REPLACE_FOLDER)
"""Steps after which a folder is no longer at its place."""


class TidyingSteps:
    """Adapter of `tablevault.ports.TidyingSteps`.

    Parameters
    ----------
    store
        The catalog's transactions.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def of(self, serial: int) -> list[tuple[int, Tidying]]:
        """Return the steps of a process in their order, each with its id."""
        return self._store.state.steps_of(serial)

    def keep_failed(self, serial: int, problems: Iterable[tuple[int, str]]) -> None:
        """Record the steps of a finished process that still fail, with reasons."""
        with self._store.write() as state:
            state.keep_failed(serial, problems)

    def while_undone(self, serial: int, tidying_id: int, do: Callable[[], None]) -> None:
        """Retry a failed step if it is still recorded; no process begins or is decided meanwhile."""
        with self._store.write() as state:
            if tidying_id in state.steps and state.steps[tidying_id].serial == serial:
                do()

    def processes_with_failed(self) -> list[int]:
        """Return the serial numbers of the processes with steps that failed."""
        return sorted({step.serial for step in self._store.state.failed_steps().values()})

    def failed(self) -> list[tuple[Tidying, str]]:
        """Return the steps that failed, in their order, each with its reason."""
        return [(step.tidying, step.problem or "") for step in self._store.state.failed_steps().values()]

    def drop_superseded(
        self, serial: int, folder_of: Callable[[TableRecord, InstanceRecord], str]
    ) -> list[tuple[int, Tidying]]:
        """Add steps to a decided process that remove all superseded artifacts; return all its steps."""
        with self._store.write() as state:
            process = state.processes.get(serial)
            if process is not None and not process.record.finished:
                for record in state.superseded():
                    table = state.tables[record.table_id].record
                    if not _is_needed(state, table, record, serial):
                        dropped = replace(record, artifact_state=ArtifactState.DROPPED)
                        state.instances[record.row_id] = replace(state.instances[record.row_id], record=dropped)
                        state.add_step(serial, Tidying(TidyingAction.REMOVE, folder_of(table, record)))
            return state.steps_of(serial)

    def pending_moves(self) -> Mapping[str, str]:
        """Return pending file replacements and removals, as target -> staged source (or "")."""
        moves: dict[str, str] = {}
        for step in self._store.state.steps.values():
            if step.tidying.action is TidyingAction.PUT_FILE:
                moves[step.tidying.target] = step.tidying.source
            elif step.tidying.action is TidyingAction.REMOVE:
                moves[step.tidying.source] = ""
        return moves


def drop_steps_on(state: State, plan: Plan) -> None:
    """Drop failed steps on paths to be created, where a retry would remove the new content."""
    created = {creation.location for creation in plan.creates}
    for step_id, step in state.failed_steps().items():
        if step.tidying.source in created:
            del state.steps[step_id]


def drop_overridden(state: State, steps: Iterable[Tidying]) -> None:
    """Drop failed steps that a retry would do against newer ones."""
    steps = list(steps)
    for step_id, failed in state.failed_steps().items():
        if any(_overrides(step, failed.tidying) for step in steps):
            del state.steps[step_id]


def follow_renaming(state: State, change: RenamedTable) -> None:
    """Redirect failed steps in a renamed folder; drop those that would move it elsewhere."""
    before, after = f"{change.previous_folder}/", f"{change.folder}/"
    for step_id, failed in state.failed_steps().items():
        step = failed.tidying
        if step.action is TidyingAction.MOVE_FOLDER and step.source == change.previous_folder:
            del state.steps[step_id]
            continue
        source, target = (
            after + path.removeprefix(before) if path.startswith(before) else path
            for path in (step.source, step.target)
        )
        state.steps[step_id] = replace(failed, tidying=Tidying(step.action, source, target))


def _overrides(new: Tidying, failed: Tidying) -> bool:
    """Return whether a new step is on the path of a failed one, or on a folder around it."""
    if new.path == failed.path:
        return True
    if new.action not in _ON_FOLDERS:
        return False
    is_renaming = new.action is TidyingAction.MOVE_FOLDER and "/" not in new.target
    # The source of the failed step is gone, and so are files in the folder unless it was only renamed.
    return new.source == failed.source or (failed.path.startswith(f"{new.source}/") and not is_renaming)


def _is_needed(state: State, table: TableRecord, instance: InstanceRecord, serial: int) -> bool:
    """Return whether an instance is tagged, or locked by another process."""
    if any(tag.row_id == instance.row_id for tag in state.tags.values()):
        return True
    whole = Lock(lock_on_instance(fold(table.name), instance.instance_id), exclusive=True)
    return any(holder != serial and whole.conflicts(lock) for holder, lock in state.locks)
