"""Atomic exports outside the vault, which replace earlier exports only."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from tablevault.errors import TVArgumentError, TVFileError, TVProcessError
from tablevault.state.context import VaultContext
from tablevault.storage import files
from tablevault.storage.staging import staged_beside
from tablevault.values.contents import ArtifactRecord

NOT_AN_EXPORT = "is not an earlier export"
_PIECE_BYTES = 1 << 20


def export_target(context: VaultContext, target: str | Path) -> Path:
    """Return the absolute path of an export.

    Raises
    ------
    TVArgumentError
        If the path is inside the vault, or its parent folder does not exist.
    """
    path = Path(target).expanduser().absolute()
    root = context.layout.root.resolve()
    if path.resolve() == root or files.is_inside(root, path):
        raise TVArgumentError(f"'{path}' is inside the vault; export to a place outside of it.")
    if not path.parent.is_dir():
        raise TVArgumentError(f"There is no folder '{path.parent}' for the export; make it first.")
    return path


@contextlib.contextmanager
def exported(target: Path, overwrite: bool, difference: Callable[[Path], str]) -> Iterator[Path]:
    """Yield a path beside the target, and move the result to the target.

    Parameters
    ----------
    target
        The file or folder of the export.
    overwrite
        Whether to replace an earlier export.
    difference
        Returns how an existing file or folder differs from an earlier export; empty if it does not. Completes a
        sentence that begins with its path.

    Raises
    ------
    TVArgumentError
        If the target exists and must not be replaced.
    TVProcessError
        If another export is writing the same target.
    """
    exists = target.exists() or target.is_symlink()
    if exists and not overwrite:
        raise TVArgumentError(f"'{target}' exists already; overwrite=True replaces it.")
    if exists and (found := NOT_AN_EXPORT if target.is_symlink() else difference(target)):
        raise TVArgumentError(f"'{target}' {found}, so it is not overwritten. Move it away.")
    try:
        with staged_beside(target, "exporting") as folder:
            made = folder / target.name
            yield made
            if made.is_dir():
                files.fsync_tree(made)
                if exists:
                    files.replace(target, folder / "earlier")
            else:
                files.fsync_file(made)
            files.replace(made, target)
    except BlockingIOError as error:
        raise TVProcessError(f"Another export is writing '{target}'; wait until it ends.") from error


def file_difference(path: Path) -> str:
    """Return how a path differs from an exported file, which may have any content; empty if it does not."""
    return "" if path.is_file() else NOT_AN_EXPORT


def copy_artifact(source: Path, target: Path, record: ArtifactRecord) -> None:
    """Copy an artifact; raise `TVFileError` if its content has changed since it was recorded."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if copied_digest(source, target) != record.sha256:
        raise TVFileError(f"The artifact {source} is damaged: its content has changed since it was recorded.")


def copied_digest(source: Path, target: Path) -> str:
    """Copy the content of a file, and return its SHA-256; the caller flushes it to disk."""
    digest = hashlib.sha256()
    files.check_is_file(source)
    with source.open("rb") as read, target.open("xb") as written:
        while piece := read.read(_PIECE_BYTES):
            digest.update(piece)
            written.write(piece)
    return digest.hexdigest()
