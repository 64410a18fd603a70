"""Topologies of common shapes from plain numbers. Ids are n1, n2, ... in topological order; the last is the output.

``template`` gives all nodes their settings. With ``reads_task=False`` in it the first layer still reads the task: it
has nothing else to read.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import pairwise
from random import Random

from neuromas.errors import TopologyError
from neuromas.topology.graph import MAX_EDGES, MAX_NODES, Node, Topology
from neuromas.topology.shape import Edge, layers_of

TEMPLATE = Node(id="template")


def layered(widths: Sequence[int], template: Node = TEMPLATE, name: str = "") -> Topology:
    """Return hidden layers of the given widths, each read in full by the next, and one output node after the last.

    ``[2, 2, 2]`` has 7 nodes. No widths give the output alone.
    """
    _check(all(width >= 1 for width in widths), f"got layer widths {list(widths)}; each must be at least 1")
    sizes = [*widths, 1]
    _check_size(sum(sizes))
    _check_edges(sum(before * after for before, after in pairwise(sizes)))
    layers: list[list[int]] = []
    for size in sizes:
        start = sum(map(len, layers))
        layers.append(list(range(start, start + size)))
    edges = [(source, target) for before, after in pairwise(layers) for target in after for source in before]
    return _numbered(sum(sizes), edges, template, name)


def chain(length: int, template: Node = TEMPLATE, name: str = "") -> Topology:
    """Return ``length`` nodes in a row."""
    _check_size(length)
    return _numbered(length, [(index, index + 1) for index in range(length - 1)], template, name)


def tree(depth: int, branching: int = 2, template: Node = TEMPLATE, name: str = "") -> Topology:
    """Return a complete tree of ``depth`` layers whose leaves come first and whose root is the output."""
    _check(depth >= 1 and branching >= 1, f"got depth {depth} and branching {branching}; both must be at least 1")
    # Bounded before summing: branching ** depth need not fit in memory.
    deepest = MAX_NODES if branching == 1 else MAX_NODES.bit_length()
    _check(depth <= deepest and branching <= MAX_NODES, f"got more than {MAX_NODES} nodes, the limit")
    sizes = [branching ** (depth - layer) for layer in range(1, depth + 1)]
    _check_size(sum(sizes))
    edges: list[tuple[int, int]] = []
    start = 0
    for size in sizes[:-1]:
        edges += [(start + child, start + size + child // branching) for child in range(size)]
        start += size
    return _numbered(sum(sizes), edges, template, name)


def star(leaves: int, template: Node = TEMPLATE, name: str = "") -> Topology:
    """Return ``leaves`` nodes that one output reads."""
    _check(leaves >= 1, f"got {leaves} leaves; at least 1 is needed")
    return layered([leaves], template, name)


def dense(size: int, template: Node = TEMPLATE, name: str = "") -> Topology:
    """Return ``size`` nodes, each of which reads all earlier ones."""
    _check_size(size)
    _check_edges(size * (size - 1) // 2)
    return _numbered(size, [(early, late) for late in range(size) for early in range(late)], template, name)


def random(
    nodes: int, edge_probability: float = 0.5, seed: int = 0, template: Node = TEMPLATE, name: str = ""
) -> Topology:
    """Return a random DAG: each pair of nodes is joined with the given probability, the earlier one sending.

    A node that would lead nowhere is joined to the last one, the output. The same arguments give the same graph.
    """
    _check_size(nodes)
    _check_edges(nodes * (nodes - 1) // 2)  # each pair is looked at
    _check(0 <= edge_probability <= 1, f"got edge_probability {edge_probability}; allowed are 0 to 1")
    rng = Random(f"random topology/{nodes}/{seed}")
    edges = [(early, late) for late in range(nodes) for early in range(late) if rng.random() < edge_probability]
    senders = {early for early, _ in edges}
    edges += [(node, nodes - 1) for node in range(nodes - 1) if node not in senders]
    layer = layers_of([str(node) for node in range(nodes)], [(str(early), str(late)) for early, late in edges])
    # Renumbered by layer, so that ids read in the order in which the nodes run.
    rank = {int(node): index for index, node in enumerate(layer)}
    return _numbered(nodes, sorted((rank[early], rank[late]) for early, late in edges), template, name)


def _numbered(size: int, edges: Iterable[tuple[int, int]], template: Node, name: str) -> Topology:
    ids = [f"n{index + 1}" for index in range(size)]
    wired: list[Edge] = [(ids[source], ids[target]) for source, target in edges]
    fed = {target for _, target in wired}
    nodes = [replace(template, id=node, reads_task=template.reads_task or node not in fed) for node in ids]
    return Topology(tuple(nodes), tuple(wired), ids[-1], name)


def _check(allowed: bool, message: str) -> None:
    if not allowed:
        raise TopologyError(message)


def _check_size(size: int) -> None:
    _check(1 <= size <= MAX_NODES, f"got {size} nodes; allowed are 1 to {MAX_NODES}")


def _check_edges(edges: int) -> None:
    _check(edges <= MAX_EDGES, f"got up to {edges} edges; allowed are {MAX_EDGES}")
