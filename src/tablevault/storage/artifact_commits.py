"""Group commit of artifacts.

The files of an interval's rows are hashed in a pool and synced together.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.file_systems import FileSystem
from tablevault.system.cores import usable_cores
from tablevault.values.contents import ArtifactRecord

_FEW = 8
"""Maximum number of files that are synced one by one in the calling thread, which is cheaper than a pool."""
_MAXIMUM_THREADS = 8
_SETTLED_NANOSECONDS = 20_000_000
"""Age from which a file's timestamps reveal later writes; file system clocks tick every 4 to 10 ms."""

_MAPS = Path("/proc/self/maps")

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class _Look(NamedTuple):
    """Attributes that change when a file is written to or replaced."""

    inode: int
    size: int
    modified: int
    changed: int
    """Both in nanoseconds since 1970."""


class _Hashed(NamedTuple):
    """Digest of a file, with its attributes at the time of reading."""

    look: _Look
    """Taken before reading."""
    sha256: str
    began: int
    """Time since 1970 in nanoseconds when reading began."""


class ArtifactCommits:
    """Makes the artifacts of one attempt durable and records them; an `ArtifactStore`.

    A record is written after its data. A file whose sync failed is never synced again but rewritten; if that fails
    too, its row is refused.

    Parameters
    ----------
    folder
        The artifact folder, before any file of the attempt is in it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = ArtifactFolder(folder)
        self._file_system = FileSystem.of(folder)
        self._choice = SyncChoice()
        self._recorded: dict[str, tuple[ArtifactRecord, _Hashed]] = {}

    def record(self, names: Iterable[str]) -> dict[str, ArtifactRecord | OSError | ValueError]:
        """Make the named files (and their folders) durable.

        Returns
        -------
        dict of str to ArtifactRecord, OSError or ValueError
            The record of each file, or the error: it cannot be made durable, is not a file, or a symbolic link leads
            out of the folder. Names without a file are omitted.
        """
        found, outcomes = self._locate(names)
        hashed: dict[str, _Hashed] = {}
        mapped = _mapped_below(self._folder.path) if found else frozenset()
        for name, result in zip(found, _in_pool(_hash, list(found.values())), strict=True):
            if isinstance(result, _Hashed):
                hashed[name] = result
            elif not isinstance(result, FileNotFoundError):
                outcomes[name] = result
        paths = {name: found[name] for name in hashed}
        failed = self._sync(paths)
        for name, path in paths.items():
            try:
                content = self._made_durable(path, hashed[name], failed.get(name))
            except FileNotFoundError:
                continue
            except OSError as error:
                outcomes[name] = error
                continue
            if os.path.realpath(path) in mapped:
                content = content._replace(began=0)  # So that it is read again at the end.
            record = ArtifactRecord(name, content.look.size, content.sha256)
            self._recorded[name] = (record, content)
            outcomes[name] = record
        return outcomes

    def describe(self, names: Sequence[str]) -> list[ArtifactRecord | None]:
        """Make files durable and return their current records; `None` for missing files.

        Files that are unchanged since they were recorded are not read again.

        Raises
        ------
        OSError
            If a file cannot be read, or made durable.
        ValueError
            If a name does not refer to a file in the folder.
        """
        changed = [name for name in names if not self._is_as_recorded(name)]
        outcomes = self.record(changed)
        for name in changed:
            outcome = outcomes.get(name)
            if isinstance(outcome, Exception):
                raise outcome
            if outcome is None:
                self._recorded.pop(name, None)
        return [self._recorded[name][0] if name in self._recorded else None for name in names]

    def _is_as_recorded(self, name: str) -> bool:
        recorded = self._recorded.get(name)
        if recorded is None:
            return False
        _, content = recorded
        try:
            path = self._folder.locate(name)
            look = None if path is None else _look_at(path)
        except (OSError, ValueError):
            return False
        return look == content.look and look.changed + _SETTLED_NANOSECONDS <= content.began

    def _locate(self, names: Iterable[str]) -> tuple[dict[str, Path], dict[str, ArtifactRecord | OSError | ValueError]]:
        """Return the resolved paths of the named files, and an error for each unusable one."""
        found: dict[str, Path] = {}
        wrong: dict[str, ArtifactRecord | OSError | ValueError] = {}
        for name in dict.fromkeys(names):
            try:
                path = self._folder.locate(name)
            except (OSError, ValueError) as error:
                wrong[name] = error
            else:
                if path is not None:
                    found[name] = path
        return found, wrong

    def _sync(self, paths: Mapping[str, Path]) -> dict[str, OSError]:
        """Sync files and their folders; return the errors of files that may not be durable."""
        if self._file_system is not None and self._choice.is_for_all(len(paths)):
            began = time.monotonic()
            try:
                self._file_system.sync()
            except OSError as error:
                # The error does not name a file, and may stem from another program's write.
                return dict.fromkeys(paths, error)
            self._choice.note_all(time.monotonic() - began)
            return {}
        began = time.monotonic()
        synced = zip(paths, _in_pool(_fsync, list(paths.values())), strict=True)
        failed = {name: error for name, error in synced if error is not None}
        beside: dict[tuple[str, Path], list[str]] = {}
        for name, path in paths.items():
            beside.setdefault((posixpath.dirname(name), path.parent), []).append(name)
        folders: dict[Path, list[str]] = {}
        for names in beside.values():
            for folder in self._folder.folders_above(names[0], paths[names[0]]):
                folders.setdefault(folder, []).extend(names)
        for folder in sorted(folders, key=lambda folder: len(folder.parts), reverse=True):
            try:
                files.fsync_folder(folder)
            except OSError as error:
                failed |= dict.fromkeys(folders[folder], error)
        if len(paths) > _FEW:
            self._choice.note_each((time.monotonic() - began) / len(paths))
        return failed

    def _made_durable(self, path: Path, content: _Hashed, failed: OSError | None) -> _Hashed:
        """Return the durable content of a file; raises `OSError` if it cannot be made durable."""
        if failed is not None:
            return _write_anew(path, content)
        if _look_at(path) == content.look:
            return content
        # The function is still writing; the file is checked again at the end.
        again = _hash(path)
        if isinstance(again, OSError):
            raise again
        error = _fsync(path)
        return again if error is None else _write_anew(path, again)


class SyncChoice:
    """Chooses between one sync of the whole file system and one fsync per file.

    Both are timed in use, which accounts for the load of other programs on the same disk.
    """

    _WEIGHT = 0.25
    """Weight of the newest measurement in the mean."""
    _TRY_THE_OTHER = 64

    def __init__(self) -> None:
        self._all: float | None = None
        self._each: float | None = None
        self._asked = 0

    def is_for_all(self, count: int) -> bool:
        """Return whether to sync this number of files with one `syncfs`."""
        if count <= _FEW:
            return False
        self._asked += 1
        if self._all is None or self._each is None:
            return self._all is None
        is_cheaper = self._all <= self._each * count
        return is_cheaper if self._asked % self._TRY_THE_OTHER else not is_cheaper

    def note_all(self, seconds: float) -> None:
        """Record the duration of a `syncfs`, in seconds."""
        self._all = self._mean(self._all, seconds)

    def note_each(self, seconds: float) -> None:
        """Record the duration per file of a series of fsyncs, in seconds."""
        self._each = self._mean(self._each, seconds)

    def _mean(self, before: float | None, newest: float) -> float:
        return newest if before is None else before + self._WEIGHT * (newest - before)


def _in_pool(do: Callable[[_Item], _Result], items: Sequence[_Item]) -> list[_Result]:
    """Map `do` over the items, in a thread pool if there are many; keeps their order."""
    if len(items) <= _FEW:
        return [do(item) for item in items]
    with ThreadPoolExecutor(min(_MAXIMUM_THREADS, usable_cores()), "tablevault-artifacts") as pool:
        return list(pool.map(do, items, chunksize=1))


def _hash(path: Path) -> _Hashed | OSError:
    try:
        began = time.time_ns()
        look = _look_at(path)
        return _Hashed(look, files.sha256(path), began)
    except OSError as error:
        return error


def _fsync(path: Path) -> OSError | None:
    try:
        files.fsync_file(path)
    except OSError as error:
        return error
    return None


def _look_at(path: Path) -> _Look:
    status = os.lstat(path)
    if not stat.S_ISREG(status.st_mode):
        # The file was replaced after it was located; the replacement is refused at the end.
        raise FileNotFoundError(errno.ENOENT, "It is no longer a file", str(path))
    return _Look(status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _mapped_below(folder: Path) -> frozenset[str]:
    """Return the files in a folder that this process has mapped into memory for writing.

    A store into a page that waits for the disk already changes no attribute of the file.
    """
    try:
        maps = _MAPS.read_bytes()
    except OSError:  # Only Linux has it.
        return frozenset()
    inside = b" " + os.fsencode(os.path.realpath(folder)) + b"/"
    lines = maps.splitlines() if inside in maps else []
    shared = (line.split(maxsplit=5) for line in lines if inside in line)
    return frozenset(os.fsdecode(fields[5]) for fields in shared if fields[1].startswith(b"rw") and b"s" in fields[1])


def _write_anew(path: Path, content: _Hashed) -> _Hashed:
    """Replace a file whose sync failed by a copy; raises `OSError` if that fails too."""
    files.rewrite(path, content.sha256)
    again = _hash(path)
    if isinstance(again, OSError):
        raise again
    return again
