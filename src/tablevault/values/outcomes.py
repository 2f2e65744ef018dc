"""Outcomes of processes, and the remedies for them; light enough for the start of the command line."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Cause(StrEnum):
    """Where an error came from."""

    VAULT = "vault"
    """TableVault itself refused something."""
    FUNCTION = "function"
    """It escaped from a user's function."""
    INTERRUPT = "interrupt"
    """Ctrl-C or SIGTERM."""
    SYSTEM = "system"
    """The operating system, or a library."""


@dataclass(frozen=True, slots=True)
class Remedy:
    """One thing to do about a process, ready to be copied and run."""

    action: str
    """`resume` or `stop`."""
    python: str
    """The call in Python."""
    command: str
    """The command in a shell."""


_COMMANDS = {"create_tag": "tag"}
"""Operations whose command has another name."""
_OPERATIONS = {command: operation for operation, command in _COMMANDS.items()}


def command_of(operation: str) -> str:
    """Return the name of an operation's command."""
    return _COMMANDS.get(operation, operation.replace("_", "-"))


def operation_of(command: str) -> str:
    """Return the name of the operation that a command is."""
    return _OPERATIONS.get(command, command.replace("-", "_"))


class OutcomeKind(StrEnum):
    """The end of an attempt, a recovery or a restart of a process."""

    SUCCEEDED = "succeeded"
    HANDED_OVER = "handed over"
    """A background worker runs it."""
    ROLLED_FORWARD = "rolled forward"
    """Its owner died after the decision; recovery applied the rest."""
    REVERTED = "reverted"
    STOPPED = "stopped"
    PAUSED = "paused"
    STILL_PAUSED = "still paused"
    """A call that would have resumed it was refused."""
    RUNNING = "running"
    """Another owner is running it."""
    TAKEN_OVER = "taken over"
    """Another owner took it from this attempt."""
    COMMITTED = "committed"
    """It is decided; only tidying up remains."""
    UNKNOWN = "unknown"
    """The commit failed, and its result is not known."""
    UNRECORDED = "unrecorded"
    """Its end could not be recorded, and is left to recovery."""
    NOT_BEGUN = "not begun"
    """No process was begun."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a process, with the remedies that it leaves."""

    kind: OutcomeKind
    process_id: str
    cause: Cause | None = None
    """Where the error came from that led to it; `None` without an error."""
    kept_cells: int = 0
    """Computed cells of a reverted execution that `reuse_partial=True` takes over."""
    has_children: bool = False
    """Whether its work was done by its children, of which those that had finished stay when it is reverted."""
    unsaved_rows: int = 0
    """Computed rows of a paused execution that could not be saved."""
    remedies: tuple[Remedy, ...] = ()
    detail: str = ""
    """Why the end could not be recorded."""

    @property
    def is_paused(self) -> bool:
        """Whether the process can be resumed."""
        return self.kind in (OutcomeKind.PAUSED, OutcomeKind.STILL_PAUSED)
