"""Outcomes of processes and their remedies, without imports that slow the command line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Origin of an error."""

    VAULT = "vault"
    """A refusal by TableVault itself."""
    FUNCTION = "function"
    """An exception raised by a user's function."""
    INTERRUPT = "interrupt"
    """Ctrl-C or SIGTERM."""
    SYSTEM = "system"
    """The operating system, or a library."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """A possible action on a process, ready to be copied and run."""

    action: str
    """`resume` or `stop`."""
    python: str
    """The call in Python."""
    command: str
    """The command in a shell."""


_COMMANDS = {"create_tag": "tag"}
"""Operations whose commands have different names."""
_OPERATIONS = {command: operation for operation, command in _COMMANDS.items()}


def command_of(operation: str) -> str:
    """Return the name of an operation's command."""
    return _COMMANDS.get(operation, operation.replace("_", "-"))


def operation_of(command: str) -> str:
    """Return the name of a command's operation."""
    return _OPERATIONS.get(command, command.replace("-", "_"))


class OutcomeKind(StrEnum):
    """Result of an attempt, a recovery or a restart of a process."""

    SUCCEEDED = "succeeded"
    HANDED_OVER = "handed over"
    """A background worker runs it."""
    ROLLED_FORWARD = "rolled forward"
    """Its owner died after the decision; recovery completed it."""
    REVERTED = "reverted"
    STOPPED = "stopped"
    PAUSED = "paused"
    STILL_PAUSED = "still paused"
    """A call to resume it was refused."""
    RUNNING = "running"
    """Another owner is running it."""
    TAKEN_OVER = "taken over"
    """Another owner took it over from this attempt."""
    COMMITTED = "committed"
    """It is decided; only tidying up remains."""
    UNKNOWN = "unknown"
    """The commit failed with an unknown result."""
    UNRECORDED = "unrecorded"
    """Its end could not be recorded, and is left to recovery."""
    NOT_BEGUN = "not begun"
    """No process was begun."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """Outcome of a process, with the available remedies."""

    kind: OutcomeKind
    process_id: str
    cause: Cause | None = None
    """Origin of the error that led to it; `None` without an error."""
    kept_cells: int = 0
    """Computed cells of a reverted execution that `reuse_partial=True` reuses."""
    has_children: bool = False
    """Whether child processes did its work; finished ones survive a revert."""
    unsaved_rows: int = 0
    """Computed rows of a paused execution that could not be saved."""
    remedies: tuple[Remedy, ...] = ()
    detail: str = ""
    """Reason why the end could not be recorded."""

    @property
    def is_paused(self) -> bool:
        """Whether the process can be resumed."""
        return self.kind in (OutcomeKind.PAUSED, OutcomeKind.STILL_PAUSED)
