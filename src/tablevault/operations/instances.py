"""Creating and deleting instances."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import ClassVar

from tablevault import names
from tablevault.builders.document import read_document
from tablevault.builders.templates import builder_template
from tablevault.errors import TVArgumentError, TVBuilderError
from tablevault.layout import ARTIFACTS, BUILDER_SUFFIX, InstanceFolder
from tablevault.names import index_builder_name
from tablevault.operations.base import LONG, Operation, instance_folder
from tablevault.operations.session import Draft, Session
from tablevault.operations.tags import check_untagged
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.storage.folders import write_description
from tablevault.values.changes import (
    Changes,
    DeletedInstance,
    NewTemporaryInstance,
    Tidying,
    TidyingAction,
)
from tablevault.values.contents import InstanceRecord, JsonObject, TableRecord
from tablevault.values.lock_names import lock_on_artifacts, lock_on_instance
from tablevault.values.plans import CreateInstancePlan, DeleteInstancePlan
from tablevault.values.processes import Creation

_BUILDERS = "builders.json"


@dataclass(frozen=True)
class CreateInstance(Operation[CreateInstancePlan]):
    """Creates a temporary instance, empty or with the builders of an origin."""

    name: ClassVar[str] = "create_instance"

    table_name: str
    version: str = names.DEFAULT_VERSION
    origin_id: str = ""
    origin_table: str = ""
    external_edit: bool = False
    copy: bool = False
    builders: Sequence[str] | Mapping[str, str | None] | None = field(default=None, metadata=LONG)
    description: str = ""

    def plan(self, draft: Draft) -> CreateInstancePlan:
        """Find the table and the origin; validate the builders' names."""
        version = names.check_version(self.version)
        names.check_text("description", self.description)
        instance_id = names.temporary_instance_id(version)
        draft.lock_exclusive(lock_on_instance(names.fold(str(self.table_name)), instance_id))
        table = draft.lookup.table(self.table_name)
        if draft.lookup.contents.instance(table.table_id, instance_id) is not None:
            raise TVArgumentError(
                f"Table '{table.name}' already has a temporary instance of version '{version}'; "
                f"delete_instance('{instance_id}', '{table.name}') removes it"
            )
        draft.lookup.check_version_is_unique(table, version)
        given = self._given_builders()
        origin = self._origin(draft, table, version)
        _check_distinct(self._texts(draft.lookup, table, origin, given))
        folder = draft.free_folder(draft.lookup.table_folder(table), instance_id)
        path = draft.lookup.layout.relative(draft.lookup.table_folder(table) / folder)
        return CreateInstancePlan(
            table_name=table.name,
            instance_id=instance_id,
            creates=(Creation(path, instance_id),),
            table_id=table.table_id,
            version=version,
            folder=folder,
            origin=origin.row_id if origin else None,
            has_builders=bool(given),
        )

    def pin(self, plan: CreateInstancePlan, session: Session) -> None:
        """Stage the builders' texts, if any were given."""
        if plan.has_builders:
            session.stage_text(_BUILDERS, json.dumps(self._given_builders()))

    def work(self, plan: CreateInstancePlan, session: Session) -> Changes:
        """Create the instance's folder with its builder files."""
        given = self._pinned_builders(plan, session)
        table = session.lookup.table_by_id(plan.table_id)
        folder = instance_folder(session.lookup, table, plan.folder)
        origin = session.lookup.contents.instance_by_row(plan.origin) if plan.origin is not None else None
        make_temporary_folder(
            folder,
            self._texts(session.lookup, table, origin, given),
            table=table.name,
            instance=plan.instance_id,
            description=self.description,
            author=session.author,
        )
        new = NewTemporaryInstance(
            table.table_id,
            plan.instance_id,
            plan.version,
            plan.folder,
            self.external_edit,
            plan.origin,
            self.description,
        )
        return Changes((new,))

    def _pinned_builders(self, plan: CreateInstancePlan, session: Session) -> dict[str, str | None]:
        if not plan.has_builders:
            return {}
        if not session.is_staged(_BUILDERS):
            self.pin(plan, session)
        pinned: dict[str, str | None] = json.loads(session.staged_text(_BUILDERS))
        return pinned

    def _texts(
        self, lookup: Lookup, table: TableRecord, origin: InstanceRecord | None, given: dict[str, str | None]
    ) -> dict[str, str]:
        """Return the builder files to write, from the origin and the call."""
        texts: dict[str, str] = {}
        if origin is not None:
            texts = builders_of(lookup, origin, table.name)
        elif not self.external_edit:
            texts[index_builder_name(table.name)] = builder_template(table.name, index_builder_name(table.name))
        for name, text in given.items():
            if text is not None or name not in texts:
                texts[name] = text if text is not None else builder_template(table.name, name)
        return texts

    def _origin(self, draft: Draft, table: TableRecord, version: str) -> InstanceRecord | None:
        if self.origin_table and not self.origin_id and not self.copy:
            source = draft.lookup.table(self.origin_table)
            return self._locked(draft, source, draft.lookup.newest(source, None))
        if self.origin_id:
            source = draft.lookup.table(self.origin_table) if self.origin_table else table
            return self._locked(draft, source, draft.lookup.instance(source, self.origin_id))
        if not self.copy:
            return None
        source = draft.lookup.table(self.origin_table) if self.origin_table else table
        newest = draft.lookup.contents.newest(source.table_id, version) or draft.lookup.contents.newest(source.table_id)
        return self._locked(draft, source, newest) if newest is not None else None

    def _locked(self, draft: Draft, table: TableRecord, instance: InstanceRecord) -> InstanceRecord:
        draft.lock_shared(lock_on_instance(names.fold(table.name), instance.instance_id))
        return instance

    def record(self, digest_payload: bool = True) -> JsonObject:
        """Return the arguments in recorded form, with builders under their checked names."""
        given = None if self.builders is None else self._given_builders()
        builders = list(given) if given and not any(given.values()) else given
        return super(CreateInstance, replace(self, builders=builders)).record(digest_payload)

    def _given_builders(self) -> dict[str, str | None]:
        """Return the texts of the call's builders by name; `None` for a template."""
        given = {} if self.builders is None else self.builders
        if not isinstance(given, Mapping | list | tuple):
            raise TVArgumentError("builders must be a list of names, or a dict of name -> YAML text.")
        texts = given.items() if isinstance(given, Mapping) else ((name, None) for name in given)
        checked = {names.check_builder_name(name): text for name, text in texts}
        for name, text in checked.items():
            if text is not None and not isinstance(text, str):
                raise TVArgumentError(f"The text of builder '{name}' must be a str, not {type(text).__name__}.")
            if text is not None:
                names.check_text(f"The text of builder '{name}'", text)
        return checked


@dataclass(frozen=True)
class DeleteInstance(Operation[DeleteInstancePlan]):
    """Removes an instance's frame and artifacts, and archives its metadata."""

    name: ClassVar[str] = "delete_instance"

    instance_id: str
    table_name: str

    def plan(self, draft: Draft) -> DeleteInstancePlan:
        """Find the instance."""
        key = names.fold(str(self.table_name))
        draft.lock_exclusive(lock_on_instance(key, str(self.instance_id)))
        table = draft.lookup.table(self.table_name)
        instance = draft.lookup.instance(table, self.instance_id)
        tags = draft.lookup.contents.tags(row_id=instance.row_id)
        check_untagged(f"Instance '{instance.instance_id}' of table '{table.name}'", tags)
        successor = None
        if not table.allow_multiple_artifacts and not instance.temporary:
            draft.lock_exclusive(lock_on_artifacts(key))
            successor = self._shown_artifacts(draft, table, instance)
        return DeleteInstancePlan(
            table_name=table.name,
            instance_id=instance.instance_id,
            row_id=instance.row_id,
            folder=draft.lookup.layout.relative(draft.lookup.folder(table, instance).root),
            table_folder=draft.lookup.layout.relative(draft.lookup.table_folder(table)),
            unlink=successor,
        )

    def work(self, plan: DeleteInstancePlan, session: Session) -> Changes:
        """Return the steps that archive the folder."""
        folder = plan.folder
        archived = session.lookup.layout.archived(session.serial, f"{plan.table_name}_{plan.instance_id}")
        target = session.lookup.layout.relative(archived)
        link = f"{plan.table_folder}/{ARTIFACTS}"
        steps = [Tidying(TidyingAction.UNLINK, target=link)] if plan.unlink else []
        steps += [Tidying(TidyingAction.MOVE_FOLDER, folder, target), Tidying(TidyingAction.PRUNE, target)]
        return Changes((DeletedInstance(plan.row_id),), tuple(steps))

    def _shown_artifacts(self, draft: Draft, table: TableRecord, instance: InstanceRecord) -> bool:
        """Return whether the table's link points to this instance's artifacts."""
        link = draft.lookup.table_folder(table) / ARTIFACTS
        return link.is_symlink() and Path(link.readlink()).parts[:1] == (instance.folder,)


def _check_distinct(builder_names: Iterable[str]) -> None:
    first: dict[str, str] = {}
    for name in builder_names:
        other = first.setdefault(names.fold(name), name)
        if other != name:
            raise TVArgumentError(f"Builders '{other}' and '{name}' collide; names are unique regardless of case.")


def make_temporary_folder(folder: InstanceFolder, builders: Mapping[str, str], **facts: object) -> None:
    """Durably create the folder of a temporary instance, removing leftovers of an earlier attempt.

    Parameters
    ----------
    folder
        The folder.
    builders
        Text of each builder file, by name.
    facts
        The description.
    """
    files.remove_tree(folder.root)
    folder.builders.mkdir(parents=True)
    folder.artifacts.mkdir()
    for name, text in builders.items():
        files.write_unsynced(folder.builder(name), text)
    write_description(folder, **facts)
    files.fsync_tree(folder.root)
    files.fsync_folder(folder.root.parent)


def builders_of(lookup: Lookup, origin: InstanceRecord, table_name: str) -> dict[str, str]:
    """Return the texts of an origin's builders for a copy."""
    table = lookup.table_by_id(origin.table_id)
    return copied_texts(lookup.builder_files(table, origin), table_name)


def copied_texts(builder_files: Mapping[str, Path], table_name: str) -> dict[str, str]:
    """Return builder texts for a copy, with the index builder renamed."""
    texts = {}
    for name, path in builder_files.items():
        text = files.read_text(path)
        texts[index_builder_name(table_name) if _is_index_builder(text, name) else name] = text
    return texts


def _is_index_builder(text: str, name: str) -> bool:
    try:
        return read_document(text, f"{name}{BUILDER_SUFFIX}").fields.get("builder_type") == "IndexBuilder"
    except TVBuilderError:
        # A temporary origin may hold unfinished files, which are copied unchanged.
        return False
