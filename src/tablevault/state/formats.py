"""Format of a vault, its marker file, and the upgrade of older vaults."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tablevault.errors import TableVaultError, TVArgumentError, TVFileError, TVLockError
from tablevault.layout import FORMAT, OLDEST_READABLE, VaultLayout
from tablevault.state.context import VaultContext
from tablevault.state.liveness import Liveness
from tablevault.storage import files
from tablevault.values.contents import CatalogIdentity
from tablevault.values.processes import ProcessRecord

_FOLDER = "folder"
"""Where a vault keeps its data: in its folder."""


@dataclass(frozen=True)
class Marker:
    """Content of the file that marks a folder as a vault."""

    format: int
    vault_id: str
    created: str
    catalog: str | None = None
    """URL of the catalog; `None` for the file inside the vault."""


def read_marker(layout: VaultLayout, file: Path | None = None) -> Marker:
    """Return the content of a vault's marker.

    Parameters
    ----------
    layout
        The vault.
    file
        The marker, if it has another name.

    Raises
    ------
    TVArgumentError
        If this version cannot read the vault's format, or does not know where it keeps its data.
    TVFileError
        If the file is damaged.
    """
    try:
        marker = json.loads(files.read_bytes(file or layout.marker))
        storage = marker.get("storage", _FOLDER)
        catalog = marker.get("catalog")
        found = Marker(int(marker["format"]), str(marker["vault_id"]), str(marker["created"]), catalog and str(catalog))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise TVFileError(f"The vault's marker file {layout.marker} is damaged ({error}).") from error
    if not OLDEST_READABLE <= found.format <= FORMAT:
        raise TVArgumentError(
            f"The vault '{layout.root}' has format {found.format}; this version of TableVault reads formats "
            f"{OLDEST_READABLE} to {FORMAT}. Install a newer version of TableVault."
        )
    if storage != _FOLDER:
        raise TVArgumentError(
            f"The vault '{layout.root}' keeps its data in {storage!r:.100}; this version of TableVault reads only "
            "vaults that are folders. Install a newer version of TableVault."
        )
    return found


def marker_text(marker: Marker) -> str:
    """Return the content of a marker file."""
    return json.dumps({**asdict(marker), "storage": _FOLDER}) + "\n"


def write_marker(layout: VaultLayout, marker: Marker) -> None:
    """Write the marker of a vault in the newest format, durably."""
    files.write_text(layout.marker, marker_text(replace(marker, format=FORMAT)), layout.temporary)


def address_of(layout: VaultLayout) -> str | None:
    """Return the folder that a catalog outside of it records; `None` for a catalog inside."""
    return str(layout.root) if layout.is_catalog_outside else None


def check_same_vault(context: VaultContext) -> None:
    """Raise `TVFileError` if the catalog belongs to another vault or copy.

    Notes the format of the catalog.
    """
    layout, marker, known = context.layout, read_marker(context.layout), context.catalog.identity()
    if known.format > FORMAT:
        raise TVArgumentError(
            f"The catalog of the vault '{layout.root}' has format {known.format}; this version of TableVault reads "
            f"formats up to {FORMAT}. Install a newer version of TableVault."
        )
    if known.vault_id not in (None, marker.vault_id):
        raise TVFileError(
            f"The catalog {layout.catalog} is that of the vault {known.vault_id}, but the marker file of "
            f"'{layout.root}' names {marker.vault_id}. Restore both from one copy."
        )
    if layout.is_catalog_outside and (known.format > 1 or marker.catalog is not None):
        _check_not_shared(layout, marker, known)
    is_newest = known.format == marker.format == FORMAT
    context.catalog.is_newest = is_newest and known.address == address_of(layout)


def _check_not_shared(layout: VaultLayout, marker: Marker, known: CatalogIdentity) -> None:
    """Raise `TVFileError` if the catalog, which is outside the vault, is used by another folder.

    A vault that was moved or mounted elsewhere may use it; a copy, or a forged marker, would change another vault.
    """
    if known.address is None:
        raise TVFileError(
            f"The marker file of '{layout.root}' names the catalog {layout.catalog}, which is inside another vault. "
            "Restore the marker file."
        )
    owner = VaultLayout(Path(known.address))
    try:
        is_used = read_marker(owner).vault_id == marker.vault_id and not owner.root.samefile(layout.root)
    except (OSError, TableVaultError):
        is_used = False
    if is_used:
        raise TVFileError(
            f"The vault '{layout.root}' is a copy of '{owner.root}', and its catalog {layout.catalog} belongs to that "
            "one. Delete the copy; compress_vault and decompress_vault make one with a catalog of its own."
        )


def migrate(context: VaultContext) -> None:
    """Upgrade a vault to the newest format before a write.

    Records its new place if it was moved. Does nothing if the vault is current.

    The catalog's format is authoritative. The marker follows, in the next operation if this one is interrupted.

    Raises
    ------
    TVLockError
        If a process is running in the vault.
    """
    if context.catalog.is_newest:
        return
    layout, marker = context.layout, read_marker(context.layout)

    def check(unfinished: Sequence[ProcessRecord]) -> None:
        for record in unfinished:
            if Liveness(context).is_alive(record):
                raise TVLockError(
                    f"The vault '{context.layout.root}' must be upgraded from format {marker.format} to {FORMAT}, but "
                    f"process '{record.process_id}' ({record.operation}) is running. Try again after it has ended."
                )

    context.catalog.migrate(marker.vault_id, marker.created, address_of(layout), check)
    write_marker(layout, replace(marker, catalog=context.catalog.url if layout.is_catalog_outside else None))
    context.catalog.is_newest = True
