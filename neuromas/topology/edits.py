"""Edits: pure functions from a Topology to a larger or smaller one, with what became of every node.

Old nodes keep their ids, their settings, and the positions and views that their prompts show: what a trained node reads
is the same before and after. New ones get ids and places that were free and read the grown graph. Edits know no
weights: what a new node starts from is decided by whoever reads ``Edited``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count as count_from
from itertools import islice
from typing import Literal

from neuromas.errors import GrowthError, TopologyError
from neuromas.topology.graph import Node, Topology
from neuromas.topology.shape import Edge

_NUMBERED = re.compile(r"n(\d+)")


@dataclass(frozen=True, slots=True)
class Edited:
    """The result of an edit.

    Attributes:
        topology: the new graph.
        mapping: id in the new graph -> id of the same node in the old one, None for new nodes. Complete.
        new: ids of the new nodes, in declaration order.
        twins: new node -> old node whose place it repeats (its sibling in a widened layer, its counterpart in a
            grafted subtree); new nodes that repeat nobody are left out.
    """

    topology: Topology
    mapping: Mapping[str, str | None]
    new: tuple[str, ...]
    twins: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Joined:
    """Several topologies joined to one.

    Attributes:
        topology: the new graph.
        origin: id in the new graph -> (index of the module, id in that module), None for new nodes. Complete.
        new: ids of the new nodes.
    """

    topology: Topology
    origin: Mapping[str, tuple[int, str] | None]
    new: tuple[str, ...]


def append(graph: Topology, layers: Sequence[int] = (1, 1)) -> Edited:
    """Add layers after the output, which becomes hidden; each new layer reads all of the layer before it.

    Args:
        graph: the graph to grow.
        layers: widths of the new layers; the last is 1, the new output.

    Raises:
        GrowthError: a width is below 1, the last is not 1, or the graph would get too large.
    """
    if not layers or min(layers) < 1 or layers[-1] != 1:
        raise GrowthError(f"append: got layers {list(layers)}; each must be at least 1 and the last 1, the new output")
    template = graph.node(graph.output)
    nodes: list[Node] = []
    edges: list[Edge] = []
    fresh = _fresh_ids(graph)
    before: Sequence[str] = (graph.output,)
    for width in layers:
        layer = list(islice(fresh, width))
        nodes += [_like(graph, template, node) for node in layer]
        edges += [(source, target) for target in layer for source in before]
        before = layer
    return _edited("append", graph, nodes, [*graph.edges, *edges], before[0])


def before_output(graph: Topology, width: int = 1) -> Edited:
    """Add a layer between the output and what it reads; the output then reads the new layer only.

    Raises:
        GrowthError: the width is below 1, or the graph would get too large.
    """
    _at_least_one("before_output", "width", width)
    return _through_new_layer(
        "before_output", graph, width, {(node, graph.output) for node in graph.predecessors(graph.output)}
    )


def deepen(graph: Topology, after_layer: int, width: int = 1) -> Edited:
    """Add a layer after the named one; every edge that crosses the gap passes through all of its nodes instead.

    Raises:
        GrowthError: the layer is not one of 1 to depth - 1, the width is below 1, or the graph would get too large.
    """
    _at_least_one("deepen", "width", width)
    if not 1 <= after_layer < graph.depth:
        raise GrowthError(
            f"deepen: got after_layer {after_layer}; this graph allows 1 to {graph.depth - 1}, "
            "the last layer is the output (use append to add layers after it)"
        )
    crossing = {edge for edge in graph.edges if graph.layer(edge[0]) <= after_layer < graph.layer(edge[1])}
    return _through_new_layer("deepen", graph, width, crossing)


def widen(graph: Topology, layer: int, count: int = 1) -> Edited:
    """Add nodes to a layer; each is wired like, and has the settings of, one of its old nodes, taken in turn.

    Raises:
        GrowthError: the layer is not one of 1 to depth - 1, the count is below 1, or the graph would get too large.
    """
    _at_least_one("widen", "count", count)
    if not 1 <= layer < graph.depth:
        raise GrowthError(
            f"widen: got layer {layer}; this graph allows 1 to {graph.depth - 1}, the last layer is the one output"
        )
    siblings = graph.layers[layer - 1]
    twins = {node: siblings[k % len(siblings)] for k, node in enumerate(islice(_fresh_ids(graph), count))}
    edges = list(graph.edges)
    for node, twin in twins.items():
        edges += [(source, node) for source in graph.predecessors(twin)]
        edges += [(node, target) for target in graph.successors(twin)]
    nodes = [_like(graph, graph.node(twin), node) for node, twin in twins.items()]
    return _edited("widen", graph, nodes, edges, graph.output, twins)


def graft(graph: Topology, siblings: int = 1) -> Edited:
    """Make the graph one subtree of a new output, beside ``siblings`` fresh subtrees of the same shape.

    Raises:
        GrowthError: ``siblings`` is negative, or the graph would get too large.
    """
    if siblings < 0:
        raise GrowthError(f"graft: got {siblings} siblings; at least 0 are needed")
    fresh = _fresh_ids(graph)
    nodes: list[Node] = []
    edges = list(graph.edges)
    twins: dict[str, str] = {}
    outputs = [graph.output]
    for _ in range(siblings):
        copy = dict(zip(graph.order, fresh, strict=False))
        nodes += _copied_nodes(graph, copy)
        edges += [(copy[source], copy[target]) for source, target in graph.edges]
        outputs.append(copy[graph.output])
        twins |= {node: twin for twin, node in copy.items()}
    top = next(fresh)
    nodes.append(_like(graph, graph.node(graph.output), top))
    return _edited("graft", graph, nodes, [*edges, *((node, top) for node in outputs)], top, twins)


def graft_modules(modules: Sequence[Topology], arrange: Literal["subtrees", "series"] = "subtrees") -> Joined:
    """Join several topologies: as subtrees of a new output, or in series without any new node.

    In series the output of each module is read by every node of the next that reads no other node. Nodes of the first
    module keep their ids; so do those of the others, unless an earlier module has the id or adapter name already.
    Modules never share an adapter, even under one name: they were trained apart.

    Raises:
        GrowthError: there is no module, or the graph would get too large.
    """
    if not modules:
        raise GrowthError("graft_modules: got no module; at least one is needed")
    nodes: list[Node] = []
    edges: list[Edge] = []
    origin: dict[str, tuple[int, str] | None] = {}
    outputs: list[str] = []
    fresh = _unused_ids([node.id for module in modules for node in module.nodes], map(_names, modules))
    taken: set[str] = set()
    for index, module in enumerate(modules):
        renamed = {name: next(fresh) if name in taken else name for name in sorted(_names(module))}
        taken |= set(renamed.values())
        nodes += [_moved(module, node, renamed) for node in module.nodes]
        edges += [(renamed[source], renamed[target]) for source, target in module.edges]
        if arrange == "series" and outputs:
            edges += [(outputs[-1], renamed[node]) for node in module.layers[0]]
        origin |= {renamed[node.id]: (index, node.id) for node in module.nodes}
        outputs.append(renamed[module.output])
    new: tuple[str, ...] = ()
    if arrange == "subtrees":
        top = next(fresh)
        nodes.append(replace(modules[0].node(modules[0].output), id=top, adapter=None, position=None, view=None))
        edges += [(node, top) for node in outputs]
        origin[top] = None
        new = (top,)
    return Joined(_built("graft_modules", nodes, edges, (*outputs, *new)[-1], modules[0].name), origin, new)


def connect(graph: Topology, edges: Iterable[Edge]) -> Edited:
    """Add edges between existing nodes.

    Raises:
        GrowthError: an edge exists already, names an unknown node or closes a cycle.
    """
    return _edited("connect", graph, (), [*graph.edges, *edges], graph.output)


def prune(graph: Topology, nodes: Collection[str]) -> Edited:
    """Remove nodes with their edges. Where the output goes, the one node that leads nowhere takes its place.

    Raises:
        GrowthError: a node is unknown, or what remains is not a valid topology.
    """
    for node in nodes:
        if node not in graph.order:
            raise GrowthError(f"prune: got {node!r}, which is no node; allowed are {', '.join(graph.order)}")
    kept = [node for node in _pinned(graph) if node.id not in nodes]
    edges = [edge for edge in graph.edges if edge[0] not in nodes and edge[1] not in nodes]
    senders = {source for source, _ in edges}
    sinks = [node.id for node in kept if node.id not in senders]
    output = sinks[0] if graph.output in nodes and len(sinks) == 1 else graph.output
    topology = _built("prune", kept, edges, output, graph.name)
    return Edited(topology, {node.id: node.id for node in kept}, ())


def _through_new_layer(edit: str, graph: Topology, width: int, crossing: Collection[Edge]) -> Edited:
    """Lead the crossing edges through a new layer; without any (a single node) the layer feeds the output."""
    layer = list(islice(_fresh_ids(graph), width))
    sources = [node for node in graph.order if any(node == source for source, _ in crossing)]
    targets = [node for node in graph.order if any(node == target for _, target in crossing)] or [graph.output]
    edges = [edge for edge in graph.edges if edge not in crossing]
    edges += [(source, node) for node in layer for source in sources]
    edges += [(node, target) for target in targets for node in layer]
    template = graph.node(targets[0])
    nodes = [_like(graph, template, node) for node in layer]
    if not sources:
        nodes = [replace(node, reads_task=True) for node in nodes]
    return _edited(edit, graph, nodes, edges, graph.output)


def _edited(
    edit: str,
    graph: Topology,
    nodes: Iterable[Node],
    edges: Iterable[Edge],
    output: str,
    twins: Mapping[str, str] | None = None,
) -> Edited:
    added = tuple(nodes)
    topology = _built(edit, [*_pinned(graph), *added], edges, output, graph.name)
    new = tuple(node.id for node in added)
    mapping = {node.id: None if node.id in new else node.id for node in topology.nodes}
    return Edited(topology, mapping, new, twins or {})


def _built(edit: str, nodes: Iterable[Node], edges: Iterable[Edge], output: str, name: str) -> Topology:
    try:
        return Topology(tuple(nodes), tuple(edges), output, name)
    except TopologyError as error:
        reasons = "; ".join(map(str, error.faults))
        raise GrowthError(f"{edit}: the edited graph is not valid: {reasons}") from error


def _pinned(graph: Topology) -> list[Node]:
    return [replace(node, position=graph.position(node.id), view=graph.view(node.id)) for node in graph.nodes]


def _like(graph: Topology, template: Node, node_id: str) -> Node:
    """Return a new node with a template's settings. Where all old nodes share an adapter, so does the new one."""
    adapter = template.adapter if len(graph.adapters) == 1 else None
    return replace(template, id=node_id, adapter=adapter, position=None, view=None)


def _copied_nodes(graph: Topology, copy: Mapping[str, str]) -> list[Node]:
    """Return new nodes for a subtree of the graph's shape, in which those share an adapter that do in the graph."""
    first: dict[str, str] = {}
    nodes = []
    for old, new in copy.items():
        node = _like(graph, graph.node(old), new)
        if node.adapter is None:
            owner = first.setdefault(graph.adapter_of(old), new)
            node = replace(node, adapter=None if owner == new else owner)
        nodes.append(node)
    return nodes


def _moved(module: Topology, node: Node, renamed: Mapping[str, str]) -> Node:
    adapter = renamed[module.adapter_of(node.id)]
    new_id = renamed[node.id]
    own = None if node.adapter is None and adapter == new_id else adapter
    return replace(node, id=new_id, adapter=own, position=module.position(node.id), view=module.view(node.id))


def _names(graph: Topology) -> set[str]:
    """Return the ids and adapter names of a graph: a new id that met either would share an adapter by accident."""
    return {*graph.order, *graph.adapters}


def _fresh_ids(graph: Topology) -> Iterator[str]:
    return _unused_ids(graph.order, [_names(graph)])


def _unused_ids(ids: Sequence[str], names: Iterable[Collection[str]]) -> Iterator[str]:
    """Yield n7, n8, ...: above the number of nodes and above all numbers in use."""
    taken = {name for group in names for name in group}
    highest = max((int(match[1]) for name in taken if (match := _NUMBERED.fullmatch(name))), default=0)
    return (f"n{number}" for number in count_from(max(len(ids), highest) + 1))


def _at_least_one(edit: str, name: str, value: int) -> None:
    if value < 1:
        raise GrowthError(f"{edit}: got {name} {value}; at least 1 is needed")
