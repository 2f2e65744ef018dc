"""Creation and deletion of builder files and code modules."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from tablevault import names
from tablevault.builders.templates import builder_template, module_template
from tablevault.errors import TVArgumentError, TVImplementationError
from tablevault.layout import BUILDER_SUFFIX, MODULE_SUFFIX
from tablevault.names import index_builder_name
from tablevault.operations.base import LONG, Operation, put_file, remove
from tablevault.operations.session import Draft, Session
from tablevault.storage import files
from tablevault.values.changes import Changes
from tablevault.values.contents import InstanceRecord, TableRecord
from tablevault.values.lock_names import lock_on_code, lock_on_instance
from tablevault.values.plans import (
    CreateBuilderFilesPlan,
    CreateCodeModulesPlan,
    DeleteBuilderFilePlan,
    DeleteCodeModulePlan,
)


@dataclass(frozen=True)
class TextSource:
    """The source of new text files, which is a text, files to copy, or templates."""

    kind: str
    """Noun for one file, in messages."""
    text: str | None
    copy_dir: str
    suffixes: tuple[str, ...]
    """Suffixes of the files taken from `copy_dir`; files are written with the first one."""
    check_name: Callable[[str], str]
    """Returns a valid name; raises `TVArgumentError` for an invalid one."""

    def names(self, wanted: str, existing: Iterable[str]) -> list[str]:
        """Return the names of the files to write; templates do not overwrite existing files.

        Raises
        ------
        TVArgumentError
            If a name is invalid or differs from an existing one only in case, or the sources contradict one another.
        """
        if self.text and self.copy_dir:
            raise TVArgumentError("Give either text or copy_dir, not both.")
        if self.text is not None:
            _check_encodable(self.text)
        written = sorted(self._copied(wanted)) if self.copy_dir else [self.check_name(wanted)]
        known = {names.fold(name): name for name in existing}
        for name in written:
            other = known.get(names.fold(name), name)
            if other != name:
                raise TVArgumentError(f"There is a {self.kind} '{other}' already; names are unique regardless of case.")
        if self.text or self.copy_dir:
            return written
        return [name for name in written if names.fold(name) not in known]

    def stage(self, session: Session, wanted: str, written: Sequence[str], template: Callable[[str], str]) -> None:
        """Durably stage the new content in the process's folder.

        Parameters
        ----------
        session
            The process.
        wanted
            Name of the file as given by the caller.
        written
            The names returned by `names`.
        template
            Returns the text of a new file.
        """
        if not self.copy_dir:
            for name in written:
                session.stage_text(self._file(name), self.text or template(name))
            return
        files.make_folder(session.workspace.staged)
        for name, path in self._copied(wanted).items():
            files.copy_file(path, session.workspace.staged / self._file(name))

    def is_staged(self, session: Session, written: Sequence[str]) -> bool:
        """Return whether the process has staged all files."""
        return all(session.is_staged(self._file(name)) for name in written)

    def put(self, session: Session, written: Sequence[str], folder: Path) -> Changes:
        """Return the change that puts the staged files into a folder."""
        steps = []
        for name in map(self._file, written):
            if not session.is_staged(name):
                raise TVImplementationError(f"'{name}' was not staged; make the same call again with its text.")
            steps.append(put_file(session, name, session.lookup.layout.relative(folder / name)))
        return Changes(tidying=tuple(steps))

    def _file(self, name: str) -> str:
        return f"{name}{self.suffixes[0]}"

    def _copied(self, wanted: str) -> dict[str, Path]:
        """Return the source files to copy, by name."""
        source = Path(self.copy_dir).expanduser()
        if source.is_file():
            return {self.check_name(wanted or source.stem): source}
        if not source.is_dir():
            raise TVArgumentError(f"There is no file or folder '{self.copy_dir}' to copy from.")
        found = {path.stem: path for path in sorted(source.iterdir()) if self._is_wanted(path)}
        if wanted:
            stem = self.check_name(wanted)
            if stem not in found:
                raise TVArgumentError(f"There is no '{self._file(stem)}' in '{self.copy_dir}'.")
            return {stem: found[stem]}
        if not found:
            raise TVArgumentError(f"There is no file '*{self.suffixes[0]}' in '{self.copy_dir}'.")
        return {self.check_name(stem): path for stem, path in found.items()}

    def _is_wanted(self, path: Path) -> bool:
        return path.is_file() and path.suffix in self.suffixes and not path.name.startswith(".")


# --- builder files ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CreateBuilderFile(Operation[CreateBuilderFilesPlan]):
    """Writes one builder file of a temporary instance, or copies all builder files of a folder."""

    name: ClassVar[str] = "create_builder_file"

    table_name: str
    builder_name: str = ""
    version: str = names.DEFAULT_VERSION
    copy_dir: str = ""
    text: str | None = field(default=None, metadata=LONG)

    def plan(self, draft: Draft) -> CreateBuilderFilesPlan:
        """Find the instance; validate names and sources."""
        table, instance = _locked_temporary(draft, self.table_name, self.version)
        wanted = self.builder_name or ("" if self.copy_dir else index_builder_name(table.name))
        written = self._source.names(wanted, draft.lookup.builder_files(table, instance))
        folder = draft.lookup.layout.relative(draft.lookup.folder(table, instance).builders)
        return CreateBuilderFilesPlan(
            table_name=table.name,
            instance_id=instance.instance_id,
            builders=tuple(written),
            folder=folder,
            wanted=wanted,
        )

    def pin(self, plan: CreateBuilderFilesPlan, session: Session) -> None:
        """Stage the new content."""
        self._source.stage(session, plan.wanted, plan.builders, lambda name: builder_template(plan.table_name, name))

    def work(self, plan: CreateBuilderFilesPlan, session: Session) -> Changes:
        """Put the staged files in place."""
        if not self._source.is_staged(session, plan.builders):
            self.pin(plan, session)
        return self._source.put(session, plan.builders, session.lookup.layout.absolute(plan.folder))

    @property
    def _source(self) -> TextSource:
        return TextSource("builder", self.text, self.copy_dir, (BUILDER_SUFFIX, ".yml"), names.check_builder_name)


@dataclass(frozen=True)
class DeleteBuilderFile(Operation[DeleteBuilderFilePlan]):
    """Removes a builder file of a temporary instance."""

    name: ClassVar[str] = "delete_builder_file"

    builder_name: str
    table_name: str
    version: str = names.DEFAULT_VERSION

    def plan(self, draft: Draft) -> DeleteBuilderFilePlan:
        """Find the file."""
        table, instance = _locked_temporary(draft, self.table_name, self.version)
        name = names.check_builder_name(self.builder_name)
        existing = draft.lookup.builder_files(table, instance)
        if name not in existing:
            raise TVArgumentError(
                f"Instance '{instance.instance_id}' of table '{table.name}' has no builder '{name}'"
                f"{names.nearest(name, existing)}"
            )
        path = draft.lookup.layout.relative(draft.lookup.folder(table, instance).builder(name))
        return DeleteBuilderFilePlan(table_name=table.name, instance_id=instance.instance_id, path=path)

    def work(self, plan: DeleteBuilderFilePlan, session: Session) -> Changes:
        """Return the removal of the file."""
        return Changes(tidying=(remove(plan.path),))


def _locked_temporary(draft: Draft, table_name: str, version: str) -> tuple[TableRecord, InstanceRecord]:
    instance_id = names.temporary_instance_id(names.check_version(version))
    draft.lock_exclusive(lock_on_instance(names.fold(str(table_name)), instance_id))
    return draft.table_and_temporary(table_name, version)


# --- code modules ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CreateCodeModule(Operation[CreateCodeModulesPlan]):
    """Writes one code module, or copies all modules of a folder."""

    name: ClassVar[str] = "create_code_module"

    module_name: str = ""
    copy_dir: str = ""
    text: str | None = field(default=None, metadata=LONG)

    def plan(self, draft: Draft) -> CreateCodeModulesPlan:
        """Validate names and sources."""
        draft.lock_exclusive(lock_on_code())
        written = self._source.names(self.module_name, draft.lookup.code_modules())
        return CreateCodeModulesPlan(modules=tuple(written))

    def pin(self, plan: CreateCodeModulesPlan, session: Session) -> None:
        """Stage the new content."""
        self._source.stage(session, self.module_name, plan.modules, module_template)

    def work(self, plan: CreateCodeModulesPlan, session: Session) -> Changes:
        """Put the staged files in place."""
        if not self._source.is_staged(session, plan.modules):
            self.pin(plan, session)
        return self._source.put(session, plan.modules, session.lookup.layout.code_functions)

    @property
    def _source(self) -> TextSource:
        return TextSource("code module", self.text, self.copy_dir, (MODULE_SUFFIX,), names.check_module_name)


@dataclass(frozen=True)
class DeleteCodeModule(Operation[DeleteCodeModulePlan]):
    """Removes a code module; instances keep their archived copies."""

    name: ClassVar[str] = "delete_code_module"

    module_name: str

    def plan(self, draft: Draft) -> DeleteCodeModulePlan:
        """Find the module."""
        draft.lock_exclusive(lock_on_code())
        name = names.check_module_name(self.module_name)
        existing = draft.lookup.code_modules()
        if name not in existing:
            raise TVArgumentError(f"There is no code module '{name}'{names.nearest(name, existing)}")
        return DeleteCodeModulePlan(module=name)

    def work(self, plan: DeleteCodeModulePlan, session: Session) -> Changes:
        """Return the removal of the file."""
        layout = session.lookup.layout
        return Changes(tidying=(remove(layout.relative(layout.code_module(plan.module))),))


def _check_encodable(text: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TVArgumentError(f"The text cannot be stored as UTF-8 ({error}).") from error
