"""Operations: one class per kind of write."""

from __future__ import annotations

from tablevault.operations.apply import Apply
from tablevault.operations.base import Operation, operation_named
from tablevault.operations.execute import ExecuteInstance
from tablevault.operations.garbage import Gc
from tablevault.operations.instances import CreateInstance, DeleteInstance
from tablevault.operations.retry_failed import RetryFailed
from tablevault.operations.services import SetService
from tablevault.operations.tables import CreateTable, DeleteTable, RenameTable
from tablevault.operations.tags import CreateTag, DeleteTag
from tablevault.operations.text_files import CreateBuilderFile, CreateCodeModule, DeleteBuilderFile, DeleteCodeModule
from tablevault.operations.write import Write, WriteInstance

__all__ = [
    "Apply",
    "CreateBuilderFile",
    "CreateCodeModule",
    "CreateInstance",
    "CreateTable",
    "CreateTag",
    "DeleteBuilderFile",
    "DeleteCodeModule",
    "DeleteInstance",
    "DeleteTable",
    "DeleteTag",
    "ExecuteInstance",
    "Gc",
    "RetryFailed",
    "Operation",
    "RenameTable",
    "SetService",
    "Write",
    "WriteInstance",
    "operation_named",
]
