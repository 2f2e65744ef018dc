"""Errors and warnings of TableVault itself.

::

    TableVaultError
    ├── TVArgumentError          an argument is invalid, or names something that does not exist
    ├── TVLockError              another process holds a lock that this operation needs
    ├── TVProcessError           a process id cannot be used in this way now
    ├── TVBuilderError           a builder file is wrong
    ├── TVTableError             a frame is wrong, or cannot be read
    ├── TVArtifactError          an artifact is missing, unnamed or outside its folder
    ├── TVFileError              a file of the vault is missing, damaged or cannot be used
    ├── TVForcedError            this process was stopped by `stop_process(force=True)`
    ├── TVImplementationError    an assumption of TableVault itself does not hold: a bug
    └── TableReferenceError      a `<<reference>>` is wrong, or cannot be resolved

    TableVaultWarning            a `UserWarning`: nothing failed, but something deserves a look

An exception that escapes from a user's function is never wrapped in one of these.
"""

from __future__ import annotations

from tablevault.texts.plain import printable

_REPORT_IT = "This is a bug in TableVault: please report it, with its traceback."


class TableVaultError(Exception):
    """Base class of all errors that TableVault raises on its own account."""

    def __str__(self) -> str:
        # A message may quote a text of any length that no stream can encode.
        return printable(super().__str__())


class TVArgumentError(TableVaultError):
    """An argument of a call is wrong, or names something that does not exist."""


class TVLockError(TableVaultError):
    """Another process holds a lock that this operation needs."""


class TVProcessError(TableVaultError):
    """A process id cannot be used in this way now."""


class TVBuilderError(TableVaultError):
    """A builder file is wrong."""


class TVTableError(TableVaultError):
    """A frame is wrong, or cannot be read."""


class TVArtifactError(TableVaultError):
    """An artifact is missing, is not named by any cell, or lies outside its folder."""


class TVFileError(TableVaultError):
    """A file of the vault is missing, damaged, or cannot be used."""


class TVForcedError(TableVaultError):
    """The running process was asked to stop by `stop_process(force=True)`."""


class TVImplementationError(TableVaultError):
    """An assumption of TableVault itself does not hold. Please report it."""

    def __str__(self) -> str:
        text = super().__str__()
        # An error recorded by another interpreter already has it.
        return text if text.endswith(_REPORT_IT) else f"{text} {_REPORT_IT}"


class TableReferenceError(TableVaultError):
    """A `<<reference>>` is wrong, or cannot be resolved."""


class RetryLater(Exception):
    """Raised by a function to ask for the same call again, later.

    It is a transient error outside the hierarchy of `TableVaultError`, since it belongs to the function that raises it.

    Parameters
    ----------
    after
        Minimum seconds to wait; `None` waits according to the builder's `retry`.

    Examples
    --------
    >>> raise RetryLater(after=30)
    Traceback (most recent call last):
    tablevault.errors.RetryLater: try again after 30 s
    """

    def __init__(self, after: float | None = None) -> None:
        super().__init__("try again later" if after is None else f"try again after {after:g} s")
        self.retry_after = after

    def __reduce__(self) -> tuple[object, ...]:
        # Its text is not an argument of the class.
        return type(self), (self.retry_after,), vars(self)


class StopRun(Exception):
    """Raised by a function to end the run.

    It is never collected and never retried.

    Like any exception of a function, it pauses a process with a user-given id and reverts any other.
    """


class BudgetSpent(Exception):
    """The budget of a builder or process does not allow another call.

    It pauses a process with a user-given id and reverts any other, whose cells are kept for `reuse_partial`. The same
    call with a larger budget continues.
    """


class JobsPending(Exception):
    """Not all jobs of a builder with `wait: false` are ready.

    All of them are submitted.

    It pauses the process. The same call polls the jobs again and stores the rows of those that are ready.
    """


class TableVaultWarning(UserWarning):
    """Nothing failed, but something deserves a look."""
