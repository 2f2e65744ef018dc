"""Creating, renaming and deleting tables."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tablevault import names
from tablevault.errors import TVArgumentError
from tablevault.layout import ARTIFACTS, DESCRIPTION, InstanceFolder
from tablevault.names import index_builder_name
from tablevault.operations.base import Operation, put_file
from tablevault.operations.session import Draft, Session
from tablevault.operations.tags import check_untagged
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.folders import describe_table, write_description
from tablevault.values.changes import (
    Changes,
    DeletedTable,
    NewTable,
    RenamedTable,
    Tidying,
    TidyingAction,
)
from tablevault.values.contents import TableRecord
from tablevault.values.lock_names import lock_on_table
from tablevault.values.plans import CreateTablePlan, DeleteTablePlan, RenameTablePlan, UnchangedPlan
from tablevault.values.processes import Creation


@dataclass(frozen=True)
class CreateTable(Operation[CreateTablePlan | UnchangedPlan]):
    """Creates a table without instances."""

    name: ClassVar[str] = "create_table"

    table_name: str
    allow_multiple_artifacts: bool = False
    has_side_effects: bool = False
    description: str = ""
    exist_ok: bool = False

    def plan(self, draft: Draft) -> CreateTablePlan | UnchangedPlan:
        """Validate the name and choose the folder."""
        names.check_table_name(self.table_name)
        names.check_text("description", self.description)
        existing = draft.lookup.contents.table(self.table_name) if self.exist_ok else None
        if existing is not None:
            # A no-op, so processes that use the table do not conflict.
            check_same_table(existing, self.table_name, self.allow_multiple_artifacts, self.has_side_effects)
            return UnchangedPlan(table_name=existing.name)
        draft.lock_exclusive(lock_on_table(names.fold(self.table_name)))
        check_name_is_free(draft.lookup, self.table_name)
        folder = draft.free_folder(draft.lookup.layout.root, self.table_name)
        return CreateTablePlan(table_name=self.table_name, folder=folder, creates=(Creation(folder),))

    def work(self, plan: CreateTablePlan | UnchangedPlan, session: Session) -> Changes:
        """Create the table's folder."""
        if isinstance(plan, UnchangedPlan):
            return Changes()
        folder = session.lookup.layout.table(plan.folder)
        files.remove_tree(folder)  # A killed attempt may have left a partial file in it.
        new = NewTable(
            self.table_name,
            plan.folder,
            self.allow_multiple_artifacts,
            self.has_side_effects,
            self.description,
        )
        make_table_folder(folder, new)
        return Changes((new,))


@dataclass(frozen=True)
class RenameTable(Operation[RenameTablePlan]):
    """Renames a table; its instances are unaffected."""

    name: ClassVar[str] = "rename_table"

    new_table_name: str
    table_name: str

    def plan(self, draft: Draft) -> RenameTablePlan:
        """Find the table and choose the new folder."""
        names.check_table_name(self.new_table_name)
        draft.lock_exclusive(lock_on_table(names.fold(self.new_table_name)))
        draft.lock_exclusive(lock_on_table(names.fold(str(self.table_name))))
        table = draft.lookup.table(self.table_name)
        if names.fold(self.new_table_name) != names.fold(table.name) or self.new_table_name == table.name:
            check_name_is_free(draft.lookup, self.new_table_name)
        # If an earlier rename could not move the folder, it differs from the catalog's.
        current = draft.lookup.table_folder(table).name
        folder = self.new_table_name
        if folder != current:
            folder = draft.free_folder(draft.lookup.layout.root, folder)
        return RenameTablePlan(
            table_name=table.name,
            table_id=table.table_id,
            source=current,
            target=folder,
            index_builders=_index_builders(draft, table),
        )

    def work(self, plan: RenameTablePlan, session: Session) -> Changes:
        """Stage the description under the new name; the folder is moved after the commit."""
        table = session.lookup.table_by_id(plan.table_id)
        files.make_folder(session.workspace.staged)
        write_description(
            InstanceFolder(session.workspace.staged),
            **describe_table(self.new_table_name, table.description, table),
        )
        files.fsync_tree(session.workspace.staged)
        source, target = plan.source, plan.target
        # Files come first, so that they are correct even if the folder cannot be moved.
        steps = [put_file(session, DESCRIPTION, f"{source}/{DESCRIPTION}")]
        steps.extend(
            Tidying(
                TidyingAction.PUT_FILE,
                f"{source}/{folder}/builders/{index_builder_name(table.name)}.yaml",
                f"{source}/{folder}/builders/{index_builder_name(self.new_table_name)}.yaml",
            )
            for folder in plan.index_builders
        )
        if source != target:
            steps.append(Tidying(TidyingAction.MOVE_FOLDER, source, target))
        return Changes((RenamedTable(table.table_id, self.new_table_name, target, source),), tuple(steps))


@dataclass(frozen=True)
class DeleteTable(Operation[DeleteTablePlan]):
    """Removes a table's frames and artifacts, and archives its metadata."""

    name: ClassVar[str] = "delete_table"

    table_name: str

    def plan(self, draft: Draft) -> DeleteTablePlan:
        """Find the table."""
        draft.lock_exclusive(lock_on_table(names.fold(str(self.table_name))))
        table = draft.lookup.table(self.table_name)
        check_untagged(f"Table '{table.name}'", draft.lookup.contents.tags(table_id=table.table_id))
        folder = draft.lookup.table_folder(table).name
        return DeleteTablePlan(table_name=table.name, table_id=table.table_id, folder=folder)

    def work(self, plan: DeleteTablePlan, session: Session) -> Changes:
        """Return the steps that archive the folder."""
        folder = plan.folder
        archived = session.lookup.layout.relative(session.lookup.layout.archived(session.serial, plan.table_name))
        steps = (
            Tidying(TidyingAction.UNLINK, target=f"{folder}/{ARTIFACTS}"),
            Tidying(TidyingAction.MOVE_FOLDER, folder, archived),
            Tidying(TidyingAction.PRUNE, archived),
        )
        return Changes((DeletedTable(plan.table_id),), steps)


def make_table_folder(folder: Path, new: NewTable) -> None:
    """Create the folder of a new table durably, with its description; existing files stay."""
    folder.mkdir(exist_ok=True)
    write_description(InstanceFolder(folder), **describe_table(new.name, new.description, new))
    files.fsync_tree(folder)
    files.fsync_folder(folder.parent)


def check_name_is_free(lookup: Lookup, table_name: str) -> None:
    """Raise `TVArgumentError` if a table has this name, regardless of case."""
    existing = lookup.contents.table(table_name)
    if existing is not None:
        raise _taken(existing)


def check_same_table(table: TableRecord, name: str, allow_multiple_artifacts: bool, has_side_effects: bool) -> None:
    """Raise `TVArgumentError` unless an existing table has this name and these flags."""
    if table.name != name:
        raise _taken(table)
    wanted = {"allow_multiple_artifacts": allow_multiple_artifacts, "has_side_effects": has_side_effects}
    for flag, value in wanted.items():
        if getattr(table, flag) != value:
            raise TVArgumentError(
                f"Table '{table.name}' exists with {flag}={getattr(table, flag)}, not {value}; give the same value, or "
                "another name."
            )


def _taken(table: TableRecord) -> TVArgumentError:
    return TVArgumentError(
        f"Table '{table.name}' already exists; choose another name, or remove it with delete_table('{table.name}')"
    )


def _index_builders(draft: Draft, table: TableRecord) -> tuple[str, ...]:
    """Return the folders of temporary instances whose index builder is renamed with the table."""
    temporary = draft.lookup.contents.instances(table.table_id, temporary=True)
    index = index_builder_name(table.name)
    return tuple(item.folder for item in temporary if draft.lookup.folder(table, item).builder(index).exists())
