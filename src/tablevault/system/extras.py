"""Lazy imports of optional libraries."""

from __future__ import annotations

import contextlib
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

from tablevault.errors import TVArgumentError
from tablevault.system.forks import ForkHooks, around_forks

_THREADS = Path("/proc/self/task")
"""Threads of this process, on Linux."""


class _PolarsThreads:
    """Detects whether a fork has lost polars' threads, for which polars would wait forever."""

    def __init__(self) -> None:
        self._are_running = self.are_lost = False

    def before_fork(self) -> None:
        self._are_running = "polars" in sys.modules and _has_thread_named("polars-0")

    def in_child(self) -> None:
        self.are_lost |= self._are_running


def _has_thread_named(name: str) -> bool:
    for thread in _THREADS.iterdir() if _THREADS.is_dir() else ():
        with contextlib.suppress(OSError):  # The thread may have ended.
            if (thread / "comm").read_text().strip() == name:
                return True
    return False


_polars_threads = _PolarsThreads()
around_forks(ForkHooks(before=_polars_threads.before_fork, in_child=_polars_threads.in_child))


def check_polars_works() -> None:
    """Raise `TVArgumentError` in a forked process in which polars would deadlock."""
    if _polars_threads.are_lost:
        raise TVArgumentError(
            "polars was used before this process was forked, and its threads do not survive a fork. Start the process "
            "with the method 'spawn' of multiprocessing, or pass another format."
        )


def imported(module: str, needed_for: str, extra: str) -> Any:
    """Import a module of an optional library.

    Parameters
    ----------
    module
        Name of the module.
    needed_for
        The feature that needs it, as the start of a sentence.
    extra
        The extra of this package that installs it.

    Raises
    ------
    TVArgumentError
        If the library is not installed.
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise TVArgumentError(
            f"{needed_for} needs {module}: run pip install '.[{extra}]' in a clone of TableVault."
        ) from error
