"""Atomic import of version 0.1.x vaults.

The new vault is built beside the target, then moved there.
"""

from __future__ import annotations

import re
import shutil
import uuid
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tablevault import names
from tablevault.errors import TVArgumentError, TVFileError, TVLockError
from tablevault.execution.frame import DraftFrame
from tablevault.execution.provenance import InputFacts, Provenance, write_artifact_records, write_provenance
from tablevault.layout import ARTIFACTS, InstanceFolder
from tablevault.legacy.history import import_history
from tablevault.legacy.source import LegacyInstance, LegacyTable, LegacyVault
from tablevault.names import index_builder_name
from tablevault.processes.commit import Decisions
from tablevault.rows.artifacts import InstanceArtifacts
from tablevault.state.opening import Settings, create_vault, is_legacy_vault, open_context
from tablevault.storage import files
from tablevault.storage.artifacts import ArtifactFolder
from tablevault.storage.folders import describe_table, seal, write_description
from tablevault.storage.frames import FrameData, write_frame
from tablevault.storage.legacy_frames import read_legacy_frame
from tablevault.storage.staging import staged_beside
from tablevault.surface import public
from tablevault.system.warnings import warn
from tablevault.values.changes import Imported, Read
from tablevault.values.contents import ArtifactState, ColumnRecord, InstanceRecord, TableRecord
from tablevault.values.plans import Unplanned
from tablevault.values.processes import ProcessRecord, Status

OPERATION = "import_legacy_vault"

_INSTANCE_ID = re.compile(r"(.+)_(\d+)_([0-9A-Za-z-]{8,64})")
_MAXIMUM_INSTANCE_ID_LENGTH = 200
_SHORTENED_NAME = 100
_MAXIMUM_LISTED = 5


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
        importing = _VaultImport(LegacyVault(source), staged)
        importing.run()
        _check_target(target)
        files.replace(staged, target)
    for note in importing.notes:
        warn(f"{note}.")
    return importing.process_id


class _VaultImport:
    """Imports a vault into a staging folder.

    Parameters
    ----------
    source
        The vault of version 0.1.x.
    target
        Staging folder of the new vault.
    """

    def __init__(self, source: LegacyVault, target: Path) -> None:
        self._source = source
        self._started_at = datetime.now(UTC)
        create_vault(target, source.description(), Settings())
        self._context = open_context(target, Settings())
        self.process_id = names.new_process_id()
        self.notes: list[str] = []
        """Deviations from the source."""
        self._processes: dict[str, ProcessRecord] = {}
        self._tables: dict[str, TableRecord] = {}
        self._instances: list[InstanceRecord] = []
        self._versions: dict[int, dict[str, str]] = {}
        """Versions assigned so far, by table id and former name."""
        self._taken: dict[int, set[str]] = {}
        """Case-folded instance ids assigned so far, by table id."""
        self._inputs: dict[str, InputFacts] = {}
        """Materialized instances imported so far, by former id."""
        self._reads: list[tuple[int, Read]] = []

    def run(self) -> None:
        """Build the vault, flush it to disk, and close its catalog."""
        try:
            self._copy_texts(self._source.code_functions, ".py", self._context.layout.code_functions)
            self._processes = import_history(self._source.processes, self.notes)
            self._copy_trash()
            tables = {table.name: table for table in self._source.tables()}
            for table in tables.values():
                self._tables[table.name] = self._import_table(table)
            for instance in (*self._source.materialized(), *self._source.temporary()):
                self._import_instance(tables[instance.table], instance)
            self._note_rest()
            self._context.catalog.record_imported(self._content())
            Decisions(self._context).write_log()
        finally:
            self._context.catalog.close()
        # A single fsync of the tree suffices: the vault becomes visible only afterwards.
        files.fsync_tree(self._context.layout.root)

    def _copy_trash(self) -> None:
        """Copy the remains of deleted tables and instances into the archive of this import."""
        for path in sorted(self._source.trash.iterdir()) if self._source.trash.is_dir() else ():
            self._copy_tree(path, self._context.layout.archived(self._serial, path.name))

    @property
    def _serial(self) -> int:
        """Serial number of the import process, which is the last one."""
        return max((record.serial for record in self._processes.values()), default=0) + 1

    # --- tables ---------------------------------------------------------------------------------------------------

    def _import_table(self, table: LegacyTable) -> TableRecord:
        name = _free_name(table.name, names.check_table_name, [record.name for record in self._tables.values()])
        if name != table.name:
            self.notes.append(
                f"table '{table.name}' was renamed to '{name}', because its name is no longer valid; update the "
                "references to it in builder files"
            )
        record = TableRecord(
            table_id=len(self._tables) + 1,
            name=name,
            folder=name,
            previous_folder=None,
            allow_multiple_artifacts=table.allow_multiple_artifacts,
            has_side_effects=table.has_side_effects,
            description=table.description,
            author=table.author or self._context.author,
            created_at=table.created_at or self._started_at,
        )
        folder = InstanceFolder(self._context.layout.table(name))
        files.make_folder(folder.root)
        write_description(folder, **describe_table(name, table.description, record))
        return record

    # --- instances ------------------------------------------------------------------------------------------------

    def _import_instance(self, table: LegacyTable, instance: LegacyInstance) -> None:
        if not instance.folder.is_dir() or not (instance.temporary or self._source.is_file(instance.frame)):
            self.notes.append(f"{instance} was skipped, because its files are missing")
            return
        record = self._record(instance)
        folder = InstanceFolder(self._context.layout.table(self._tables[table.name].folder) / record.folder)
        files.make_folder(folder.root)
        self._copy_texts(instance.folder / "builders", ".yaml", folder.builders)
        self._rename_index_builder(table, folder)
        if instance.temporary:
            files.make_folder(folder.builders)
            self._copy_tree(instance.folder / ARTIFACTS, folder.artifacts)
            files.make_folder(folder.artifacts)
            self._describe(record, table, folder)
        else:
            self._copy_texts(instance.folder / "EXECUTION_ARCHIVE", ".py", folder.code)
            record = self._materialize(record, table, instance, folder)
            name = self._tables[table.name].name
            self._inputs[instance.instance_id] = InputFacts(name, record.instance_id, record.row_id)
        self._instances.append(record)

    def _record(self, instance: LegacyInstance) -> InstanceRecord:
        """Return the record of an instance before its files are read."""
        table_id = self._tables[instance.table].table_id
        version, instance_id = self._identity(table_id, instance)
        origin, maker = self._inputs.get(instance.origin), self._maker(instance)
        return InstanceRecord(
            row_id=len(self._instances) + 1,
            table_id=table_id,
            instance_id=instance_id,
            version=version,
            folder=instance_id,
            temporary=instance.temporary,
            active=instance.active,
            success=instance.success,
            external_edit=instance.external_edit,
            origin=origin.row_id if origin is not None else None,
            artifact_state=ArtifactState.PRESENT,
            row_count=None,
            columns=(),
            manifest=None,
            description=instance.description,
            author=instance.author or (maker.author if maker else self._context.author),
            created_at=instance.committed_at or (maker.ended_at if maker else None) or self._started_at,
            process_id=maker.process_id if maker else self.process_id,
        )

    def _maker(self, instance: LegacyInstance) -> ProcessRecord | None:
        """Return the process that created an instance, unless it was reverted."""
        former = self._source.maker_of(instance)
        record = self._processes.get(former.process_id) if former is not None else None
        return None if record is None or record.status is Status.REVERTED else record

    def _identity(self, table_id: int, instance: LegacyInstance) -> tuple[str, str]:
        """Return the new version and id of an instance; unchanged if they are valid."""
        taken = self._taken.setdefault(table_id, set())
        if instance.temporary:
            version = self._version(table_id, instance.instance_id.removeprefix(names.TEMPORARY_PREFIX))
            new = names.temporary_instance_id(version)
        else:
            parts = _INSTANCE_ID.fullmatch(instance.instance_id)
            version = self._version(table_id, parts[1] if parts else instance.instance_id)
            new = f"{version}_{parts[2]}_{parts[3]}" if parts else ""
            if not parts or len(new) > _MAXIMUM_INSTANCE_ID_LENGTH or names.fold(new) in taken:
                seconds = (instance.committed_at or self._started_at).timestamp()
                new = f"{version}_{int(seconds)}_{uuid.uuid4().hex}"
        if new != instance.instance_id:
            self.notes.append(f"{instance} was renamed to '{new}', because its id is no longer valid")
        taken.add(names.fold(new))
        return version, new

    def _version(self, table_id: int, former: str) -> str:
        """Return the new name of a version."""
        known = self._versions.setdefault(table_id, {})
        if former not in known:
            known[former] = _free_name(former, names.check_version, known.values())
        return known[former]

    def _rename_index_builder(self, table: LegacyTable, folder: InstanceFolder) -> None:
        name = self._tables[table.name].name
        former = folder.builder(index_builder_name(table.name))
        if name != table.name and former.is_file():
            files.replace(former, folder.builder(index_builder_name(name)))

    def _materialize(
        self, record: InstanceRecord, table: LegacyTable, instance: LegacyInstance, folder: InstanceFolder
    ) -> InstanceRecord:
        """Write the files of a materialized instance, and return its completed record."""
        data, problems = read_legacy_frame(instance.frame, self._source.dtypes(instance))
        self.notes += [f"{instance}: {problem}" for problem in problems]
        stored = write_frame(folder.frame, data)
        state = _artifact_state(table, instance)
        if state is ArtifactState.PRESENT:
            self._import_artifacts(table, instance, folder, data)
        dependencies = self._dependencies(record, instance)
        write_provenance(folder.provenance, self._provenance(record, instance, dependencies))
        record = replace(
            record,
            artifact_state=state,
            row_count=len(data),
            columns=tuple(ColumnRecord(name, column_type.name) for name, column_type in data.types.items()),
        )
        self._describe(record, table, folder)
        return replace(
            record, manifest=seal(self._context.files, self._context.layout.relative(folder.root), folder, stored)
        )

    def _import_artifacts(
        self, table: LegacyTable, instance: LegacyInstance, folder: InstanceFolder, data: FrameData
    ) -> None:
        shared = instance.success and not table.allow_multiple_artifacts
        self._copy_tree((table.folder if shared else instance.folder) / ARTIFACTS, folder.artifacts)
        files.make_folder(folder.artifacts)
        artifacts = InstanceArtifacts(folder.artifacts)
        frame = DraftFrame(artifacts)
        for name, column_type in data.types.items():
            frame.put(name, data.table.column(name), column_type)
        named = sorted(frame.artifact_names())
        found = dict(zip(named, artifacts.commits.describe(named), strict=True))
        records = [record for record in found.values() if record is not None]
        if records:
            write_artifact_records(folder.artifact_hashes, records)
        self._note_files(f"{instance} names artifacts that are missing", [name for name in found if not found[name]])
        self._note_files(
            f"{instance} has artifacts that no cell names", ArtifactFolder(folder.artifacts).unnamed(named)
        )
        if shared and records:
            link = folder.root.parent / ARTIFACTS
            files.replace_link(link, f"{folder.root.name}/{ARTIFACTS}")

    def _dependencies(self, record: InstanceRecord, instance: LegacyInstance) -> list[InputFacts]:
        found = [self._inputs[item] for item in instance.dependencies if item in self._inputs]
        facts = list(dict.fromkeys(found))
        self._reads += [(record.row_id, Read("*", "", item.row_id, "*")) for item in facts]
        return facts

    def _provenance(
        self, record: InstanceRecord, instance: LegacyInstance, dependencies: list[InputFacts]
    ) -> Provenance:
        return Provenance(
            process_id=self.process_id,
            operation=OPERATION,
            author=record.author,
            finished_at=record.created_at.isoformat(),
            origin=self._inputs.get(instance.origin),
            dependencies=tuple(dependencies),
        )

    def _describe(self, record: InstanceRecord, table: LegacyTable, folder: InstanceFolder) -> None:
        facts: dict[str, Any] = {
            "table": self._tables[table.name].name,
            "instance": record.instance_id,
            "description": record.description,
            "author": record.author,
        }
        if not record.temporary:
            facts |= {"process_id": record.process_id, "rows": record.row_count, "success": record.success}
        write_description(folder, **facts)

    # --- the whole ------------------------------------------------------------------------------------------------

    def _content(self) -> Imported:
        own = ProcessRecord(
            serial=self._serial,
            process_id=self.process_id,
            operation=OPERATION,
            author=self._context.author,
            table_name="",
            instance_id="",
            arguments={"source_dir": str(self._source.root), "notes": self.notes},
            plan=Unplanned(),
            parent_serial=None,
            user_given=False,
            background=False,
            status=Status.SUCCEEDED,
            finished=True,
            attempt=1,
            owner_lock=None,
            owner_host="",
            owner_pid=0,
            started_at=self._started_at,
            ended_at=datetime.now(UTC),
            error=None,
            progress={},
            stop_requested=False,
        )
        return Imported(
            (*self._processes.values(), own), tuple(self._tables.values()), tuple(self._instances), tuple(self._reads)
        )

    def _note_rest(self) -> None:
        self.notes += self._source.problems
        self.notes += [
            f"process '{process_id}' had not ended and was left out; its changes until then may be incomplete"
            for process_id in self._source.unfinished()
        ]
        if self._source.has_changed():
            raise TVFileError(
                f"The legacy vault '{self._source.root}' was changed while it was copied; import it again when "
                "nothing writes into it."
            )

    def _note_files(self, problem: str, found: Collection[str]) -> None:
        if found:
            listed = ", ".join(sorted(found)[:_MAXIMUM_LISTED])
            more = f" and {len(found) - _MAXIMUM_LISTED:,} more" if len(found) > _MAXIMUM_LISTED else ""
            self.notes.append(f"{problem}: {listed}{more}")

    def _copy_texts(self, source: Path, suffix: str, target: Path) -> None:
        for path in self._source.texts(source, suffix):
            files.make_folder(target)
            shutil.copyfile(path, target / path.name)

    def _copy_tree(self, source: Path, target: Path) -> None:
        """Copy the files in a folder tree.

        Dangling links and links out of the vault are skipped.
        """
        for path in sorted(source.rglob("*")) if source.is_dir() else ():
            if self._source.is_file(path):
                copy = target / path.relative_to(source)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
            elif path.is_symlink() or not path.is_dir():
                self.notes.append(f"{path} is not a file of the legacy vault and was not copied")


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


def _artifact_state(table: LegacyTable, instance: LegacyInstance) -> ArtifactState:
    """Return the state of an instance's artifacts; a single-set table keeps those of one instance."""
    own = table.allow_multiple_artifacts or not instance.success
    return ArtifactState.PRESENT if own or instance.instance_id == table.artifact_instance else ArtifactState.DROPPED


def _free_name(former: str, check: Callable[[str], str], taken: Collection[str]) -> str:
    """Return a valid name close to the former one, unused in any letter case."""
    keys = {names.fold(name) for name in taken}
    candidates = [former, re.sub(r"[^A-Za-z0-9_-]", "-", former)[:_SHORTENED_NAME]]
    candidates += [re.sub(r"[^A-Za-z0-9-]", "-", candidates[1]), f"imported-{candidates[1]}".replace("_", "-")]
    for candidate in candidates:
        try:
            if check(candidate) == candidate and names.fold(candidate) not in keys:
                return candidate
        except TVArgumentError:
            continue
    number = 2
    while names.fold(f"{candidates[-1]}-{number}") in keys:
        number += 1
    return f"{candidates[-1]}-{number}"
