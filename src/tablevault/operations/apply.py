"""Atomic application of a source's builders, code modules and tables to the vault."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

import msgspec

from tablevault import names
from tablevault.definitions.reading import read_source
from tablevault.definitions.source_files import SourceFiles
from tablevault.definitions.texts import SourceTexts, TableTexts, stamped_builder, stamped_module
from tablevault.layout import BUILDER_SUFFIX, MODULE_SUFFIX, InstanceFolder
from tablevault.operations.applied_files import AppliedBuilders, FileState, SourceComparison, VaultTables, compare
from tablevault.operations.base import LONG, Operation, put_file, remove
from tablevault.operations.instances import builders_of, make_temporary_folder
from tablevault.operations.session import Draft, Session
from tablevault.operations.tables import make_table_folder
from tablevault.records import ApplyPlan, FilePlan
from tablevault.state.context import VaultContext
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.values.changes import (
    Change,
    ChangedService,
    Changes,
    NewTable,
    NewTemporaryInstance,
    Tidying,
)
from tablevault.values.lock_names import lock_on_code, lock_on_instance, lock_on_service, lock_on_table
from tablevault.values.plans import AppliedPlan, AppliedTable, UnchangedPlan
from tablevault.values.processes import Creation


@dataclass(frozen=True)
class Apply(Operation[AppliedPlan | UnchangedPlan]):
    """Writes the builders and code modules of a source, and creates its tables."""

    name: ClassVar[str] = "apply"

    source: str
    """The file or folder, by its path from `VaultLayout.recorded_source`."""
    definitions: Any = field(metadata=LONG)
    """The texts read from the source, as plain data."""
    version: str = names.DEFAULT_VERSION
    overwrite: bool = False

    @classmethod
    def read(cls, context: VaultContext, source: SourceFiles, version: str, overwrite: bool) -> Apply:
        """Run the files of a source, and return the operation that applies their definitions."""
        texts = read_source(source, VaultTables(Lookup(context), names.check_version(version)))
        return cls(context.layout.recorded_source(source.place), msgspec.to_builtins(texts), version, overwrite)

    def preview(self, lookup: Lookup) -> ApplyPlan:
        """Return the operation's changes without making them."""
        comparison = self.compared(lookup)
        return ApplyPlan(
            files=tuple(FilePlan(file.path, file.state.value, file.diff) for file in comparison.files),
            tables=tuple(item.texts.name for item in comparison.tables if item.version.table is None),
            services=self._states_of_services(lookup),
        )

    def plan(self, draft: Draft) -> AppliedPlan | UnchangedPlan:
        """Compare the texts with the vault's files."""
        comparison = self.compared(draft.lookup)
        self._lock(draft, comparison)
        comparison.check_unedited()
        services = self.new_services(draft.lookup)
        for name in services:
            draft.lock_exclusive(lock_on_service(name))
        modules = tuple(file.name for file in comparison.modules if file.is_written)
        changed = [item for item in comparison.tables if item.version.table is None or item.differs]
        table_name = self._texts.tables[0].name if len(self._texts.tables) == 1 else ""
        if not comparison.differs and not services:
            return UnchangedPlan(table_name=table_name)
        tables = tuple(_planned(draft, item) for item in changed)
        return AppliedPlan(
            table_name=table_name,
            creates=tuple(creation for table in tables for creation in self._creations(table)),
            modules=modules,
            tables=tables,
            services=services,
        )

    def work(self, plan: AppliedPlan | UnchangedPlan, session: Session) -> Changes:
        """Stage the files, and create the folders of new tables and temporary instances."""
        warnings = self._warnings(session.lookup)
        if isinstance(plan, UnchangedPlan):
            return Changes(warnings=warnings)
        limits = {service.name: service.limits for service in self._texts.services}
        changes: list[Change] = [ChangedService(name, limits[name]) for name in plan.services]
        steps: list[Tidying] = []
        for module in self._texts.modules:
            if module.name in plan.modules:
                staged = f"{module.name}{MODULE_SUFFIX}"
                session.stage_text(staged, stamped_module(module))
                layout = session.lookup.layout
                steps.append(put_file(session, staged, layout.relative(layout.code_module(module.name))))
        texts = {table.name: table for table in self._texts.tables}
        for table in plan.tables:
            changes.extend(self._new_folders(table, texts[table.name], session))
            if not table.creates_instance:
                steps.extend(_put_builders(table, texts[table.name], session))
        return Changes(tuple(changes), tuple(steps), warnings=warnings)

    @cached_property
    def _texts(self) -> SourceTexts:
        return msgspec.convert(self.definitions, SourceTexts)

    # --- services -------------------------------------------------------------------------------------------------

    def new_services(self, lookup: Lookup) -> tuple[str, ...]:
        """Return the services of the source that are missing from the vault."""
        return tuple(name for name, state in self._states_of_services(lookup).items() if state == "new")

    def _states_of_services(self, lookup: Lookup) -> dict[str, str]:
        known = lookup.contents.services() if self._texts.services else {}
        return {
            service.name: "new"
            if service.name not in known
            else ("same" if known[service.name] == service.limits else "other limits")
            for service in self._texts.services
        }

    def _warnings(self, lookup: Lookup) -> tuple[str, ...]:
        known = lookup.contents.services() if self._texts.services else {}
        return tuple(
            f"The service '{service.name}' keeps its limits, {known[service.name]}, although the source defines "
            f"{service.limits}; set_service changes them."
            for service in self._texts.services
            if service.name in known and known[service.name] != service.limits
        )

    def compared(self, lookup: Lookup) -> SourceComparison:
        """Compare the texts with the vault."""
        return compare(lookup, self._texts, self._version, self.overwrite)

    def _lock(self, draft: Draft, comparison: SourceComparison) -> None:
        """Request the locks on everything that changes, or would change without the edits."""
        if any(file.state is not FileState.SAME for file in comparison.modules):
            draft.lock_exclusive(lock_on_code())
        for item in comparison.tables:
            key = names.fold(item.texts.name)
            if item.version.table is None:
                draft.lock_exclusive(lock_on_table(key))
            elif item.differs:
                draft.lock_exclusive(lock_on_instance(key, item.version.instance_id))
                if item.version.origin is not None:
                    draft.lock_shared(lock_on_instance(key, item.version.origin.instance_id))

    def _creations(self, table: AppliedTable) -> Iterator[Creation]:
        if table.table_id is None:
            yield Creation(table.table_folder, table_name=table.name)
        if table.creates_instance:
            yield Creation(table.instance_folder, names.temporary_instance_id(self._version), table.name)

    @property
    def _version(self) -> str:
        return names.check_version(self.version)

    def _new_folders(self, table: AppliedTable, texts: TableTexts, session: Session) -> Iterator[Change]:
        """Create the folders of a new table and temporary instance; yield both changes."""
        if table.table_id is None:
            new = NewTable(
                table.name,
                table.table_folder,
                texts.allow_multiple_artifacts,
                texts.has_side_effects,
                texts.description,
            )
            folder = session.lookup.layout.table(table.table_folder)
            files.remove_tree(folder)  # A killed attempt may have left a partial file in it.
            make_table_folder(folder, new)
            yield new
        if table.creates_instance:
            instance_id = names.temporary_instance_id(self._version)
            place = session.lookup.layout.absolute(table.instance_folder)
            make_temporary_folder(
                InstanceFolder(place),
                self._builders(table, texts, session.lookup),
                table=table.name,
                instance=instance_id,
                description="",
                author=session.author,
            )
            yield NewTemporaryInstance(
                table.table_id,
                instance_id,
                self._version,
                place.name,
                external_edit=False,
                origin=table.origin,
                description="",
                table_name=table.name,
            )

    def _builders(self, table: AppliedTable, texts: TableTexts, lookup: Lookup) -> dict[str, str]:
        """Return the builder files of a new temporary instance."""
        builders: dict[str, str] = {}
        if table.origin is not None:
            builders = builders_of(lookup, lookup.instance_by_row(table.origin), table.name)
        kept = {name: text for name, text in builders.items() if name not in table.removed}
        written = {item.name: stamped_builder(item) for item in texts.builders if item.name in table.written}
        return {**kept, **written}


def _planned(draft: Draft, item: AppliedBuilders) -> AppliedTable:
    version, lookup = item.version, draft.lookup
    table_folder = ""
    if version.table is None:
        table_folder = draft.free_folder(lookup.layout.root, item.texts.name)
        parent = lookup.layout.table(table_folder)
    else:
        parent = lookup.table_folder(version.table)
    creates_instance = item.differs and version.temporary is None
    if version.table is not None and version.temporary is not None:
        instance_folder = lookup.layout.relative(lookup.folder(version.table, version.temporary).root)
    else:
        instance_folder = lookup.layout.relative(parent / draft.free_folder(parent, version.instance_id))
    return AppliedTable(
        name=item.texts.name,
        table_id=None if version.table is None else version.table.table_id,
        table_folder=table_folder,
        creates_instance=creates_instance,
        instance_folder=instance_folder if item.differs else "",
        origin=version.origin.row_id if creates_instance and version.origin is not None else None,
        written=tuple(file.name for file in item.files if file.is_written),
        removed=tuple(file.name for file in item.files if file.state is FileState.REMOVED),
    )


def _put_builders(table: AppliedTable, texts: TableTexts, session: Session) -> Iterator[Tidying]:
    """Stage an existing temporary instance's builder files; yield the steps to change them."""
    if not table.instance_folder:
        return
    layout = session.lookup.layout
    folder = InstanceFolder(layout.absolute(table.instance_folder))
    for builder in texts.builders:
        if builder.name in table.written:
            staged = f"{table.name}.{builder.name}{BUILDER_SUFFIX}"
            session.stage_text(staged, stamped_builder(builder))
            yield put_file(session, staged, layout.relative(folder.builder(builder.name)))
    for name in table.removed:
        yield remove(layout.relative(folder.builder(name)))
