"""What is drawn of a graph that is too large to look at: neighbouring layers as one node."""

from __future__ import annotations

from itertools import groupby

from neuromas.topology.graph import Node, Topology

DRAWN = 300
"""Nodes up to which each is drawn by itself."""
_PARTS = 40


def summary(graph: Topology) -> Topology:
    """Return a graph of at most 41 nodes, named by layers and their nodes; small graphs as they are.

    The output stays by itself.
    """
    if len(graph.nodes) <= DRAWN:
        return graph
    hidden = len(graph.layers) - 1  # the last holds the output alone
    part_of: dict[str, str] = {}
    for _, layers in groupby(enumerate(graph.layers[:-1]), lambda item: item[0] * min(_PARTS, hidden) // hidden):
        numbers, ids = zip(*layers, strict=True)
        nodes = [node for layer in ids for node in layer]
        span = str(numbers[0] + 1) if len(numbers) == 1 else f"{numbers[0] + 1}-{numbers[-1] + 1}"
        part_of |= dict.fromkeys(nodes, f"layer-{span}.{len(nodes)}-nodes")
    part_of[graph.output] = graph.output
    edges = dict.fromkeys((part_of[source], part_of[target]) for source, target in graph.edges)
    reads = {part_of[node.id]: node.reads_task for node in graph.nodes}
    shown = tuple(Node(id=part, reads_task=reads[part]) for part in dict.fromkeys(part_of.values()))
    return Topology(shown, tuple(edge for edge in edges if edge[0] != edge[1]), graph.output, graph.name)
