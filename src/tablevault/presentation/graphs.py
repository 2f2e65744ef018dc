"""Graphs for display, of the lineage of instances and columns and of dependencies between tables."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tablevault.records import Lineage, LineageStep, TableStatus
from tablevault.values.addresses import parse_address

if TYPE_CHECKING:
    from tablevault.vault import TableVault

MAXIMUM_NODES = 100
"""Maximum number of nodes of a lineage."""


@dataclass(frozen=True)
class GraphNode:
    """One node."""

    key: str
    title: str
    detail: str
    table_name: str
    instance_id: str
    """Empty for a table and for a deleted instance."""
    column: str
    state: str
    """`asked for`, `deleted`, or the state of a table."""
    more_inputs: int = 0
    """Number of inputs that are not shown."""
    more_users: int = 0
    """Number of users that are not shown."""


@dataclass(frozen=True)
class GraphEdge:
    """An edge from a source to a node derived from it."""

    source: str
    target: str
    is_origin: bool = False
    """Whether the target reused cells of the source."""


@dataclass(frozen=True)
class Graph:
    """Nodes and edges."""

    nodes: tuple[GraphNode, ...]
    edges: tuple[GraphEdge, ...]


@dataclass(frozen=True)
class LineageGraph:
    """The origins and uses of an instance, or of a column of it."""

    table_name: str
    instance_id: str
    column: str
    columns: tuple[str, ...]
    """All columns of the instance."""
    up: int
    down: int
    graph: Graph


@dataclass(frozen=True)
class TableGraph:
    """Dependencies between tables, with their states."""

    graph: Graph
    statuses: Mapping[str, TableStatus]
    after: str
    """The last table of this page, if there are more."""


def read_lineage(vault: TableVault, table_name: str, instance_id: str, column: str, up: int, down: int) -> LineageGraph:
    """Return the lineage of an instance, or of one of its columns.

    Parameters
    ----------
    vault
        The vault.
    table_name, instance_id
        The instance.
    column
        Empty for the whole instance, in which case nodes are instances rather than columns.
    up, down
        Number of steps to follow upstream, and downstream.
    """
    lineage = vault.get_lineage(table_name, instance_id, column)
    whole = lineage if not column else vault.get_lineage(table_name, instance_id)
    by_column = bool(column)
    graph = graph_of_lineage(lineage, by_column, up, down)
    columns = tuple(dict.fromkeys(step.column for step in whole.columns))
    return LineageGraph(lineage.table_name, lineage.instance_id, column, columns, up, down, graph)


def graph_of_lineage(lineage: Lineage, by_column: bool, up: int, down: int) -> Graph:
    """Return the graph around the columns of a lineage, of at most `MAXIMUM_NODES` nodes."""
    return _Walk(lineage, by_column).graph(up, down)


def graph_of_tables(statuses: Mapping[str, TableStatus], after: str) -> TableGraph:
    """Return the graph of tables, their inputs and their readers."""
    edges: dict[tuple[str, str], None] = {}
    for name, status in statuses.items():
        edges.update(dict.fromkeys((source, name) for source in status.inputs))
        edges.update(dict.fromkeys((name, target) for target in status.used_by))
    names = dict.fromkeys([*statuses, *(name for edge in edges for name in edge)])
    nodes = (
        GraphNode(
            name,
            name,
            statuses[name].state if name in statuses else "",
            parse_address(name).table_name,
            "",
            "",
            statuses[name].state if name in statuses else "",
        )
        for name in names
    )
    return TableGraph(Graph(tuple(nodes), tuple(GraphEdge(*edge) for edge in edges)), statuses, after)


class _Walk:
    """Collects the nodes around the requested columns, nearest first.

    Parameters
    ----------
    lineage
        The lineage to start from.
    by_column
        Whether a node is a column, or a whole instance.
    """

    def __init__(self, lineage: Lineage, by_column: bool) -> None:
        self._by_column = by_column
        self._roots = lineage.columns
        self._asked = {self._key(step) for step in lineage.columns}
        self._steps: dict[str, LineageStep] = {self._key(step): step for step in lineage.columns}
        self._edges: dict[tuple[str, str], bool] = {}
        self._hidden: dict[tuple[str, bool], set[str]] = {}

    def graph(self, up: int, down: int) -> Graph:
        """Return the nodes within the given distances, with their edges."""
        self._follow(_above, up, is_up=True)
        self._follow(_below, down, is_up=False)
        nodes = tuple(self._node(key, step) for key, step in self._steps.items())
        edges = (GraphEdge(*ends, is_origin) for ends, is_origin in self._edges.items())
        return Graph(nodes, tuple(edges))

    def _follow(
        self, neighbours: Callable[[LineageStep], Iterable[tuple[LineageStep, bool]]], most: int, is_up: bool
    ) -> None:
        waiting = deque((step, 0) for step in self._roots)
        seen = {id(step) for step in self._roots}
        while waiting:
            step, distance = waiting.popleft()
            here = self._key(step)
            for other, is_origin in neighbours(step):
                there = self._key(other)
                is_inside = there == here
                if not is_inside and not self._connect(here, there, other, is_origin, distance < most, is_up):
                    continue
                if id(other) not in seen:
                    seen.add(id(other))
                    # A step within an instance does not add to the distance.
                    (waiting.appendleft if is_inside else waiting.append)((other, distance + (not is_inside)))

    def _connect(self, here: str, there: str, other: LineageStep, is_origin: bool, is_near: bool, is_up: bool) -> bool:
        """Add an edge to another node if that is shown; return whether it is."""
        if there not in self._steps:
            if not is_near or len(self._steps) >= MAXIMUM_NODES:
                self._hidden.setdefault((here, is_up), set()).add(there)
                return False
            self._steps[there] = other
        ends = (there, here) if is_up else (here, there)
        # A column that is both read and reused counts as read.
        self._edges[ends] = self._edges.get(ends, True) and is_origin
        return True

    def _key(self, step: LineageStep) -> str:
        place = f"{step.table_name}({step.instance_id})"
        return f"{place}.{step.column}" if self._by_column else place

    def _node(self, key: str, step: LineageStep) -> GraphNode:
        title = f"{step.table_name}.{step.column}" if self._by_column else step.table_name
        function = step.function or ("any column" if step.column == "*" else "written from outside")
        return GraphNode(
            key,
            title,
            function if self._by_column else step.instance_id,
            step.table_name,
            "" if step.deleted else step.instance_id,
            step.column if self._by_column else "",
            "asked for" if key in self._asked else "deleted" if step.deleted else "",
            self._hidden_beside(key, is_up=True),
            self._hidden_beside(key, is_up=False),
        )

    def _hidden_beside(self, key: str, is_up: bool) -> int:
        """Return the number of hidden neighbours of a node, except those shown because of another node."""
        return len(self._hidden.get((key, is_up), set()) - self._steps.keys())


def _above(step: LineageStep) -> Iterable[tuple[LineageStep, bool]]:
    yield from ((other, False) for other in step.inputs)
    if step.origin is not None:
        yield step.origin, True


def _below(step: LineageStep) -> Iterable[tuple[LineageStep, bool]]:
    return ((other, False) for other in step.used_by)
