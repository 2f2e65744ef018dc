"""Hidden folders beside the place where something is to appear whole; leftovers of crashes are removed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tablevault.storage import files
from tablevault.system.kernel_locks import KernelLock


@contextmanager
def staged_beside(target: Path, activity: str) -> Iterator[Path]:
    """Offer an empty folder beside `target`, for one at a time; it is removed afterwards.

    Parameters
    ----------
    target
        Where something is to appear.
    activity
        What is done, as a part of the hidden folder's name.

    Raises
    ------
    BlockingIOError
        If another process is doing it already.
    """
    folder = target.with_name(f".{target.name}.{activity}")
    files.make_folder(folder)
    try:
        lock = KernelLock.take(folder / "lock", longest=0)
    except (TimeoutError, FileNotFoundError) as error:
        raise BlockingIOError(f"'{folder}' is in use.") from error
    try:
        staged = folder / "staged"
        files.remove_tree(staged)
        files.make_folder(staged)
        yield staged
    finally:
        files.remove_tree(folder)
        lock.release()
