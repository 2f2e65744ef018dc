"""Opening and creating vaults."""

from __future__ import annotations

import contextlib
import shlex
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from tablevault.catalog import sqlite_catalog, sqlite_path
from tablevault.catalog.owners import OwnerFiles
from tablevault.errors import TVArgumentError, TVFileError, TVProcessError
from tablevault.layout import FORMAT, VaultLayout
from tablevault.names import check_text
from tablevault.state.context import VaultContext
from tablevault.state.formats import Marker, address_of, check_same_vault, read_marker, write_marker
from tablevault.state.liveness import Liveness
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.local_files import LocalFiles
from tablevault.system.kernel_locks import KernelLock
from tablevault.system.mounts import file_system_of
from tablevault.system.permissions import user_name
from tablevault.system.warnings import warn
from tablevault.texts.descriptions import description_text
from tablevault.values import clusters
from tablevault.values.clusters import RayOptions

_NETWORK_FILE_SYSTEMS = ("nfs", "cifs", "smb", "sshfs", "9p", "afs", "ceph", "gluster", "lustre")


@dataclass(frozen=True)
class Settings:
    """Settings for opening a vault."""

    author: str = ""
    lock_timeout: float = 5.0
    parent_id: str = ""
    catalog_url: str | None = None
    ray: Mapping[str, object] | None = None

    def __post_init__(self) -> None:
        """Raise `TVArgumentError` for invalid settings."""
        check_text("author", self.author)
        check_text("parent_id", self.parent_id)
        RayOptions.of(self.ray)
        if not self.lock_timeout >= 0:
            raise TVArgumentError(f"lock_timeout is a number of seconds, 0 or more, not {self.lock_timeout!r}")


def open_context(db_dir: str | Path, settings: Settings) -> VaultContext:
    """Open a vault.

    Raises
    ------
    TVArgumentError
        If the folder is not a vault, or has another format; nothing is modified then.
    TVProcessError
        If `parent_id` does not name a running process.
    """
    if settings.parent_id and clusters.runs_rows:
        raise TVArgumentError(
            f"An operation of the vault '{db_dir}' cannot be nested in process '{settings.parent_id}' from a worker of "
            "'executor: ray': the vault is a folder of the machine that owns the process. Run this builder with "
            "another executor."
        )
    layout = _layout_of(db_dir)
    marker = marker_of(layout)
    _check_own_places(layout)
    _warn_of_network(layout.root)
    layout = VaultLayout(layout.root, _catalog_outside(layout, marker, settings))
    catalog = sqlite_catalog(layout.catalog)
    context = VaultContext(
        layout=layout,
        catalog=catalog,
        files=LocalFiles(layout),
        owners=OwnerFiles(layout.owners),
        author=settings.author or user_name(),
        lock_timeout=settings.lock_timeout,
        vault_id=marker.vault_id,
        ray=replace(RayOptions.of(settings.ray), vault=layout.root),
    )
    check_same_vault(context)
    if not settings.parent_id:
        return context
    return VaultContext(**{**vars(context), "parent_serial": _running_parent(context, settings.parent_id)})


def create_vault(db_dir: str | Path, description: str, settings: Settings, exist_ok: bool = False) -> None:
    """Create a vault in an empty or new folder.

    Parameters
    ----------
    db_dir, description, settings
        Path, description and settings of the vault.
    exist_ok
        Accept an existing vault and leave it unchanged. Of several concurrent calls, one creates it.

    Raises
    ------
    TVArgumentError
        If the folder contains anything other than an interrupted creation.
    """
    layout = _layout_of(db_dir)
    check_text("description", description)
    if layout.root.exists() and (not layout.root.is_dir() or any(layout.root.iterdir())):
        if is_legacy_vault(layout.root):
            raise TVArgumentError(_why_not_a_vault(layout))
        # In this order, because a vault being created has this file until it has its marker.
        is_being_created = layout.creating.is_file()
        if layout.marker.exists():
            if exist_ok:
                return
            raise TVArgumentError(f"'{layout.root}' is already a vault. Open it without create=True.")
        if not is_being_created:
            what = "is not empty" if layout.root.is_dir() else "is a file"
            raise TVArgumentError(f"'{layout.root}' {what}; a vault needs a folder of its own.")
    files.make_folder(layout.root)
    with KernelLock.take(layout.creating):
        if not layout.marker.exists():
            _fill(layout, description, settings)
    with contextlib.suppress(OSError):
        # The vault is complete; recovery retries this.
        files.remove_tree(layout.creating)


def marker_of(layout: VaultLayout) -> Marker:
    """Return the content of a vault's marker.

    Raises
    ------
    TVArgumentError
        If the folder is not a vault, or has a format that this version cannot read.
    TVFileError
        If the marker is damaged.
    """
    if not layout.marker.is_file() or is_legacy_vault(layout.root):
        raise TVArgumentError(_why_not_a_vault(layout))
    return read_marker(layout)


def recorded_catalog(layout: VaultLayout, marker: Marker) -> Path | None:
    """Return the catalog outside the vault that its marker names; `None` if there is none.

    Raises
    ------
    TVArgumentError
        If it is not a SQLite file.
    """
    if not marker.catalog:
        return None
    return sqlite_path(
        marker.catalog,
        f"'catalog' in the file '{layout.marker}'",
        "Open the vault with the version of TableVault that made it, or restore the file from a backup.",
    )


def _catalog_outside(layout: VaultLayout, marker: Marker, settings: Settings) -> Path | None:
    """Return the catalog of an existing vault; `None` if it is inside."""
    recorded = recorded_catalog(layout, marker) or layout.catalog
    given = sqlite_path(settings.catalog_url) if settings.catalog_url else recorded
    # Markers of format 1 do not say where a catalog outside the vault is.
    is_recorded = marker.catalog is not None or layout.catalog.exists()
    if given != recorded and is_recorded:
        raise TVArgumentError(
            f"The catalog of the vault '{layout.root}' is {recorded}, as its marker file says, and not {given}; open "
            "the vault without catalog_url."
        )
    return given if given != layout.catalog else None


def _check_own_places(layout: VaultLayout) -> None:
    """Raise `TVFileError` if a link replaces a path that the vault writes or removes."""
    inside = list(layout.metadata.iterdir()) if layout.metadata.is_dir() and not layout.metadata.is_symlink() else []
    for path in (*layout.own_folders, *inside):
        if path.is_symlink():
            raise TVFileError(
                f"'{path}' is a symbolic link to '{path.readlink()}'; replace it with the file or folder itself, "
                "so that nothing outside the vault is modified."
            )


def is_legacy_vault(root: Path) -> bool:
    """Return whether a folder is a vault of TableVault 0.1.x, whose marker file is empty."""
    return (root / "metadata" / "tables_history.json").is_file()


def _why_not_a_vault(layout: VaultLayout) -> str:
    if layout.deleting.exists():
        return (
            f"The deletion of the vault '{layout.root}' was interrupted; repeat it: delete_vault({str(layout.root)!r})."
        )
    if layout.creating.exists():
        return f"The creation of the vault '{layout.root}' was interrupted; repeat it with create=True."
    if is_legacy_vault(layout.root):
        return (
            f"'{layout.root}' is a vault of TableVault 0.1.x; "
            f"import_legacy_vault({str(layout.root)!r}, NEW_FOLDER) copies it into a new one."
        )
    return (
        f"'{layout.root}' is not a vault; TableVault({str(layout.root)!r}, create=True), or in a shell "
        f"{shlex.join(['tablevault', 'init', str(layout.root)])}, makes one."
    )


def _layout_of(db_dir: str | Path) -> VaultLayout:
    try:
        root = Path(db_dir).expanduser().absolute()
    except RuntimeError as error:
        raise TVArgumentError(f"db_dir must be the path of a folder, not {db_dir!r}: {error}") from error
    if "\0" in str(root):
        raise TVArgumentError(f"db_dir must be the path of a folder; {db_dir!r} contains a null character")
    return VaultLayout(root)


def _fill(layout: VaultLayout, description: str, settings: Settings) -> None:
    for leftover in layout.root.glob(f"*{files.TEMPORARY_SUFFIX}"):
        files.remove_tree(leftover)
    created = datetime.now(UTC).isoformat()
    outside = sqlite_path(settings.catalog_url) if settings.catalog_url else layout.catalog
    if outside != layout.catalog:
        layout = VaultLayout(layout.root, outside)
    for folder in (layout.code_functions, layout.metadata, layout.worker_logs, layout.owners, layout.trash):
        files.make_folder(folder)
    files.make_folder(layout.temporary)
    catalog = sqlite_catalog(layout.catalog)
    new_id, address = uuid.uuid4().hex, address_of(layout)
    # An interrupted creation may have made it.
    made = catalog.create(new_id, created, address)
    if made.address != address:
        catalog.close()
        raise TVArgumentError(
            f"catalog_url names {layout.catalog}, which is the catalog of another vault; name a new file."
        )
    facts = {"description": description, "author": settings.author or user_name(), "created": created}
    files.write_text(layout.description, description_text(facts))
    write_marker(layout, Marker(FORMAT, made.vault_id or new_id, created, catalog.url if address else None))


def _running_parent(context: VaultContext, parent_id: str) -> int:
    record = Lookup(context).process(parent_id)
    if not Liveness(context).is_alive(record):
        raise TVProcessError(f"Process '{parent_id}' is not running, so no operation can be nested in it.")
    return record.serial


def _warn_of_network(root: Path) -> None:
    """Warn about a network file system, where another machine's kernel would hold the locks."""
    kind = (file_system_of(root) or "").lower()
    if any(name in kind for name in _NETWORK_FILE_SYSTEMS):
        warn(
            f"The vault '{root}' is on a network file system ({kind}): locks and durability are not guaranteed "
            "there. Keep vaults on a local disk."
        )
