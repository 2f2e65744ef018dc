"""The files of a vault in a folder, by key."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from tablevault import names
from tablevault.errors import TVFileError
from tablevault.layout import ARTIFACTS, FRAME, MANIFEST, PARTIAL, VaultLayout
from tablevault.storage import files
from tablevault.values.changes import Tidying, TidyingAction

_ON_FOLDERS = (TidyingAction.MOVE_FOLDER, TidyingAction.REPLACE_FOLDER, TidyingAction.PRUNE)
_WITH_TARGET = (
    TidyingAction.PUT_FILE,
    TidyingAction.MOVE_FOLDER,
    TidyingAction.REPLACE_FOLDER,
    TidyingAction.LINK,
    TidyingAction.UNLINK,
)


class LocalFiles:
    """The files of a vault in a folder, as a `FileStore`.

    Parameters
    ----------
    layout
        The paths of the vault.
    """

    def __init__(self, layout: VaultLayout) -> None:
        self._layout = layout

    def local(self, key: str) -> Path:
        """Return the path of a file or folder."""
        return self._layout.absolute(key)

    def exists(self, key: str) -> bool:
        """Return whether there is a file or folder, also at the end of a link."""
        return self.local(key).exists()

    def names(self, key: str) -> list[str]:
        """Return the names in a folder, sorted; empty for a missing one."""
        try:
            return sorted(path.name for path in files.unlinked(self.local(key)).iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return []

    def read(self, key: str) -> bytes:
        """Return the content of a file."""
        return files.read_bytes(self.local(key))

    def write(self, key: str, content: bytes) -> None:
        """Write a file durably, whole or not at all, and the folders around it."""
        path = self.local(key)
        if files.is_led_out(self._layout.root, path):
            raise TVFileError(
                f"A symbolic link leads from {path} out of the vault; put the folder itself in its place."
            )
        files.make_folder(path.parent)
        files.write_bytes(path, content)

    def seal(self, key: str, durable: str = "") -> None:
        """Make a folder with everything in it durable and read-only."""
        folder = self.local(key)
        files.make_read_only(folder)
        files.fsync_tree(folder, durable=folder / durable if durable else None)
        files.fsync_folder(folder.parent)

    # --- steps ----------------------------------------------------------------------------------------------------

    def apply(self, step: Tidying) -> None:
        """Perform a step of a decision."""
        try:
            self._apply(step)
        except OSError:
            if step.action is TidyingAction.PUT_FILE:
                # To tell a later manual edit from the content to be replaced.
                with contextlib.suppress(OSError):
                    staged, target = self._place(step.source), self._place(step.target)
                    files.write_text(_note_of(staged), _digest_of(target))
            raise

    def put_again(self, step: Tidying, archived: str) -> bool:
        """Put a staged file in place, unless its target was edited by hand; return whether it was."""
        if not self.was_edited(step.source, step.target):
            self._apply(step)
            return False
        place = self._place(archived)
        files.make_folder(place.parent)
        files.replace(self._place(step.source), place)
        return True

    def was_edited(self, staged: str, target: str) -> bool:
        """Return whether a file was edited by hand after a staged one could not replace it."""
        source, path = self.local(staged), self.local(target)
        note = _note_of(source)
        return source.exists() and note.is_file() and path.is_file() and note.read_text("utf-8") != _digest_of(path)

    def _apply(self, step: Tidying) -> None:
        nowhere = self._layout.root
        source = nowhere if step.action is TidyingAction.UNLINK else self._place(step.source)
        target = self._place(step.target) if step.action in _WITH_TARGET else nowhere
        if step.action in _ON_FOLDERS and source.is_symlink():
            raise OSError(f"{step.source} is a symbolic link")
        match step.action:
            case TidyingAction.REMOVE:
                _remove(source)
            case TidyingAction.PUT_FILE:
                if source.exists():
                    files.replace(source, target)
            case TidyingAction.MOVE_FOLDER:
                if source.exists() and not target.exists():
                    self._move_folder(source, target)
            case TidyingAction.REPLACE_FOLDER:
                if source.exists() and target.parent.is_dir():
                    files.remove_tree(target)
                    self._move_folder(source, target)
            case TidyingAction.PRUNE:
                _prune(source)
            case TidyingAction.LINK:
                if target.parent.is_dir() and (target.is_symlink() or not target.exists()):
                    if not source.is_relative_to(target.parent):
                        raise TVFileError(f"The catalog asks for a link from {step.target} to {step.source}.")
                    leads_to = source.relative_to(target.parent)
                    files.replace_link(target, leads_to, self._layout.temporary)
            case TidyingAction.UNLINK:
                if target.is_symlink():
                    files.remove_tree(target)

    def _move_folder(self, source: Path, target: Path) -> None:
        files.make_folder(target.parent)
        # Moving a folder takes write permission for it and for the folder that holds it.
        for folder in (source.parent, source):
            files.make_writable(folder)
        try:
            files.replace(source, target)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            # A folder of a lower layer, as in the image of a container, can be copied but not moved.
            files.copy_folder(source, target, self._layout.temporary)
            files.remove_tree(source)
        files.fsync_folder(source.parent)

    def _place(self, key: str) -> Path:
        """Return the path for a step; raises `OSError` if it or a link in it leads out of the vault."""
        place = self.local(key)
        if files.is_led_out(self._layout.root, place):
            raise OSError(f"a symbolic link leads from {key} out of the vault")
        return place


def _note_of(staged: Path) -> Path:
    return staged.with_name(f"{staged.name}.replaces")


def _digest_of(path: Path) -> str:
    return files.sha256(path) if path.is_file() else ""


def _remove(path: Path) -> None:
    """Remove a file or folder; a sealed instance's folder around it is read-only again afterwards."""
    if not path.parent.is_dir():
        return
    # The folder's mode is not reliable: an owner killed during this step left it writable.
    sealed = names.is_materialized(path.parent.name) and path.parent.joinpath(MANIFEST).exists()
    if sealed and os.path.lexists(path):
        files.make_writable(path.parent)
    try:
        files.remove_tree(path)
    finally:
        if sealed:
            files.take_write_permission(path.parent)


def _prune(archived: Path) -> None:
    """Remove frames, artifacts and partial results; the metadata stays."""
    if not archived.is_dir():
        return
    for folder in (archived, *(path for path in archived.iterdir() if path.is_dir() and not path.is_symlink())):
        if folder.exists():
            files.make_writable(folder)
            for name in (FRAME, ARTIFACTS, PARTIAL):
                files.remove_tree(folder / name)
