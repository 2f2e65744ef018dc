"""Operations, with one class per kind of write.

They are imported when a vault is opened, so that no import is interrupted in the middle of a call. The command line
imports only the operation that it needs; most commands need none.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from tablevault.operations.base import Operation, operation_named, operation_names

if TYPE_CHECKING:
    from tablevault.operations.apply import Apply
    from tablevault.operations.execute import ExecuteInstance
    from tablevault.operations.garbage import Gc
    from tablevault.operations.instances import CreateInstance, DeleteInstance
    from tablevault.operations.retry_failed import RetryFailed
    from tablevault.operations.services import SetService
    from tablevault.operations.tables import CreateTable, DeleteTable, RenameTable
    from tablevault.operations.tags import CreateTag, DeleteTag
    from tablevault.operations.text_files import (
        CreateBuilderFile,
        CreateCodeModule,
        DeleteBuilderFile,
        DeleteCodeModule,
    )
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


loaded_when_opened = True
"""Whether opening a vault imports all operations; the command line sets it to `False`."""


def load() -> None:
    """Import all operations."""
    for name in operation_names():
        operation_named(name)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return operation_named(re.sub("(?<=.)(?=[A-Z])", "_", name).lower())
