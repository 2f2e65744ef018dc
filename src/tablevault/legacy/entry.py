"""The import as one step: a new vault is built beside the target, and appears there when it is whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tablevault.errors import TVArgumentError, TVLockError
from tablevault.legacy.importing import VaultImport
from tablevault.legacy.source import LegacyVault
from tablevault.state.opening import is_legacy_vault
from tablevault.storage import files
from tablevault.storage.staging import staged_beside
from tablevault.surface import public
from tablevault.system.warnings import warn


@public
def import_legacy_vault(source_dir: str | Path, db_dir: str | Path) -> str:
    """Copy a vault of TableVault 0.1.x into a new vault, and return the id of the process that stands for it there.

    The source is only read. The new vault appears whole or not at all. What could not be brought over as it was is
    warned about, and stands in the process's arguments under `notes`.

    Parameters
    ----------
    source_dir
        The vault of version 0.1.x.
    db_dir
        Folder of the new vault; it must be missing or empty.

    Raises
    ------
    FileNotFoundError
        If there is no source.
    TVArgumentError
        If the source is not a vault of version 0.1.x, or the target is not empty or lies inside the source.
    TVLockError
        If another import into the same folder is running.
    TVFileError
        If a file of the source is damaged, or the source was written to meanwhile.
    """
    source, target = Path(source_dir).expanduser().absolute(), Path(db_dir).expanduser().absolute()
    _check_source(source)
    if target.resolve() == source.resolve() or files.is_inside(source, target):
        raise TVArgumentError(
            f"'{target}' lies in the legacy vault itself, which stays as it is; choose a folder outside of it."
        )
    _check_target(target)
    with _staging(target) as staged:
        importing = VaultImport(LegacyVault(source), staged)
        importing.run()
        _check_target(target)
        files.replace(staged, target)
    for note in importing.notes:
        warn(f"{note}.")
    return importing.process_id


def _check_source(source: Path) -> None:
    if not source.is_dir():
        raise FileNotFoundError(f"There is no folder '{source}'.")
    if not is_legacy_vault(source):
        raise TVArgumentError(f"'{source}' is not a vault of TableVault 0.1.x.")


def _check_target(target: Path) -> None:
    if target.is_symlink() or (target.exists() and (not target.is_dir() or any(target.iterdir()))):
        raise TVArgumentError(f"'{target}' is not empty; a vault is imported into a folder of its own.")


@contextmanager
def _staging(target: Path) -> Iterator[Path]:
    """Offer a free path beside the target."""
    try:
        with staged_beside(target, "importing") as folder:
            yield folder / "vault"
    except BlockingIOError as error:
        raise TVLockError(
            f"Another import into '{target}' is running; wait for its end, or choose another folder."
        ) from error
