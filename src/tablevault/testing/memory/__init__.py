"""Catalog in memory, in plain Python."""

from __future__ import annotations

from tablevault.testing.memory.catalog import MemoryCatalog

__all__ = ["MemoryCatalog"]
