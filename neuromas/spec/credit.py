"""What one example costs in training: rollouts, and calls of each Node, by the run's credit."""

from __future__ import annotations

from neuromas.spec.training import TrainingSpec
from neuromas.topology.graph import Topology


def rollouts_per_example(training: TrainingSpec, topology: Topology) -> int:
    """Return how many rollouts an example gets, replays included."""
    if training.credit == "shared":
        return training.group_size
    return 1 + (training.group_size - 1) * len(topology.nodes)


def calls_per_example(training: TrainingSpec, topology: Topology) -> dict[str, int]:
    """Return how many times each Node is asked: in replays for itself, and for every Node whose message reaches it."""
    if training.credit == "shared":
        return dict.fromkeys(topology.order, training.group_size)
    reached_by: dict[str, int] = {}  # a bit for each Node: sets would not do for the largest graphs
    for place, node in enumerate(topology.order):
        reached_by[node] = 1 << place
        for sender in topology.predecessors(node):
            reached_by[node] |= reached_by[sender]
    return {node: 1 + (training.group_size - 1) * found.bit_count() for node, found in reached_by.items()}
