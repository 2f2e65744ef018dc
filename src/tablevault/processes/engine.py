"""Life cycle of every process.

The stages are prepare, work, decide, apply and finish; pause, resume and revert.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar

from msgspec import structs

from tablevault import names
from tablevault.catalog.owners import WORKER
from tablevault.errors import TableVaultError, TVArgumentError, TVLockError, TVProcessError
from tablevault.notes import add_note, message_of, note_missing_module, origin_of, set_origin, set_outcome
from tablevault.operations.base import Operation, operation_named
from tablevault.operations.remedies import RecordedCall, whole_of
from tablevault.operations.session import Draft
from tablevault.ports import FunctionError, Observer
from tablevault.processes import messages
from tablevault.processes.background import hand_over
from tablevault.processes.children import ChildProcesses
from tablevault.processes.commit import Decisions
from tablevault.processes.failing import Failing, cause_of, describe_error, recorded_outcome, tell
from tablevault.processes.process import Process, claim, claim_when_free, new_owner
from tablevault.processes.recovery import Recovery
from tablevault.processes.signals import Interrupts
from tablevault.state.context import VaultContext
from tablevault.state.formats import migrate
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup
from tablevault.system import clock
from tablevault.system.waiting import growing, poll
from tablevault.system.warnings import LateWarnings, warn
from tablevault.texts.plain import Secrets, in_line, storable
from tablevault.values.changes import Changes
from tablevault.values.contents import JsonObject
from tablevault.values.outcomes import Cause, Outcome, OutcomeKind
from tablevault.values.processes import (
    Begun,
    Blocked,
    Lock,
    NewProcess,
    Owner,
    Plan,
    ProcessRecord,
    Progress,
    Status,
)
from tablevault.values.progress import ExecutionProgress

_MINIMUM_WAIT, _MAXIMUM_WAIT = 0.002, 0.05
"""Seconds between two attempts to take locks that another process holds."""

_NO_GENERATION = -1
Refusal = TypeVar("Refusal", bound=TableVaultError)


class Engine:
    """Runs operations on one vault.

    Parameters
    ----------
    context
        The open vault.
    observer
        Follows the work of its processes.
    parent
        The process whose children it runs.
    """

    def __init__(self, context: VaultContext, observer: Observer | None = None, parent: Process | None = None) -> None:
        self._context = context
        self._observer = observer
        self._parent = parent
        self._processes = context.catalog.processes
        self._transitions = context.catalog.transitions
        self._lookup = Lookup(context)
        self._liveness = Liveness(context)
        self.decisions = Decisions(context)
        self.recovery = Recovery(context, self.decisions)
        self._failing = Failing(context, self.decisions)
        self.secrets = Secrets()
        """Secrets in the error of the attempt that failed last."""

    # --- entry points ---------------------------------------------------------------------------------------------

    def run(self, operation: Operation[Any], process_id: str | None = None, background: bool = False) -> Outcome:
        """Run an operation to its end, or continue the process of this id.

        Parameters
        ----------
        operation
            The operation with its arguments.
        process_id
            Given by the user; `None` lets the vault choose one, and makes errors revert instead of pause.
        background
            Whether a detached worker does the work.

        Raises
        ------
        BaseException
            The error that stopped the work; it carries the outcome, and a note that describes it.
        """
        self._context.check_writable()
        migrate(self._context)
        with Interrupts() as interrupts:
            record = self._existing(process_id)
            if record is not None and record.status is Status.SUCCEEDED:
                self._check_same_call(record, operation)
                warn(messages.already_done(record))
                return Outcome(OutcomeKind.SUCCEEDED, record.process_id)
            if record is not None:
                process = self._take_up(record, operation)
            else:
                process = self._begin(operation, process_id, background, interrupts)
            return self._hand_over(process) if background else self._carry_out(process, interrupts)

    def run_child(self, operation: Operation[Any], process_id: str, shown_as: str) -> bool:
        """Run an operation as a child of this engine's parent, like `run` but without its warnings.

        Return whether it did any work; `False` if it had already succeeded.
        """
        with Interrupts() as interrupts:
            record = self._existing(process_id)
            if record is not None and record.status is Status.SUCCEEDED:
                self._check_same_call(record, operation)
                self._show_in_parent(record.progress, shown_as)
                return False
            if record is not None:
                process = self._take_up(record, operation)
            else:
                process = self._begin(operation, process_id, background=False, interrupts=interrupts)
            if self._parent is not None:
                process.progress.show_in(self._parent.progress, shown_as)
            self._carry_out(process, interrupts)
        return True

    def _show_in_parent(self, progress: Progress, shown_as: str) -> None:
        if self._parent is not None:
            ended = ExecutionProgress()
            ended.restore(progress)
            ended.show_in(self._parent.progress, shown_as)

    def resume(self, record: ProcessRecord) -> Outcome:
        """Continue a process with its recorded arguments, like `run`."""
        migrate(self._context)
        with Interrupts() as interrupts:
            process = self._take_up(record, None)
            return self._hand_over(process) if record.background else self._carry_out(process, interrupts)

    def take_over(self, record: ProcessRecord, earlier_arguments: JsonObject | None) -> None:
        """Run a process that another interpreter prepared, and whose owner waits for this claim.

        Parameters
        ----------
        record
            The process.
        earlier_arguments
            As in `Process`.
        """
        with Interrupts() as interrupts:
            process = claim(self._context, record, resumed=record.attempt > 1, kind=WORKER)
            if process is not None:
                process.earlier_arguments = earlier_arguments
                self._carry_out(process, interrupts)

    def _carry_out(self, process: Process, interrupts: Interrupts) -> Outcome:
        """Work, decide and apply; on an error, revert, pause or give up ownership."""
        outcome = Outcome(OutcomeKind.SUCCEEDED, process.process_id)
        if self._parent is not None:
            # Its warnings are left to its parent.
            self._changed(process, interrupts)
            return outcome
        with LateWarnings() as late:
            for message in self._changed(process, interrupts).warnings:
                warn(message)
        if late:
            raise late[0]
        return outcome

    def _changed(self, process: Process, interrupts: Interrupts) -> Changes:
        try:
            try:
                changes = self._work(process, interrupts)
                decided = self.decisions.commit(process, changes)
            except BaseException as error:  # noqa: BLE001 - it is raised again, as the user's own
                original = error.original if isinstance(error, FunctionError) else error
                note_missing_module(original)
                self._fail(process, error)
                _raise_as_it_was(original)
            try:
                self.decisions.apply(decided)
            except BaseException as error:
                tell(error, Outcome(OutcomeKind.COMMITTED, process.process_id, cause_of(error)))
                raise
        finally:
            process.leave()
        return changes

    def _work(self, process: Process, interrupts: Interrupts) -> Changes:
        if process.resumed:
            self._transitions.set_running(process.serial, process.attempt)
        process.parent = self._parent
        inside = replace(self._context, parent_serial=process.serial)
        process.children = ChildProcesses(process, lambda: Engine(inside, parent=process))
        # An observer may start a thread, which would take a tenth of creating a table.
        observer = self._observer if process.operation.counts_rows else None
        watching = observer.working(process.progress) if observer is not None else nullcontext()
        try:
            with watching, interrupts.exposed():
                changes = process.operation.work(process.plan, process)
        finally:
            # Breaks a reference cycle, which would keep the catalog's connections open until the next collection.
            del process.children
        process.close_checkpoints_cheaply()
        return changes

    def _hand_over(self, process: Process) -> Outcome:
        """Hand the process over to a background worker."""
        try:
            hand_over(self._context, process)
        except BaseException as error:
            self._fail(process, error)
            raise
        finally:
            process.leave()
        return Outcome(OutcomeKind.HANDED_OVER, process.process_id)

    def _fail(self, process: Process, error: BaseException) -> None:
        """End a failed attempt, and let its error carry the outcome."""
        if process.lease.is_inherited:
            return
        self.secrets = process.secrets
        original = error.original if isinstance(error, FunctionError) else error
        outcome = self._failing.end(process, error)
        if self._parent is None:
            tell(original, outcome)
        else:
            # The parent's note describes both.
            set_outcome(original, outcome)
            add_note(original, messages.note_of_child(outcome, process.operation.name, process.plan.table_name))

    # --- restarting -----------------------------------------------------------------------------------------------

    def restart(self) -> dict[str, Outcome]:
        """Take up every active process without a live owner, oldest first; return the outcome of each."""
        self._context.check_writable()
        return {
            listed.process_id: self._restart_one(self._processes.get(listed.serial) or listed, listed.attempt)
            for listed in self._processes.unfinished()
        }

    def _restart_one(self, record: ProcessRecord, attempt: int) -> Outcome:
        running = Outcome(OutcomeKind.RUNNING, record.process_id)
        if record.finished:
            # Its own owner ended it; or its parent, resumed before it, or another owner ran it.
            return running if record.attempt == attempt else self._recorded(record)
        if self._liveness.is_running(record):
            return running
        was_stopped = record.status is Status.RUNNING and record.stop_requested
        if record.is_decided or was_stopped or not record.user_given:
            outcome = None if self._liveness.is_alive(record) else self.recovery.recover(record)
            return outcome or running
        whole = self._parent_of_step(record)
        if whole is not None and self._liveness.is_running(whole):
            return running
        if whole is not None and record.attempt != attempt:
            # Its parent, resumed before it, took it up; it has paused again, with its parent.
            return self._recorded(record)
        return self._resume_in_restart(record)

    def _parent_of_step(self, record: ProcessRecord) -> ProcessRecord | None:
        """Return the ancestor that a process is resumed with; `None` if it is resumed by itself."""
        parent = self._processes.get(record.parent_serial) if record.parent_serial is not None else None
        return parent if parent is not None and operation_named(parent.operation).runs_children else None

    def _resume_in_restart(self, record: ProcessRecord) -> Outcome:
        try:
            return self.resume(record)
        except Exception as error:  # noqa: BLE001 - a failure must not keep other processes from being restarted
            current = self._processes.get(record.serial) or record
            if self._liveness.is_alive(current):
                # Another owner took it up at the same moment.
                return Outcome(OutcomeKind.RUNNING, record.process_id)
            warn(f"Restarting process '{record.process_id}' ({record.operation}) failed: {_told(current, error)}")
            return self._recorded(current)

    def _recorded(self, record: ProcessRecord) -> Outcome:
        return recorded_outcome(self._context.layout.root, record, self._liveness.status(record))

    # --- beginning ------------------------------------------------------------------------------------------------

    def _existing(self, process_id: str | None) -> ProcessRecord | None:
        """Return the process that a call with this id continues; `None` if the id is unused."""
        if process_id is None:
            return None
        names.check_process_id(process_id)
        record = self._processes.find(process_id)
        if record is not None and not self._liveness.is_alive(record) and record.status is not Status.PAUSED:
            # First end a process whose owner left it half-ended.
            if not record.finished:
                self.recovery.recover(record)
            record = self._processes.find(process_id)
        return None if record is None or record.status is Status.REVERTED else record

    def _begin(
        self, operation: Operation[Any], process_id: str | None, background: bool, interrupts: Interrupts
    ) -> Process:
        """Plan an operation, take its locks, and stage its pinned inputs."""
        new = self._describe(operation, process_id, background)
        lease, owner = new_owner(self._context)
        try:
            serial, plan = self._take_locks(operation, new, owner, interrupts)
        except BaseException as error:
            lease.release()
            if isinstance(error, Exception):
                self._record_refused(new, operation, error)
            raise
        process = Process(self._context, new.process_id, serial, 1, new.user_given, operation, plan, lease)
        try:
            operation.pin(plan, process)
        except BaseException as error:
            self._fail(process, error)
            process.leave()
            raise
        return process

    def _describe(self, operation: Operation[Any], process_id: str | None, background: bool) -> NewProcess:
        user_given = process_id is not None if self._parent is None else self._parent.user_given
        new = NewProcess(
            process_id=process_id or names.new_process_id(),
            operation=operation.name,
            author=self._context.author,
            arguments={},
            parent_serial=self._context.parent_serial,
            user_given=user_given,
            background=background,
        )
        try:
            return replace(new, arguments=operation.record(digest_payload=new.user_given))
        except Exception as error:
            # Arguments that cannot be recorded are refused like any other wrong argument.
            self._record_refused(new, operation, error)
            raise

    def _record_refused(self, new: NewProcess, operation: Operation[Any], error: Exception) -> None:
        named = getattr(operation, "table_name", "")
        table_name = storable(named)[: names.MAXIMUM_NAME_LENGTH] if isinstance(named, str) else ""
        try:
            self._transitions.record_refused(new, table_name, describe_error(error, Secrets()))
            self.decisions.write_log()
        except OSError as trouble:
            add_note(error, f"The refusal could not be logged ({trouble}).")

    def _take_locks(
        self, operation: Operation[Any], new: NewProcess, owner: Owner, interrupts: Interrupts
    ) -> tuple[int, Plan]:
        """Plan and take the locks; wait for processes that hold them."""
        deadline, called_at = clock.monotonic() + self._context.lock_timeout, datetime.now(UTC)

        def try_to_begin() -> tuple[int, Plan] | None:
            while True:
                interrupts.check()
                outcome = self._try_to_begin(operation, new, owner, called_at)
                if not isinstance(outcome, Blocked):
                    return outcome
                if not operation.waits and clock.monotonic() < deadline:
                    # Plan again, without the objects that other processes hold by now.
                    return None
                if self._clear_the_way(outcome, deadline):
                    return None

        begun = poll(try_to_begin, growing(_MINIMUM_WAIT, _MAXIMUM_WAIT))
        assert begun is not None  # The loop of pauses is endless; only an error ends the wait.
        return begun

    def _try_to_begin(
        self, operation: Operation[Any], new: NewProcess, owner: Owner, called_at: datetime
    ) -> tuple[int, Plan] | Blocked:
        draft = Draft(self._lookup, new.process_id, called_at)
        generation = _NO_GENERATION
        try:
            with self._context.catalog.snapshot():
                try:
                    plan = _with_locks(operation.plan(draft), draft.locks)
                finally:
                    # Last, because the plan's look-ups read it, too.
                    generation = self._lookup.contents.generation()
        except TVProcessError:
            # An error about a process is more helpful than a conflict.
            raise
        except (TableVaultError, OSError):
            # A conflict is more helpful than a missing or existing object, which may be about to change. Also, a file
            # may have been moved after its path was read from the catalog.
            if new.user_given:
                # Another interpreter may have made the same call.
                self._processes.check_id_is_free(new.process_id)
            holders = self._processes.conflicts(draft.locks, new.parent_serial)
            if not holders and self._lookup.contents.generation() == generation:
                raise
            return Blocked(holders, draft.locks)
        begun = self._transitions.begin(new, plan, owner)
        if isinstance(begun, Blocked):
            return replace(begun, wanted=plan.locks)
        if begun.has_failed_steps or begun.generation != generation:
            return self._plan_again(operation, begun, plan, Draft(self._lookup, new.process_id, called_at))
        return begun.serial, plan

    def _plan_again(
        self, operation: Operation[Any], begun: Begun, plan: Plan, draft: Draft
    ) -> tuple[int, Plan] | Blocked:
        """Plan again with the locks held, after another process committed or its failed steps were retried."""
        try:
            if begun.has_failed_steps:
                self.decisions.retry_tidying()
            again = _with_locks(operation.plan(draft), draft.locks)
        except BaseException:
            self._transitions.withdraw(begun.serial)
            raise
        if again.locks != plan.locks:
            self._transitions.withdraw(begun.serial)
            return Blocked(())
        if again != plan:
            self._transitions.save_plan(begun.serial, again)
        return begun.serial, again

    def _clear_the_way(self, blocked: Blocked, deadline: float) -> bool:
        """Recover dead holders, and return whether to wait for a live one.

        Raises if waiting is pointless.
        """
        live: list[ProcessRecord] = []
        for serial in blocked.holders:
            record = self._processes.get(serial)
            if record is None or record.finished:
                continue
            if self._liveness.status(record) is Status.PAUSED:
                held = self._in_the_way(record, blocked)
                whole = whole_of(record, self._processes)
                raise TVLockError(messages.blocked_by_paused(self._context.layout.root, record, whole, held))
            if self._processes.is_ancestor(serial, self._context.parent_serial):
                raise TVLockError(messages.blocked_by_ancestor(record, self._in_the_way(record, blocked)))
            if self._liveness.is_alive(record):
                live.append(record)
            else:
                self.recovery.recover(record)
        if live and clock.monotonic() >= deadline:
            held = self._in_the_way(live[0], blocked)
            raise TVLockError(messages.blocked(live[0], self._context.lock_timeout, held))
        return bool(live)

    def _in_the_way(self, holder: ProcessRecord, blocked: Blocked) -> Lock | None:
        """Return the lock of a process that conflicts with the wanted ones.

        Returns `None` if it was just released.
        """
        held = self._processes.locks_of(holder.serial)
        return next((lock for lock in held if any(map(lock.conflicts, blocked.wanted))), None)

    # --- continuing -----------------------------------------------------------------------------------------------

    def _take_up(self, record: ProcessRecord, operation: Operation[Any] | None) -> Process:
        """Claim a paused process; a wrong call leaves it unchanged."""
        if operation is not None:
            self._check_same_call(record, operation)
        if record.status is Status.STOPPED:
            raise TVProcessError(f"Process '{record.process_id}' was stopped; an id cannot be used again after a stop.")
        process = claim_when_free(self._context, record)
        if process is None:
            raise TVProcessError(self._why_not_taken_up(record))
        try:
            if process.is_decided:
                # The owner decided and died after the record was read.
                self.decisions.finish(process.serial)
                raise TVProcessError(self._why_not_taken_up(record))
            if operation is not None:
                # The recorded arguments apply, except for payloads and policies, which a later call may replace.
                process.operation = process.operation.continued_by(operation)
                replaced = process.operation.replaced(record.arguments)
                if replaced:
                    process.earlier_arguments = dict(record.arguments)
                    arguments = {**record.arguments, **replaced}
                    self._transitions.replace_arguments(process.serial, process.attempt, arguments)
            if not process.operation.is_resumable(process.plan, process):
                self._transitions.pause(process.serial, process.attempt, None, None)
                text = messages.needs_payload(self._context.layout.root, record)
                raise self._still_paused(record, TVProcessError(text))
        except BaseException:
            process.leave()
            raise
        return process

    def _why_not_taken_up(self, record: ProcessRecord) -> str:
        current = self._processes.get(record.serial) or record
        return messages.ended_meanwhile(current) if current.finished else messages.still_running(current)

    def _check_same_call(self, record: ProcessRecord, operation: Operation[Any]) -> None:
        if record.operation != operation.name:
            raise TVProcessError(messages.another_operation(record, operation.name))
        different = operation.first_difference(record.arguments)
        refused = operation.refused_edit(record.arguments, record.status is Status.SUCCEEDED)
        if different is not None or refused is not None:
            text = messages.another_argument(record, different) if different else messages.edited(record, refused or "")
            is_paused = self._liveness.status(record) is Status.PAUSED
            raise self._still_paused(record, TVProcessError(text)) if is_paused else TVProcessError(text)
        try:
            operation.check_given()
        except TVArgumentError as error:
            if self._liveness.status(record) is Status.PAUSED:
                self._still_paused(record, error)
            raise

    def _still_paused(self, record: ProcessRecord, error: Refusal) -> Refusal:
        """Return the error of a call that leaves a paused process unchanged, with this outcome."""
        remedies = RecordedCall.of(self._context.layout.root, record).while_paused
        set_outcome(error, Outcome(OutcomeKind.STILL_PAUSED, record.process_id, Cause.VAULT, remedies=remedies))
        return error


def _told(record: ProcessRecord, error: BaseException) -> str:
    """Return an error in one line, in its recorded form if there is one."""
    if record.error is not None:
        return record.error.in_line
    return f"{type(error).__name__}: {in_line(message_of(error))}"


def _raise_as_it_was(error: BaseException) -> NoReturn:
    """Raise an error of user code with its original cause and context."""
    had = origin_of(error)
    try:
        raise error
    finally:
        set_origin(error, had)


def _with_locks(plan: Plan, locks: tuple[Lock, ...]) -> Plan:
    return structs.replace(plan, locks=locks)
