"""One attempt of a process: what the engine holds in its hands while it runs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Literal

from tablevault.catalog.owners import OwnerLock
from tablevault.context import VaultContext
from tablevault.errors import TableVaultError
from tablevault.liveness import Liveness
from tablevault.names import without_namespaces
from tablevault.notes import class_name_of, message_of, traceback_of
from tablevault.operations.base import Operation, operation_named
from tablevault.ports import FunctionError
from tablevault.processes.signals import is_from_signal
from tablevault.texts import Secrets, storable
from tablevault.transaction import Transaction
from tablevault.values import Cause, ErrorInfo, Owner, Plan, ProcessRecord, Status
from tablevault.waiting import poll

_RECOVERY_POLL = 0.001
"""Seconds between two checks whether a recovery is over, which takes milliseconds."""


@dataclass
class Attempt:
    """A claimed process, ready to work or to be ended."""

    operation: Operation[Any]
    plan: Plan
    transaction: Transaction
    owner_lock: OwnerLock
    user_given: bool
    status: Status = Status.RUNNING
    """Of the process when this attempt claimed it."""

    @property
    def serial(self) -> int:
        """The process's number in the catalog."""
        return self.transaction.serial

    @property
    def number(self) -> int:
        """Which attempt of its process this is: the fencing token."""
        return self.transaction.attempt

    @property
    def is_decided(self) -> bool:
        """Whether nothing was left to do when this attempt claimed the process, but to tidy up."""
        return self.status is Status.COMMITTING or self.status.ended

    def leave(self) -> None:
        """Give up ownership: whatever happens to the process next, this attempt has no part in it.

        A child that the user's function forked, and that left it by an exception, owns nothing that it could give up.
        """
        if self.owner_lock.is_inherited:
            return
        self.transaction.abandon_checkpoints()
        self.transaction.release_others()
        self.owner_lock.release()


def new_owner(context: VaultContext, kind: str = "owner") -> tuple[OwnerLock, Owner]:
    """Hold the lock file of a new attempt, and say who holds it."""
    lock = context.owners.claim(kind)
    return lock, Owner(lock.name, context.owners.host, os.getpid())


def claim(context: VaultContext, record: ProcessRecord, resumed: bool = True, kind: str = "owner") -> Attempt | None:
    """Take over a process whose owner is gone or hands it over; `None` if somebody else was faster."""
    lock, owner = new_owner(context, kind)
    attempt = None
    try:
        claimed = context.catalog.processes.claim(record, owner)
        if claimed is not None:
            attempt = _attempt_of(context, claimed, lock)
            attempt.transaction.resumed = resumed
            context.owners.forget(record.owner_lock)
    finally:
        if attempt is None:
            lock.release()
    return attempt


def claim_when_free(context: VaultContext, record: ProcessRecord) -> Attempt | None:
    """Claim a process, after an owner that only recovers it; `None` if it has a live owner or is over."""
    liveness, processes = Liveness(context), context.catalog.processes
    current = record

    def try_to_claim() -> Attempt | Literal[False] | None:
        """Return `False` if waiting is pointless."""
        nonlocal current
        claimed = None if liveness.is_alive(current) else claim(context, current)
        if claimed is not None:
            return claimed
        current = processes.get_now(current.serial) or current
        return False if current.finished or liveness.is_running(current) else None

    claimed: Attempt | Literal[False] | None
    claimed = poll(try_to_claim, repeat(_RECOVERY_POLL), context.lock_timeout)
    return claimed or None


def _attempt_of(context: VaultContext, claimed: ProcessRecord, lock: OwnerLock) -> Attempt:
    operation = operation_named(claimed.operation).restore(claimed.arguments)
    transaction = Transaction(context, claimed.process_id, claimed.serial, claimed.attempt)
    transaction.progress.restore(claimed.progress)
    return Attempt(operation, claimed.plan, transaction, lock, claimed.user_given, claimed.status)


def describe_error(error: BaseException, hidden: Secrets | None = None) -> ErrorInfo:
    """Return an exception as the catalog keeps it: whatever its class does, storable, and without secrets."""
    original = error.original if isinstance(error, FunctionError) else error
    hide = hidden or Secrets()
    return ErrorInfo(
        storable(hide(without_namespaces(class_name_of(original)))),
        storable(hide(message_of(original))),
        storable(hide(without_namespaces(traceback_of(original)))),
        cause_of(error),
    )


def cause_of(error: BaseException) -> Cause:
    """Return where an error of an attempt came from."""
    original = error.original if isinstance(error, FunctionError) else error
    if is_from_signal(original):
        return Cause.INTERRUPT
    if isinstance(error, FunctionError):
        return Cause.FUNCTION
    if isinstance(error, KeyboardInterrupt | SystemExit):
        return Cause.INTERRUPT
    return Cause.VAULT if isinstance(error, TableVaultError) else Cause.SYSTEM
