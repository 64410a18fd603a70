"""Node and Topology: an immutable, validated directed acyclic graph with one output. Knows no model and no prompt."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

from neuromas.errors import Fault, TopologyError
from neuromas.schema.bounds import MAX_STEPS
from neuromas.schema.suggest import suggest
from neuromas.topology.shape import Edge, find_cycles, layers_of, neighbours, reaching
from neuromas.topology.view import ROLES, PromptFacts

Value = TypeVar("Value")

MAX_NODES = 10_000
MAX_EDGES = 100_000
MAX_POSITION = 2**16
MAX_TOKENS = 32768
MAX_TEMPERATURE = 4.0
MIN_TEMPERATURE = 0.01
"""Lowest temperature above 0: vLLM takes it for all below, and probabilities of smaller ones overflow."""
MIN_TOP_P = 0.001
"""Smallest nucleus; in float32 it still holds the most probable token."""
# Ids become adapter names, file names and parts of metric names.
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")
NAME_RULE = "allowed are 1 to 63 of a-z 0-9 . _ - with a letter or digit first"


@dataclass(frozen=True, slots=True)
class Node:
    """One seat of a language model in the graph.

    Attributes:
        id: unique in the topology; names the node's own adapter.
        max_tokens: token budget of its message, 1 to 32768; None = the run's sampling section.
        temperature: sampling temperature, 0.01 to 4; None = the run's sampling section.
        reads_task: whether its prompt holds the question.
        adapter: name of an adapter that nodes may share; None = its own, named by the id.
        position: (layer, index), both from 1, that its prompt shows; None = computed from the graph. Edits pin the
            positions of old nodes, so that the prompts a trained node has seen keep their form.
        view: what its prompt says of the graph; None = computed from the graph. Edits pin that of old nodes too.
        group: the run's node group whose kind of adapter it has; None = the run's usual kind.
    """

    id: str
    max_tokens: int | None = None
    temperature: float | None = None
    reads_task: bool = True
    adapter: str | None = None
    position: tuple[int, int] | None = None
    view: PromptFacts | None = None
    group: str | None = None

    def to_document(self) -> dict[str, object]:
        """Return the node as it is written in a topology document, settings at their default left out."""
        document: dict[str, object] = {"id": self.id}
        if self.max_tokens is not None:
            document["max_tokens"] = self.max_tokens
        if self.temperature is not None:
            document["temperature"] = self.temperature
        if not self.reads_task:
            document["reads_task"] = False
        if self.adapter is not None:
            document["adapter"] = self.adapter
        if self.position is not None:
            document["position"] = list(self.position)
        if self.view is not None:
            document["view"] = self.view.to_document()
        if self.group is not None:
            document["group"] = self.group
        return document


@dataclass(frozen=True)
class Topology:
    """A directed acyclic graph of Nodes in which every node leads to the one output.

    Attributes:
        nodes: in declaration order, which breaks ties everywhere.
        edges: (sender id, reader id): the reader's prompt holds the sender's message.
        output: id of the node whose message is the answer.
        name: for people; not part of the content hash.

    Raises:
        TopologyError: with everything that is wrong with the graph.
    """

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    output: str
    name: str = ""

    def __post_init__(self) -> None:
        if faults := find_faults(self.nodes, self.edges, self.output, self.name):
            raise TopologyError("the topology is not valid", faults)

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Ids in topological order: by layer, ties in declaration order."""
        return tuple(self._layer_of)

    @cached_property
    def layers(self) -> tuple[tuple[str, ...], ...]:
        """Ids of each layer, the first layer first."""
        return tuple(
            tuple(node for node in self.order if self._layer_of[node] == layer)
            for layer in range(1, max(self._layer_of.values()) + 1)
        )

    @property
    def depth(self) -> int:
        """Number of layers: calls on the longest way to the output."""
        return len(self.layers)

    @property
    def width(self) -> int:
        """Number of nodes in the largest layer."""
        return max(map(len, self.layers))

    @cached_property
    def adapters(self) -> tuple[str, ...]:
        """Distinct adapter names, in the order in which nodes first use them."""
        return tuple(dict.fromkeys(map(self.adapter_of, self.order)))

    @cached_property
    def _group_of(self) -> dict[str, str | None]:
        return {node.adapter or node.id: node.group for node in reversed(self.nodes)}

    @cached_property
    def content_hash(self) -> str:
        """SHA-256, in hex, of everything that a rollout depends on; equal for documents that mean the same graph."""
        rank = {node: index for index, node in enumerate(self.order)}
        content = {
            "nodes": [self._content(self.node(node)) for node in self.order],
            "edges": sorted(self.edges, key=lambda edge: (rank[edge[0]], rank[edge[1]])),
            "output": self.output,
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def node(self, node_id: str) -> Node:
        """Return the node with this id.

        Raises:
            TopologyError: the topology has no such node.
        """
        return self._known(self._node_of, node_id)

    def predecessors(self, node_id: str) -> tuple[str, ...]:
        """Return the ids whose messages a node reads, in topological order."""
        return self._known(self._before, node_id)

    def successors(self, node_id: str) -> tuple[str, ...]:
        """Return the ids that read a node's message, in topological order."""
        return self._known(self._after, node_id)

    def downstream(self, node_id: str) -> frozenset[str]:
        """Return the ids that a node's message reaches: its successors, theirs, and so on."""
        return self._known(self._downstream, node_id)

    def layer(self, node_id: str) -> int:
        """Return the 1-based layer of a node: one more than the longest path that leads to it."""
        return self._known(self._layer_of, node_id)

    def position(self, node_id: str) -> tuple[int, int]:
        """Return (layer, index), from 1, as prompts show it: the pinned one, else the first free place of its layer."""
        return self._known(self._position_of, node_id)

    def view(self, node_id: str) -> PromptFacts:
        """Return what a node's prompt says of the graph: the pinned view, else the node's own in this graph."""
        return self.node(node_id).view or self._own_view(node_id)

    def adapter_of(self, node_id: str) -> str:
        """Return the name of the adapter that a node samples with."""
        return self.node(node_id).adapter or node_id

    def group_of(self, adapter: str) -> str | None:
        """Return the node group of an adapter: that of all nodes that sample with it."""
        return self._group_of[adapter]

    def to_document(self) -> dict[str, object]:
        """Return the explicit document that ``topology_from_document`` reads back to an equal Topology."""
        named: dict[str, object] = {"name": self.name} if self.name else {}
        return named | {
            "nodes": [node.to_document() for node in self.nodes],
            "edges": [list(edge) for edge in self.edges],
            "output": self.output,
        }

    def _repr_html_(self) -> str:
        """Return the drawing that a notebook shows."""
        from neuromas.topology.svg import draw_svg  # which draws Topologies, so that it cannot be imported above

        return draw_svg(self)

    def _own_view(self, node_id: str) -> PromptFacts:
        return PromptFacts("output" if node_id == self.output else "inner", self.depth, self.width)

    def _content(self, node: Node) -> dict[str, object]:
        """Return what of a node the content hash covers; a view only where it says other than the graph itself."""
        content: dict[str, object] = {
            "id": node.id,
            "max_tokens": node.max_tokens,
            "temperature": None if node.temperature is None else float(node.temperature),
            "reads_task": node.reads_task,
            "adapter": self.adapter_of(node.id),
            "position": self.position(node.id),
        }
        if node.view is not None and node.view != self._own_view(node.id):
            content["view"] = node.view.to_document()
        return content

    def _known(self, table: Mapping[str, Value], node_id: str) -> Value:
        if node_id not in table:
            raise TopologyError(f"got node id {node_id!r}, {suggest(node_id, self._node_of)}")
        return table[node_id]

    @cached_property
    def _node_of(self) -> dict[str, Node]:
        return {node.id: node for node in self.nodes}

    @cached_property
    def _layer_of(self) -> dict[str, int]:
        return layers_of(list(self._node_of), self.edges)

    @cached_property
    def _before(self) -> dict[str, tuple[str, ...]]:
        return self._ordered(neighbours(self._node_of, self.edges, backwards=True))

    @cached_property
    def _after(self) -> dict[str, tuple[str, ...]]:
        return self._ordered(neighbours(self._node_of, self.edges))

    @cached_property
    def _downstream(self) -> dict[str, frozenset[str]]:
        reached: dict[str, frozenset[str]] = {}
        for node in reversed(self.order):
            after = self._after[node]
            reached[node] = frozenset(after).union(*(reached[reader] for reader in after))
        return reached

    def _ordered(self, table: Mapping[str, Sequence[str]]) -> dict[str, tuple[str, ...]]:
        rank = {node: index for index, node in enumerate(self.order)}
        return {node: tuple(sorted(others, key=rank.__getitem__)) for node, others in table.items()}

    @cached_property
    def _position_of(self) -> dict[str, tuple[int, int]]:
        positions = {node.id: node.position for node in self.nodes if node.position is not None}
        taken = set(positions.values())
        for layer, ids in enumerate(self.layers, start=1):
            free = (place for index in range(1, len(self.nodes) + 1) if (place := (layer, index)) not in taken)
            positions |= {node: next(free) for node in ids if node not in positions}
        return positions


def find_faults(nodes: Sequence[Node], edges: Sequence[Edge], output: str | None, name: str = "") -> list[Fault]:
    """Return everything that keeps the parts from being a Topology; ``output`` None leaves out what depends on it."""
    return list(_faults(nodes, edges, output, name))


def _faults(nodes: Sequence[Node], edges: Sequence[Edge], output: str | None, name: str) -> Iterator[Fault]:
    ids = [node.id for node in nodes]
    if name and not NAME.fullmatch(name):
        yield Fault("name", f"got {name!r}; {NAME_RULE}")
    if not 1 <= len(ids) <= MAX_NODES:
        yield Fault("nodes", f"got {len(ids)} nodes; allowed are 1 to {MAX_NODES}")
    if len(edges) > MAX_EDGES:
        yield Fault("edges", f"got {len(edges)} edges; allowed are up to {MAX_EDGES}")
    first: dict[str, int] = {}
    for index, node in enumerate(nodes):
        path = f"nodes[{index}]"
        if first.setdefault(node.id, index) != index:
            yield Fault(f"{path}.id", f"{node.id!r} is used by nodes[{first[node.id]}] already; ids are unique")
        yield from _node_faults(node, path)
    yield from _group_faults(nodes)
    yield from _edge_faults(edges, ids)
    if output is not None and output not in first:
        yield Fault("output", f"got {output!r}, which is no node; {suggest(output, ids)}")
    yield from _input_faults(nodes, edges)
    yield from _path_faults(ids, edges, output)


def _node_faults(node: Node, path: str) -> Iterator[Fault]:
    if not NAME.fullmatch(node.id):
        yield Fault(f"{path}.id", f"got {node.id!r}; {NAME_RULE}")
    if node.adapter is not None and not NAME.fullmatch(node.adapter):
        yield Fault(f"{path}.adapter", f"got {node.adapter!r}; {NAME_RULE}")
    if node.max_tokens is not None and not 1 <= node.max_tokens <= MAX_TOKENS:
        yield Fault(f"{path}.max_tokens", f"got {node.max_tokens}; allowed are 1 to {MAX_TOKENS}")
    if node.temperature is not None and not MIN_TEMPERATURE <= node.temperature <= MAX_TEMPERATURE:
        message = f"got {node.temperature}; allowed are {MIN_TEMPERATURE} to {MAX_TEMPERATURE:g}"
        yield Fault(f"{path}.temperature", message)
    if node.position is not None and not all(1 <= place <= MAX_POSITION for place in node.position):
        yield Fault(
            f"{path}.position", f"got {list(node.position)}; allowed is [layer, index], both from 1 to {MAX_POSITION}"
        )
    if node.view is not None and node.view.role not in ROLES:
        yield Fault(f"{path}.view.role", f"got {node.view.role!r}; {suggest(node.view.role, ROLES)}")
    if node.view is not None and not all(1 <= size <= MAX_POSITION for size in (node.view.depth, node.view.width)):
        message = f"got depth {node.view.depth} and width {node.view.width}; both are 1 to {MAX_POSITION}"
        yield Fault(f"{path}.view", message)
    if node.view is not None and node.view.level is not None and not 0 <= node.view.level <= MAX_STEPS:
        yield Fault(f"{path}.view.level", f"got {node.view.level}; allowed are 0 to {MAX_STEPS}")


def _group_faults(nodes: Sequence[Node]) -> Iterator[Fault]:
    first: dict[str, Node] = {}
    for index, node in enumerate(nodes):
        path, other = f"nodes[{index}].group", first.setdefault(node.adapter or node.id, node)
        if node.group is not None and not NAME.fullmatch(node.group):
            yield Fault(path, f"got {node.group!r}; {NAME_RULE}")
        if node.group != other.group:
            message = f"got {node.group!r}; it shares an adapter with {other.id!r}, whose group is {other.group!r}"
            yield Fault(path, message)


def _edge_faults(edges: Sequence[Edge], ids: Sequence[str]) -> Iterator[Fault]:
    seen: dict[Edge, int] = {}
    known = dict.fromkeys(ids)
    for index, edge in enumerate(edges):
        path = f"edges[{index}]"
        for end in dict.fromkeys(edge):
            if end not in known:
                yield Fault(path, f"got {end!r}, which is no node; {suggest(end, known)}")
        if edge[0] == edge[1]:
            yield Fault(path, f"leads from {edge[0]!r} to itself; a node cannot read its own message")
        if edge in seen:
            yield Fault(path, f"repeats edges[{seen[edge]}], {edge[0]!r} to {edge[1]!r}; remove one of them")
        seen.setdefault(edge, index)


def _input_faults(nodes: Sequence[Node], edges: Sequence[Edge]) -> Iterator[Fault]:
    fed = {target for source, target in edges if source != target}
    for index, node in enumerate(nodes):
        if not node.reads_task and node.id not in fed:
            yield Fault(
                f"nodes[{index}].reads_task",
                f"{node.id!r} has no input: it neither reads the task nor a message; set reads_task or add an edge",
            )


def _path_faults(ids: Sequence[str], edges: Sequence[Edge], output: str | None) -> Iterator[Fault]:
    """Faults of the graph as a whole. An edge with an unknown end counts as leading on: its own fault says enough."""
    known = dict.fromkeys(ids)
    inner = [edge for edge in edges if edge[0] in known and edge[1] in known and edge[0] != edge[1]]
    for cycle in find_cycles(list(known), inner):
        yield Fault("edges", f"hold the cycle {' -> '.join((*cycle, cycle[0]))}; remove one of its edges")
    if output not in known:
        return
    before = neighbours(known, inner, backwards=True)
    leading = reaching(output, before)
    for source in {source for source, target in edges if source in known and target not in known}:
        leading |= reaching(source, before)
    for index, node in enumerate(ids):
        if node not in leading:
            message = f"no path leads from {node!r} to the output {output!r}; add an edge or remove the node"
            yield Fault(f"nodes[{index}]", message)
