"""Conformance suites for adapters, usable with any test runner, and adapters in memory.

A check takes a factory of the adapter, and raises `AssertionError` if the adapter breaks its contract. With pytest::

    @pytest.mark.parametrize("check", EXECUTOR_CHECKS)
    def test_my_executor(check, tmp_path):
        check(lambda open_function: MyExecutor(4, open_function), tmp_path)
"""

from __future__ import annotations

from tablevault.testing.catalogs import CATALOG_CHECKS
from tablevault.testing.checkpoints import CHECKPOINT_LOG_CHECKS
from tablevault.testing.executors import EXECUTOR_CHECKS, LOCAL_EXECUTOR_CHECKS, Awaited
from tablevault.testing.files import FILE_STORE_CHECKS
from tablevault.testing.memory import MemoryCatalog, MemoryFiles, MemoryLog, MemoryOwners
from tablevault.testing.owners import OWNERS_CHECKS

__all__ = [
    "CATALOG_CHECKS",
    "CHECKPOINT_LOG_CHECKS",
    "EXECUTOR_CHECKS",
    "FILE_STORE_CHECKS",
    "LOCAL_EXECUTOR_CHECKS",
    "OWNERS_CHECKS",
    "Awaited",
    "MemoryCatalog",
    "MemoryFiles",
    "MemoryLog",
    "MemoryOwners",
]
