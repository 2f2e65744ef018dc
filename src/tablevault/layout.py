"""Where each file of a vault lives: the only module that joins a vault's paths."""

from __future__ import annotations

from pathlib import Path

from tablevault.errors import TVFileError
from tablevault.names import is_file_name, is_inner_path

FORMAT = 2
"""Of the vault as a whole: folder, catalog, frames and checkpoints. New vaults have it."""
OLDEST_READABLE = 1
"""Format of the oldest vaults that are read, and migrated by their next operation."""
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
"""In `partial/`: the partial results of the run before it, if they were to be reused."""
SET_ASIDE = ".set-aside-"
"""In the name of a folder that an attempt of another user had filled, before its number."""
CODE_FUNCTIONS = "code_functions"
METADATA = "metadata"
TEMPORARY = "_temp"
CREATING = ".tablevault-creating"
"""Present from before the first until after the last step of a vault's creation."""
DELETING = ".tablevault-deleting"
"""Name of the marker from the first until the last step of a vault's deletion."""


class VaultLayout:
    """The paths of one vault.

    Parameters
    ----------
    root
        The vault's folder, absolute.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.marker = root / MARKER
        self.creating = root / CREATING
        self.deleting = root / DELETING
        self.description = root / DESCRIPTION
        self.code_functions = root / CODE_FUNCTIONS
        self.metadata = root / METADATA
        self.catalog = self.metadata / "catalog.db"
        self.log = self.metadata / "logs.txt"
        self.worker_logs = self.metadata / "worker_logs"
        self.owners = self.metadata / "owners"
        self.limits = self.metadata / "limits.db"
        self.trash = self.metadata / "ARCHIVED_TRASH"
        self.temporary = root / TEMPORARY

    def relative(self, path: Path) -> str:
        """Return a path inside the vault as the catalog records it."""
        return path.relative_to(self.root).as_posix()

    def absolute(self, path: str) -> Path:
        """Return the path that the catalog recorded as `path`; raise `TVFileError` if it would not be in the vault."""
        if not is_inner_path(path):
            raise TVFileError(f"The catalog of {self.root} names {path[:200]!r}, which is not a path in the vault.")
        return self.root / path

    @property
    def own_folders(self) -> tuple[Path, ...]:
        """The folders that every vault has."""
        return (self.metadata, self.code_functions, self.temporary, self.worker_logs, self.owners, self.trash)

    def process(self, serial: int) -> ProcessFolder:
        """Return the folder of a process's invisible work."""
        return ProcessFolder(self.temporary / str(serial))

    def table(self, folder: str) -> Path:
        """Return a table's folder."""
        return self.absolute(folder)

    def code_module(self, module_name: str) -> Path:
        """Return the file of a code module."""
        return self.code_functions / f"{module_name}.py"

    def worker_log(self, process_id: str) -> Path:
        """Return the file that takes a background worker's output."""
        return self.worker_logs / f"{process_id}.log"

    def archived(self, serial: int, name: str) -> Path:
        """Return the path for files that a process archives."""
        if not is_file_name(name):
            raise TVFileError(f"The catalog of {self.root} names {name[:200]!r}, which is not the name of a folder.")
        return self.trash / f"{serial}_{name}"


class _Place:
    """A path below a folder's `root`, joined when it is first asked for: few of them are, and joining takes time.

    Parameters
    ----------
    names
        Of the folders on the way, and of the file or folder.
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
    """The code of all attempts, a folder each."""
    partial = _Place(PARTIAL)
    """The computed cells; after a revert they stay in the temporary instance's folder."""
    checkpoints = _Place(PARTIAL, CHECKPOINTS)
    earlier = _Place(PARTIAL, EARLIER)
    linking = _Place(EARLIER)
    """Where `earlier` is while it is not complete."""
    staged = _Place("staged")
    unfinished_code = _Place("unfinished_code")
    """Where a snapshot of the code is while it is not complete."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def code(self, attempt: int) -> Path:
        """Return the folder of the code that an attempt runs."""
        return self.codes / str(attempt)


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
    """Failed and skipped rows; only there if there are any."""
    usage = _Place(USAGE)
    """What calls have used; only there if any was counted."""
    input_rows = _Place(INPUT_ROWS)
    """The rows of another table that an IndexBuilder was called for; only there if it was."""
    artifact_hashes = _Place(ARTIFACT_HASHES)
    manifest = _Place(MANIFEST)
    partial = _Place(PARTIAL)
    """The computed cells of an execution that was reverted."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def set_aside(self) -> list[InstanceFolder]:
        """Return the folders that attempts of other users had filled in this place, the newest first."""
        found: list[InstanceFolder] = []
        while (path := self._set_aside(len(found) + 1)).exists():
            found.insert(0, InstanceFolder(path))
        return found

    def next_set_aside(self) -> Path:
        """Return the path to which this folder is renamed if this user may not empty it."""
        return self._set_aside(len(self.set_aside()) + 1)

    def _set_aside(self, number: int) -> Path:
        return self.root.with_name(f"{self.root.name}{SET_ASIDE}{number}")

    def builder(self, builder_name: str) -> Path:
        """Return the file of a builder."""
        return self.builders / f"{builder_name}.yaml"


BUILDER_SUFFIX = ".yaml"
MODULE_SUFFIX = ".py"
