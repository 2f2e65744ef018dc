"""Import of instances from another, untrusted vault."""

from __future__ import annotations

import contextlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from tablevault import names
from tablevault.archiving.archives import SUFFIX, check_unpacked
from tablevault.archiving.instance_copies import content_digests, copy_metadata, copy_whole
from tablevault.archiving.needed_instances import with_needed
from tablevault.archiving.unpacking import Unpacking
from tablevault.errors import TVArgumentError, TVFileError
from tablevault.execution.inputs import ARTIFACT_COLUMN
from tablevault.layout import ARTIFACTS, InstanceFolder, VaultLayout
from tablevault.operations.base import Operation
from tablevault.operations.session import Draft, Session
from tablevault.operations.tables import make_table_folder
from tablevault.reading.inspection import Findings, InstanceInspection
from tablevault.reading.metadata_folders import MetadataFolders
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.state.opening import Settings, open_context
from tablevault.storage import files
from tablevault.values.changes import (
    Changes,
    ImportedInstance,
    ImportedInstances,
    ImportedRead,
    ImportedTable,
    ImportedTag,
    NewTable,
    Tidying,
    TidyingAction,
)
from tablevault.values.contents import ArtifactState, InstanceRecord, TableRecord
from tablevault.values.lock_names import lock_on_table
from tablevault.values.plans import ImportPlan, ImportSource
from tablevault.values.processes import Creation

_MAXIMUM_LISTED = 5
"""Maximum number of instances named by a warning."""


@dataclass(frozen=True)
class ImportInstances(Operation[ImportPlan]):
    """Imports materialized instances of another vault's tables."""

    name: ClassVar[str] = "import_instances"

    source: str
    tables: Any = None

    def plan(self, draft: Draft) -> ImportPlan:
        """Choose the instances, and compare them with the existing ones."""
        with opened_source(self.source) as source:
            # A copy of this vault, such as a backup, restores deleted instances.
            if source.layout.root.samefile(draft.lookup.layout.root):
                raise TVArgumentError(f"'{self.source}' is this vault itself; name another one, or an archive.")
            return _Planning(draft, source).plan(_chosen_names(self.tables, source))

    def work(self, plan: ImportPlan, session: Session) -> Changes:
        """Verify the instances, which are untrusted, and copy them."""
        lookup, layout = session.lookup, session.lookup.layout
        for table in plan.content.tables:
            if table.table_id is None and not table.is_hidden:
                root = layout.table(table.folder)
                files.remove_tree(root)  # A killed attempt may have left a partial file.
                make_table_folder(
                    root,
                    NewTable(
                        table.name,
                        table.folder,
                        table.allow_multiple_artifacts,
                        table.has_side_effects,
                        table.description,
                    ),
                )
        steps: list[Tidying] = []
        with opened_source(self.source) as source:
            theirs = Lookup(source)
            for item, origin in zip(plan.content.instances, plan.sources, strict=True):
                instance = _still_there(theirs, origin, item)
                if item.is_hidden:
                    steps += self._stage_metadata(plan, item, instance, theirs, session)
                else:
                    target = self._folder_of(plan, item, lookup)
                    _check_received(source, theirs, instance)
                    files.remove_tree(target.root)
                    copy_whole(theirs.folder_of(instance), target, instance)
                    files.fsync_tree(target.root)
                    files.fsync_folder(target.root.parent)
                    steps += _link(plan, item, layout, target)
                session.raise_if_stopped()
        return Changes((plan.content,), tuple(steps), warnings=plan.warnings, frees_artifacts=True)

    def _folder_of(self, plan: ImportPlan, item: ImportedInstance, lookup: Lookup) -> InstanceFolder:
        table = plan.content.tables[item.table]
        root = lookup.layout.table(table.folder)
        if table.table_id is not None:
            root = lookup.table_folder(lookup.table_by_id(table.table_id))
        return InstanceFolder(root / item.folder)

    def _stage_metadata(
        self, plan: ImportPlan, item: ImportedInstance, instance: InstanceRecord, theirs: Lookup, session: Session
    ) -> Iterator[Tidying]:
        """Stage the metadata of an input; yield the step that moves it to the archived metadata."""
        table = theirs.table_by_id(instance.table_id)
        source = MetadataFolders(theirs).of(table, instance)
        if source is None:
            return
        layout = session.lookup.layout
        name = f"{plan.content.tables[item.table].name}_{item.instance_id}"
        staged = session.workspace.staged / name
        files.remove_tree(staged)
        files.make_folder(session.workspace.staged)
        copy_metadata(source, InstanceFolder(staged), instance)
        files.fsync_tree(staged)
        archived = layout.archived(session.serial, name)
        yield Tidying(TidyingAction.MOVE_FOLDER, layout.relative(staged), layout.relative(archived))


class _Planning:
    """Chooses the instances of one import.

    Parameters
    ----------
    draft
        Collects locks.
    source
        The source vault.
    """

    def __init__(self, draft: Draft, source: VaultContext) -> None:
        self._draft = draft
        self._source = source
        self._ours, self._theirs = draft.lookup, Lookup(source)
        self._metadata = MetadataFolders(self._theirs)
        self._tables: list[ImportedTable] = []
        self._instances: list[ImportedInstance] = []
        self._sources: list[ImportSource] = []
        self._skipped: list[str] = []
        self._warnings: list[str] = []

    def plan(self, tables: Mapping[str, str]) -> ImportPlan:
        """Plan the import of tables, given as source name to target name."""
        with self._source.catalog.snapshot():
            chosen: list[InstanceRecord] = []
            for there, here in tables.items():
                chosen += self._choose(self._theirs.table(there), names.check_table_name(here))
            known = with_needed(self._theirs, self._metadata, chosen)
            self._hide([item for item in known.values() if item.row_id not in {one.row_id for one in chosen}])
            tags = tuple(self._tags(chosen))
            self._warnings += self._artifact_warnings({tag.instance for tag in tags})
        content = ImportedInstances(tuple(self._tables), tuple(self._instances), tags)
        whole = [item for item in self._instances if not item.is_hidden]
        single = self._tables[0].name if len(tables) == 1 and self._tables else ""
        return ImportPlan(
            table_name=single,
            content=content,
            sources=tuple(self._sources),
            vault_id=self._source.vault_id,
            skipped=tuple(self._skipped),
            warnings=tuple(self._warnings),
            creates=tuple(self._creates(whole)),
        )

    def _choose(self, table: TableRecord, name: str) -> list[InstanceRecord]:
        """Return the materialized instances of a table, and add the new ones to the plan."""
        self._draft.lock_exclusive(lock_on_table(names.fold(name)))
        existing = self._ours.contents.table(name)
        place = len(self._tables)
        self._tables.append(self._imported_table(table, name, existing))
        found = self._theirs.contents.instances(table.table_id, temporary=False)
        new = [item for item in found if not self._is_here(existing, table, item)]
        shares = not self._tables[place].allow_multiple_artifacts
        sets = [item.row_id for item in new if item.success and item.artifact_state is not ArtifactState.DROPPED]
        holder = max(sets, default=None) if shares else None
        for item in new:
            state = item.artifact_state
            if state is not ArtifactState.DROPPED:
                is_superseded = shares and item.success and item.row_id != holder
                state = ArtifactState.SUPERSEDED if is_superseded else ArtifactState.PRESENT
            self._add(item, place, state, replaces_artifacts=item.row_id == holder, is_hidden=False)
        return found

    def _imported_table(self, table: TableRecord, name: str, existing: TableRecord | None) -> ImportedTable:
        if existing is not None:
            return ImportedTable(
                existing.table_id,
                existing.name,
                existing.folder,
                existing.allow_multiple_artifacts,
                existing.has_side_effects,
                existing.description,
            )
        folder = self._draft.free_folder(self._ours.layout.root, name)
        return ImportedTable(
            None, name, folder, table.allow_multiple_artifacts, table.has_side_effects, table.description
        )

    def _is_here(self, existing: TableRecord | None, table: TableRecord, instance: InstanceRecord) -> bool:
        """Return whether an instance already exists; raise if its id exists with different content."""
        if existing is None:
            return False
        ours = self._ours.contents.instance(existing.table_id, instance.instance_id)
        if ours is None:
            return False
        theirs = content_digests(self._theirs.folder(table, instance), instance)
        if content_digests(self._ours.folder(existing, ours), ours) != theirs:
            raise TVArgumentError(
                f"Instance '{instance.instance_id}' of table '{existing.name}' already exists with different "
                "content; nothing was imported."
            )
        self._skipped.append(instance.instance_id)
        return True

    def _hide(self, needed: Sequence[InstanceRecord]) -> None:
        """Add instances that only lineages refer to, unless they are known."""
        places: dict[int, int] = {}
        for item in sorted(needed, key=lambda item: item.row_id):
            if self._ours.contents.instance_named(item.instance_id) is not None:
                continue
            if item.table_id not in places:
                table = self._theirs.table_by_id(item.table_id)
                names.check_table_name(table.name)
                places[item.table_id] = len(self._tables)
                self._tables.append(
                    ImportedTable(
                        None,
                        table.name,
                        table.name,
                        table.allow_multiple_artifacts,
                        table.has_side_effects,
                        table.description,
                        is_hidden=True,
                    )
                )
            self._add(item, places[item.table_id], ArtifactState.DROPPED, replaces_artifacts=False, is_hidden=True)

    def _add(
        self, item: InstanceRecord, place: int, state: ArtifactState, replaces_artifacts: bool, is_hidden: bool
    ) -> None:
        if not names.is_materialized(item.instance_id) or item.instance_id.rsplit("_", 2)[0] != item.version:
            raise TVFileError(
                f"The vault '{self._source.layout.root}' has an instance with the id {item.instance_id!r:.200}."
            )
        contents = self._theirs.contents
        origin = contents.instance_by_row(item.origin) if item.origin is not None else None
        failed, skipped = contents.failure_counts([item.row_id]).get(item.row_id, (0, 0))
        self._instances.append(
            ImportedInstance(
                table=place,
                instance_id=item.instance_id,
                version=item.version,
                folder=item.instance_id,
                active=item.active,
                success=item.success,
                external_edit=item.external_edit,
                origin_id=origin.instance_id if origin is not None else "",
                artifact_state=state,
                row_count=item.row_count or 0,
                columns=item.columns,
                manifest=item.manifest or "",
                description=item.description,
                reads=tuple(self._reads(item)),
                replaces_artifacts=replaces_artifacts,
                failed_cells=failed,
                skipped_cells=skipped,
                is_hidden=is_hidden,
            )
        )
        self._sources.append(ImportSource(item.row_id, item.instance_id))

    def _reads(self, item: InstanceRecord) -> Iterator[ImportedRead]:
        for read in self._theirs.contents.reads_of(item.row_id):
            found = self._theirs.contents.instance_by_row(read.input_row_id)
            if found is not None:
                yield ImportedRead(read.column, read.builder, found.instance_id, read.input_column)

    def _tags(self, chosen: Sequence[InstanceRecord]) -> Iterator[ImportedTag]:
        """Yield the tags of imported instances, except those that conflict with existing tags."""
        ours = {table.name: table.table_id for table in self._tables if table.table_id is not None}
        places = {
            source.row_id: place
            for place, (source, item) in enumerate(zip(self._sources, self._instances, strict=True))
            if not item.is_hidden
        }
        for tag in self._theirs.contents.tags(row_ids=[item.row_id for item in chosen]):
            if tag.row_id not in places:
                continue
            name = self._tables[self._instances[places[tag.row_id]].table].name
            known = self._ours.contents.tagged(ours[name], tag.tag) if name in ours else None
            if known is not None and known.instance_id != tag.instance_id:
                self._warnings.append(
                    f"Tag '{tag.tag}' of table '{name}' already names instance '{known.instance_id}' in this vault and "
                    f"was not changed; in the source it names '{tag.instance_id}'."
                )
            else:
                names.check_tag(tag.tag)
                yield ImportedTag(tag.tag, places[tag.row_id], tag.description)

    def _artifact_warnings(self, tagged: Container[int]) -> Iterator[str]:
        """Yield a warning for each table in which instances lose their artifacts, or come without them.

        `tagged` has the positions of the imported instances with tags, which protect artifacts.
        """
        for place, table in enumerate(self._tables):
            new = [(position, item) for position, item in enumerate(self._instances) if item.table == place]
            holder = next((item for _, item in new if item.replaces_artifacts), None)
            if holder is not None:
                lost = [
                    *self._superseded_here(table),
                    *(
                        item.instance_id
                        for position, item in new
                        if item.artifact_state is ArtifactState.SUPERSEDED
                        and position not in tagged
                        and _has_artifacts(item)
                    ),
                ]
                if lost:
                    yield (
                        f"Table '{table.name}' keeps only the artifacts of its newest instance, now the imported "
                        f"'{holder.instance_id}'; those of {_listed(lost)} are removed. Tags that are created before "
                        "an import (create_tag) keep them, and so does a table with allow_multiple_artifacts=True."
                    )
            for item in {item.version: item for _, item in new if not item.is_hidden}.values():
                if item.artifact_state is ArtifactState.DROPPED and _has_artifacts(item):
                    yield (
                        f"The artifacts of instance '{item.instance_id}' of table '{table.name}', now the newest of "
                        f"version '{item.version}', no longer exist in the source; full_artifact_path=False reads its "
                        "frame, and other instances are read by their ids."
                    )

    def _superseded_here(self, table: ImportedTable) -> list[str]:
        """Return the ids of a table's instances whose artifacts an import replaces."""
        if table.table_id is None:
            return []
        contents = self._ours.contents
        found = [
            item
            for item in contents.instances(table.table_id, temporary=False)
            if item.success and item.artifact_state is ArtifactState.PRESENT and _has_artifacts(item)
        ]
        tagged = {tag.row_id for tag in contents.tags(row_ids=[item.row_id for item in found])}
        return [item.instance_id for item in found if item.row_id not in tagged]

    def _creates(self, whole: Sequence[ImportedInstance]) -> Iterator[Creation]:
        for table in self._tables:
            if table.table_id is None and not table.is_hidden:
                yield Creation(table.folder, "", table.name)
        for item in whole:
            table = self._tables[item.table]
            yield Creation(f"{table.folder}/{item.folder}", item.instance_id, table.name)


@contextlib.contextmanager
def opened_source(source: str) -> Iterator[VaultContext]:
    """Open a received vault for reading; an archive is unpacked into a temporary folder."""
    path = Path(source).expanduser().absolute()
    if not path.name.endswith(SUFFIX):
        if not path.is_dir():
            raise TVArgumentError(f"There is no vault '{path}'.")
        context = open_context(path, Settings())
        try:
            yield context
        finally:
            context.catalog.close()
        return
    if not path.is_file():
        raise TVArgumentError(f"There is no archive '{path}'.")
    scratch = files.scratch_folder()
    try:
        unpacked = scratch / "vault"
        unpacked.mkdir()
        Unpacking(path, unpacked, lambda count: None).run()
        check_unpacked(VaultLayout(unpacked), path)
        context = open_context(unpacked, Settings())
        try:
            yield context
        finally:
            context.catalog.close()
    finally:
        files.remove_tree(scratch)


def _chosen_names(tables: Any, source: VaultContext) -> dict[str, str]:
    """Return the tables of a call, as source name to target name."""
    if tables is None:
        return {table.name: table.name for table in source.catalog.contents.tables()}
    theirs = Lookup(source)
    if isinstance(tables, Mapping):
        chosen = {theirs.table(there).name: here for there, here in tables.items()}
    else:
        chosen = {name: name for name in (theirs.table(there).name for there in tables)}
    if not chosen or len(set(map(names.fold, chosen.values()))) < len(chosen):
        raise TVArgumentError(f"tables is empty, or maps two tables to the same name: {tables!r:.200}.")
    return chosen


def _has_artifacts(instance: InstanceRecord | ImportedInstance) -> bool:
    return any(column.type_name == ARTIFACT_COLUMN for column in instance.columns)


def _listed(ids: Sequence[str]) -> str:
    """Return ids as part of a sentence, at most `_MAXIMUM_LISTED` of them."""
    shown = ", ".join(f"'{item}'" for item in ids[:_MAXIMUM_LISTED])
    return shown if len(ids) <= _MAXIMUM_LISTED else f"{shown} and {len(ids) - _MAXIMUM_LISTED:,} more"


def _still_there(theirs: Lookup, origin: ImportSource, planned: ImportedInstance) -> InstanceRecord:
    """Return an instance of the source; raise `TVFileError` if it differs from the planned one."""
    found = theirs.contents.instance_by_row(origin.row_id)
    if found is None or found.instance_id != origin.instance_id or (found.manifest or "") != planned.manifest:
        raise TVFileError(
            f"Instance '{origin.instance_id}' was replaced or deleted in the source during the import. Import again."
        )
    return found


def _check_received(source: VaultContext, theirs: Lookup, instance: InstanceRecord) -> None:
    """Raise `TVFileError` if an instance's folder does not match its manifest and records."""
    findings = Findings(source.layout)
    InstanceInspection(instance, theirs.folder_of(instance), findings).inspect()
    for problem in findings.problems.values():
        raise TVFileError(
            f"Instance '{instance.instance_id}' cannot be imported: {problem.path} is {problem.kind}: {problem.detail}."
        )


def _link(plan: ImportPlan, item: ImportedInstance, layout: VaultLayout, target: InstanceFolder) -> Iterator[Tidying]:
    """Yield the step that updates the artifact link of a single-set table."""
    if item.replaces_artifacts:
        link = layout.relative(target.root.parent / ARTIFACTS)
        if target.artifact_hashes.exists() and item.artifact_state is not ArtifactState.DROPPED:
            yield Tidying(TidyingAction.LINK, layout.relative(target.artifacts), link)
        else:
            yield Tidying(TidyingAction.UNLINK, target=link)
