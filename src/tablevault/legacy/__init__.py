"""Import of TableVault 0.1.x vaults."""

from __future__ import annotations

from tablevault.legacy.importing import import_legacy_vault

__all__ = ["import_legacy_vault"]
