"""Warnings that point at the calling program's line."""

from __future__ import annotations

import contextlib
import contextvars
import os
import sys
import traceback
import warnings
from pathlib import Path

from tablevault.errors import TableVaultWarning

_PACKAGE = f"{Path(__file__).parents[1]}{os.sep}"
_heard: contextvars.ContextVar[list[str] | None] = contextvars.ContextVar("heard", default=None)
_late: contextvars.ContextVar[list[TableVaultWarning] | None] = contextvars.ContextVar("late", default=None)


class LateWarnings:
    """Collects warnings that a filter turns into errors.

    None of them interrupts the work of a block.

    Not a generator-based context manager: that would write to exceptions that pass through it, and some are immutable.
    """

    def __enter__(self) -> list[TableVaultWarning]:
        late: list[TableVaultWarning] = []
        self._token = _late.set(late)
        return late

    def __exit__(self, *_: object) -> None:
        _late.reset(self._token)


def hear_warnings() -> list[str]:
    """Return the current context's list of warning texts; recording starts with the first call."""
    heard = _heard.get()
    if heard is None:
        _heard.set(heard := [])
    return heard


def warn(message: str, raised: BaseException | None = None) -> None:
    """Issue a warning that points at a line of the user.

    Parameters
    ----------
    message
        Its text.
    raised
        The exception at whose line it points; by default, it points at the line that called TableVault.
    """
    heard = _heard.get()
    if heard is not None and message not in heard:
        heard.append(message)
    try:
        if raised is not None and (frames := traceback.extract_tb(raised.__traceback__)):
            warnings.warn_explicit(message, TableVaultWarning, frames[-1].filename, frames[-1].lineno or 1)
        else:
            warnings.warn(message, TableVaultWarning, stacklevel=_level_of_caller())
    except TableVaultWarning as error:
        late = _late.get()
        if late is None:
            raise
        late.append(error)


def _level_of_caller() -> int:
    """Return the level of the frame that called TableVault, seen from the function that calls this one."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_inside(frame.f_code.co_filename):
        level, frame = level + 1, frame.f_back
    return level


def _is_inside(file: str) -> bool:
    return file.startswith(_PACKAGE) or file == contextlib.__file__
