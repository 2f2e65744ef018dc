"""Adapters in memory, in plain Python."""

from __future__ import annotations

from tablevault.testing.memory.catalog import MemoryCatalog
from tablevault.testing.memory.checkpoints import MemoryLog
from tablevault.testing.memory.files import MemoryFiles
from tablevault.testing.memory.owners import MemoryOwners

__all__ = ["MemoryCatalog", "MemoryFiles", "MemoryLog", "MemoryOwners"]
