"""What a trained graph has learned: all questions of this package asked at once, as one document."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neuromas.adapters.ref import PlainLora
from neuromas.base.resolve import resolve_base
from neuromas.journal.events import Phase
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import RolloutClient
from neuromas.rollout.record import Group
from neuromas.studies.influence import Changes, Influence, measures, num_changes
from neuromas.studies.messages import messages
from neuromas.studies.perplexity import base_perplexity
from neuromas.studies.published import held_out_batch, published
from neuromas.studies.similarity import most_alike
from neuromas.tasks.base import Task
from neuromas.tasks.registry import make_task
from neuromas.training.evaluate import node_roles
from neuromas.training.study import Study

if TYPE_CHECKING:
    from neuromas.training.workplace import Workplace

SIGNIFICANT = 0.05
Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AnalysisStudy(Study):
    """``analyze`` of a checkpoint on test questions.

    Attributes:
        checkpoint: folder of the checkpoint.
        examples: questions at most.
        level: task level; None = the task's target.
    """

    checkpoint: Path
    examples: int
    level: int | None = None

    def __call__(self, place: Workplace) -> Document:
        """Return what ``analyze`` finds; each change that is measured is a phase."""
        task = make_task(place.spec.task, place.spec.seed)
        with published(place, self.checkpoint) as (loras, refs):
            batch = held_out_batch(place.spec, task, refs, self.level, self.examples, "test", greedy=True)
            base, dtype = resolve_base(place.spec.base), place.spec.engine.dtype
            likelihood = partial(base_perplexity, nodes=batch.topology.order, base=base, dtype=dtype)
            found = analyze(place.client, batch, task, loras, likelihood, _progress(place, batch))
        return {"level": self.level, **found}


def _progress(place: Workplace, batch: RolloutBatch) -> Callable[[str], None]:
    done, runs, questions = 0, num_changes(batch.topology, len(batch.examples)), len(batch.examples)

    def note(what: str) -> None:
        nonlocal done
        done += 1
        place.emit(Phase(name=f"asking {questions} held-out questions (time {done} of {runs}; last: {what})"))

    place.emit(Phase(name=f"asking {questions} held-out questions (time 0 of {runs})"))
    return note


def analyze(
    client: RolloutClient,
    batch: RolloutBatch,
    task: Task,
    loras: Mapping[str, PlainLora],
    perplexity: Callable[[Sequence[Group]], Mapping[str, float]],
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
        perplexity: gives the bare base's perplexity of each Node's messages, see ``base_perplexity``.
        on_run: told what has just been measured.
    """
    changes = Changes(client, batch)
    on_run("the graph as it is")
    found: list[Influence] = []
    for measure in measures(batch.topology, len(batch.examples)):
        found.append(measure(changes))
        on_run(f"{found[-1].kind} {found[-1].change}")
    topology = batch.topology
    roles = {role.node: role for role in node_roles(changes.groups, task, _positions(batch))}
    said = {entry.node: entry for entry in messages(changes.groups, topology.order)}
    likely = perplexity(changes.groups)
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
                "perplexity": likely.get(node),
            }
            for node in topology.order
        ],
        "edges": [_document(entry) for entry in found if entry.kind == "edge"],
        "exchanged": next((_document(entry) for entry in found if entry.kind == "exchanged"), None),
        "similarity": most_alike(loras),
    }


def _is_idle(node: str, found: list[Influence]) -> bool:
    mine = [entry.effect for entry in found if entry.change == node]
    return not any(effect.gain < 0 and effect.p_value <= SIGNIFICANT for effect in mine)


def _positions(batch: RolloutBatch) -> dict[str, tuple[int, int]]:
    return {node: batch.topology.position(node) for node in batch.topology.order}


def _document(entry: Influence) -> Document:
    return {"change": entry.change, "accuracy": entry.accuracy.value, "effect": asdict(entry.effect)}
