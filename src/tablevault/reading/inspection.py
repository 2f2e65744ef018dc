"""Inspection of an instance's folder for missing, added and changed files."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from tablevault.errors import TVFileError
from tablevault.execution.provenance import read_artifact_records, read_provenance
from tablevault.layout import CHECKPOINTS, FRAME, MANIFEST, PROVENANCE, InstanceFolder, VaultLayout
from tablevault.records import Problem
from tablevault.state.leftovers import is_hidden
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.checkpoints import read_checkpoints
from tablevault.storage.frames import check_frame, read_schema
from tablevault.storage.manifest import FileRecord, listing, read_manifest
from tablevault.texts.plain import in_line, storable
from tablevault.values.contents import ArtifactRecord, ArtifactState, InstanceRecord


class Findings:
    """The results of a check.

    Parameters
    ----------
    layout
        Paths of the vault.
    """

    def __init__(self, layout: VaultLayout) -> None:
        self._layout = layout
        self.problems: dict[tuple[str, str], Problem] = {}
        self.checked = 0

    def add(self, kind: str, path: Path, detail: str) -> None:
        """Record a problem; only the first one of each kind and file counts."""
        relative = self._layout.relative(path)
        self.problems.setdefault((kind, relative), Problem(kind, storable(relative), in_line(detail)))

    def has(self, path: Path) -> bool:
        """Return whether a file has a recorded problem."""
        relative = self._layout.relative(path)
        return any(known == relative for _, known in self.problems)

    def examine(self, path: Path, check: Callable[[], object]) -> None:
        """Run a check of one file or folder, and record its error."""
        self.checked += 1
        try:
            check()
        except FileNotFoundError:
            self.add("missing", path, "it does not exist")
        except TVFileError as error:
            self.add("damaged", path, str(error))
        except OSError as error:
            self.add("unreadable", path, f"it cannot be read ({error})")


class InstanceInspection:
    """Inspects the folder of one instance.

    Parameters
    ----------
    instance
        Catalog record of the instance.
    folder
        Paths of its files.
    findings
        Collects the findings.
    """

    def __init__(self, instance: InstanceRecord, folder: InstanceFolder, findings: Findings) -> None:
        self._instance = instance
        self._folder = folder
        self._findings = findings

    def inspect(self) -> None:
        """Inspect everything in the folder."""
        self._findings.checked += 1
        if self._folder.root.is_symlink() or not self._folder.root.is_dir():
            self._findings.add("missing", self._folder.root, f"the folder of instance '{self._instance.instance_id}'")
        elif self._instance.temporary:
            self._inspect_temporary()
        else:
            self._findings.examine(self._folder.root, self._inspect_sealed)
            self._findings.examine(self._folder.artifacts, self._inspect_artifacts)

    def _inspect_temporary(self) -> None:
        """Inspect an editable folder, whose files are the user's except for reverted partial results."""
        for path in (self._folder.builders, self._folder.artifacts):
            if not path.is_dir():
                self._findings.add("missing", path, "a folder of a temporary instance; create it again, empty")
        self._findings.examine(self._folder.partial, self._inspect_partial)

    def _inspect_partial(self) -> None:
        inspect_checkpoints(files.unlinked(self._folder.partial) / CHECKPOINTS, self._findings)

    def _inspect_sealed(self) -> None:
        folder, findings = self._folder, self._findings
        manifest: dict[str, FileRecord] = {}
        findings.examine(folder.manifest, lambda: manifest.update(read_manifest(folder.manifest, self._manifest_hash)))
        present = set(listing(folder.root, folder.artifacts))
        for record in manifest.values():
            if record.path not in present:
                findings.add("missing", folder.root / record.path, "the manifest lists it")
            else:
                self._compare(folder.root / record.path, record)
        for name in sorted(present - manifest.keys() - {MANIFEST}) if manifest else []:
            if not is_hidden(name.rpartition("/")[2]):
                findings.add("unclaimed", folder.root / name, "it was added to the folder of a sealed instance")
        if FRAME in present:
            findings.examine(folder.frame, self._check_frame)
        if PROVENANCE in present:
            findings.examine(folder.provenance, lambda: read_provenance(folder.provenance))

    @property
    def _manifest_hash(self) -> str:
        if self._instance.manifest is None:
            raise TVFileError(f"The catalog has no hash of the manifest {self._folder.manifest}.")
        return self._instance.manifest

    def _compare(self, path: Path, record: FileRecord) -> None:
        def check() -> None:
            if path.is_symlink() or not path.is_file():
                raise TVFileError("it is no longer a regular file")
            size = path.stat().st_size
            if size != record.size:
                raise TVFileError(f"it has {size:,} bytes, not the {record.size:,} that were written")
            if files.sha256(path) != record.sha256:
                raise TVFileError("its content has changed since it was written (SHA-256)")

        self._findings.examine(path, check)

    def _check_frame(self) -> None:
        """Check the frame against its catalog record, and read it completely."""
        types, rows = read_schema(self._folder.frame)
        columns = [(column.name, column.type_name) for column in self._instance.columns]
        found = [(name, column_type.name) for name, column_type in types.items()]
        if rows != self._instance.row_count:
            recorded = "none" if self._instance.row_count is None else f"{self._instance.row_count:,}"
            raise TVFileError(f"it has {rows:,} rows, but {recorded} in the catalog")
        if found != columns:
            raise TVFileError(f"its columns are {found}, but {columns} in the catalog")
        check_frame(self._folder.frame)

    # --- artifacts ------------------------------------------------------------------------------------------------

    def _inspect_artifacts(self) -> None:
        path = self._folder.artifacts
        if self._instance.artifact_state is ArtifactState.DROPPED:
            if path.exists():
                self._findings.add("unclaimed", path, "a newer set of artifacts has replaced this one")
            return
        records: dict[str, ArtifactRecord] = {}
        if not self._findings.has(self._folder.artifact_hashes):
            records = read_artifact_records(self._folder.artifact_hashes)
        artifacts = ArtifactFolder(path)
        present = artifacts.listing()
        for record in records.values():
            self._findings.examine(path / record.path, partial(_check_artifact, artifacts, record))
        if not self._findings.has(self._folder.artifact_hashes):
            for name in sorted(present - records.keys()):
                self._findings.add("unclaimed", path / name, "no cell of the instance refers to this artifact")


def _check_artifact(artifacts: ArtifactFolder, record: ArtifactRecord) -> None:
    path = artifacts.path / record.path
    size = path.stat().st_size
    if size != record.size:
        raise TVFileError(f"it has {size:,} bytes, not the {record.size:,} that were recorded")
    if not artifacts.matches(record):
        raise TVFileError("its content has changed since it was recorded (SHA-256)")


def inspect_checkpoints(folder: Path, findings: Findings) -> None:
    """Read all checkpoints in a folder, if it exists.

    A running process may be appending to them.
    """
    if folder.is_dir():
        findings.examine(folder, lambda: _read_all(folder))


def _read_all(folder: Path) -> None:
    for state in read_checkpoints(folder).states().values():
        for whole in (state.frame, state.rows):
            if whole is not None:
                check_frame(whole.path)
