"""TableVault keeps tables of expensive results across errors, crashes and power cuts."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from tablevault import errors as tv_errors
from tablevault.errors import (
    TableReferenceError,
    TableVaultError,
    TableVaultWarning,
    TVArgumentError,
    TVArtifactError,
    TVBuilderError,
    TVFileError,
    TVForcedError,
    TVImplementationError,
    TVLockError,
    TVProcessError,
    TVTableError,
)

if TYPE_CHECKING:
    from tablevault.archiving.archives import compress_vault, decompress_vault, delete_vault
    from tablevault.legacy import import_legacy_vault
    from tablevault.reading.arrays import to_numpy
    from tablevault.records import (
        ApplyPlan,
        BuilderDiff,
        BuilderPlan,
        BuilderProgress,
        CellTrace,
        ChangedCell,
        CodeVersion,
        ColumnDiff,
        ComputedIn,
        DefinitionDiff,
        ErrorInfo,
        FilePlan,
        GcGroup,
        GcItem,
        GcPlan,
        InstanceDiff,
        InstancePlan,
        Lineage,
        LineageStep,
        OwnerInfo,
        Problem,
        ProcessInfo,
        RefreshPlan,
        RefreshStep,
        Remedy,
        RowCounts,
        TableStatus,
        TagInfo,
        VerifyReport,
    )
    from tablevault.rows.usage import report_usage
    from tablevault.vault import TableVault

__version__ = "1.0.0.dev0"

# Imported on first use, so that a program that only reads the version does not wait for pandas.
_LAZY = {
    "TableVault": "tablevault.vault",
    **dict.fromkeys(("compress_vault", "decompress_vault", "delete_vault"), "tablevault.archiving.archives"),
    "import_legacy_vault": "tablevault.legacy",
    "to_numpy": "tablevault.reading.arrays",
    "report_usage": "tablevault.rows.usage",
    **dict.fromkeys(
        (
            "ApplyPlan",
            "BuilderDiff",
            "BuilderPlan",
            "BuilderProgress",
            "CellTrace",
            "ChangedCell",
            "CodeVersion",
            "ColumnDiff",
            "ComputedIn",
            "DefinitionDiff",
            "ErrorInfo",
            "FilePlan",
            "GcPlan",
            "GcItem",
            "GcGroup",
            "InstanceDiff",
            "InstancePlan",
            "Lineage",
            "LineageStep",
            "OwnerInfo",
            "Problem",
            "ProcessInfo",
            "RefreshPlan",
            "RefreshStep",
            "Remedy",
            "RowCounts",
            "TableStatus",
            "TagInfo",
            "VerifyReport",
        ),
        "tablevault.records",
    ),
}

__all__ = [
    "RowCounts",
    "InstanceDiff",
    "DefinitionDiff",
    "ColumnDiff",
    "ComputedIn",
    "ChangedCell",
    "BuilderDiff",
    "ApplyPlan",
    "BuilderPlan",
    "BuilderProgress",
    "CellTrace",
    "CodeVersion",
    "ErrorInfo",
    "FilePlan",
    "GcPlan",
    "GcItem",
    "GcGroup",
    "InstancePlan",
    "Lineage",
    "LineageStep",
    "OwnerInfo",
    "Problem",
    "ProcessInfo",
    "RefreshPlan",
    "RefreshStep",
    "Remedy",
    "TVArgumentError",
    "TVArtifactError",
    "TVBuilderError",
    "TVFileError",
    "TVForcedError",
    "TVImplementationError",
    "TVLockError",
    "TVProcessError",
    "TVTableError",
    "TableReferenceError",
    "TableStatus",
    "TableVault",
    "TableVaultError",
    "TableVaultWarning",
    "TagInfo",
    "VerifyReport",
    "__version__",
    "compress_vault",
    "decompress_vault",
    "delete_vault",
    "import_legacy_vault",
    "report_usage",
    "to_numpy",
    "tv_errors",
]


def load_ipython_extension(shell: Any) -> None:
    """Register the magics; `%load_ext tablevault` calls this."""
    import_module("tablevault.magics").register(shell)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tablevault' has no attribute '{name}'")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
