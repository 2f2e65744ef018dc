"""The unit of work that an operation is handed: it reads committed state and stages files, and cannot commit."""

from __future__ import annotations

import os
import secrets
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tablevault.context import VaultContext
from tablevault.errors import TVForcedError, TVImplementationError, TVProcessError
from tablevault.forks import ForkHooks, around_forks
from tablevault.layout import ProcessFolder
from tablevault.lookup import Lookup
from tablevault.ports import CAME_BACK_IN_CHILD
from tablevault.progress import ExecutionProgress
from tablevault.storage import files
from tablevault.texts import Secrets
from tablevault.values import Lock, Tidying, TidyingAction

if TYPE_CHECKING:
    from tablevault.storage.checkpoints import CheckpointStore


class Leavable(Protocol):
    """An attempt of a process, as far as another one holds it."""

    def leave(self) -> None:
        """Give up ownership."""


class Drafting(Lookup):
    """What an operation sees while it plans: committed state, and a list of the locks that it will need.

    Parameters
    ----------
    context
        The open vault.
    process_id
        The id under which the process will run.
    """

    def __init__(self, context: VaultContext, process_id: str) -> None:
        super().__init__(context)
        self.process_id = process_id
        self._wanted: dict[str, bool] = {}

    def lock_exclusive(self, resource: str) -> None:
        """Ask for a part of the vault that is going to be changed."""
        self._wanted[resource] = True

    def lock_shared(self, resource: str) -> None:
        """Ask for a part of the vault that is going to be read."""
        self._wanted.setdefault(resource, False)

    @property
    def locks(self) -> tuple[Lock, ...]:
        """The locks asked for, in the order of their resources."""
        return tuple(Lock(resource, exclusive) for resource, exclusive in sorted(self._wanted.items()))

    def free_folder(self, parent: Path, wanted: str) -> str:
        """Return a name for a new folder: the wanted one, unless something that is still to be tidied is there."""
        name = wanted
        while (parent / name).exists() or (parent / name).is_symlink():
            name = f"{wanted}~{secrets.token_hex(4)}"
        return name


class Transaction(Lookup):
    """What an operation sees while it works.

    Parameters
    ----------
    context
        The open vault.
    process_id, serial, attempt
        The process that works, and which of its attempts this is.
    """

    def __init__(self, context: VaultContext, process_id: str, serial: int, attempt: int) -> None:
        super().__init__(context)
        self.process_id = process_id
        self.serial = serial
        self.attempt = attempt
        self.resumed = False
        """Whether an earlier attempt may have run user code."""
        self.progress = ExecutionProgress()
        self.checkpoints: CheckpointStore | None = None
        """Opened by operations that compute row by row; closed by the engine, however the attempt ends."""
        self.stop_requested = False
        """Set by the checkpoints' background thread when the owner of this attempt is asked to stop, and in a child."""
        self._made_by = os.getpid()
        _open_here.add(self)
        self.functions_started = False
        """Whether the work has come so far that an error is one of the work, not of the call that resumed it."""
        self.secrets = Secrets()
        """Values that functions were given and that are recorded nowhere; known once one of them has failed."""
        self._others: list[Leavable] = []

    def hold(self, other: Leavable) -> None:
        """Hold another process until this attempt ends."""
        self._others.append(other)

    def release_others(self) -> None:
        """Give up the other processes that this attempt holds."""
        for other in self._others:
            other.leave()

    @property
    def workspace(self) -> ProcessFolder:
        """The process's folder in `_temp/`, that no reader looks into."""
        return self.layout.process(self.serial)

    def stage_text(self, name: str, text: str) -> Path:
        """Write a text durably into the process's folder and return its path."""
        path = self.workspace.staged / name
        files.make_folder(path.parent)
        files.write_text(path, text)
        return path

    def staged_text(self, name: str) -> str:
        """Return a text that an earlier step staged."""
        path = self.workspace.staged / name
        if not path.is_file():
            raise TVImplementationError(f"Process '{self.process_id}' never staged '{name}'.")
        return path.read_text(encoding="utf-8")

    def is_staged(self, name: str) -> bool:
        """Return whether an earlier step staged a file of this name."""
        return (self.workspace.staged / name).is_file()

    def raise_if_stopped(self) -> None:
        """Raise `TVForcedError` if somebody asked this process to stop, `TVProcessError` in a forked child."""
        if self._made_by != os.getpid():
            raise TVProcessError(CAME_BACK_IN_CHILD)
        if self.stop_requested:
            raise TVForcedError(
                f"Process '{self.process_id}' was stopped by stop_process(force=True); to do it after all, call it "
                "again with another process id."
            )

    def close_checkpoints(self) -> None:
        """Make everything computed durable and close its files; fine if nothing was opened."""
        if self.checkpoints is not None:
            self.checkpoints.close()

    def settle_checkpoints(self) -> None:
        """Do the same at the least cost, where they are about to be removed; only an error lets them be read again."""
        if self.checkpoints is not None:
            self.checkpoints.settle()

    def abandon_checkpoints(self) -> None:
        """Close the files of the checkpoints without waiting for the disk."""
        if self.checkpoints is not None:
            self.checkpoints.abandon()

    @property
    def unsaved_rows(self) -> int:
        """How many computed rows are not durable: they would be computed again."""
        return self.checkpoints.unflushed if self.checkpoints is not None else 0

    def clean_workspace(self) -> tuple[Tidying, ...]:
        """Return the steps that remove the process's folder."""
        if not self.workspace.root.exists():
            return ()
        return (Tidying(TidyingAction.REMOVE, self.layout.relative(self.workspace.root)),)


_open_here: weakref.WeakSet[Transaction] = weakref.WeakSet()


def _stop_in_child() -> None:
    """Let a child that comes back from the function that forked it call that function for no further row."""
    for transaction in list(_open_here):
        transaction.stop_requested = True


around_forks(ForkHooks(in_child=_stop_in_child))
