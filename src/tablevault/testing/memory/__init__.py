"""Adapters in memory, in plain Python."""

from __future__ import annotations

from tablevault.testing.memory.catalog import MemoryCatalog
from tablevault.testing.memory.checkpoints import MemoryLog

__all__ = ["MemoryCatalog", "MemoryLog"]
