"""Public records of processes, and waiting for their end."""

from __future__ import annotations

import ast
import builtins
import contextlib
from collections.abc import Callable, Sequence
from functools import partial

from tablevault import errors, names
from tablevault.errors import TVArgumentError, TVProcessError
from tablevault.notes import set_outcome
from tablevault.operations.base import operation_names
from tablevault.operations.remedies import RecordedCall, given_arguments, hint_in_line, whole_of
from tablevault.processes import messages
from tablevault.processes.failing import recorded_outcome
from tablevault.records import ProcessInfo
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup
from tablevault.system.waiting import growing, poll
from tablevault.texts.plain import MAXIMUM_RECORDED, shown
from tablevault.values.outcomes import Remedy
from tablevault.values.processes import ErrorInfo, Lock, OwnerInfo, ProcessRecord, Status
from tablevault.values.progress import summed

_MINIMUM_WAIT, _MAXIMUM_WAIT = 0.01, 0.2
_MAXIMUM_ROWS = 2**31 - 1
"""Maximum number of rows that catalogs take as a limit."""


class ProcessReader:
    """Reads processes as public records.

    Parameters
    ----------
    context
        The open vault.
    recover
        Recovers an orphaned process.
    """

    def __init__(self, context: VaultContext, recover: Callable[[ProcessRecord], object]) -> None:
        self._root = context.layout.root
        self._recover = recover
        self._processes = context.catalog.processes
        self._lookup = Lookup(context)
        self._liveness = Liveness(context)

    def record(self, process_id: str) -> ProcessRecord:
        """Return the newest process of this id; raise `TVProcessError` if it does not exist."""
        return self._lookup.process(process_id)

    def info(self, record: ProcessRecord) -> ProcessInfo:
        """Return the public record of a process."""
        return self._infos([record])[0]

    def _infos(self, records: Sequence[ProcessRecord]) -> list[ProcessInfo]:
        """Return the public records of processes, reading parents and locks in bulk."""
        current = [self._liveness.as_it_is(record) for record in records]
        serials = {record.parent_serial for record in current if record.parent_serial is not None}
        parents = self._processes.ids_of(sorted(serials)) if serials else {}
        holders = [record.serial for record in current if not record.finished]
        held = self._processes.locks_of_each(holders) if holders else {}
        unfinished = [record.serial for record in current if record.status is not Status.SUCCEEDED]
        waiting = self._processes.waiting(unfinished) if unfinished else {}
        return [
            self._info(
                record,
                parents.get(record.parent_serial or 0),
                held.get(record.serial, ()),
                waiting.get(record.serial, ""),
            )
            for record in current
        ]

    def _info(self, record: ProcessRecord, parent_id: str | None, locks: Sequence[Lock], waiting: str) -> ProcessInfo:
        status = self._liveness.status(record)
        alive = self._liveness.is_alive(record)
        remedies: tuple[Remedy, ...] = ()
        if status is Status.PAUSED:
            remedies = RecordedCall.of(self._root, whole_of(record, self._processes)).while_paused
        elif status is Status.RUNNING:
            remedies = (RecordedCall.of(self._root, record).force_stop,)
        owner = OwnerInfo(record.owner_host, record.owner_pid, alive) if record.owner_host else None
        return ProcessInfo(
            process_id=record.process_id,
            operation=record.operation,
            author=record.author,
            table_name=record.table_name,
            instance_id=record.instance_id,
            arguments={**given_arguments(self._root, record.operation, record.arguments), **record.plan.facts()},
            parent_id=parent_id,
            status=str(status),
            started_at=record.started_at,
            ended_at=record.ended_at if record.finished else None,
            error=record.error,
            owner=owner,
            locks=tuple(lock.text for lock in locks),
            progress=record.progress,
            hint=messages.hint(remedies) if status is Status.PAUSED else "",
            remedies=remedies,
            usage=summed(item.usage for item in record.progress.values()),
            # The wait reason of a dead owner is stale.
            waiting=waiting if alive or record.status is not Status.RUNNING else "",
        )

    def active(self) -> dict[str, ProcessInfo]:
        """Return the processes that have not ended, or still hold locks, oldest first."""
        found = self._infos(self._processes.unfinished())
        return {info.process_id: info for info in found if info.ended_at is None}

    def has_ended(self, process_id: str) -> bool:
        """Return whether a process has ended, with any outcome."""
        record = self._processes.find(process_id) if isinstance(process_id, str) else None
        if record is not None and record.is_decided and not record.finished and not self._liveness.is_alive(record):
            # Its owner died while releasing its locks and files.
            self._recover(record)
            record = self._processes.find(process_id)
        return record is not None and record.finished

    def children(self, process_id: str) -> list[ProcessInfo]:
        """Return the children of a process, oldest first."""
        return self._infos(self._processes.begun_inside(self.record(process_id).serial))

    def history(self, filters: dict[str, str], limit: int) -> list[ProcessInfo]:
        """Return processes whose recorded columns match all nonempty filters, newest first."""
        return list(self.numbered_history(filters, limit).values())

    def numbered_history(
        self, filters: dict[str, str], limit: int, before: int | None = None
    ) -> dict[int, ProcessInfo]:
        """Return processes as `history` does, by serial number, because ids may repeat.

        With `before`, only those with a smaller serial number are returned. An unknown filter value is refused, with a
        suggestion of the nearest known one. Deleted tables and operations of an imported vault count as known.
        """
        if limit < 1:
            raise TVArgumentError(f"limit must be a positive integer, not {limit!r}.")
        wanted = {name: value for name, value in filters.items() if value}
        records = self._processes.history(wanted, min(limit, _MAXIMUM_ROWS), before)
        if not records:
            self._check_filters(wanted)
        return dict(zip([record.serial for record in records], self._infos(records), strict=True))

    def _check_filters(self, wanted: dict[str, str]) -> None:
        for name, known in (("operation", operation_names()), ("status", [status.value for status in Status])):
            value = wanted.get(name)
            if value is not None and value not in known and not self._processes.history({name: value}, 1):
                raise TVArgumentError(f"There is no {name} '{value}'{names.nearest(str(value), known)}")
        table = wanted.get("table_name")
        if table is not None and not self._processes.history({"table_name": table}, 1):
            self._lookup.table(table)

    def wait(self, process_id: str, timeout: float | None) -> ProcessInfo:
        """Wait until a process is no longer running; raise its error.

        Raises
        ------
        TimeoutError
            If it is still running after `timeout` seconds.
        """
        over = poll(partial(self._if_over, process_id), growing(_MINIMUM_WAIT, _MAXIMUM_WAIT), timeout)
        if over is None:
            record = self.record(process_id)
            raise TimeoutError(
                f"Process '{process_id}' ({record.operation}) is still {record.status} after {timeout} s."
            )
        return self._outcome(over, over.status)

    def _if_over(self, process_id: str) -> ProcessRecord | None:
        """Return a process if it has ended or paused."""
        record = self.record(process_id)
        if not record.finished and not self._liveness.is_alive(record):
            # No later call may ever recover this orphaned process.
            self._recover(record)
            record = self.record(process_id)
        paused = record.status is Status.PAUSED and not self._liveness.is_alive(record)
        return record if record.finished or paused else None

    def _outcome(self, record: ProcessRecord, status: Status) -> ProcessInfo:
        if status is Status.SUCCEEDED:
            return self.info(record)
        outcome = recorded_outcome(self._root, record, status)
        if record.error is not None and status is not Status.STOPPED:
            error = _recreated(record.error, record)
        else:
            hint = f"; {hint_in_line(outcome.remedies)}" if outcome.remedies else ""
            error = TVProcessError(f"Process '{record.process_id}' ({record.operation}) is {status}{hint}.")
        set_outcome(error, outcome)
        raise error


def _argument_of(kind: type[BaseException], message: str) -> object:
    """Return the argument of an exception, given its text."""
    if kind is SystemExit and message.isdecimal():  # The exit status of an interpreter is a number.
        return int(message)
    if kind is KeyError:  # Its text is the `repr` of the key.
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            return ast.literal_eval(message)
    return message


def _recreated(recorded: ErrorInfo, record: ProcessRecord) -> BaseException:
    """Recreate the error of a process from another interpreter, in its own class if known."""
    name = recorded.type
    known = getattr(errors, name.rpartition(".")[2], None) if name.startswith("tablevault.") else None
    kind = known or getattr(builtins, name, None)
    if isinstance(kind, type) and issubclass(kind, BaseException):
        raised: BaseException
        try:
            raised = kind(_argument_of(kind, shown(recorded.message, MAXIMUM_RECORDED)))
        except TypeError:
            # Some built-in exceptions cannot be created from a message alone.
            raised = TVProcessError(f"{name}: {shown(recorded.message)}")
    else:
        raised = TVProcessError(
            f"Process '{record.process_id}' ({record.operation}) failed with {name}: {shown(recorded.message)}\n"
            f"{shown(recorded.traceback)}"
        )
    raised.add_note(f"raised in process '{record.process_id}':\n{shown(recorded.traceback)}")
    return raised
