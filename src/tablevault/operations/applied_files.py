"""Comparison of the files defined by a source with those of a vault."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from tablevault import names
from tablevault.code.loading import ModuleFile
from tablevault.definitions.reading import KnownColumns
from tablevault.definitions.texts import (
    ModuleText,
    SourceTexts,
    Stamp,
    TableTexts,
    split_builder,
    split_module,
    stamped_builder,
    stamped_module,
)
from tablevault.errors import TVArgumentError
from tablevault.execution.provenance import read_provenance
from tablevault.layout import BUILDER_SUFFIX, BUILDERS
from tablevault.operations.instances import copied_texts
from tablevault.operations.tables import check_same_table
from tablevault.state.lookup import Lookup
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.processes import Status

Split = Callable[[str], tuple[str, Stamp | None]]
"""Splits a file into its content and the comment of `apply`."""

_LOOK_FURTHER = 8
"""Growth factor of the number of processes searched for the source of a module."""


class FileState(StrEnum):
    """State of a vault's file relative to its definition."""

    NEW = "new"
    SAME = "same"
    CHANGED = "changed"
    REMOVED = "removed"
    EDITED = "edited since"


@dataclass(frozen=True)
class AppliedFile:
    """A file defined by a source."""

    name: str
    """Name of the module or builder."""
    path: str
    """Path relative to the vault's folder."""
    state: FileState
    is_defined: bool = True
    """Whether the source still defines it."""
    diff: str = ""
    """The difference from the vault's file."""

    @property
    def is_written(self) -> bool:
        """Whether the file gets new content."""
        return self.state in (FileState.NEW, FileState.CHANGED)


@dataclass(frozen=True)
class AppliedBuilders:
    """The compared builders of one table."""

    texts: TableTexts
    version: VersionInstances
    files: tuple[AppliedFile, ...]

    @property
    def differs(self) -> bool:
        """Whether any file of the temporary instance is written or removed."""
        return any(file.state is not FileState.SAME for file in self.files)


@dataclass(frozen=True)
class SourceComparison:
    """All definitions of a source, compared with the vault."""

    modules: tuple[AppliedFile, ...]
    tables: tuple[AppliedBuilders, ...]

    @property
    def files(self) -> Iterator[AppliedFile]:
        """All files."""
        yield from self.modules
        for table in self.tables:
            yield from table.files

    @property
    def differs(self) -> bool:
        """Whether applying the source changes anything."""
        has_new_table = any(item.version.table is None for item in self.tables)
        return has_new_table or any(file.state is not FileState.SAME for file in self.files)

    def summary(self, changed_functions: Mapping[str, Sequence[str]], services: Sequence[str] = ()) -> str:
        """Summarize the changes of applying the source in one line.

        Parameters
        ----------
        changed_functions
            The changed functions of each changed module.
        services
            The services to set.
        """
        parts = [f"new service {name}" for name in services]
        for file in self.modules:
            if file.state is FileState.NEW:
                parts.append(f"new module {file.name}")
            elif file.is_written:
                names_of = ", ".join(changed_functions.get(file.name, ()))
                parts.append(f"module {file.name} changed{f' ({names_of})' if names_of else ''}")
        for table in self.tables:
            builders = [file for file in table.files if file.state is not FileState.SAME]
            changed = ", ".join(f"{file.name} removed" if not file.is_defined else file.name for file in builders)
            if table.version.table is None:
                parts.append(f"new table {table.texts.name}{f' ({changed})' if changed else ''}")
            elif builders:
                parts.append(f"table {table.texts.name} changed ({changed})")
        return "; ".join(parts) or "nothing changed"

    def check_unedited(self) -> None:
        """Raise `TVArgumentError` if a file was edited since it was applied."""
        edited = [file for file in self.files if file.state is FileState.EDITED]
        if not edited:
            return
        listed = ", ".join(f"'{file.path}'" for file in edited)
        diffs = "\n".join(file.diff for file in edited)
        raise TVArgumentError(
            f"{listed}: edited since it was applied, or not created by apply. Copy the change into the definitions "
            f"file, or pass overwrite=True to replace it.\n{diffs}"
        )


# --- one version of a table -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class VersionInstances:
    """A table, and the instances whose builders are compared and copied."""

    table: TableRecord | None
    version: str
    temporary: InstanceRecord | None = None
    newest: InstanceRecord | None = None
    """The newest active instance of the version."""
    newest_of_any: InstanceRecord | None = None

    @classmethod
    def find(cls, lookup: Lookup, table_name: str, version: str) -> VersionInstances:
        """Find the table and its instances."""
        table = lookup.contents.table(table_name)
        if table is None:
            return cls(None, version)
        temporary = lookup.contents.instance(table.table_id, names.temporary_instance_id(version))
        newest = lookup.contents.newest(table.table_id, version)
        newest_of_any = newest or lookup.contents.newest(table.table_id)
        return cls(table, version, temporary, newest, newest_of_any)

    @property
    def instance_id(self) -> str:
        """Id of the temporary instance."""
        return names.temporary_instance_id(self.version)

    @property
    def is_there(self) -> bool:
        """Whether an instance of the version exists."""
        return self.temporary is not None or self.newest is not None

    @property
    def origin(self) -> InstanceRecord | None:
        """The instance to copy for a new temporary one."""
        return self.newest_of_any if self.temporary is None else None

    def builders(self, lookup: Lookup) -> dict[str, str]:
        """Return the temporary instance's current or future builder files, by name."""
        basis = self.temporary or self.newest_of_any
        if self.table is None or basis is None:
            return {}
        table = self.table
        return lookup.with_files(
            lambda: lookup.builder_files(table, basis), lambda found: copied_texts(found, table.name)
        )


class VaultTables:
    """The existing files of a vault, for reading a source.

    Parameters
    ----------
    lookup
        Reads the vault.
    version
        The version of the source's tables.
    """

    def __init__(self, lookup: Lookup, version: str) -> None:
        self._lookup = lookup
        self._version = version

    def snapshot(self) -> AbstractContextManager[None]:
        """Use one snapshot of the catalog inside the block."""
        return self._lookup.context.catalog.snapshot()

    def modules(self) -> Mapping[str, ModuleFile]:
        """Return the code modules, by name."""
        layout = self._lookup.layout
        return {
            name: ModuleFile(layout.code_module(name), layout.code_module(name), text)
            for name, text in self._lookup.code_texts().items()
        }

    def builders(self, table_name: str) -> Mapping[str, str]:
        """Return the builder files of the version, or those it is copied from, by name."""
        return VersionInstances.find(self._lookup, table_name, self._version).builders(self._lookup)

    def instance(self, table_name: str, instance: str | None) -> KnownColumns:
        """Return the columns of a table's newest instance, or of another one.

        `instance` is a version, an id or a tag.
        """
        contents = self._lookup.contents
        table = contents.table(table_name)
        if table is None:
            return KnownColumns()
        tag = names.tag_in(instance) if instance is not None else None
        found = contents.newest(table.table_id, instance) if tag is None else contents.tagged(table.table_id, tag)
        if found is None and instance is not None:
            found = contents.instance(table.table_id, instance)
        if found is None or found.temporary:
            return KnownColumns()
        provenance = read_provenance(self._lookup.folder(table, found).provenance)
        return KnownColumns(tuple(column.name for column in found.columns), provenance.primary_key)


# --- comparing ------------------------------------------------------------------------------------------------------


def compare(lookup: Lookup, texts: SourceTexts, version: str, overwrite: bool) -> SourceComparison:
    """Compare the definitions of a source with the vault.

    Parameters
    ----------
    lookup
        Reads the vault.
    texts
        The source.
    version
        The version of its tables.
    overwrite
        Whether to replace files edited since.

    Raises
    ------
    TVArgumentError
        If a table exists with other flags, its temporary instance is for `write_instance`, or a module was applied from
        another file.
    """
    return SourceComparison(
        tuple(_compared_modules(lookup, texts.modules, overwrite)),
        tuple(_compared_builders(lookup, texts, table, version, overwrite) for table in texts.tables),
    )


def _compared_modules(lookup: Lookup, modules: Sequence[ModuleText], overwrite: bool) -> Iterator[AppliedFile]:
    existing = lookup.code_texts()
    _check_case("code module", [module.name for module in modules], existing)
    if not overwrite:
        _check_sources(lookup, [module for module in modules if module.name in existing], existing)
    for module in modules:
        path = lookup.layout.relative(lookup.layout.code_module(module.name))
        yield _compared(module.name, path, existing.get(module.name), stamped_module(module), split_module, overwrite)


def _check_sources(lookup: Lookup, modules: Iterable[ModuleText], existing: Mapping[str, str]) -> None:
    """Raise `TVArgumentError` if a module was applied from a file of another path."""
    applied = [module for module in modules if split_module(existing[module.name])[1] is not None]
    paths = _applied_from(lookup, {module.name for module in applied})
    for module in applied:
        path = paths.get(module.name, module.path)
        # If its former path no longer exists, the file has only been moved.
        is_there = not Path(path).is_absolute() or Path(path).exists()
        if path != module.path and is_there:
            raise TVArgumentError(
                f"The code module '{module.name}' was applied from '{path}', and '{module.path}' would replace it: "
                "rename one of the files, or replace the module once with apply(…, overwrite=True)."
            )


def _applied_from(lookup: Lookup, module_names: Set[str]) -> dict[str, str]:
    """Return the path that each module was last applied from, if recorded by a process."""
    filters = {"operation": "apply", "status": Status.SUCCEEDED.value}
    found: dict[str, str] = {}
    limit, seen = 1, 0
    while module_names - found.keys():
        records = lookup.context.catalog.processes.history(filters, limit)
        for record in records[seen:]:
            for module in record.arguments["definitions"]["modules"]:
                found.setdefault(str(module["name"]), str(module["path"]))
        if len(records) < limit:
            break
        limit, seen = limit * _LOOK_FURTHER, len(records)
    return found


def _compared_builders(
    lookup: Lookup, texts: SourceTexts, table: TableTexts, version: str, overwrite: bool
) -> AppliedBuilders:
    found = VersionInstances.find(lookup, table.name, version)
    if found.table is not None:
        check_same_table(found.table, table.name, table.allow_multiple_artifacts, table.has_side_effects)
        lookup.check_version_is_unique(found.table, version)
    if found.temporary is not None and found.temporary.external_edit and table.builders:
        raise TVArgumentError(
            f"Instance '{found.instance_id}' of table '{table.name}' was created with external_edit=True, for "
            f"write_instance; delete_instance('{found.instance_id}', '{table.name}') removes it."
        )
    existing = found.builders(lookup) if table.builders or found.is_there else {}
    _check_case("builder", [builder.name for builder in table.builders], existing)
    folder = _builders_folder(lookup, found, table.name)
    compared = [
        _compared(
            builder.name,
            f"{folder}/{builder.name}{BUILDER_SUFFIX}",
            existing.get(builder.name) if found.is_there else None,
            stamped_builder(builder),
            split_builder,
            overwrite,
        )
        for builder in table.builders
    ]
    defined = {builder.name for builder in table.builders}
    for name, text in existing.items():
        _, stamp = split_builder(text)
        if name not in defined and stamp is not None and stamp.file in texts.files:
            state = FileState.REMOVED if stamp.is_right or overwrite else FileState.EDITED
            path = f"{folder}/{name}{BUILDER_SUFFIX}"
            compared.append(AppliedFile(name, path, state, is_defined=False, diff=_diff(text, "", path)))
    return AppliedBuilders(table, found, tuple(compared))


def _compared(
    name: str,
    path: str,
    current: str | None,
    wanted: str,
    split: Split,
    overwrite: bool,
) -> AppliedFile:
    if current is None:
        return AppliedFile(name, path, FileState.NEW)
    content, stamp = split(current)
    if content == split(wanted)[0]:
        return AppliedFile(name, path, FileState.SAME)
    is_unedited = stamp is not None and stamp.is_right
    state = FileState.CHANGED if is_unedited or overwrite else FileState.EDITED
    return AppliedFile(name, path, state, diff=_diff(current, wanted, path))


def _builders_folder(lookup: Lookup, version: VersionInstances, table_name: str) -> str:
    """Return the path of the builder folder, even of a future temporary instance."""
    if version.table is None:
        return f"{table_name}/{version.instance_id}/{BUILDERS}"
    if version.temporary is None:
        folder = lookup.table_folder(version.table) / version.instance_id / BUILDERS
    else:
        folder = lookup.folder(version.table, version.temporary).builders
    return lookup.layout.relative(folder)


def _check_case(kind: str, wanted: Iterable[str], existing: Iterable[str]) -> None:
    known = {names.fold(name): name for name in existing}
    for name in wanted:
        other = known.get(names.fold(name), name)
        if other != name:
            raise TVArgumentError(
                f"There is a {kind} '{other}' already, which differs from '{name}' only in case; names are unique "
                "regardless of case."
            )


def _diff(current: str, wanted: str, path: str) -> str:
    lines = difflib.unified_diff(current.splitlines(), wanted.splitlines(), path, f"{path} (applied)", lineterm="")
    return "\n".join(lines)
