"""What each Node contributes: accuracy without its message, and with the adapters exchanged.

Both tests run the ordinary rollouts of a trained graph on held-out examples, once per change, paired on the examples.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from neuromas.errors import TopologyError
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import RolloutClient
from neuromas.topology.graph import Topology
from neuromas.training.evaluate import Accuracy, accuracy
from neuromas.training.statistics import PairedTest, paired_test


@dataclass(frozen=True, slots=True)
class Influence:
    """What one change does to the graph's accuracy.

    Attributes:
        change: the Node whose message was cut off, or the adapters that were exchanged.
        accuracy: with the change.
        effect: paired with the unchanged graph on the same examples; a negative gain is what the change costs.
    """

    change: str
    accuracy: Accuracy
    effect: PairedTest


def knock_out(topology: Topology, node: str) -> Topology:
    """Return the graph in which ``node`` has a budget of one token: it speaks, but has no room to say anything.

    Its readers still see that it spoke, so their prompts keep the form they were trained on.

    Raises:
        TopologyError: there is no such node.
    """
    topology.node(node)
    nodes = (replace(one, max_tokens=1) if one.id == node else one for one in topology.nodes)
    return replace(topology, nodes=tuple(nodes))


def message_influence(client: RolloutClient, batch: RolloutBatch) -> tuple[Influence, ...]:
    """Return the effect of cutting off each hidden Node's message, in topological order.

    Args:
        client: holds the adapters that ``batch`` names.
        batch: one rollout per held-out example; greedy, so that only the change can change an answer.
    """
    topology = batch.topology
    before = _accuracy(client, batch)
    hidden = [node for node in topology.order if node != topology.output]
    return tuple(
        _influence(node, before, _accuracy(client, replace(batch, topology=knock_out(topology, node))))
        for node in hidden
    )


def swap_test(client: RolloutClient, batch: RolloutBatch, exchange: Mapping[str, str] | None = None) -> Influence:
    """Return the effect of giving Nodes each other's adapters: near zero where all have learned the same.

    Args:
        client: holds the adapters that ``batch`` names.
        batch: as for ``message_influence``.
        exchange: adapter name -> the adapter it is replaced with; None moves each on to the next adapter's place.

    Raises:
        TopologyError: an adapter of ``exchange`` is not one of the graph's.
    """
    names = batch.topology.adapters
    exchange = exchange or dict(zip(names, (*names[1:], names[0]), strict=True))
    if unknown := {*exchange, *exchange.values()} - set(names):
        raise TopologyError(f"got adapters {sorted(unknown)}, allowed are {', '.join(names)}")
    swapped = {name: batch.adapters[exchange.get(name, name)] for name in names}
    change = ", ".join(f"{name} <- {other}" for name, other in exchange.items())
    return _influence(change, _accuracy(client, batch), _accuracy(client, replace(batch, adapters=swapped)))


def _accuracy(client: RolloutClient, batch: RolloutBatch) -> Accuracy:
    return accuracy(client.collect(client.submit(batch)))


def _influence(change: str, before: Accuracy, after: Accuracy) -> Influence:
    return Influence(change, after, paired_test(before.rewards, after.rewards))
