"""Creating and deleting builder files of temporary instances."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tablevault import names
from tablevault.builders.templates import column_builder_template, index_builder_template
from tablevault.errors import TVArgumentError
from tablevault.layout import index_builder_name, lock_on_instance
from tablevault.lookup import Lookup
from tablevault.operations.base import LONG, Operation
from tablevault.operations.text_files import TextSource, all_staged, put_staged, remove_file, stage_copies
from tablevault.plans import CreateBuilderFilesPlan, DeleteBuilderFilePlan
from tablevault.transaction import Drafting, Transaction
from tablevault.values import Changes, InstanceRecord, TableRecord

SUFFIX = ".yaml"


@dataclass(frozen=True)
class CreateBuilderFile(Operation[CreateBuilderFilesPlan]):
    """Writes one builder file of a temporary instance, or copies all builder files of a folder."""

    name: ClassVar[str] = "create_builder_file"

    table_name: str
    builder_name: str = ""
    version: str = names.DEFAULT_VERSION
    copy_dir: str = ""
    text: str | None = field(default=None, metadata=LONG)

    def plan(self, draft: Drafting) -> CreateBuilderFilesPlan:
        """Find the instance; validate names and sources."""
        table, instance = _locked_temporary(draft, self.table_name, self.version)
        wanted = self.builder_name or ("" if self.copy_dir else index_builder_name(table.name))
        written = self._source.names(wanted, names.check_builder_name)
        existing = builder_files(draft, table, instance)
        for name in written:
            other = next((item for item in existing if names.fold(item) == names.fold(name)), name)
            if other != name:
                raise TVArgumentError(f"There is a builder '{other}' already; names are unique regardless of case.")
        if not self.text and not self.copy_dir:
            written = [name for name in written if name not in existing]
        folder = draft.layout.relative(draft.folder(table, instance).builders)
        return CreateBuilderFilesPlan(
            table_name=table.name,
            instance_id=instance.instance_id,
            builders=tuple(written),
            folder=folder,
            wanted=wanted,
        )

    def pin(self, plan: CreateBuilderFilesPlan, transaction: Transaction) -> None:
        """Stage the new content."""
        if self.copy_dir:
            copied = self._source.copied(plan.wanted, names.check_builder_name)
            stage_copies(transaction, copied.items(), SUFFIX)
        else:
            for name in plan.builders:
                transaction.stage_text(f"{name}{SUFFIX}", self.text or builder_template(plan.table_name, name))

    def work(self, plan: CreateBuilderFilesPlan, transaction: Transaction) -> Changes:
        """Put the staged files in place."""
        if not all_staged(transaction, plan.builders, SUFFIX):
            self.pin(plan, transaction)
        folder = transaction.layout.absolute(plan.folder)
        return put_staged(transaction, plan.builders, folder, SUFFIX)

    @property
    def _source(self) -> TextSource:
        return TextSource(self.text, self.copy_dir, (SUFFIX, ".yml"))


@dataclass(frozen=True)
class DeleteBuilderFile(Operation[DeleteBuilderFilePlan]):
    """Removes a builder file of a temporary instance."""

    name: ClassVar[str] = "delete_builder_file"

    builder_name: str
    table_name: str
    version: str = names.DEFAULT_VERSION

    def plan(self, draft: Drafting) -> DeleteBuilderFilePlan:
        """Find the file."""
        table, instance = _locked_temporary(draft, self.table_name, self.version)
        name = names.check_builder_name(self.builder_name)
        existing = builder_files(draft, table, instance)
        if name not in existing:
            raise TVArgumentError(
                f"Instance '{instance.instance_id}' of table '{table.name}' has no builder '{name}'"
                f"{names.nearest(name, existing)}"
            )
        path = draft.layout.relative(draft.folder(table, instance).builder(name))
        return DeleteBuilderFilePlan(table_name=table.name, instance_id=instance.instance_id, path=path)

    def work(self, plan: DeleteBuilderFilePlan, transaction: Transaction) -> Changes:
        """Say which file goes."""
        return remove_file(transaction, transaction.layout.absolute(plan.path))


def builder_files(lookup: Lookup, table: TableRecord, instance: InstanceRecord) -> dict[str, Path]:
    """Return the builder files of an instance: name -> file."""
    return lookup.current_files(lookup.folder(table, instance).builders, SUFFIX)


def builder_template(table_name: str, builder_name: str) -> str:
    """Return the text with which a new builder file begins."""
    if builder_name == index_builder_name(table_name):
        return index_builder_template(table_name)
    return column_builder_template(builder_name)


def _locked_temporary(draft: Drafting, table_name: str, version: str) -> tuple[TableRecord, InstanceRecord]:
    instance_id = names.temporary_instance_id(names.check_version(version))
    draft.lock_exclusive(lock_on_instance(names.fold(str(table_name)), instance_id))
    table = draft.table(table_name)
    return table, draft.temporary_instance(table, version)
