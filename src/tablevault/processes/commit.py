"""Ends of processes.

They are decided in one transaction, tidied up, finished and logged. All undo code is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tablevault.operations.base import long_arguments
from tablevault.processes.process import Process
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.storage import log
from tablevault.system.warnings import warn
from tablevault.texts.plain import MAXIMUM_SHOWN, cut, shortened
from tablevault.values.changes import Changes, Decision, Remaining, Tidying, TidyingAction
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.processes import EndedProcess, ErrorInfo, Status

Decided = dict[int, Remaining | EndedProcess]
"""Processes that were decided, each with its remaining work on disk; a finished one as it ended."""


class Decisions:
    """Commits, reverts and pauses processes of one vault, and tidies up after them.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._processes = context.catalog.processes
        self._transitions = context.catalog.transitions
        self._tidying = context.catalog.tidying
        self._layout = context.layout
        self._files = context.files

    def commit(self, process: Process, changes: Changes) -> Decided:
        """Commit a success.

        On return, the change is visible, durable and final.
        """
        own = Decision(
            process.serial,
            process.attempt,
            Status.SUCCEEDED,
            Changes(
                changes.changes,
                changes.tidying + process.clean_workspace(),
                frees_artifacts=changes.frees_artifacts,
            ),
            progress=process.progress.snapshot(),
        )
        decided = self._decide(own, *changes.ends)
        # Finish the processes that it ends before itself.
        decided[own.serial] = decided.pop(own.serial)
        return decided

    def apply(self, decided: Decided) -> None:
        """Apply decisions on disk, and finish the processes in their order."""
        for serial, left in decided.items():
            self._finish(serial, left)

    def revert(
        self, process: Process, error: ErrorInfo | None, status: Status = Status.REVERTED, waiting: str = ""
    ) -> None:
        """Record the revert durably, and only then remove the process's invisible files."""
        process.save_checkpoints()
        tidying = process.operation.abandon(process.plan, process)
        progress = process.progress.snapshot()
        decision = Decision(process.serial, process.attempt, status, Changes(tidying=tidying), error, progress, waiting)
        self.apply(self._decide(decision))

    def pause(self, process: Process, error: ErrorInfo) -> None:
        """Keep the process's locks and checkpoints for a later attempt."""
        process.save_checkpoints()
        progress = process.progress
        self._transitions.pause(process.serial, process.attempt, error, progress.snapshot(), progress.waiting)

    def _decide(self, *decisions: Decision) -> Decided:
        return dict(self._transitions.decide(decisions))

    def finish(self, serial: int) -> None:
        """Tidy up after a process that another owner decided, release its locks, and log its end."""
        self._finish(serial, Remaining((), has_superseded=True))

    def _finish(self, serial: int, decided: Remaining | EndedProcess) -> None:
        told: list[str] = []
        if isinstance(decided, Remaining):
            steps = self._drop_artifacts(serial) if decided.has_superseded else decided.steps
            ended = self._transitions.finish(serial, self._tidy_all(serial, steps, told))
        else:
            ended = decided
        self.write_log(ended)
        # Last, since a program may turn warnings into errors.
        for message in told:
            warn(message)

    def retry_tidying(self, tell: bool = False) -> None:
        """Retry failed tidying; `tell` whether to warn of steps that fail again."""
        told: list[str] = []
        edited: list[str] = []
        for serial in self._tidying.processes_with_failed():
            self._tidying.keep_failed(serial, self._tidy_all(serial, self._tidying.of(serial), told, edited))
        for message in (*edited, *(told if tell else ())):
            warn(message)

    def _tidy_all(
        self, serial: int, steps: Sequence[tuple[int, Tidying]], told: list[str], edited: list[str] | None = None
    ) -> list[tuple[int, str]]:
        """Apply steps on disk; return the ids of those that failed, each with its reason.

        Parameters
        ----------
        serial
            The process.
        steps
            Its steps in their order, each with its id.
        told
            Receives the warnings about steps that fail.
        edited
            Receives the warnings about files that were manually edited since a step failed; `None` the first time.
        """
        problems: list[tuple[int, str]] = []
        failed: list[Tidying] = []
        for step_id, step in steps:
            needed = next((other for other in failed if _needs(step, other)), None)
            if needed is not None:
                failed.append(step)
                problems.append((step_id, f"it waits for '{needed.action} {needed.source} {needed.target}'"))
                continue
            try:
                if edited is None:
                    self._files.apply(step)
                else:
                    # Until then, nothing can be decided for or created at this path.
                    self._tidying.while_undone(serial, step_id, partial(self._retry, serial, step, edited))
            except OSError as error:
                failed.append(step)
                problems.append((step_id, str(error)))
                told.append(
                    f"Tidying up failed ({step.action} {step.source} {step.target}: {error}). Nothing depends on it; "
                    "verify() reports it, and the next operation tries again."
                )
        return problems

    def write_log(self, ended: EndedProcess | None = None) -> None:
        """Bring the log file up to date with the catalog.

        `ended` is the process that has just ended, if known.
        """

        def entries_after(end: int) -> list[log.Entry]:
            if ended is not None and ended.place == end + 1:
                # No other process has ended since the last line.
                return [_log_entry(ended)]
            return [_log_entry(item) for item in self._processes.ended_after(end)]

        try:
            log.append_ended(self._layout.log, entries_after)
        except OSError as error:
            warn(f"The log {self._layout.log.name} could not be written ({error}); the next operation tries again.")

    def _drop_artifacts(self, serial: int) -> Sequence[tuple[int, Tidying]]:
        """Add the removal of superseded artifacts to the steps.

        Artifacts that another process holds are kept. Returns all steps.
        """
        lookup = Lookup(self._context)

        def folder_of(table: TableRecord, instance: InstanceRecord) -> str:
            return self._layout.relative(lookup.folder(table, instance).artifacts)

        return self._tidying.drop_superseded(serial, folder_of)

    def _retry(self, serial: int, step: Tidying, edited: list[str]) -> None:
        """Repeat a failed step of a process, but keep a file that was edited by hand since then."""
        if step.action is not TidyingAction.PUT_FILE:
            self._files.apply(step)
            return
        archived = self._layout.relative(self._layout.archived(serial, Path(step.source).name))
        if self._files.put_again(step, archived):
            edited.append(
                f"{step.target} was edited by hand before its new content could be put in its place: the edit stays, "
                f"and the new content is in {archived}."
            )


def _needs(step: Tidying, other: Tidying) -> bool:
    """Return whether a step depends on another one.

    The other step frees or fills a path inside its own.
    """
    return (
        _is_inside(other.source, step.source)
        or _is_inside(step.source, other.target)
        or _is_inside(other.target, step.source)
    )


def _is_inside(path: str, folder: str) -> bool:
    return bool(path and folder) and Path(path).is_relative_to(folder)


def _log_entry(ended: EndedProcess) -> log.Entry:
    place, record = ended
    long = long_arguments(record.operation)
    return {
        "end": place,
        "process_id": record.process_id,
        "operation": record.operation,
        "author": record.author,
        "table_name": record.table_name,
        "instance_id": record.instance_id,
        "status": record.status.value,
        "started_at": record.started_at.isoformat(),
        "ended_at": record.ended_at.isoformat() if record.ended_at else None,
        "error": cut(f"{record.error.type}: {record.error.message}", MAXIMUM_SHOWN) if record.error else None,
        "arguments": shortened(
            {name: value for name, value in {**record.arguments, **record.plan.facts()}.items() if name not in long}
        ),
    }
