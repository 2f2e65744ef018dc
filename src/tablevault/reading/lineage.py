"""Lineage of columns across the vault, from their inputs to their dependents."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

from tablevault import names
from tablevault.errors import TVArgumentError, TVTableError
from tablevault.execution.provenance import (
    BuilderFacts,
    InputFacts,
    Provenance,
    in_catalog,
    read_provenance,
    read_row_versions,
)
from tablevault.layout import InstanceFolder
from tablevault.reading.makers import maker_of
from tablevault.reading.metadata_folders import MetadataFolders
from tablevault.records import CodeVersion, Lineage, LineageStep
from tablevault.state.context import VaultContext
from tablevault.state.imported import import_of
from tablevault.state.lookup import Lookup, again_if_moved
from tablevault.storage.files import missing_named
from tablevault.storage.manifest import check_listed
from tablevault.values.changes import Read
from tablevault.values.contents import InstanceRecord, TableRecord

_ANY = "*"
"""Stands for all columns of an instance."""


@dataclass(frozen=True)
class _Node:
    """A column of an instance, as made by one builder."""

    row_id: int
    column: str
    place: int | None
    """Position of its builder; `None` for an externally written column, and for all columns."""


class LineageReader:
    """Follows the lineage of columns in both directions.

    Parameters
    ----------
    context
        The open vault.
    """

    def __init__(self, context: VaultContext) -> None:
        self._lookup = Lookup(context)

    def lineage(self, table_name: str, instance_id: str = "", column: str = "") -> Lineage:
        """Return the lineage of one or all columns of an instance.

        Parameters
        ----------
        table_name
            The table.
        instance_id
            Materialized instance; empty for the newest active one of version `base`, or else of any version.
        column
            Name of the column; empty for all.

        Raises
        ------
        TVArgumentError
            If the table or materialized instance does not exist.
        TVTableError
            If the instance does not have the column.
        """
        table = self._lookup.table(table_name)
        instance = self._instance(table, instance_id)
        known = [item.name for item in instance.columns]
        if column and column not in known:
            raise TVTableError(
                f"Instance '{instance.instance_id}' of table '{table.name}' has no column '{column}'"
                f"{names.nearest(column, known)}"
            )
        wanted = [column] if column else known
        with missing_named():
            steps = again_if_moved(lambda: _Steps(_Instances(self._lookup)).of_columns(instance.row_id, wanted))
        return Lineage(table.name, instance.instance_id, steps)

    def _instance(self, table: TableRecord, instance_id: str) -> InstanceRecord:
        if instance_id:
            instance = self._lookup.instance(table, instance_id)
            if instance.temporary:
                raise TVArgumentError(
                    f"Instance '{instance_id}' of table '{table.name}' is not materialized, so it has no lineage "
                    f"yet. plan_instance('{table.name}', '{instance.version}') shows what would be computed."
                )
            return instance
        contents = self._lookup.contents
        newest = contents.newest(table.table_id, names.DEFAULT_VERSION) or contents.newest(table.table_id)
        return newest or self._lookup.newest(table, None, active_only=False)


class _Instance:
    """The known facts about one instance, deleted or not."""

    def __init__(
        self,
        record: InstanceRecord,
        table_name: str,
        deleted: bool,
        folder: InstanceFolder | None,
        imported_from: str,
        in_catalog: Callable[[Provenance], Provenance],
    ) -> None:
        self.record = record
        self.table_name = table_name
        self.deleted = deleted
        self.imported_from = imported_from
        self._folder = folder
        self._in_catalog = in_catalog
        self._own_reads: dict[int, dict[tuple[str, int], None]] = {}

    @cached_property
    def provenance(self) -> Provenance | None:
        """Its provenance; `None` for a deleted instance without archived metadata."""
        if self._folder is None:
            return None
        check_listed(self._folder.manifest, self.record.manifest, self._folder.provenance)
        return self._in_catalog(read_provenance(self._folder.provenance))

    @property
    def builders(self) -> tuple[BuilderFacts, ...]:
        """Its builders in run order."""
        return self.provenance.builders if self.provenance is not None else ()

    @property
    def origin(self) -> InputFacts | None:
        """The instance from which cells were reused."""
        return self.provenance.origin if self.provenance is not None else None

    def producer(self, column: str, before: int | None = None) -> int | None:
        """Return the position of a column's last builder, optionally before another builder."""
        places = [place for place, facts in enumerate(self.builders[:before]) if column in facts.columns]
        return places[-1] if places else None

    def own_reads(self, place: int) -> dict[tuple[str, int], None]:
        """Return the instance's own columns read by a builder, each with its last builder by then."""
        if place not in self._own_reads:
            self._own_reads[place] = dict.fromkeys(self._read_by(place))
        return self._own_reads[place]

    def _read_by(self, place: int) -> Iterator[tuple[str, int]]:
        facts = self.builders[place]
        earlier = dict.fromkeys(column for other in self.builders[:place] for column in other.columns)
        for column in earlier if _ANY in facts.own_columns else facts.own_columns:
            producer = self.producer(column, place)
            if producer is not None:
                yield column, producer

    def code_versions(self, place: int) -> tuple[CodeVersion, ...]:
        """Return the code versions of a builder, with the rows computed under each."""
        facts, count = self.builders[place], self.record.row_count or 0
        assert self._folder is not None  # its provenance, which names the builder, is there
        by_row = facts.return_type == "row-wise" or len(facts.versions) > 1
        codes = read_row_versions(self._folder.fingerprints, facts.name, facts.versions) if by_row else None
        if codes is not None:
            found = tuple(_code_version(version, number, codes) for number, version in enumerate(facts.versions))
            return tuple(version for version in found if version.rows) or found[:1]
        if len(facts.versions) == 1:
            return (CodeVersion(facts.versions[0], count, ((0, count - 1),) if count else ()),)
        return tuple(CodeVersion(version, None, ()) for version in facts.versions)


class _Instances:
    """Opens instances and caches them."""

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._contents = lookup.contents
        self._metadata = MetadataFolders(lookup)
        self._found: dict[int, _Instance] = {}
        self._readers: dict[int, list[tuple[int, Read]]] = {}
        self._reads: dict[int, list[Read]] = {}
        self._tables: dict[int, TableRecord] = {}
        self._imports: dict[str, str] = {}

    def __getitem__(self, row_id: int) -> _Instance:
        if row_id not in self._found:
            self._found[row_id] = self._open(row_id)
        return self._found[row_id]

    def readers(self, row_id: int) -> list[tuple[int, Read]]:
        """Return the instances computed from an instance, each with its read."""
        if row_id not in self._readers:
            self._readers[row_id] = self._contents.readers_of(row_id)
        return self._readers[row_id]

    def reads(self, row_id: int) -> list[Read]:
        """Return the cataloged inputs of an instance."""
        if row_id not in self._reads:
            self._reads[row_id] = self._contents.reads_of(row_id)
        return self._reads[row_id]

    def copies(self, row_id: int) -> list[int]:
        """Return the instances that have an instance as their origin."""
        return self._copies.get(row_id, [])

    @cached_property
    def _copies(self) -> dict[int, list[int]]:
        found: dict[int, list[int]] = {}
        for row_id, origin in self._contents.origins():
            found.setdefault(origin, []).append(row_id)
        return found

    def _open(self, row_id: int) -> _Instance:
        record = self._lookup.instance_by_row(row_id)
        if record.table_id not in self._tables:
            self._tables[record.table_id] = self._lookup.table_by_id(record.table_id)
        table = self._tables[record.table_id]
        deleted = self._metadata.was_deleted(table, record)
        return _Instance(
            record,
            table.name,
            deleted,
            self._metadata.of(table, record),
            self._imported_from(record.process_id),
            lambda provenance: in_catalog(provenance, self._contents),
        )

    def _imported_from(self, process_id: str) -> str:
        """Return the id of the source vault of an import; empty for other processes."""
        if process_id not in self._imports:
            plan = import_of(self._lookup.context, process_id)
            self._imports[process_id] = plan.vault_id if plan is not None else ""
        return self._imports[process_id]


class _Steps:
    """Follows columns up and down, computing the step of each column once."""

    def __init__(self, instances: _Instances) -> None:
        self._instances = instances
        self._facts: dict[_Node, LineageStep] = {}
        self._inputs_of: dict[_Node, list[_Node]] = {}

    def of_columns(self, row_id: int, columns: Iterable[str]) -> tuple[LineageStep, ...]:
        """Return the steps of an instance's columns, with all sources and users."""
        nodes = [self._final(row_id, column) for column in columns]
        above = _joined(nodes, self._sources, self._with_sources)
        below = _joined(nodes, self._users, self._with_users)
        return tuple(replace(above[node], used_by=below[node].used_by) for node in nodes)

    # --- up -------------------------------------------------------------------------------------------------------

    def _sources(self, node: _Node) -> list[_Node]:
        origin = self._origin(node)
        return [*self._inputs(node), *([origin] if origin is not None else [])]

    def _inputs(self, node: _Node) -> list[_Node]:
        if node not in self._inputs_of:
            self._inputs_of[node] = self._find_inputs(node)
        return self._inputs_of[node]

    def _find_inputs(self, node: _Node) -> list[_Node]:
        instance = self._instances[node.row_id]
        if node.column == _ANY:
            return [self._final(node.row_id, column.name) for column in instance.record.columns]
        if node.place is None:
            reads = [read for read in self._instances.reads(node.row_id) if read.column in (node.column, _ANY)]
            return [self._final(read.input_row_id, read.input_column) for read in reads]
        facts = instance.builders[node.place]
        own = [_Node(node.row_id, column, producer) for column, producer in instance.own_reads(node.place)]
        if facts.is_index and facts.return_type == "row-wise" and instance.origin is not None:
            # `self` of a row-wise IndexBuilder is the origin.
            own = [self._final(instance.origin.row_id, column) for column in facts.own_columns]
        return list(dict.fromkeys([*own, *(self._final(row_id, column) for row_id, column in facts.inputs)]))

    def _origin(self, node: _Node) -> _Node | None:
        """Return the column from which rows of this one were reused."""
        instance = self._instances[node.row_id]
        if node.place is None or instance.origin is None or not instance.builders[node.place].reused:
            return None
        origin = self._instances[instance.origin.row_id]
        if node.column not in {column.name for column in origin.record.columns}:
            return None
        return self._final(instance.origin.row_id, node.column)

    def _with_sources(self, node: _Node, steps: Mapping[_Node, LineageStep]) -> LineageStep:
        origin = self._origin(node)
        inputs = tuple(steps[other] for other in self._inputs(node) if other in steps)
        return replace(self._step(node), inputs=inputs, origin=steps.get(origin) if origin is not None else None)

    # --- down -----------------------------------------------------------------------------------------------------

    def _users(self, node: _Node) -> list[_Node]:
        found = dict.fromkeys(self._users_inside(node))
        if node == self._final(node.row_id, node.column):
            for row_id, read in self._instances.readers(node.row_id):
                if _ANY in (node.column, read.input_column) or read.input_column == node.column:
                    found[self._reader(row_id, read)] = None
            found.update(dict.fromkeys(self._copied(node)))
        return list(found)

    def _users_inside(self, node: _Node) -> Iterator[_Node]:
        """Yield the columns of the same instance computed from this one."""
        if node.column == _ANY:
            return
        instance = self._instances[node.row_id]
        for place, facts in enumerate(instance.builders):
            if (node.column, node.place) in instance.own_reads(place):
                yield from (_Node(node.row_id, column, place) for column in facts.columns)

    def _reader(self, row_id: int, read: Read) -> _Node:
        builders = self._instances[row_id].builders
        places = [place for place, facts in enumerate(builders) if facts.name == read.builder]
        return _Node(row_id, read.column, places[0]) if places else self._final(row_id, read.column)

    def _copied(self, node: _Node) -> Iterator[_Node]:
        """Yield the columns that reused rows of this one."""
        for row_id in self._instances.copies(node.row_id):
            copy = self._final(row_id, node.column)
            if node.column != _ANY and self._origin(copy) == node:
                yield copy

    def _with_users(self, node: _Node, steps: Mapping[_Node, LineageStep]) -> LineageStep:
        return replace(self._step(node), used_by=tuple(steps[other] for other in self._users(node) if other in steps))

    # --- both -----------------------------------------------------------------------------------------------------

    def _final(self, row_id: int, column: str) -> _Node:
        """Return the node of a column as stored, made by its last builder."""
        return _Node(row_id, column, self._instances[row_id].producer(column))

    def _step(self, node: _Node) -> LineageStep:
        if node not in self._facts:
            self._facts[node] = _step(self._instances[node.row_id], node)
        return self._facts[node]


def _step(instance: _Instance, node: _Node) -> LineageStep:
    facts = instance.builders[node.place] if node.place is not None else None
    record = instance.record
    maker = maker_of(record, instance.provenance if instance.imported_from else None)
    return LineageStep(
        table_name=instance.table_name,
        instance_id=record.instance_id,
        column=node.column,
        builder=facts.name if facts is not None else "",
        function=f"{facts.module}.{facts.function}" if facts is not None else "",
        arguments=facts.arguments if facts is not None else {},
        code_versions=instance.code_versions(node.place) if node.place is not None else (),
        computed=facts.computed if facts is not None else None,
        reused=facts.reused if facts is not None else None,
        process_id=maker.process_id,
        author=maker.author,
        made_at=maker.made_at,
        success=record.success,
        deleted=instance.deleted,
        imported_from=instance.imported_from,
    )


def _joined(
    roots: Iterable[_Node],
    neighbours: Callable[[_Node], list[_Node]],
    make: Callable[[_Node, Mapping[_Node, LineageStep]], LineageStep],
) -> dict[_Node, LineageStep]:
    """Make the steps of all reachable nodes, each after its neighbours.

    Iterative, so that the depth is unlimited. A neighbour on a cycle back to the node has no step yet, and is left out.
    """
    made: dict[_Node, LineageStep] = {}
    begun: set[_Node] = set()
    stack = [(node, False) for node in roots]
    while stack:
        node, is_ready = stack.pop()
        if is_ready:
            made[node] = make(node, made)
        elif node not in begun:
            begun.add(node)
            stack.append((node, True))
            stack.extend((other, False) for other in neighbours(node))
    return made


def _code_version(version: str, number: int, codes: Iterable[int | None]) -> CodeVersion:
    ranges, position = [], 0
    for is_of_version, group in groupby(codes, key=lambda code: code == number):
        length = sum(1 for _ in group)
        if is_of_version:
            ranges.append((position, position + length - 1))
        position += length
    return CodeVersion(version, sum(last - first + 1 for first, last in ranges), tuple(ranges))
