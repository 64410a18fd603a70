"""Where to draw nodes: layers from left to right, edges over several layers on lanes of their own, few crossings."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from neuromas.topology.graph import Topology

_SWEEPS = 4


class Vertex(NamedTuple):
    """A place in a layer: a node's own, or, in a later layer, the lane on which its message travels further on."""

    node: str
    layer: int


@dataclass(frozen=True, slots=True)
class Layout:
    """A drawing plan.

    Attributes:
        layers: vertices of each layer from top to bottom.
        links: for each gap between two layers, the pairs of vertices to join.
        rows: height of each vertex, from 0 downwards; vertices of one layer are at least 2 apart.
    """

    layers: tuple[tuple[Vertex, ...], ...]
    links: tuple[tuple[tuple[Vertex, Vertex], ...], ...]
    rows: Mapping[Vertex, int]

    @property
    def num_rows(self) -> int:
        """Rows that the drawing takes."""
        return max(self.rows.values()) + 1


def lay_out(graph: Topology) -> Layout:
    """Return where to draw each node and each lane. The same graph always gives the same plan."""
    links = _links(graph)
    layers = [[Vertex(node, layer) for node in graph.layers[layer - 1]] for layer in range(1, graph.depth + 1)]
    for gap, pairs in enumerate(links):
        known = set(layers[gap + 1])
        layers[gap + 1] += list(dict.fromkeys(target for _, target in pairs if target not in known))
    _uncross(layers, links)
    return Layout(tuple(map(tuple, layers)), tuple(map(tuple, links)), _rows(layers, links))


def _links(graph: Topology) -> list[list[tuple[Vertex, Vertex]]]:
    """Return, for each gap between two layers, the pairs of vertices to join."""
    links: list[list[tuple[Vertex, Vertex]]] = [[] for _ in range(graph.depth - 1)]
    for node in graph.order:
        readers = [Vertex(reader, graph.layer(reader)) for reader in graph.successors(node)]
        last = max((reader.layer for reader in readers), default=0)
        for layer in range(graph.layer(node), last):
            here = Vertex(node, layer)
            links[layer - 1] += [(here, reader) for reader in readers if reader.layer == layer + 1]
            if layer + 1 < last:
                links[layer - 1].append((here, Vertex(node, layer + 1)))
    return links


def _uncross(layers: list[list[Vertex]], links: Sequence[Sequence[tuple[Vertex, Vertex]]]) -> None:
    """Sort each layer by the mean place of what its vertices are joined to, forwards and backwards in turn."""
    for _ in range(_SWEEPS):
        for gap, pairs in enumerate(links):
            _sort(layers[gap + 1], layers[gap], [(target, source) for source, target in pairs])
        for gap, pairs in reversed(list(enumerate(links))):
            _sort(layers[gap], layers[gap + 1], pairs)


def _sort(layer: list[Vertex], beside: Sequence[Vertex], pairs: Sequence[tuple[Vertex, Vertex]]) -> None:
    place = {vertex: index for index, vertex in enumerate(beside)}
    mean = _means(layer, ((one, place[other]) for one, other in pairs))
    layer.sort(key=mean.__getitem__)


def _rows(layers: Sequence[Sequence[Vertex]], links: Sequence[Sequence[tuple[Vertex, Vertex]]]) -> dict[Vertex, int]:
    rows = {vertex: 2 * index for index, vertex in enumerate(layers[0])}
    for (_, layer), pairs in zip(pairwise(layers), links, strict=True):
        wanted = _means(layer, ((target, rows[source]) for source, target in pairs))
        rows |= dict(zip(layer, _spread(list(wanted.values())), strict=True))
    top = min(rows.values())
    return {vertex: row - top for vertex, row in rows.items()}


def _spread(wanted: Sequence[float]) -> list[int]:
    """Return rows at least 2 apart, in order, nearest to the wanted ones (pooling neighbours that would collide)."""
    pools: list[list[float]] = []
    for index, height in enumerate(wanted):
        pools.append([height - 2 * index])
        while len(pools) > 1 and _mean(pools[-2]) >= _mean(pools[-1]):
            last = pools.pop()
            pools[-1] += last
    offsets = [math.floor(_mean(pool)) for pool in pools for _ in pool]
    return [offset + 2 * index for index, offset in enumerate(offsets)]


def _means(layer: Iterable[Vertex], values: Iterable[tuple[Vertex, float]]) -> dict[Vertex, float]:
    """Return the mean of the values of each vertex, in the order of the layer; 0 for those without."""
    found: dict[Vertex, list[float]] = {vertex: [] for vertex in layer}
    for vertex, value in values:
        found[vertex].append(value)
    return {vertex: _mean(listed) for vertex, listed in found.items()}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0
