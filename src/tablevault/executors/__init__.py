"""How rows are run side by side: one adapter of `tablevault.ports.Executor` per way.

Rows that run one after the other, in the caller's thread, need none: `builders.filling` is their loop.
"""

from __future__ import annotations

from tablevault.executors.threads import ThreadExecutor

__all__ = ["ThreadExecutor"]
