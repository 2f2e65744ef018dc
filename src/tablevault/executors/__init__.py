"""How rows are run: one adapter of `tablevault.interfaces.Executor` per way."""

from __future__ import annotations

from tablevault.executors.inline import InlineExecutor
from tablevault.executors.threads import ThreadExecutor
from tablevault.interfaces import Executor

__all__ = ["InlineExecutor", "ThreadExecutor", "executor_for"]


def executor_for(n_threads: int) -> Executor:
    """Return the executor that runs rows in this many threads: for one, that of the caller."""
    return InlineExecutor() if n_threads == 1 else ThreadExecutor(n_threads)
