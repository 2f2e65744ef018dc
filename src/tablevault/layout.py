"""Paths of all files of a vault; no other module joins them."""

from __future__ import annotations

import os
from pathlib import Path

from tablevault.errors import TVFileError
from tablevault.names import is_file_name, is_inner_path

FORMAT = 2
"""Format of new vaults, including folder, catalog, frames and checkpoints."""
OLDEST_READABLE = 1
"""Oldest format that is read; the next operation migrates the vault."""
MARKER = ".tablevault"
DESCRIPTION = "description.yaml"
FRAME = "table.parquet"
PROVENANCE = "provenance.json"
FINGERPRINTS = "fingerprints.parquet"
ERRORS = "errors.parquet"
USAGE = "usage.parquet"
INPUT_ROWS = "inputs.parquet"
ARTIFACT_HASHES = "artifacts.parquet"
MANIFEST = "manifest.json"
ARTIFACTS = "artifacts"
BUILDERS = "builders"
CODE = "code"
PARTIAL = "partial"
CHECKPOINTS = "checkpoints"
EARLIER = "earlier"
"""In `partial/`, the partial results of the previous run, if they were to be reused."""
SET_ASIDE = ".set-aside-"
"""Part of the name, before a number, of a folder filled by another user's attempt."""
CODE_FUNCTIONS = "code_functions"
METADATA = "metadata"
TEMPORARY = "_temp"
CREATING = ".tablevault-creating"
"""Marker that exists throughout the creation of a vault."""
DELETING = ".tablevault-deleting"
"""Name of the vault's marker throughout its deletion."""
BUILDER_SUFFIX = ".yaml"
MODULE_SUFFIX = ".py"


_MAXIMUM_DIGITS = 18
"""Maximum length of a serial number, which has 64 bits in the catalog."""


def serial_in(name: str) -> int | None:
    """Return the number of a process, or of an attempt, in a name; `None` for any other name."""
    return int(name) if name.isascii() and name.isdecimal() and len(name) <= _MAXIMUM_DIGITS else None


class VaultLayout:
    """The paths of one vault.

    Parameters
    ----------
    root
        The vault's folder, absolute.
    catalog
        File of the catalog; `None` for the one inside the vault.
    """

    def __init__(self, root: Path, catalog: Path | None = None) -> None:
        self.root = root
        self.marker = root / MARKER
        self.creating = root / CREATING
        self.deleting = root / DELETING
        self.description = root / DESCRIPTION
        self.code_functions = root / CODE_FUNCTIONS
        self.metadata = root / METADATA
        self.catalog = catalog or self.metadata / "catalog.db"
        self.is_catalog_outside = catalog is not None
        self.log = self.metadata / "logs.txt"
        self.worker_logs = self.metadata / "worker_logs"
        self.owners = self.metadata / "owners"
        self.limits = self.metadata / "limits.db"
        self.trash = self.metadata / "ARCHIVED_TRASH"
        self.temporary = root / TEMPORARY

    def relative(self, path: Path) -> str:
        """Return a path in the form of the catalog.

        It is relative to the vault, except for a catalog outside the vault, which has an absolute path.
        """
        if self.is_catalog_outside and path == self.catalog:
            return path.as_posix()
        return path.relative_to(self.root).as_posix()

    def absolute(self, path: str) -> Path:
        """Return the absolute path for a path of the catalog.

        Raises `TVFileError` if it lies outside the vault.
        """
        if not is_inner_path(path):
            raise TVFileError(f"The catalog of {self.root} names {path[:200]!r}, which is not a path in the vault.")
        return self.root / path

    def recorded_source(self, place: Path) -> str:
        """Return the path of a source as it is recorded in the arguments of a process.

        It is relative to the vault's folder if it lies beside or below it, so that a paused process is continued
        after both have moved.

        Parameters
        ----------
        place
            Absolute path, with links resolved.
        """
        root = self.root.resolve()
        return os.path.relpath(place, root) if place.is_relative_to(root.parent) else str(place)

    def source_place(self, recorded: str) -> Path:
        """Return the absolute path for a source as recorded in the arguments of a process."""
        return Path(os.path.normpath(self.root.resolve() / recorded))

    @property
    def own_folders(self) -> tuple[Path, ...]:
        """The folders of every vault."""
        return (self.metadata, self.code_functions, self.temporary, self.worker_logs, self.owners, self.trash)

    def process(self, serial: int) -> ProcessFolder:
        """Return the folder of a process's invisible work."""
        return ProcessFolder(self.temporary / str(serial))

    def table(self, folder: str) -> Path:
        """Return a table's folder."""
        return self.absolute(folder)

    def code_module(self, module_name: str) -> Path:
        """Return the file of a code module."""
        return module_file(self.code_functions, module_name)

    def worker_log(self, process_id: str) -> Path:
        """Return the file that takes a background worker's output."""
        return self.worker_logs / f"{process_id}.log"

    def archived(self, serial: int, name: str) -> Path:
        """Return the path for files that a process archives."""
        if not is_file_name(name):
            raise TVFileError(f"The catalog of {self.root} names {name[:200]!r}, which is not the name of a folder.")
        return self.trash / f"{serial}_{name}"


class _Place:
    """A path below a folder's `root`, joined on first access.

    Joining is slow, and most paths are never used.

    Parameters
    ----------
    names
        Names of the folders on the path, and of the file or folder.
    """

    def __init__(self, *names: str) -> None:
        self._path = "/".join(names)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, folder: ProcessFolder | InstanceFolder, kind: type | None = None) -> Path:
        path: Path = folder.root / self._path
        vars(folder)[self._name] = path
        return path


class ProcessFolder:
    """The folder of one process in `_temp/`."""

    builders = _Place(BUILDERS)
    codes = _Place(CODE)
    """The code of all attempts, in one folder each."""
    partial = _Place(PARTIAL)
    """The computed cells; after a revert they stay in the temporary instance's folder."""
    checkpoints = _Place(PARTIAL, CHECKPOINTS)
    earlier = _Place(PARTIAL, EARLIER)
    linking = _Place(EARLIER)
    """`earlier` while it is incomplete."""
    staged = _Place("staged")
    unfinished_code = _Place("unfinished_code")
    """A snapshot of the code while it is incomplete."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def code(self, attempt: int) -> Path:
        """Return the folder of the code that an attempt runs."""
        return self.codes / str(attempt)

    def all_code(self) -> list[Path]:
        """Return the folders of the code that attempts ran, oldest first; other entries are left out."""
        found = self.codes.iterdir() if self.codes.is_dir() else ()
        attempts = [path for path in found if serial_in(path.name) and not path.is_symlink() and path.is_dir()]
        return sorted(attempts, key=lambda path: int(path.name))

    def builder_files(self) -> list[Path]:
        """Return the files of the pinned builders, sorted; other entries are left out."""
        return sorted(path for path in self.builders.glob(f"*{BUILDER_SUFFIX}") if not _is_hidden_or_folder(path))


class InstanceFolder:
    """The folder of one instance, temporary or materialized."""

    description = _Place(DESCRIPTION)
    frame = _Place(FRAME)
    artifacts = _Place(ARTIFACTS)
    builders = _Place(BUILDERS)
    code = _Place(CODE)
    provenance = _Place(PROVENANCE)
    fingerprints = _Place(FINGERPRINTS)
    errors = _Place(ERRORS)
    """Failed and skipped rows; exists only if there are any."""
    usage = _Place(USAGE)
    """Usage of calls; exists only if any was counted."""
    input_rows = _Place(INPUT_ROWS)
    """The rows of another table for which an IndexBuilder was called; exists only in that case."""
    artifact_hashes = _Place(ARTIFACT_HASHES)
    manifest = _Place(MANIFEST)
    partial = _Place(PARTIAL)
    """The computed cells of an execution that was reverted."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def set_aside(self) -> list[InstanceFolder]:
        """Return the folders filled by other users' attempts at this path, newest first."""
        found: list[InstanceFolder] = []
        while (path := self._set_aside(len(found) + 1)).exists():
            found.insert(0, InstanceFolder(path))
        return found

    def next_set_aside(self) -> Path:
        """Return the path for renaming this folder if this user may not empty it."""
        return self._set_aside(len(self.set_aside()) + 1)

    def _set_aside(self, number: int) -> Path:
        return self.root.with_name(f"{self.root.name}{SET_ASIDE}{number}")

    def builder(self, builder_name: str) -> Path:
        """Return the file of a builder."""
        return builder_file(self.builders, builder_name)

    def earlier_code(self, attempt: str) -> Path:
        """Return the folder of the code that an earlier attempt ran, if it differs from the last one's."""
        return self.code / f"attempt-{attempt}"


def _is_hidden_or_folder(path: Path) -> bool:
    """Return whether an entry cannot be a file of a builder; one of another kind is refused when it is read."""
    return path.name.startswith(".") or (path.is_dir() and not path.is_symlink())


def builder_file(folder: Path, builder_name: str) -> Path:
    """Return the file of a builder in a folder of builders."""
    return folder / f"{builder_name}{BUILDER_SUFFIX}"


def module_file(folder: Path, module_name: str) -> Path:
    """Return the file of a code module in a folder of code modules."""
    return folder / f"{module_name}{MODULE_SUFFIX}"
