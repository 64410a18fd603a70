"""What each Node and each edge contributes: accuracy with a change, paired with the unchanged graph.

Every test runs the ordinary rollouts of a trained graph on held-out examples once per change. Greedy rollouts are
meant: then only the change can change an answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

from neuromas.errors import TopologyError
from neuromas.rollout.batch import RolloutBatch, Substitution
from neuromas.rollout.client import RolloutClient
from neuromas.rollout.record import Group
from neuromas.topology.graph import Topology
from neuromas.training.evaluate import Accuracy, accuracy
from neuromas.training.statistics import PairedTest, paired_test

Kind = Literal["cut", "shuffled", "untrained", "edge", "exchanged"]
"""What is changed. "cut": the Node has room for one token, so its readers still see that it spoke. "shuffled": its
readers get what it said about another question. "untrained": the bare base speaks in its place. "edge": one reader gets
an empty message from it. "exchanged": adapters change places."""

_UNTRAINED = "untrained"


@dataclass(frozen=True, slots=True)
class Influence:
    """What one change does to the graph's accuracy.

    Attributes:
        kind: what is changed.
        change: the Node, the edge (``a -> b``) or the adapters (``a <- b``).
        accuracy: with the change.
        effect: paired with the unchanged graph on the same examples; a negative gain is what the change costs.
    """

    kind: Kind
    change: str
    accuracy: Accuracy
    effect: PairedTest


class Changes:
    """Changes of one batch, each measured against the same unchanged rollouts.

    Attributes:
        batch: one rollout per held-out example.
        groups: its unchanged rollouts.
    """

    def __init__(self, client: RolloutClient, batch: RolloutBatch) -> None:
        """Run the unchanged batch.

        Args:
            client: holds the adapters that ``batch`` names.
            batch: one greedy rollout per held-out example.
        """
        self._client = client
        self.batch = batch
        self.groups: Sequence[Group] = self._run(batch)
        self._before = accuracy(self.groups)

    @property
    def accuracy(self) -> Accuracy:
        """Of the unchanged graph."""
        return self._before

    @property
    def hidden(self) -> tuple[str, ...]:
        """The Nodes whose messages others read, in topological order."""
        topology = self.batch.topology
        return tuple(node for node in topology.order if topology.successors(node))

    def cut(self, node: str) -> Influence:
        """Return the effect of cutting off a Node's message."""
        return self._measure("cut", node, replace(self.batch, topology=knock_out(self.batch.topology, node)))

    def shuffled(self, node: str) -> Influence:
        """Return the effect of handing on what the Node said about the question before, in the batch's order."""
        said = {group.example.id: _message(group, node) for group in self.groups}
        ids = list(said)
        texts = {example: said[other] for example, other in zip(ids, (ids[-1], *ids[:-1]), strict=True)}
        readers = self.batch.topology.successors(node)
        changed = tuple(Substitution(node, reader, texts) for reader in readers)
        return self._measure("shuffled", node, replace(self.batch, substitutions=changed))

    def untrained(self, node: str) -> Influence:
        """Return the effect of the bare base in a Node's place."""
        topology = self.batch.topology
        nodes = (replace(one, adapter=_UNTRAINED) if one.id == node else one for one in topology.nodes)
        adapters = {**self.batch.adapters, _UNTRAINED: None}
        changed = replace(self.batch, topology=replace(topology, nodes=tuple(nodes)), adapters=adapters)
        return self._measure("untrained", node, changed)

    def edge(self, sender: str, reader: str) -> Influence:
        """Return the effect of an empty message on one edge."""
        texts = {example.id: "" for example in self.batch.examples}
        changed = replace(self.batch, substitutions=(Substitution(sender, reader, texts),))
        return self._measure("edge", f"{sender} -> {reader}", changed)

    def exchanged(self, exchange: Mapping[str, str] | None = None) -> Influence:
        """Return the effect of giving Nodes each other's adapters: near zero where all have learned the same.

        Args:
            exchange: adapter name -> the adapter it is replaced with; None moves each on to the next one's place.

        Raises:
            TopologyError: an adapter of ``exchange`` is not one of the graph's.
        """
        names = self.batch.topology.adapters
        exchange = exchange or dict(zip(names, (*names[1:], names[0]), strict=True))
        if unknown := {*exchange, *exchange.values()} - set(names):
            raise TopologyError(f"got adapters {sorted(unknown)}, allowed are {', '.join(names)}")
        swapped = {name: self.batch.adapters[exchange.get(name, name)] for name in names}
        change = ", ".join(f"{name} <- {other}" for name, other in exchange.items())
        return self._measure("exchanged", change, replace(self.batch, adapters=swapped))

    def _measure(self, kind: Kind, change: str, batch: RolloutBatch) -> Influence:
        after = accuracy(self._run(batch))
        return Influence(kind, change, after, paired_test(self._before.rewards, after.rewards))

    def _run(self, batch: RolloutBatch) -> list[Group]:
        return self._client.collect(self._client.submit(batch))


def measures(topology: Topology, examples: int) -> Iterator[Callable[[Changes], Influence]]:
    """Yield what measures each change of a graph, in order."""
    for node in topology.order:
        if topology.successors(node):
            yield partial(Changes.cut, node=node)
            if examples > 1:
                yield partial(Changes.shuffled, node=node)
        yield partial(Changes.untrained, node=node)
    for sender, reader in topology.edges:
        yield partial(Changes.edge, sender=sender, reader=reader)
    if len(topology.adapters) > 1:
        yield Changes.exchanged


def num_changes(topology: Topology, examples: int) -> int:
    """Return how many times all measures together ask the questions, the unchanged graph included."""
    return 1 + sum(1 for _ in measures(topology, examples))


def knock_out(topology: Topology, node: str) -> Topology:
    """Return the graph in which ``node`` has a budget of one token: it speaks, but has no room to say anything.

    Raises:
        TopologyError: there is no such node.
    """
    topology.node(node)
    nodes = (replace(one, max_tokens=1) if one.id == node else one for one in topology.nodes)
    return replace(topology, nodes=tuple(nodes))


def _message(group: Group, node: str) -> str:
    return next((call.text for call in group.rollouts[0].calls if call.node == node), "")
