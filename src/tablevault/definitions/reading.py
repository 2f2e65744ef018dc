"""Reading of a source by running its files once, isolated, and binding their definitions."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import msgspec

from tablevault.builders.document import read_document
from tablevault.builders.policies import RUN_BY_ROW
from tablevault.code.loading import CodeSnapshot, ModuleFile
from tablevault.code.local_code import find_local_code
from tablevault.define import Definition, Service, Table
from tablevault.definitions.builders import DefinedBuilder, TableOfRows
from tablevault.definitions.source_files import SourceFiles
from tablevault.definitions.syntax import BuilderCall, FileDefinitions, read_definitions
from tablevault.definitions.texts import (
    BuilderText,
    ModuleText,
    ServiceLimits,
    SourceTexts,
    TableTexts,
    comment_name,
    split_builder,
    split_module,
)
from tablevault.errors import TableVaultError, TVArgumentError, TVBuilderError
from tablevault.layout import BUILDER_SUFFIX
from tablevault.names import check_service_name, check_table_name, check_text, fold
from tablevault.values.services import check_limits

_PACKAGE = "tablevault_code"


@dataclass(frozen=True)
class KnownColumns:
    """The columns of an instance, with its primary key."""

    columns: tuple[str, ...] = ()
    primary_key: tuple[str, ...] = ()


class KnownTables(Protocol):
    """The existing definitions of a vault, for one version of its tables."""

    def snapshot(self) -> AbstractContextManager[None]:
        """Use one snapshot of the catalog inside the block."""
        ...

    def modules(self) -> Mapping[str, ModuleFile]:
        """Return the code modules, by name."""
        ...

    def builders(self, table_name: str) -> Mapping[str, str]:
        """Return the builder files of the version, or those it is copied from, by name."""
        ...

    def instance(self, table_name: str, instance: str | None) -> KnownColumns:
        """Return the columns of a table's newest instance, or of the newest of a version."""
        ...


def read_source(source: SourceFiles, known: KnownTables) -> SourceTexts:
    """Read the texts of a source.

    Parameters
    ----------
    source
        Its files, which are run once, with the other code modules of the vault.
    known
        The vault.

    Raises
    ------
    TVBuilderError
        If a definition is invalid or misplaced; names file and line.
    BaseException
        For any exception of the files.
    """
    definitions = read_definitions(source.all_files)
    modules = known.modules()
    _check_siblings(source, definitions, modules)
    files = {
        **modules,
        **{name: ModuleFile(file.path, file.path, file.text) for name, file in source.all_files.items()},
    }
    texts = {name: file.read() for name, file in modules.items()} | {
        name: item.text for name, item in definitions.items()
    }
    package = f"{_PACKAGE}.{uuid.uuid4().hex}"
    local = find_local_code({name: file.read() for name, file in files.items()})
    with CodeSnapshot(Path(source.place), local=local, package=package, modules=files) as code:
        namespaces = {name: code.namespace(name) for name in source.files}
        # A sibling is run only if a file of the source imports it, as for siblings whose tables are used.
        used = _used_modules(definitions, source.files)
        namespaces |= {name: code.namespace(name) for name in used}
        builders = [
            DefinedBuilder(table, definition, call, file.file, namespaces[name], package)
            for name, file in definitions.items()
            if name in namespaces
            for table, definition, call in _matched(file, namespaces[name])
        ]
    binder = _Binder(source, definitions, namespaces, builders, known)
    with known.snapshot():
        bound = binder.texts(texts)
    return msgspec.structs.replace(bound, services=_services(definitions, namespaces))


def _used_modules(definitions: Mapping[str, FileDefinitions], names: Iterable[str]) -> set[str]:
    """Return the modules whose tables are used by files, directly or indirectly."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        for module, _ in definitions[waiting.pop()].tables.imported.values():
            if module not in found:
                found.add(module)
                waiting.append(module)
    return found


def _check_siblings(
    source: SourceFiles, definitions: Mapping[str, FileDefinitions], modules: Mapping[str, ModuleFile]
) -> None:
    for name, sibling in source.siblings.items():
        advice = f"apply the folder, {sibling.path.parent}, so that both are."
        if name not in modules:
            raise TVBuilderError(f"'{sibling.name}' is imported, and is not a module of the vault; {advice}")
        applied, _ = split_module(modules[name].read())
        if applied.rstrip() != definitions[name].text.rstrip():
            raise TVBuilderError(f"'{sibling.name}' is imported, and differs from the vault's module; {advice}")


def _services(
    definitions: Mapping[str, FileDefinitions], namespaces: Mapping[str, Mapping[str, object]]
) -> tuple[ServiceLimits, ...]:
    """Return the services defined in files; duplicates must have the same limits."""
    found: dict[str, ServiceLimits] = {}
    for module, namespace in namespaces.items():
        for name, node in definitions[module].services.items():
            service, file = namespace.get(name), definitions[module].file
            if not isinstance(service, Service):
                raise file.error(node, f"'{name}' is no longer a Service after the file has run; assign it once.")
            try:
                limits = check_limits(check_service_name(service.name), service.limits)
            except TVArgumentError as error:
                raise file.error(node, str(error)) from None
            defined = ServiceLimits(name=service.name, limits=limits)
            if found.setdefault(service.name, defined) != defined:
                raise file.error(node, f"the service '{service.name}' is defined twice with different limits.")
    return tuple(found.values())


def _matched(file: FileDefinitions, namespace: Mapping[str, object]) -> Iterator[tuple[Table, Definition, BuilderCall]]:
    """Yield the calls in a file with the resulting definitions."""
    tables = {name: namespace.get(name) for name in (*file.tables.own, *file.tables.imported)}
    for name, value in namespace.items():
        if isinstance(value, Table) and value is not tables.get(name):
            raise file.file.error(1, f"'{name}' is a Table, but no Table(…) is assigned to it here; assign it so.")
    made: dict[int, Definition] = {}
    for found in {id(value): value for value in tables.values() if isinstance(value, Table)}.values():
        for definition in found.definitions:
            if definition.file == str(file.file.path):
                call = _call_of(definition, file.calls)
                if call is None or id(call) in made:
                    raise file.file.error(definition.line, "a builder cannot be defined here; write a decorator.")
                made[id(call)] = definition
    for call in file.calls:
        table = tables[call.table]
        if not isinstance(table, Table) or id(call) not in made:
            raise file.file.error(call.line, f"'{call.table}' is not a Table at this point; define it above.")
        yield table, made[id(call)], call


def _call_of(definition: Definition, calls: Sequence[BuilderCall]) -> BuilderCall | None:
    return next(
        (call for call in calls if call.line <= definition.line <= (call.call.end_lineno or call.line)),
        None,
    )


@dataclass(frozen=True)
class _KnownBuilder:
    """The facts of a builder that binding needs."""

    name: str
    columns: tuple[str, ...]
    is_index: bool
    primary_key: tuple[str, ...]


class _Binder:
    """Binds the builders of a source to the columns of their tables.

    Parameters
    ----------
    source, definitions, namespaces, builders
        The source, and the definitions in its files.
    known
        The vault.
    """

    def __init__(
        self,
        source: SourceFiles,
        definitions: Mapping[str, FileDefinitions],
        namespaces: Mapping[str, Mapping[str, object]],
        builders: Sequence[DefinedBuilder],
        known: KnownTables,
    ) -> None:
        self._source = source
        self._definitions = definitions
        self._namespaces = namespaces
        self._known = known
        self._builders = builders
        self._by_table: dict[str, list[DefinedBuilder]] = {}
        for builder in builders:
            self._by_table.setdefault(fold(builder.table.name), []).append(builder)
        self._files = tuple(comment_name(file.name) for file in source.files.values())
        self._tables = self._named_tables()
        self._existing: dict[str, dict[str, _KnownBuilder]] = {}
        self._check_names()

    def texts(self, modules: Mapping[str, str]) -> SourceTexts:
        """Return all texts of the source."""
        return SourceTexts(
            files=self._files,
            modules=tuple(
                ModuleText(name=name, file=file.name, path=str(file.path), text=self._definitions[name].text)
                for name, file in sorted(self._source.files.items())
            ),
            tables=tuple(
                self._table_texts(table, modules) for table in self._tables.values() if self._is_of_source(table)
            ),
        )

    def _is_of_source(self, table: Table) -> bool:
        """Return whether a file of the source defines a table or one of its builders."""
        return any(item.file.module in self._source.files for item in self._of_table(table.name)) or any(
            table is self._namespaces[module].get(name)
            for module in self._source.files
            for name in self._definitions[module].tables.own
        )

    def _table_texts(self, table: Table, modules: Mapping[str, str]) -> TableTexts:
        own = [item for item in self._of_table(table.name) if item.file.module in self._source.files]
        return TableTexts(
            name=table.name,
            allow_multiple_artifacts=bool(table.allow_multiple_artifacts),
            has_side_effects=bool(table.has_side_effects),
            description=table.description,
            builders=tuple(
                BuilderText(name=item.name, file=item.file.name, text=self._text(item, modules), written=item.written())
                for item in own
            ),
        )

    def _text(self, builder: DefinedBuilder, modules: Mapping[str, str]) -> str:
        return builder.text(self._columns_for(builder), self._rows(builder), modules)

    # --- tables ---------------------------------------------------------------------------------------------------

    def _named_tables(self) -> dict[str, Table]:
        """Return the tables defined or imported by files of the source, by folded name."""
        found: dict[str, Table] = {}
        for module, file in self._definitions.items():
            for name, node in file.tables.own.items():
                table = self._namespaces.get(module, {}).get(name)
                if not isinstance(table, Table):
                    continue
                try:
                    check_table_name(table.name)
                    check_text("description", table.description)
                except TVArgumentError as error:
                    raise file.file.error(node, f"{error}.") from None
                other = found.setdefault(fold(table.name), table)
                if other is not table:
                    raise file.file.error(
                        node, f"there is a Table('{other.name}') already; import that one where it is needed."
                    )
        return found

    def _of_table(self, table_name: str) -> list[DefinedBuilder]:
        return self._by_table.get(fold(table_name), [])

    def _check_names(self) -> None:
        """Reject duplicate builder names, and a second index, in a table."""
        first: dict[tuple[str, str], DefinedBuilder] = {}
        for item in self._builders:
            other = first.setdefault((fold(item.table.name), fold(item.name)), item)
            if other is item:
                continue
            place = f"{other.file.name}, line {other.call.line}"
            if item.is_index and other.is_index:
                raise item.error((), f"table '{item.table.name}' has an index already ({place}); a table has one.")
            raise item.error(
                (), f"table '{item.table.name}' has a builder '{other.name}' already ({place}); give builder= a name."
            )

    # --- columns --------------------------------------------------------------------------------------------------

    def _existing_builders(self, table_name: str) -> dict[str, _KnownBuilder]:
        """Return the builders of the version other than those of the source."""
        key = fold(table_name)
        if key not in self._existing:
            own = {fold(item.name) for item in self._of_table(table_name)}
            self._existing[key] = {}
            for name, text in self._known.builders(table_name).items():
                _, stamp = split_builder(text)
                if fold(name) in own or (stamp is not None and stamp.file in self._files):
                    continue
                builder = _known_builder(name, text)
                if builder is not None:
                    self._existing[key][name] = builder
        return self._existing[key]

    def _columns_for(self, builder: DefinedBuilder) -> frozenset[str]:
        """Return the columns to which a builder's parameters can be bound."""
        definition = builder.definition
        if definition.rows_of is not None:
            return frozenset()
        if definition.fields.get("for_each") is not None:
            rows = self._rows(builder)
            return frozenset(rows.columns if rows is not None else ())
        if builder.is_index and definition.fields.get("return_type") not in RUN_BY_ROW:
            return frozenset()
        # A row-wise index gets the rows of the origin, which includes its own columns.
        others = [item for item in self._of_table(builder.table.name) if item is not builder or builder.is_index]
        existing = self._existing_builders(builder.table.name).values()
        return frozenset(
            chain(
                chain.from_iterable(map(self._columns_of, others)),
                chain.from_iterable(item.columns for item in existing),
            )
        )

    def _columns_of(self, builder: DefinedBuilder, seen: frozenset[int] = frozenset()) -> tuple[str, ...]:
        """Return the columns of a builder, even if it copies all columns of another table."""
        if builder.columns or builder.definition.rows_of is None or id(builder) in seen:
            return builder.columns
        rows = self._rows(builder, seen | {id(builder)})
        return rows.columns if rows is not None else ()

    def _key_of(self, builder: DefinedBuilder, seen: frozenset[int]) -> tuple[str, ...]:
        """Return the primary key of an index, even if copied with another table's rows."""
        if builder.primary_key or builder.definition.rows_of is None or id(builder) in seen:
            return builder.primary_key
        rows = self._rows(builder, seen | {id(builder)})
        is_taken = rows is not None and set(rows.primary_key) <= set(builder.columns or rows.columns)
        return rows.primary_key if rows is not None and is_taken else ()

    def _rows(self, builder: DefinedBuilder, seen: frozenset[int] = frozenset()) -> TableOfRows | None:
        """Return the table that supplies an index with rows."""
        each = builder.rows_table
        if each is None:
            return None
        address = each.table if each.instance is None else f"{each.table}({each.instance})"
        own = self._of_table(each.table)
        existing = self._existing_builders(each.table) if each.instance is None else {}
        builders = [
            *(
                _KnownBuilder(item.name, self._columns_of(item, seen), item.is_index, self._key_of(item, seen))
                for item in own
            ),
            *existing.values(),
        ]
        # The order must not depend on which files are applied together.
        builders.sort(key=lambda item: (not item.is_index, fold(item.name)))
        columns = tuple(dict.fromkeys(column for item in builders for column in item.columns))
        index = next((item for item in builders if item.is_index), None)
        if columns and index is not None:
            return TableOfRows(address, columns, index.primary_key)
        instance = self._known.instance(each.table, each.instance)
        key = instance.primary_key if index is None else index.primary_key
        return TableOfRows(address, columns or instance.columns, key)


def _known_builder(name: str, text: str) -> _KnownBuilder | None:
    """Return an existing builder; `None` if its columns cannot be read."""
    try:
        fields = read_document(text, f"{name}{BUILDER_SUFFIX}").fields
    except TableVaultError:
        # An execution reports its errors.
        return None
    columns, key = fields.get("changed_columns"), fields.get("primary_key") or ()
    if not isinstance(columns, list) or not isinstance(key, list | tuple):
        return None
    is_index = fields.get("builder_type") == "IndexBuilder"
    return _KnownBuilder(name, tuple(map(str, columns)), is_index, tuple(map(str, key)))
