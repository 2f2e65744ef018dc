"""Compressing, decompressing and deleting of vaults."""

from __future__ import annotations

import contextlib
import lzma
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, cast

from tablevault.archiving.unpacking import Counted, Unpacking
from tablevault.catalog import sqlite_catalog
from tablevault.catalog.owners import OwnerFiles
from tablevault.display.progress import shown_bytes, shown_files
from tablevault.errors import TableVaultError, TVArgumentError, TVFileError, TVProcessError
from tablevault.layout import VaultLayout
from tablevault.state.context import VaultContext
from tablevault.state.formats import marker_text, read_marker
from tablevault.state.opening import Settings, marker_of, open_context, recorded_catalog
from tablevault.storage import files
from tablevault.storage.staging import staged_beside
from tablevault.surface import public

SUFFIX = ".tar.xz"


@public
def compress_vault(db_dir: str | Path, preset: int = 6) -> str:
    """Pack a vault into `<db_dir>.tar.xz` and return the archive's path.

    The vault is not changed. The archive is written atomically, and replaces an existing one. Paused processes are
    included.

    Parameters
    ----------
    db_dir
        The vault's folder.
    preset
        Compression preset, from 0 (fastest) to 9 (smallest).

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    TVArgumentError
        If the folder is not a vault, or the preset is invalid.
    TVProcessError
        If a process is running in the vault, or the vault changes while it is packed.
    TVFileError
        If the catalog is missing, or a symbolic link to a non-file leads out of the vault.
    """
    if isinstance(preset, bool) or not isinstance(preset, int) or not 0 <= preset <= 9:
        raise TVArgumentError(f"preset is a number from 0 (fast) to 9 (small), not {preset!r}.")
    layout = _existing_vault(db_dir)
    marker = marker_of(layout)
    _check_nobody_works(layout)
    target = Path(f"{layout.root}{SUFFIX}")
    context = open_context(layout.root, Settings())
    with _staging(target, "packing") as folder:
        packed = folder / "vault"
        before = _moment(context)
        context.catalog.backup(folder / "catalog.db")
        copies = {layout.catalog: folder / "catalog.db"}
        if marker.catalog is not None:
            # The archive contains its catalog.
            copies[layout.marker] = folder / "marker"
            copies[layout.marker].write_text(marker_text(replace(marker, catalog=None)), encoding="utf-8")
        _pack(layout, copies, packed, preset)
        _check_nobody_works(layout)
        if _moment(context) != before:
            raise TVProcessError(f"The vault '{layout.root}' was changed while it was being packed; pack it again.")
        files.replace(packed, target)
    return str(target)


@public
def decompress_vault(db_dir: str | Path) -> str:
    """Unpack `<db_dir>.tar.xz` into the folder `db_dir` and return its path.

    The archive is untrusted: no code in it is executed, and no file outside the new folder is touched. The folder
    is created atomically.

    Parameters
    ----------
    db_dir
        The folder to create, or the path of the archive.

    Raises
    ------
    FileNotFoundError
        If the archive does not exist.
    TVArgumentError
        If the folder already exists, or the archive does not contain a vault.
    TVFileError
        If the archive is damaged, or has a member or link that leads out of the folder.
    """
    target = Path(str(db_dir).removesuffix(SUFFIX)).expanduser().absolute()
    archive = Path(f"{target}{SUFFIX}")
    if not archive.is_file():
        raise FileNotFoundError(f"There is no archive '{archive}'.")
    if os.path.lexists(target):
        raise TVArgumentError(f"'{target}' exists already; move it away, or rename the archive.")
    with _staging(target, "unpacking") as folder:
        unpacked = folder / target.name
        unpacked.mkdir()
        with shown_bytes(f"unpacking {archive.name}", archive.stat().st_size) as advance:
            Unpacking(archive, unpacked, advance).run()
        check_unpacked(VaultLayout(unpacked), archive)
        files.fsync_tree(unpacked)
        files.replace(unpacked, target)
    return str(target)


@public
def delete_vault(db_dir: str | Path) -> None:
    """Delete a vault and its folder; links are removed, never followed.

    An interrupted deletion leaves a folder that cannot be opened as a vault, but can be deleted again. If only the last
    step is missing, this folder is empty.

    Parameters
    ----------
    db_dir
        The vault's folder.

    Raises
    ------
    FileNotFoundError
        If the folder does not exist.
    TVArgumentError
        If the folder is not a vault.
    TVProcessError
        If a process is running in the vault.
    """
    layout = _existing_vault(db_dir)
    is_empty = layout.root.is_dir() and not any(layout.root.iterdir())
    if not (layout.deleting.exists() or is_empty):
        marker_of(layout)
        _check_nobody_works(layout)
        files.replace(layout.marker, layout.deleting)
        # This check detects processes that began before the rename; later ones find no vault.
        try:
            _check_nobody_works(layout)
        except TVProcessError:
            files.replace(layout.deleting, layout.marker)
            raise
    outside = _catalog_outside(layout)
    with shown_files(f"deleting {layout.root.name}") as advance:
        for path in list(layout.root.iterdir()):
            if path != layout.deleting:
                files.remove_tree(path, advance)
        if outside is not None:
            for ending in ("-wal", "-shm", ""):
                files.remove_tree(outside.with_name(outside.name + ending), advance)
        files.remove_tree(layout.root, advance)


def _catalog_outside(layout: VaultLayout) -> Path | None:
    """Return the external catalog of a vault that is being deleted.

    Returns `None` if it is inside, or if another folder may use it.
    """
    try:
        marker = read_marker(layout, layout.deleting)
        outside = recorded_catalog(layout, marker)
        if outside is None or not outside.exists():
            return None
        catalog = sqlite_catalog(outside)
        try:
            known = catalog.identity()
        finally:
            catalog.close()
    except (OSError, TableVaultError):
        # A damaged marker or catalog does not keep the folder from being deleted.
        return None
    return outside if (known.vault_id, known.address) == (marker.vault_id, str(layout.root)) else None


def _existing_vault(db_dir: str | Path) -> VaultLayout:
    root = Path(db_dir).expanduser().absolute()
    if root.is_symlink():
        raise TVArgumentError(f"'{root}' is a symbolic link to '{root.resolve()}'; name the vault's own folder.")
    if not root.exists():
        raise FileNotFoundError(f"There is no folder '{root}'.")
    return VaultLayout(root)


def _check_nobody_works(layout: VaultLayout) -> None:
    """Raise `TVProcessError` if any process has a live owner; works with a damaged catalog."""
    owners = OwnerFiles(layout.owners)
    for name in owners.names():
        if owners.is_alive(name):
            raise TVProcessError(
                f"The vault '{layout.root}' is in use: process number {owners.process_number(name)} is running an "
                "operation in it. Wait until it ends, or stop it with stop_process(…, force=True)."
            )


def _moment(context: VaultContext) -> tuple[int, int]:
    return context.catalog.processes.begun(), context.catalog.contents.generation()


@contextlib.contextmanager
def _staging(target: Path, activity: str) -> Iterator[Path]:
    """Yield a staging folder next to the target."""
    try:
        with staged_beside(target, activity) as folder:
            yield folder
    except BlockingIOError as error:
        raise TVProcessError(
            f"Another process is {activity} '{target}' already; wait until it has finished."
        ) from error


# --- packing ------------------------------------------------------------------------------------------------------


def _pack(layout: VaultLayout, copies: Mapping[Path, Path], target: Path, preset: int) -> None:
    """Write the archive of a vault, with copies in place of some of its files."""
    name = layout.root.name
    found = [(path, f"{name}/{layout.relative(path)}") for path in _packed(layout) if path not in copies]
    found += [(copy, f"{name}/{layout.relative(path)}") for path, copy in copies.items()]
    total = sum(path.lstat().st_size for path, _ in found if stat.S_ISREG(path.lstat().st_mode))
    with target.open("xb") as file:
        with (
            lzma.open(file, "wb", preset=preset) as stream,
            tarfile.open(fileobj=stream, mode="w|", format=tarfile.PAX_FORMAT) as archive,
            shown_bytes(f"packing {name}", total) as advance,
        ):
            archive.add(layout.root, name, recursive=False)
            for path, inside in found:
                leads_out = path.is_symlink() and not _leads_inside(path, layout.root)
                _add(archive, _linked_file(path) if leads_out else path, inside, advance)
        file.flush()
        os.fsync(file.fileno())


def _add(archive: tarfile.TarFile, path: Path, inside: str, advance: Callable[[int], None]) -> None:
    member = archive.gettarinfo(path, inside)
    if not member.isreg():
        archive.addfile(member)
        return
    with path.open("rb") as content:
        archive.addfile(member, cast("BinaryIO", Counted(content, advance)))


def _packed(layout: VaultLayout) -> Iterator[Path]:
    """Yield the files, folders and links of a vault, except transient ones."""
    waiting = [layout.root]
    while waiting:
        for path in sorted(waiting.pop().iterdir()):
            mode = path.lstat().st_mode
            momentary = path.parent in (layout.owners, layout.metadata) and _is_momentary(layout, path)
            if momentary or path.name.endswith(files.TEMPORARY_SUFFIX):
                continue
            if stat.S_ISDIR(mode):
                waiting.append(path)
            if stat.S_ISDIR(mode) or stat.S_ISREG(mode) or stat.S_ISLNK(mode):
                yield path


def _is_momentary(layout: VaultLayout, path: Path) -> bool:
    """Return whether a file is omitted from archives.

    Omitted are locks, usage counters and the live catalog, which is archived as a copy.
    """
    catalog = path.name.startswith(layout.catalog.name)
    counters = path.name.startswith(layout.limits.name)
    return path.parent == layout.owners or catalog or counters or path == layout.log.with_suffix(".lock")


def _leads_inside(link: Path, root: Path) -> bool:
    target = link.readlink()
    return not target.is_absolute() and Path(os.path.normpath(link.parent / target)).is_relative_to(root)


def _linked_file(link: Path) -> Path:
    """Return the external target of a link.

    The target is packed instead of the link, so that the archive is self-contained.
    """
    source = link.resolve()
    if not source.is_file():
        raise TVFileError(
            f"'{link}' points outside the vault, but not to a file. Remove it, or replace it with a copy of its target."
        )
    return source


def check_unpacked(layout: VaultLayout, archive: Path) -> None:
    """Check that an unpacked folder is a vault with its own catalog.

    Creates the folders that archives omit.

    Raises
    ------
    TVArgumentError
        If it is not a vault.
    """
    if not layout.marker.is_file() or not layout.catalog.is_file():
        raise TVArgumentError(f"'{archive}' is not the archive of a vault: the marker or the catalog is missing.")
    marker = marker_of(layout)
    for folder in (layout.code_functions, layout.worker_logs, layout.owners, layout.trash, layout.temporary):
        files.make_folder(folder)
    if marker.catalog is not None:
        # An archive contains its catalog; a marker that names another one would let this vault change that.
        files.write_text(layout.marker, marker_text(replace(marker, catalog=None)), layout.temporary)
