"""The graph of table versions and the inputs of their builders."""

from __future__ import annotations

import errno
import heapq
import json
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from tablevault.builders.document import BuilderDocument
from tablevault.builders.fields import FieldPath
from tablevault.errors import TableReferenceError, TableVaultError, TVBuilderError, TVFileError
from tablevault.execution.inputs import PinnedKey
from tablevault.execution.preparation import read_documents
from tablevault.layout import BUILDER_SUFFIX
from tablevault.names import fold, index_builder_name, tag_in, temporary_instance_id
from tablevault.references import Dependency
from tablevault.state.lookup import Lookup
from tablevault.storage import files
from tablevault.texts.json_forms import json_form
from tablevault.values.contents import InstanceRecord, TableRecord


@dataclass(frozen=True, order=True)
class TableVersion:
    """Node of the graph, one version of a table."""

    table_name: str
    version: str

    def text(self, version: str) -> str:
        """Return its name relative to a version.

        The name is `t`, or `t(v2)` for another version.
        """
        return self.table_name if self.version == version else f"{self.table_name}({self.version})"


class TemporaryState(Enum):
    """The state of a table version's temporary instance."""

    MISSING = "missing"
    """It has no temporary instance."""
    EDITED = "edited"
    """Its builders are new or edited and must be executed."""
    UNEDITED = "unedited"
    """Its builders equal those of its origin, an instance of the same table version; it is ignored."""
    NOT_EXECUTABLE = "not executable"
    """It waits for `write_instance` or has no builders; it is ignored."""


@dataclass(frozen=True)
class Node:
    """One table version with its builders."""

    key: TableVersion
    table: TableRecord
    newest: InstanceRecord | None
    """Its newest active materialized instance."""
    temporary: InstanceRecord | None = None
    draft: TemporaryState = TemporaryState.MISSING
    edited: tuple[str, ...] = ()
    """The builders in which an edited temporary instance differs from its origin; empty without an origin."""
    documents: Mapping[str, BuilderDocument] = field(default_factory=dict)
    """The builders to execute, from an edited temporary instance or else from the newest instance."""
    error: TableVaultError | None = None
    """The error of reading these."""
    inputs: Mapping[TableVersion, tuple[BuilderDocument, FieldPath]] = field(default_factory=dict)
    """The table versions that they read, each with the first field that names it."""
    targets: Mapping[PinnedKey, TableVersion] = field(default_factory=dict)
    """The same table versions, by their names in the builders."""

    @property
    def is_edited(self) -> bool:
        """Whether its temporary instance has edited builders, so that it is executed as it is."""
        return self.draft is TemporaryState.EDITED

    @property
    def is_written(self) -> bool:
        """Whether a program wrote its newest instance."""
        return self.newest is not None and self.newest.external_edit


class DependencyGraph:
    """All tables of one version, and those that they read in other versions.

    Parameters
    ----------
    version
        The version.
    nodes
        The table versions, complete with all their inputs.
    """

    def __init__(self, version: str, nodes: Mapping[TableVersion, Node]) -> None:
        self.version = version
        self.nodes = nodes
        self._readers: dict[TableVersion, list[TableVersion]] = {key: [] for key in nodes}
        for key in sorted(nodes):
            for read in nodes[key].inputs:
                self._readers[read].append(key)

    def of_version(self) -> list[TableVersion]:
        """Return the tables with a temporary or materialized instance of the version, sorted by name."""
        nodes = self.nodes.values()
        has_instance = (node.key for node in nodes if node.newest is not None or node.temporary is not None)
        return sorted(key for key in has_instance if key.version == self.version)

    def inputs(self, key: TableVersion) -> tuple[TableVersion, ...]:
        """Return the table versions that the builders of one read, sorted by name."""
        return tuple(sorted(self.nodes[key].inputs))

    def readers(self, key: TableVersion) -> tuple[TableVersion, ...]:
        """Return the table versions whose builders read one, sorted by name."""
        return tuple(self._readers[key])

    def upstream(self, keys: Iterable[TableVersion]) -> set[TableVersion]:
        """Return table versions with all their direct and indirect inputs."""
        return _closure(keys, self.inputs)

    def downstream(self, keys: Iterable[TableVersion]) -> set[TableVersion]:
        """Return table versions with all their direct and indirect readers."""
        return _closure(keys, self.readers)

    def text(self, key: TableVersion) -> str:
        """Return the name of a table version in statuses and plans."""
        return key.text(self.version)

    def ordered(self, keys: Collection[TableVersion]) -> list[TableVersion]:
        """Return table versions in topological order, with ties broken by name.

        Raises
        ------
        TVBuilderError
            If they read one another in a cycle.
        """
        sorter = TopologicalSorter({key: [read for read in self.inputs(key) if read in keys] for key in keys})
        try:
            sorter.prepare()
        except CycleError as error:
            raise self._cycle_error(error.args[1]) from None
        ready, ordered = sorted(sorter.get_ready()), []
        while ready:
            ordered.append(heapq.heappop(ready))
            sorter.done(ordered[-1])
            for key in sorter.get_ready():
                heapq.heappush(ready, key)
        return ordered

    def _cycle_error(self, found: list[TableVersion]) -> TVBuilderError:
        """Return the error for a cycle in which each table version is read by the next."""
        cycle = found[:0:-1]
        first = cycle.index(min(cycle))
        cycle = [*cycle[first:], *cycle[:first]]
        path = " reads ".join(f"'{self.text(key)}'" for key in [*cycle, cycle[0]])
        document, field_path = self.nodes[cycle[0]].inputs[cycle[1 % len(cycle)]]
        return TVBuilderError(
            f"Tables read one another in a cycle: {path} ({document.place(*field_path)} of table "
            f"'{cycle[0].table_name}'). Remove one of these references, or name an instance by its id in it."
        )


def read_graph(
    lookup: Lookup, version: str, keys: Collection[TableVersion] | None, with_readers: bool, missing_is_damage: bool
) -> DependencyGraph:
    """Read the graph of tables and all their inputs.

    Parameters
    ----------
    lookup
        Finds tables and instances; all its reads should see one snapshot.
    version
        The version of references that name none.
    keys
        The tables; `None` for all that have an instance of the version.
    with_readers
        Whether to add all tables with an instance of the version, some of which may read the given ones.
    missing_is_damage
        Whether a missing file is damage; otherwise it may have been moved or removed since the catalog was read.

    Raises
    ------
    FileNotFoundError
        If a file is missing that is not damage.
    """
    reader = _Reader(lookup, version, missing_is_damage)
    of_version = reader.of_version() if with_readers or keys is None else ()
    return DependencyGraph(version, reader.read([*of_version, *(keys or ())]))


def read_node(lookup: Lookup, version: str, key: TableVersion, missing_is_damage: bool) -> DependencyGraph:
    """Read the graph of one table without its inputs; see `read_graph`.

    Raises
    ------
    TVArgumentError
        If the table does not exist.
    """
    return DependencyGraph(version, {key: _Reader(lookup, version, missing_is_damage).alone(key)})


def missing_file(error: FileNotFoundError) -> TVFileError:
    """Return the error for a file that is permanently missing from a vault."""
    return TVFileError(f"The file {error.filename} is missing; verify() lists all problems.")


def _closure(
    keys: Iterable[TableVersion], following: Callable[[TableVersion], Iterable[TableVersion]]
) -> set[TableVersion]:
    found = set(keys)
    waiting = list(found)
    while waiting:
        for key in following(waiting.pop()):
            if key not in found:
                found.add(key)
                waiting.append(key)
    return found


@dataclass(frozen=True)
class _CurrentInstances:
    """The instances of all tables that are executed or read by default."""

    temporary: dict[TableVersion, InstanceRecord]
    newest: dict[TableVersion, InstanceRecord]
    """Newest active instance of each table version."""
    newest_of_any: dict[str, InstanceRecord]
    """Newest active instance of all versions, by table name."""


class _Reader:
    """Reads nodes, each once.

    Parameters
    ----------
    lookup
        Finds files.
    version
        The version of references that name none.
    missing_is_damage
        Whether a missing file is damage.
    """

    def __init__(self, lookup: Lookup, version: str, missing_is_damage: bool) -> None:
        self._lookup = lookup
        self._missing_is_damage = missing_is_damage
        self._version = version
        self._found_files: dict[int, dict[str, Path]] = {}
        """The builder files of instances, by row id."""

    def of_version(self) -> Iterator[TableVersion]:
        """Yield the table versions that have an instance of the version."""
        present = {**self._current.newest, **self._current.temporary}
        yield from (key for key in present if key.version == self._version)

    def read(self, keys: Iterable[TableVersion]) -> dict[TableVersion, Node]:
        """Return nodes with all their inputs."""
        nodes: dict[TableVersion, Node] = {}
        waiting = list(keys)
        while waiting:
            key = waiting.pop()
            if key not in nodes:
                nodes[key] = self._complete(self._found(key), with_inputs=True)
                waiting.extend(nodes[key].inputs)
        return nodes

    def alone(self, key: TableVersion) -> Node:
        """Return a node without its inputs; does not read other tables."""
        table = self._lookup.table(key.table_name)
        contents = self._lookup.contents
        newest = contents.newest(table.table_id, key.version)
        temporary = contents.instance(table.table_id, temporary_instance_id(key.version))
        return self._complete(Node(key, table, newest, temporary), with_inputs=False)

    # --- tables and instances -------------------------------------------------------------------------------------

    @cached_property
    def _tables(self) -> dict[str, TableRecord]:
        return {fold(table.name): table for table in self._lookup.contents.tables()}

    @cached_property
    def _current(self) -> _CurrentInstances:
        found = _CurrentInstances({}, {}, {})
        by_id = {table.table_id: table.name for table in self._tables.values()}
        for instance in self._lookup.contents.current():
            name = by_id.get(instance.table_id)
            if name is None:
                # The table was deleted.
                continue
            key = TableVersion(name, instance.version)
            if instance.temporary:
                found.temporary[key] = instance
            else:
                found.newest[key] = found.newest_of_any[name] = instance
        return found

    def _found(self, key: TableVersion) -> Node:
        table = self._tables[fold(key.table_name)]
        return Node(key, table, self._current.newest.get(key), self._current.temporary.get(key))

    def _complete(self, node: Node, with_inputs: bool) -> Node:
        """Return a node with its builders and their inputs.

        If a builder is invalid, the node has the error instead.
        """
        try:
            node = self._with_builders(node)
            return self._with_inputs(node) if with_inputs and node.error is None else node
        except TableVaultError as error:
            return replace(node, error=error)
        except FileNotFoundError as error:
            if not self._missing_is_damage:
                raise
            return replace(node, error=missing_file(error))

    # --- builders -------------------------------------------------------------------------------------------------

    def _with_builders(self, node: Node) -> Node:
        """Return a node with its builders and the state of its temporary instance."""
        node, found = self._with_draft(node)
        if not node.is_edited:
            found = {} if node.newest is None or node.is_written else self._files(node, node.newest)
        try:
            return replace(node, documents=self._documents(node, found))
        except TableVaultError as error:
            return replace(node, error=error)

    def _with_draft(self, node: Node) -> tuple[Node, dict[str, Path]]:
        """Return a node with the state of its temporary instance, and that instance's builder files."""
        if node.temporary is None:
            return node, {}
        found = self._files(node, node.temporary)
        if node.temporary.external_edit or not found:
            return replace(node, draft=TemporaryState.NOT_EXECUTABLE), found
        origin = self._origin(node, node.temporary)
        if origin is None:
            return replace(node, draft=TemporaryState.EDITED), found
        edited = self._edited(node, found, self._files(node, origin))
        return replace(node, draft=TemporaryState.EDITED if edited else TemporaryState.UNEDITED, edited=edited), found

    def _origin(self, node: Node, temporary: InstanceRecord) -> InstanceRecord | None:
        """Return the origin of a temporary instance within its table version.

        Returns `None` if that instance no longer exists.
        """
        if temporary.origin is None or (node.newest is not None and node.newest.row_id == temporary.origin):
            return node.newest if temporary.origin is not None else None
        origin = self._lookup.contents.instance_by_row(temporary.origin)
        if origin is None or (origin.table_id, origin.version) != (temporary.table_id, temporary.version):
            return None
        return self._lookup.contents.instance(origin.table_id, origin.instance_id)

    def _edited(self, node: Node, found: Mapping[str, Path], others: Mapping[str, Path]) -> tuple[str, ...]:
        """Return the builders in which two sets of files differ, ignoring comments and layout."""
        texts, other_texts = _texts(found), _texts(others)
        if texts == other_texts:
            return ()
        try:
            return _differing(_contents(self._documents(node, found)), _contents(self._documents(node, others)))
        except (TVBuilderError, TableReferenceError):
            return _differing(texts, other_texts)

    def _files(self, node: Node, instance: InstanceRecord) -> dict[str, Path]:
        found = self._found_files.get(instance.row_id)
        if found is None:
            found = self._lookup.builder_files(node.table, instance)
            if not found:
                folder = self._lookup.folder(node.table, instance).builders
                if not folder.is_dir():
                    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
            self._found_files[instance.row_id] = found
        return found

    def _documents(self, node: Node, found: Mapping[str, Path]) -> dict[str, BuilderDocument]:
        """Read builder files; the IndexBuilder is renamed after the table's current name, as in a copy."""
        index = index_builder_name(node.table.name)
        documents = {}
        for name, document in read_documents(found).items():
            if document.fields.get("builder_type") == "IndexBuilder" and index not in found:
                documents[index] = replace(document, file=f"{index}{BUILDER_SUFFIX}")
            else:
                documents[name] = document
        return documents

    # --- inputs ---------------------------------------------------------------------------------------------------

    def _with_inputs(self, node: Node) -> Node:
        inputs: dict[TableVersion, tuple[BuilderDocument, FieldPath]] = {}
        targets: dict[PinnedKey, TableVersion] = {}
        for document in node.documents.values():
            for dependency, path in document.reads.places.items():
                key = self._target(dependency)
                if key is not None and key.table_name != node.table.name:
                    inputs.setdefault(key, (document, path))
                    targets[PinnedKey(fold(dependency.table), dependency.instance)] = key
        return replace(node, inputs=inputs, targets=targets)

    def _target(self, dependency: Dependency) -> TableVersion | None:
        """Return the table version that a reference reads.

        Returns `None` if it reads a fixed instance, or no instance.
        """
        table = self._tables.get(fold(dependency.table))
        if table is None:
            return None
        if dependency.instance is not None:
            is_frozen = "_" in dependency.instance or tag_in(dependency.instance) is not None
            return None if is_frozen else TableVersion(table.name, dependency.instance)
        key = TableVersion(table.name, self._version)
        newest = self._current.newest_of_any.get(table.name)
        if key in self._current.newest or key in self._current.temporary or newest is None:
            return key
        return TableVersion(table.name, newest.version)


def _texts(found: Mapping[str, Path]) -> dict[str, object]:
    return {name: files.read_bytes(path) for name, path in found.items()}


def _contents(documents: Mapping[str, BuilderDocument]) -> dict[str, object]:
    # JSON distinguishes true from 1.
    return {name: json.dumps(json_form(document.fields), sort_keys=True) for name, document in documents.items()}


def _differing(some: Mapping[str, object], others: Mapping[str, object]) -> tuple[str, ...]:
    return tuple(name for name in sorted({*some, *others}) if some.get(name) != others.get(name))
