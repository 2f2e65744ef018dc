"""Hidden staging folders beside a target that must appear atomically; removes leftovers of crashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tablevault.storage import files
from tablevault.system.kernel_locks import KernelLock


@contextmanager
def staged_beside(target: Path, activity: str) -> Iterator[Path]:
    """Provide an exclusive empty folder beside `target`, which is removed afterwards.

    Parameters
    ----------
    target
        Path of the result.
    activity
        Name of the activity, part of the hidden folder's name.

    Raises
    ------
    BlockingIOError
        If another process holds the folder.
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
