"""Export of instances as a new vault, with the instances in their lineage."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tablevault.archiving.archives import SUFFIX, compress_vault
from tablevault.archiving.exported import NOT_AN_EXPORT, export_target, exported, file_difference
from tablevault.archiving.instance_copies import copy_metadata, copy_whole
from tablevault.archiving.needed_instances import with_needed
from tablevault.errors import TableVaultError, TVArgumentError
from tablevault.execution.provenance import read_provenance
from tablevault.layout import ARTIFACTS, CODE, MODULE_SUFFIX, InstanceFolder, VaultLayout
from tablevault.names import nearest
from tablevault.processes.commit import Decisions
from tablevault.reading.metadata_folders import MetadataFolders
from tablevault.reading.queries import Queries
from tablevault.reading.requests import selection_of
from tablevault.reading.verification import Verification
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.state.opening import Settings, create_vault, open_context
from tablevault.storage import files
from tablevault.storage.folders import describe_table, write_description
from tablevault.values.addresses import parse_address
from tablevault.values.changes import Imported
from tablevault.values.contents import ArtifactState, InstanceRecord, TableRecord, TagRecord
from tablevault.values.processes import ProcessRecord, Status

_INPUTS = ("provenance", "frames")
_DESCRIPTION = "Exported from vault "
_GENERATION = 1
"""Generation of a catalog that has been filled by an export; every later process increments it."""


@dataclass(frozen=True)
class _Chosen:
    """The contents of an exported vault, with their ids in the source vault."""

    whole: tuple[InstanceRecord, ...]
    """Instances with frames and artifacts, in commit order."""
    metadata: tuple[InstanceRecord, ...]
    """Instances exported as metadata only, in commit order."""
    tables: Mapping[int, TableRecord]
    """Tables by id."""
    tags: tuple[TagRecord, ...]
    processes: tuple[ProcessRecord, ...]
    """Processes in the order in which they ended."""

    @property
    def hidden_tables(self) -> frozenset[int]:
        """Ids of the tables without a whole instance."""
        return frozenset(self.tables) - {item.table_id for item in self.whole}


class VaultExport:
    """Exports instances of a vault as a new vault.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._context = context
        self._lookup = Lookup(context)
        self._contents = context.catalog.contents
        self._queries = Queries(context)
        self._metadata = MetadataFolders(self._lookup)

    def export(self, target: str | Path, addresses: Sequence[str], inputs: str, overwrite: bool) -> str:
        """Write the vault and return its path; see `TableVault.export_vault` for the parameters."""
        path = export_target(self._context, target)
        if inputs not in _INPUTS:
            raise TVArgumentError(f"inputs cannot be '{inputs}'{nearest(inputs, _INPUTS)}")
        if not addresses:
            raise TVArgumentError("There are no instances to export. Give at least one address.")
        is_archive = path.name.endswith(SUFFIX)

        def write() -> None:
            with self._context.catalog.snapshot():
                chosen = self._choose(addresses, with_frames=inputs == "frames")
            with exported(path, overwrite, file_difference if is_archive else _vault_difference) as made:
                folder = made.with_name(path.name.removesuffix(SUFFIX)) if is_archive else made
                self._write(folder, chosen)
                if is_archive:
                    compress_vault(folder)

        self._queries.again_if_moved(", ".join(addresses), write)
        return str(path)

    # --- selection ------------------------------------------------------------------------------------------------

    def _choose(self, addresses: Sequence[str], with_frames: bool) -> _Chosen:
        named = {item.row_id: item for item in map(self._addressed, addresses)}
        known = with_needed(self._lookup, self._metadata, named.values())
        whole = [
            item
            for item in known.values()
            if item.row_id in named or (with_frames and self._contents.instance(item.table_id, item.instance_id))
        ]
        tags = self._contents.tags(row_ids=[item.row_id for item in whole])
        metadata = [item for row_id, item in sorted(known.items()) if row_id not in {one.row_id for one in whole}]
        makers = {item.process_id for item in known.values()} | {tag.process_id for tag in tags}
        return _Chosen(
            tuple(sorted(whole, key=lambda item: item.row_id)),
            tuple(metadata),
            {table_id: self._lookup.table_by_id(table_id) for table_id in sorted({i.table_id for i in known.values()})},
            tuple(tags),
            tuple(self._ended(makers, filter(None, map(self._archived_by, metadata)))),
        )

    def _addressed(self, text: str) -> InstanceRecord:
        address = parse_address(text)
        selection = selection_of(
            address.table_name, address.instance_id, address.version, successful_only=not address.instance_id
        )
        table, instance = self._queries.select(selection)
        if instance.temporary:
            raise TVArgumentError(
                f"Instance '{instance.instance_id}' of table '{table.name}' is temporary and cannot be exported; "
                "execute_instance or write_instance materializes it."
            )
        return instance

    def _archived_by(self, instance: InstanceRecord) -> int | None:
        """Return the serial number of the process that deleted an instance; `None` if it still exists."""
        return self._metadata.archived_by(self._lookup.table_by_id(instance.table_id), instance)

    def _ended(self, process_ids: Iterable[str], serials: Iterable[int]) -> list[ProcessRecord]:
        """Return processes and their ancestors, in their ended state."""
        processes = self._context.catalog.processes
        found: dict[int, ProcessRecord] = {}
        for record in (*map(processes.find, process_ids), *map(processes.get, serials)):
            while record is not None and record.serial not in found:
                found[record.serial] = record
                parent = processes.get(record.parent_serial) if record.parent_serial is not None else None
                # An active parent would look like an interrupted process in the new vault.
                record = parent if parent is not None and parent.finished else None
        ended = [record.serial for _, record in processes.ended_after(0) if record.serial in found]
        return [
            replace(
                found[serial],
                parent_serial=found[serial].parent_serial if found[serial].parent_serial in found else None,
                owner_lock=None,
                finished=True,
                status=found[serial].status if found[serial].status.ended else Status.SUCCEEDED,
            )
            for serial in dict.fromkeys([*ended, *sorted(found)])
        ]

    # --- the new vault --------------------------------------------------------------------------------------------

    def _write(self, folder: Path, chosen: _Chosen) -> None:
        settings = Settings(author=self._context.author)
        create_vault(folder, f"{_DESCRIPTION}{self._context.vault_id}.", settings)
        made = open_context(folder, settings)
        try:
            instances = self._copy_instances(made.layout, chosen)
            self._copy_metadata(made.layout, chosen)
            self._copy_code(made.layout, chosen)
            made.catalog.record_imported(
                Imported(
                    chosen.processes,
                    [replace(table, folder=table.name, previous_folder=None) for table in chosen.tables.values()],
                    sorted([*instances, *chosen.metadata], key=lambda item: item.row_id),
                    [
                        (item.row_id, read)
                        for item in (*chosen.whole, *chosen.metadata)
                        for read in self._contents.reads_of(item.row_id)
                    ],
                    chosen.tags,
                    chosen.hidden_tables,
                    frozenset(item.row_id for item in chosen.metadata),
                    self._contents.failure_counts([item.row_id for item in (*chosen.whole, *chosen.metadata)]),
                )
            )
            Decisions(made).write_log()
        finally:
            made.catalog.close()

    def _copy_instances(self, layout: VaultLayout, chosen: _Chosen) -> list[InstanceRecord]:
        """Copy the whole instances and their tables; return the instances' new records."""
        for table_id, table in chosen.tables.items():
            if table_id not in chosen.hidden_tables:
                folder = InstanceFolder(layout.table(table.name))
                files.make_folder(folder.root)
                write_description(folder, **describe_table(table.name, table.description, table))
        found = []
        for instance in chosen.whole:
            table = chosen.tables[instance.table_id]
            target = InstanceFolder(layout.table(table.name) / instance.folder)
            copy_whole(self._lookup.folder(table, instance), target, instance)
            found.append(self._as_exported(layout, chosen, table, instance))
        return found

    def _as_exported(
        self, layout: VaultLayout, chosen: _Chosen, table: TableRecord, instance: InstanceRecord
    ) -> InstanceRecord:
        """Return an instance's new record; the newest one with artifacts holds a single-set table's artifacts."""
        sets = [
            item.row_id
            for item in chosen.whole
            if item.table_id == table.table_id and item.success and item.artifact_state is not ArtifactState.DROPPED
        ]
        if table.allow_multiple_artifacts or instance.row_id != max(sets, default=None):
            return instance
        folder = InstanceFolder(layout.table(table.name) / instance.folder)
        if folder.artifact_hashes.exists():
            files.replace_link(folder.root.parent / ARTIFACTS, f"{instance.folder}/{ARTIFACTS}")
        return replace(instance, artifact_state=ArtifactState.PRESENT)

    def _copy_metadata(self, layout: VaultLayout, chosen: _Chosen) -> None:
        """Copy the metadata of inputs to the archive of deleted instances."""
        serials = {record.process_id: record.serial for record in chosen.processes}
        for instance in chosen.metadata:
            table = chosen.tables[instance.table_id]
            source = self._metadata.of(table, instance)
            if source is not None:
                serial = self._archived_by(instance) or serials[instance.process_id]
                target = layout.archived(serial, f"{table.name}_{instance.instance_id}")
                copy_metadata(source, InstanceFolder(target), instance)

    def _copy_code(self, layout: VaultLayout, chosen: _Chosen) -> None:
        """Copy the builders' code modules, in the version that the newest instances ran."""
        for instance in chosen.whole:
            folder = self._lookup.folder(chosen.tables[instance.table_id], instance)
            builders = read_provenance(folder.provenance).builders
            wanted = {part.partition(".")[0] for facts in builders if facts.is_custom for part in facts.code_parts}
            for path in sorted(files.unlinked(folder.root / CODE).glob(f"*{MODULE_SUFFIX}")):
                if path.stem in wanted and not path.is_symlink():
                    files.copy_unsynced(path, layout.code_module(path.stem))


def _vault_difference(path: Path) -> str:
    """Return how a folder differs from an exported vault, as for `exported`; empty if it does not."""
    layout = VaultLayout(path)
    try:
        if not layout.marker.is_file() or _DESCRIPTION not in files.read_text(layout.description):
            return NOT_AN_EXPORT
        context = open_context(path, Settings())
    except (OSError, TableVaultError):
        return NOT_AN_EXPORT
    try:
        return _later_process(context) or _changed_file(context)
    except TableVaultError as error:
        return f"is an exported vault that cannot be checked ({error})"
    finally:
        context.catalog.close()


def _later_process(context: VaultContext) -> str:
    """Name the newest process begun in an exported vault, as part of a sentence; empty if there is none."""
    processes = context.catalog.processes
    if context.catalog.contents.generation() <= _GENERATION and not processes.unfinished():
        return ""
    record = processes.get(processes.begun())
    named = f", by process '{record.process_id}' ({record.operation}, {record.author})" if record is not None else ""
    return f"has been written to since it was exported{named}"


def _changed_file(context: VaultContext) -> str:
    """Name a file added to an exported vault or changed in it, as part of a sentence; empty if there is none."""
    for problem in Verification(context).report().problems:
        if problem.kind != "missing":
            return f"has a file that was changed after the export, '{problem.path}'"
    exported_code = _code_digests(context)
    folder = context.layout.code_functions
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        is_bytecode = path.parent.name == "__pycache__"
        if not path.is_dir() and not is_bytecode and (name, files.sha256(path)) not in exported_code:
            return f"has code that was changed after the export, '{context.layout.relative(path)}'"
    return ""


def _code_digests(context: VaultContext) -> set[tuple[str, str]]:
    """Return the names and digests of the code that the instances of a vault ran."""
    lookup, contents = Lookup(context), context.catalog.contents
    found: set[tuple[str, str]] = set()
    for table in contents.tables():
        for instance in contents.instances(table.table_id, temporary=False):
            folder = files.unlinked(lookup.folder(table, instance).root / CODE)
            found.update((path.name, files.sha256(path)) for path in folder.glob(f"*{MODULE_SUFFIX}"))
    return found
