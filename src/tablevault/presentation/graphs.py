"""Graphs as they are shown: which instances and columns come from which, and which tables read which."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tablevault.records import Lineage, LineageStep, TableStatus
from tablevault.values.addresses import parse_address

if TYPE_CHECKING:
    from tablevault.vault import TableVault

MOST_NODES = 100
"""Of a lineage."""


@dataclass(frozen=True)
class GraphNode:
    """One node."""

    key: str
    title: str
    detail: str
    table_name: str
    instance_id: str
    """Empty for a table, and for an instance that was deleted since."""
    column: str
    state: str
    """`asked for`, `deleted`, or the state of a table."""
    more_inputs: int = 0
    """Further nodes that it comes from, which are not shown."""
    more_users: int = 0
    """Further nodes that come from it, which are not shown."""


@dataclass(frozen=True)
class GraphEdge:
    """One node comes from another."""

    source: str
    target: str
    is_origin: bool = False
    """Whether the target took cells over from the source."""


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
    """Which tables read which, with their states."""

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
        Empty for the whole instance: then a node is an instance, else a column.
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
    """Return the graph around the columns of a lineage, of at most `MOST_NODES` nodes."""
    return _Walk(lineage, by_column).graph(up, down)


def graph_of_tables(statuses: Mapping[str, TableStatus], after: str) -> TableGraph:
    """Return the graph of some tables, and of those that they read or are read by."""
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
    """Collects the nodes around the asked columns, nearest first.

    Parameters
    ----------
    lineage
        Where it begins.
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
        """Return the nodes at a distance, with their edges."""
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
                    # Within an instance nothing is gone further.
                    (waiting.appendleft if is_inside else waiting.append)((other, distance + (not is_inside)))

    def _connect(self, here: str, there: str, other: LineageStep, is_origin: bool, is_near: bool, is_up: bool) -> bool:
        """Add an edge to a node that is shown; return whether it is."""
        if there not in self._steps:
            if not is_near or len(self._steps) >= MOST_NODES:
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
        """Return how many neighbours of a node are not shown; another node may have led to some."""
        return len(self._hidden.get((key, is_up), set()) - self._steps.keys())


def _above(step: LineageStep) -> Iterable[tuple[LineageStep, bool]]:
    yield from ((other, False) for other in step.inputs)
    if step.origin is not None:
        yield step.origin, True


def _below(step: LineageStep) -> Iterable[tuple[LineageStep, bool]]:
    return ((other, False) for other in step.used_by)
