"""Format of a vault, its marker file, and the upgrade of older vaults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from tablevault.errors import TVArgumentError, TVFileError, TVLockError
from tablevault.layout import FORMAT, OLDEST_READABLE, VaultLayout
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.storage import files
from tablevault.values.processes import ProcessRecord


@dataclass(frozen=True)
class Marker:
    """Content of the file that marks a folder as a vault."""

    format: int
    vault_id: str
    created: str
    catalog: str | None = None
    """URL of the catalog; `None` for the file inside the vault."""


def read_marker(layout: VaultLayout) -> Marker:
    """Return the content of a vault's marker.

    Raises
    ------
    TVArgumentError
        If this version cannot read the vault's format.
    TVFileError
        If the file is damaged.
    """
    try:
        marker = json.loads(files.read_bytes(layout.marker))
        catalog = marker.get("catalog")
        found = Marker(int(marker["format"]), str(marker["vault_id"]), str(marker["created"]), catalog and str(catalog))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TVFileError(f"The vault's marker file {layout.marker} is damaged ({error}).") from error
    if not OLDEST_READABLE <= found.format <= FORMAT:
        raise TVArgumentError(
            f"The vault '{layout.root}' has format {found.format}; this version of TableVault reads formats "
            f"{OLDEST_READABLE} to {FORMAT}. Install a newer version of TableVault."
        )
    return found


def write_marker(layout: VaultLayout, marker: Marker) -> None:
    """Write the marker of a vault in the newest format, durably."""
    facts = {**asdict(marker), "format": FORMAT, "storage": "folder"}
    files.write_text(layout.marker, json.dumps(facts) + "\n", layout.temporary)


def check_same_vault(context: VaultContext) -> None:
    """Raise `TVFileError` if the catalog belongs to another vault; note its format."""
    marker = read_marker(context.layout)
    number, vault_id = context.catalog.identity()
    if number > FORMAT:
        raise TVArgumentError(
            f"The catalog of the vault '{context.layout.root}' has format {number}; this version of TableVault reads "
            f"formats up to {FORMAT}. Install a newer version of TableVault."
        )
    if vault_id not in (None, marker.vault_id):
        raise TVFileError(
            f"The catalog {context.layout.catalog} is that of the vault {vault_id}, but the marker file of "
            f"'{context.layout.root}' names {marker.vault_id}. Restore both from one copy."
        )
    context.catalog.is_newest = number == marker.format == FORMAT


def migrate(context: VaultContext) -> None:
    """Upgrade a vault to the newest format before a write; no-op if it is current.

    The catalog's format is authoritative. The marker follows, in the next operation if this one is interrupted.

    Raises
    ------
    TVLockError
        If a process is running in the vault.
    """
    if context.catalog.is_newest:
        return
    marker = read_marker(context.layout)

    def check(unfinished: Sequence[ProcessRecord]) -> None:
        for record in unfinished:
            if Liveness(context).is_alive(record):
                raise TVLockError(
                    f"The vault '{context.layout.root}' must be upgraded from format {marker.format} to {FORMAT}, but "
                    f"process '{record.process_id}' ({record.operation}) is running. Try again after it has ended."
                )

    context.catalog.migrate(marker.vault_id, marker.created, check)
    write_marker(context.layout, marker)
    context.catalog.is_newest = True
