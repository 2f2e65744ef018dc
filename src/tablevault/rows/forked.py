"""Termination of child processes forked by a function."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from tablevault.ports import CAME_BACK_IN_CHILD, FunctionError


def end_child(error: BaseException | None) -> NoReturn:
    """End a forked child that returned from the function.

    Its parent may be waiting for it. Threads do not survive a fork, so none could give it another row.
    """
    status = 1
    error = error.original if isinstance(error, FunctionError) else error
    with contextlib.suppress(BaseException):
        if isinstance(error, SystemExit):
            status = error.code if isinstance(error.code, int) else int(error.code is not None)
        else:
            print(CAME_BACK_IN_CHILD, file=sys.stderr)
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
    os._exit(status & 0xFF)
