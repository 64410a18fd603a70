"""What a trained graph has learned: all questions of this package asked at once, as one document."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

from neuromas.adapters.ref import PlainLora
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import RolloutClient
from neuromas.studies.influence import Changes, Influence
from neuromas.studies.messages import messages
from neuromas.studies.similarity import similarities
from neuromas.tasks.base import Task
from neuromas.training.evaluate import node_roles

SIGNIFICANT = 0.05
Document = dict[str, Any]


def num_changes(batch: RolloutBatch) -> int:
    """Return how many times ``analyze`` runs the batch, the unchanged run included."""
    return 1 + sum(1 for _ in _tests(batch))


def analyze(
    client: RolloutClient,
    batch: RolloutBatch,
    task: Task,
    loras: Mapping[str, PlainLora],
    on_run: Callable[[str], None],
) -> Document:
    """Return what is known about each Node, edge and adapter of a trained graph, as plain data.

    A Node is called idle when neither cutting its message, nor shuffling it, nor putting the bare base in its place
    costs accuracy (p > 0.05 for each).

    Args:
        client: holds the adapters that ``batch`` names.
        batch: one greedy rollout per held-out example.
        task: reads what messages state.
        loras: the graph's adapters.
        on_run: told what has just been measured.
    """
    changes = Changes(client, batch)
    on_run("the graph as it is")
    found: list[Influence] = []
    for measure in _tests(batch):
        found.append(measure(changes))
        on_run(f"{found[-1].kind} {found[-1].change}")
    topology = batch.topology
    roles = {role.node: role for role in node_roles(changes.groups, task, _positions(batch))}
    said = {entry.node: entry for entry in messages(changes.groups, topology.order)}
    return {
        "accuracy": changes.accuracy.value,
        "examples": len(batch.examples),
        "nodes": [
            {
                "node": node,
                "adapter": topology.adapter_of(node),
                "is_idle": _is_idle(node, found),
                "changes": {entry.kind: _document(entry) for entry in found if entry.change == node},
                "says": [asdict(label) for label in roles[node].said],
                "correct": roles[node].correct,
                "messages": asdict(said[node]) if node in said else None,
            }
            for node in topology.order
        ],
        "edges": [_document(entry) for entry in found if entry.kind == "edge"],
        "exchanged": next((_document(entry) for entry in found if entry.kind == "exchanged"), None),
        "similarity": similarities(loras),
    }


def _tests(batch: RolloutBatch) -> Iterator[Callable[[Changes], Influence]]:
    """Yield what is measured, in order."""
    topology = batch.topology
    for node in topology.order:
        if topology.successors(node):
            yield partial(Changes.cut, node=node)
            if len(batch.examples) > 1:
                yield partial(Changes.shuffled, node=node)
        yield partial(Changes.untrained, node=node)
    for sender, reader in topology.edges:
        yield partial(Changes.edge, sender=sender, reader=reader)
    if len(topology.adapters) > 1:
        yield Changes.exchanged


def _is_idle(node: str, found: list[Influence]) -> bool:
    mine = [entry.effect for entry in found if entry.change == node]
    return not any(effect.gain < 0 and effect.p_value <= SIGNIFICANT for effect in mine)


def _positions(batch: RolloutBatch) -> dict[str, tuple[int, int]]:
    return {node: batch.topology.position(node) for node in batch.topology.order}


def _document(entry: Influence) -> Document:
    return {"change": entry.change, "accuracy": entry.accuracy.value, "effect": asdict(entry.effect)}
