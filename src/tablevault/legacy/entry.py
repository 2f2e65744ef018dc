"""Atomic import.

The vault is built beside the target, then moved there.
"""

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
    """Copy a TableVault 0.1.x vault into a new vault.

    The source is not changed, and the new vault is created atomically. Deviations from the source are reported as
    warnings, and recorded under `notes` in the arguments of the import process.

    Parameters
    ----------
    source_dir
        The vault of version 0.1.x.
    db_dir
        Folder of the new vault; must be missing or empty.

    Returns
    -------
    str
        Id of the import process in the new vault.

    Raises
    ------
    FileNotFoundError
        If the source does not exist.
    TVArgumentError
        If the source is not a vault of version 0.1.x, or the target is not empty or is inside the source.
    TVLockError
        If another import into the same folder is running.
    TVFileError
        If a file of the source is damaged, or the source changes during the import.
    """
    source, target = Path(source_dir).expanduser().absolute(), Path(db_dir).expanduser().absolute()
    _check_source(source)
    if target.resolve() == source.resolve() or files.is_inside(source, target):
        raise TVArgumentError(f"'{target}' is the legacy vault or a folder inside it. Choose a folder outside it.")
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
    """Yield an unused staging path next to the target."""
    try:
        with staged_beside(target, "importing") as folder:
            yield folder / "vault"
    except BlockingIOError as error:
        raise TVLockError(
            f"Another import into '{target}' is running; wait until it ends, or choose another folder."
        ) from error
