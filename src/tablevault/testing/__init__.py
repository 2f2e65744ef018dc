"""Conformance suites: what every adapter of an interface must do, as checks that any test runner can call.

A check takes a function that makes the adapter, and raises `AssertionError` if a promise is broken. With pytest::

    @pytest.mark.parametrize("check", EXECUTOR_CHECKS)
    def test_my_executor(check, tmp_path):
        check(lambda open_function: MyExecutor(4, open_function), tmp_path)
"""

from __future__ import annotations

from tablevault.testing.catalogs import CATALOG_CHECKS
from tablevault.testing.executors import EXECUTOR_CHECKS, LOCAL_EXECUTOR_CHECKS, Awaited

__all__ = ["CATALOG_CHECKS", "EXECUTOR_CHECKS", "LOCAL_EXECUTOR_CHECKS", "Awaited"]
