"""Where an adapter stands in its graph. Pure data; loads no torch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neuromas.topology.graph import Topology


@dataclass(frozen=True, slots=True)
class AdapterPosition:
    """An adapter and the position of the first node that uses it.

    Attributes:
        name: of the adapter.
        depth: layer of the node over the layers of the graph, in (0, 1]; 0 = not in a graph.
        index: position in its layer over the layer's width, in (0, 1].
        fan_in: messages that the node reads.
        fan_out: nodes that read its message.
        is_output: whether its message is the answer.
        group: node group that it belongs to; empty = to none.
    """

    name: str
    depth: float = 0.0
    index: float = 0.0
    fan_in: int = 0
    fan_out: int = 0
    is_output: bool = False
    group: str = ""


def positions_of(topology: Topology) -> tuple[AdapterPosition, ...]:
    """Return the position of every adapter of a graph, in the order of ``topology.adapters``."""
    layer_of = {node: (depth, layer) for depth, layer in enumerate(topology.layers, 1) for node in layer}
    positions: dict[str, AdapterPosition] = {}
    for node in topology.order:
        depth, layer = layer_of[node]
        position = AdapterPosition(
            topology.adapter_of(node),
            depth / len(topology.layers),
            (layer.index(node) + 1) / len(layer),
            len(topology.predecessors(node)),
            len(topology.successors(node)),
            node == topology.output,
            topology.node(node).group or "",
        )
        positions.setdefault(position.name, position)
    return tuple(positions[name] for name in topology.adapters)


def as_positions(adapters: Sequence[str | AdapterPosition] | Topology) -> tuple[AdapterPosition, ...]:
    """Return positions of a graph's adapters, or of names that stand in no graph."""
    if isinstance(adapters, Topology):
        return positions_of(adapters)
    return tuple(AdapterPosition(entry) if isinstance(entry, str) else entry for entry in adapters)
