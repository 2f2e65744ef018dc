"""Lookup of committed tables and instances, and of their files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from tablevault import names
from tablevault.errors import TVArgumentError, TVFileError, TVProcessError
from tablevault.layout import BUILDER_SUFFIX, MODULE_SUFFIX, InstanceFolder, ProcessFolder
from tablevault.state.context import VaultContext
from tablevault.storage import files
from tablevault.values.contents import InstanceRecord, Selection, TableRecord
from tablevault.values.processes import ProcessRecord

Result = TypeVar("Result")

_MAXIMUM_RETRIES = 50
"""Maximum number of retries of a read while other interpreters keep replacing its files."""
_RECENT = 1000
"""Number of newest processes searched for an id similar to a misspelt one."""


class Lookup:
    """Reads committed state; errors about unknown names suggest the nearest known one.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self.context = context
        self.layout = context.layout
        self.files = context.files
        self.contents = context.catalog.contents

    def table(self, table_name: str) -> TableRecord:
        """Return a table; raise `TVArgumentError` if it does not exist."""

        def unknown() -> TVArgumentError:
            known = [table.name for table in self.contents.tables()]
            return TVArgumentError(f"There is no table '{table_name}'{names.nearest(str(table_name), known)}")

        return self._found(lambda: self.contents.table(table_name) if isinstance(table_name, str) else None, unknown)

    def instance(self, table: TableRecord, instance_id: str) -> InstanceRecord:
        """Return an instance of a table by its id, or by `@tag`.

        Raises `TVArgumentError` if it does not exist.
        """
        tag = names.tag_in(instance_id)
        if tag is not None:
            return self._tagged(table, tag)

        def unknown() -> TVArgumentError:
            known = [instance.instance_id for instance in self.contents.instances(table.table_id)]
            return TVArgumentError(
                f"Table '{table.name}' has no instance '{instance_id}'{names.nearest(instance_id, known)}"
            )

        return self._found(lambda: self.contents.instance(table.table_id, instance_id), unknown)

    def _tagged(self, table: TableRecord, tag: str) -> InstanceRecord:
        def unknown() -> TVArgumentError:
            known = [item.tag for item in self.contents.tags(table_id=table.table_id)]
            return TVArgumentError(f"Table '{table.name}' has no tag '{tag}'{names.nearest(tag, known)}")

        return self._found(lambda: self.contents.tagged(table.table_id, tag), unknown)

    def temporary_instance(self, table: TableRecord, version: str) -> InstanceRecord:
        """Return the temporary instance of a version; raise `TVArgumentError` if it does not exist."""
        instance_id = names.temporary_instance_id(names.check_version(version))

        def unknown() -> TVArgumentError:
            known = [instance.version for instance in self.contents.instances(table.table_id, temporary=True)]
            advice = f"create one with create_instance('{table.name}', version='{instance_id[5:]}')"
            return TVArgumentError(
                f"Table '{table.name}' has no temporary instance of version '{instance_id[5:]}'"
                f"{names.nearest_or(version, known, advice)}"
            )

        return self._found(lambda: self.contents.instance(table.table_id, instance_id), unknown)

    def table_and_temporary(self, table_name: str, version: str) -> tuple[TableRecord, InstanceRecord]:
        """Return a table and its temporary instance; raise `TVArgumentError` if one is missing."""
        instance_id = names.temporary_instance_id(names.check_version(version))
        selection = Selection(table_name, instance_id, version)
        found = self.contents.select(selection) if isinstance(table_name, str) else None
        if found is not None:
            return found.table, found.instance
        table = self.table(table_name)
        return table, self.temporary_instance(table, version)

    def newest(
        self, table: TableRecord, version: str | None, active_only: bool = True, successful_only: bool = False
    ) -> InstanceRecord:
        """Return the newest materialized instance; raise `TVArgumentError` if it does not exist."""
        found = self.contents.newest(table.table_id, version, active_only, successful_only)
        if found is None:
            kind = f"{'active ' if active_only else ''}{'successful ' if successful_only else ''}materialized instance"
            of_version = "" if version is None else f" of version '{version}'"
            known = [instance.version for instance in self.contents.instances(table.table_id, temporary=False)]
            known = known if version is not None and version not in known else []
            building = self._building(table, version)
            if building is not None and not known:
                raise TVArgumentError(
                    f"Table '{table.name}' has no {kind}{of_version} yet: process '{building.process_id}' "
                    f"({building.status}) is building it; its cells so far are those of '{building.instance_id}'"
                )
            advice = names.nearest_or(str(version), known, "execute_instance or write_instance makes one")
            raise TVArgumentError(f"Table '{table.name}' has no {kind}{of_version}{advice}")
        return found

    def _building(self, table: TableRecord, version: str | None) -> ProcessRecord | None:
        """Return the process that builds an instance of a version, or of any; `None` if there is none."""
        wanted = names.temporary_instance_id(version) if version is not None else ""
        return next(
            (
                record
                for record in self.context.catalog.processes.unfinished()
                if record.table_name == table.name
                and names.is_temporary(record.instance_id)
                and wanted in ("", record.instance_id)
            ),
            None,
        )

    def check_version_exists(self, table: TableRecord, version: str) -> None:
        """Raise `TVArgumentError` if a table has no instance of a version, temporary or materialized."""
        known = {instance.version for instance in self.contents.instances(table.table_id)}
        if version not in known:
            raise TVArgumentError(f"Table '{table.name}' has no version '{version}'{names.nearest(version, known)}")

    def process(self, process_id: str) -> ProcessRecord:
        """Return the newest process of an id; raise `TVProcessError` if it does not exist."""
        processes = self.context.catalog.processes

        def unknown() -> TVProcessError:
            known = [record.process_id for record in processes.history({}, _RECENT) if record.user_given]
            advice = names.nearest_or(str(process_id), known, "get_active_processes() and get_history() list them")
            return TVProcessError(f"There is no process '{process_id}'{advice}.")

        return self._found(lambda: processes.find(process_id) if isinstance(process_id, str) else None, unknown)

    def _found(self, find: Callable[[], Result | None], unknown: Callable[[], Exception]) -> Result:
        """Return what `find` finds; raise the error that `unknown` makes.

        Finding again in the snapshot that the error describes keeps it from suggesting the very name that it misses.
        """
        found = find()
        if found is None:
            with self.context.catalog.snapshot():
                found = find()
                if found is None:
                    raise unknown()
        return found

    def table_by_id(self, table_id: int) -> TableRecord:
        """Return a recorded table by its id; raise `TVFileError` if the catalog lacks it."""
        found = self.contents.table_by_id(table_id)
        if found is None:
            raise TVFileError(f"The catalog is damaged: it has no table number {table_id}.")
        return found

    def instance_by_row(self, row_id: int) -> InstanceRecord:
        """Return a recorded instance by its row id; raise `TVFileError` if the catalog lacks it."""
        found = self.contents.instance_by_row(row_id)
        if found is None:
            raise TVFileError(f"The catalog is damaged: it has no instance number {row_id}.")
        return found

    def table_folder(self, table: TableRecord) -> Path:
        """Return the current folder of a table, even while a renaming is being applied."""
        folder = self.layout.table(table.folder)
        if table.previous_folder is not None and not folder.exists():
            previous = self.layout.table(table.previous_folder)
            # The folder may have been moved between the two checks.
            folder = previous if previous.exists() else folder
        return files.unlinked(folder)

    def folder(self, table: TableRecord, instance: InstanceRecord) -> InstanceFolder:
        """Return an instance's folder."""
        return InstanceFolder(files.unlinked(self.table_folder(table) / instance.folder))

    def folder_of(self, instance: InstanceRecord) -> InstanceFolder:
        """Return an instance's folder, looking up its table."""
        return self.folder(self.table_by_id(instance.table_id), instance)

    def workspace_of(self, serial: int) -> ProcessFolder:
        """Return a process's workspace for reading; raise `TVFileError` if it contains links."""
        workspace = self.layout.process(serial)
        for folder in (workspace.root, workspace.builders, workspace.codes, workspace.partial):
            files.unlinked(folder)
        return workspace

    def current_file(self, path: Path) -> Path | None:
        """Return the path of an editable file's current content; `None` if it does not exist.

        A pending replacement is read from its staged file; a pending removal counts as done.
        """
        target = self.layout.relative(path)
        staged = self.context.catalog.tidying.pending_moves().get(target)
        if staged == "":
            return None
        if staged is not None and self._replaces(staged, target):
            return self.files.local(staged)
        return path if path.is_file() else None

    def current_files(self, folder: Path, suffix: str) -> dict[str, Path]:
        """Return a folder's files with this suffix, by stem; paths as of `current_file`."""
        here = self.layout.relative(folder) + "/"
        # Read the catalog first: a file put in place afterwards is then found in the folder.
        pending = self.context.catalog.tidying.pending_moves()
        found = {path.stem: path for path in _visible_files(files.unlinked(folder), suffix)}
        for target, staged in pending.items():
            name = target.removeprefix(here)
            if target.startswith(here) and name.endswith(suffix) and "/" not in name:
                if not staged:
                    found.pop(Path(name).stem, None)
                elif self._replaces(staged, target):
                    source = self.files.local(staged)
                    found[Path(name).stem] = source
                    if source.parent == folder:
                        # It is being renamed.
                        found.pop(source.stem, None)
                elif (folder / name).is_file():
                    # It was put in place after the folder was read.
                    found[Path(name).stem] = folder / name
        return dict(sorted(found.items()))

    def _replaces(self, staged: str, target: str) -> bool:
        """Return whether a pending replacement is still to be made."""
        return self.files.exists(staged) and not self.files.was_edited(staged, target)

    def builder_files(self, table: TableRecord, instance: InstanceRecord) -> dict[str, Path]:
        """Return the builder files of an instance, by name."""
        return self.current_files(self.folder(table, instance).builders, BUILDER_SUFFIX)

    def code_modules(self) -> dict[str, Path]:
        """Return the files of the vault's code modules, by name."""
        return self.current_files(self.layout.code_functions, MODULE_SUFFIX)

    def with_files(self, look: Callable[[], dict[str, Path]], use: Callable[[dict[str, Path]], Result]) -> Result:
        """Call `use` with the files found by `look`; retry if one was moved meanwhile.

        Only a lock on the code keeps code modules in place, and readers do not take it.
        """
        while True:
            found = look()
            try:
                return use(found)
            except FileNotFoundError:
                if look() == found:
                    raise

    def code_texts(self) -> dict[str, str]:
        """Return the text of each code module."""
        return self.with_files(
            self.code_modules, lambda found: {name: files.read_source(path) for name, path in found.items()}
        )

    def check_version_is_unique(self, table: TableRecord, version: str) -> None:
        """Raise `TVArgumentError` if a table has a version that differs only in case."""
        other = self.contents.version_like(table.table_id, version)
        if other is not None:
            raise TVArgumentError(
                f"Table '{table.name}' has a version '{other}' already; versions are unique regardless of case"
            )


def again_if_moved(read: Callable[[], Result]) -> Result:
    """Call `read`, and retry while files are missing.

    They may have been moved or removed after the catalog was read.

    Each retry reads the catalog again. A file that is missing twice is missing in the current state.
    """
    missing: set[object] = set()
    while True:
        try:
            return read()
        except FileNotFoundError as error:
            if error.filename in missing or len(missing) >= _MAXIMUM_RETRIES:
                raise
            missing.add(error.filename)


def _visible_files(folder: Path, suffix: str) -> list[Path]:
    try:
        with os.scandir(folder) as entries:
            named = [entry for entry in entries if entry.name.endswith(suffix) and not entry.name.startswith(".")]
            # Links and missing files are kept, to be refused by name later.
            return [folder / entry.name for entry in named if not _is_something_else(entry)]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _is_something_else(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a special file."""
    return not (entry.is_symlink() or entry.is_file()) and os.path.lexists(entry.path)
