"""Layered layout of graphs from left to right, with sources left of their targets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

WIDTH, HEIGHT = 190, 48
"""Size of a box."""
_GAP_X, _GAP_Y = 56, 18
_MARGIN_X, _MARGIN_Y = 58, 12
"""Margins of the graph, with room for the counts of hidden nodes."""
_LANE = 10
"""Height reserved for a line that crosses a layer."""
_SWEEPS = 6


@dataclass(frozen=True)
class Box:
    """Position of a node."""

    key: str
    x: int
    y: int


@dataclass(frozen=True)
class Line:
    """Shape of an edge."""

    source: str
    target: str
    path: str
    """SVG path data."""


@dataclass(frozen=True)
class Drawing:
    """A graph with its layout."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]


@dataclass(eq=False)
class _Spot:
    """A node in its layer, or a bend of a line that passes the layer."""

    key: str
    layer: int
    is_bend: bool
    order: float = 0.0
    y: float = 0.0

    @property
    def height(self) -> int:
        return _LANE if self.is_bend else HEIGHT

    @property
    def x(self) -> int:
        return _MARGIN_X + self.layer * (WIDTH + _GAP_X)

    @property
    def middle(self) -> float:
        return self.y + self.height / 2


def lay_out(keys: Sequence[str], edges: Iterable[tuple[str, str]]) -> Drawing:
    """Lay out nodes and edges; an edge that closes a cycle is drawn backwards.

    Parameters
    ----------
    keys
        The nodes.
    edges
        Source and target of each.
    """
    wanted = [edge for edge in dict.fromkeys(edges) if edge[0] != edge[1]]
    ahead = _without_cycles(keys, wanted)
    layers_of = _layers(keys, ahead)
    nodes = {key: _Spot(key, layers_of[key], is_bend=False, order=place) for place, key in enumerate(keys)}
    chains = [_chain(nodes[source], nodes[target]) for source, target in wanted]
    spots = [*nodes.values(), *(spot for chain in chains for spot in chain[1:-1])]
    layers: list[list[_Spot]] = [[] for _ in range(max((spot.layer for spot in spots), default=-1) + 1)]
    for spot in spots:
        layers[spot.layer].append(spot)
    _order(layers, chains)
    height = _stack(layers)
    lines = (Line(chain[0].key, chain[-1].key, _path(chain)) for chain in chains)
    boxes = (Box(spot.key, spot.x, round(spot.y)) for spot in nodes.values())
    width = 2 * _MARGIN_X + len(layers) * (WIDTH + _GAP_X) - _GAP_X
    return Drawing(max(width, 0), height, tuple(boxes), tuple(lines))


def _without_cycles(keys: Sequence[str], edges: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    kept = list(edges)
    while True:
        sorter: TopologicalSorter[str] = TopologicalSorter(dict.fromkeys(keys, ()))
        for source, target in kept:
            sorter.add(target, source)
        try:
            sorter.prepare()
        except CycleError as error:
            first, second = error.args[1][:2]
            kept.remove((first, second) if (first, second) in kept else (second, first))
        else:
            return kept


def _layers(keys: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """Return the leftmost possible layer of each node.

    Pure sources are placed beside their first user.
    """
    inputs: dict[str, list[str]] = {key: [] for key in keys}
    users: dict[str, list[str]] = {key: [] for key in keys}
    for source, target in edges:
        inputs[target].append(source)
        users[source].append(target)
    layers: dict[str, int] = {}
    for key in TopologicalSorter(inputs).static_order():
        layers[key] = max((layers[source] + 1 for source in inputs[key]), default=0)
    for key in keys:
        if not inputs[key] and users[key]:
            layers[key] = min(layers[target] for target in users[key]) - 1
    return layers


def _chain(source: _Spot, target: _Spot) -> list[_Spot]:
    between = range(source.layer + 1, target.layer)
    return [source, *(_Spot(source.key, layer, True, source.order) for layer in between), target]


def _order(layers: Sequence[list[_Spot]], chains: Iterable[Sequence[_Spot]]) -> None:
    """Order the spots of each layer by the mean position of their neighbours, in alternating sweeps."""
    left: dict[int, list[_Spot]] = {}
    right: dict[int, list[_Spot]] = {}
    for chain in chains:
        for one, other in pairwise(chain):
            left.setdefault(id(other), []).append(one)
            right.setdefault(id(one), []).append(other)
    for layer in layers:
        layer.sort(key=lambda spot: spot.order)
        _number(layer)
    for sweep in range(_SWEEPS):
        neighbours, ordered = (left, layers) if sweep % 2 == 0 else (right, list(reversed(layers)))
        for layer in ordered:
            for spot in layer:
                near = neighbours.get(id(spot), [])
                spot.order = sum(other.order for other in near) / len(near) if near else spot.order
            layer.sort(key=lambda spot: spot.order)
            _number(layer)


def _number(layer: Sequence[_Spot]) -> None:
    for place, spot in enumerate(layer):
        # Between 0 and 1, so that layers of different sizes compare.
        spot.order = (place + 0.5) / len(layer)


def _stack(layers: Sequence[Sequence[_Spot]]) -> int:
    """Assign vertical positions to spots, with all layers centred; return the total height."""
    heights = [sum(spot.height + _GAP_Y for spot in layer) - _GAP_Y for layer in layers]
    tallest = max(heights, default=0)
    for layer, height in zip(layers, heights, strict=True):
        y = _MARGIN_Y + (tallest - height) / 2
        for spot in layer:
            spot.y = y
            y += spot.height + _GAP_Y
    return tallest + 2 * _MARGIN_Y


def _path(chain: Sequence[_Spot]) -> str:
    start = chain[0]
    parts = [f"M{start.x + WIDTH} {start.middle:.0f}"]
    x, y = start.x + WIDTH, start.middle
    for spot in chain[1:]:
        bend = max(abs(spot.x - x) // 2, _GAP_X // 2)
        parts.append(f"C{x + bend} {y:.0f} {spot.x - bend} {spot.middle:.0f} {spot.x} {spot.middle:.0f}")
        x, y = spot.x, spot.middle
        if spot.is_bend:
            x += WIDTH
            parts.append(f"H{x}")
    return " ".join(parts)
