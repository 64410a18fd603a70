"""Starts of new adapters from rollouts of the graph that they join: what its nodes read, and what would pay.

Looks at the rollouts of the stage's first questions, with the adapters as they are before the first step. New adapters
act as the base in them, and still do after it: only what their first steps move in is chosen here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import perf_counter
from typing import Final, TypeVar

import numpy as np
from torch import Tensor, nn

from neuromas.adapters.bank import AdapterBank
from neuromas.adapters.directions import InputDirections, LayerStatistics, StartNeeds
from neuromas.adapters.source import AdapterSource
from neuromas.growth.ledger import Spending
from neuromas.growth.stage import Stage
from neuromas.journal.events import Notice, Phase
from neuromas.rollout.record import Group, NodeCall
from neuromas.rollout.stats import RolloutStats
from neuromas.spec.training import TrainingSpec
from neuromas.tasks.base import Task
from neuromas.training.advantage import RunningBaseline, call_advantages
from neuromas.training.calls import rows_of
from neuromas.training.kernel import prompt_inputs, weight_gradients
from neuromas.training.peers import Alone
from neuromas.training.sampler import StepSampler
from neuromas.training.step_plan import NodePolicies
from neuromas.training.workplace import Workplace

Item = TypeVar("Item")

_ROWS: Final = 32
"""Messages in one forward pass."""


def start_needs(bank: AdapterBank, sources: Mapping[str, AdapterSource]) -> dict[str, StartNeeds]:
    """Return what the new adapters of a stage start from beside base and seed, those that need something."""
    needs = {}
    for name, source in sources.items():
        found = bank.start_needs(name, from_inputs=source.kind == "eva") if source.is_new else None
        if found is not None:
            needs[name] = found
    return needs


def start_from_rollouts(
    place: Workplace,
    stage: Stage,
    task: Task,
    model: nn.Module,
    bank: AdapterBank,
    needs: Mapping[str, StartNeeds],
    cursor: int,
) -> Spending:
    """Give new adapters their starts; the first process looks, and all take what it finds. Returns what was sampled.

    Args:
        place: of the run.
        stage: that is about to begin.
        task: draws and scores examples.
        model: with ``add_scoring``, on its device.
        bank: of the model.
        needs: what each new adapter needs, at least one.
        cursor: index of the stage's first training example.

    Raises:
        RolloutError: too many rollouts failed.
    """
    spent = Spending()
    if place.peers.rank == 0:
        began = perf_counter()
        policies = NodePolicies.of(stage.topology, bank.names, place.spec.sampling)
        looking = Looking(model, bank, policies, place.spec.training, needs, place.spec.seed)
        look = _sampler(place, stage, task, bank, needs, cursor)
        while not looking.is_over:
            place.emit(Phase(name=f"looking at what new nodes read: {looking.progress()}"))
            rollouts = look.sample(looking.batches)
            spent += _spent(rollouts.stats)
            looking.add(rollouts.groups)
        place.client.publish({}, sorted(look.refs().values()))
        looking.start()
        place.emit(looking.notice(perf_counter() - began))
    state = place.peers.gather(bank.state(needs) if place.peers.rank == 0 else {})[0]
    if place.peers.rank != 0:
        for name in needs:
            bank.load(name, state)
    return spent


@dataclass(slots=True)
class _Sight:
    """What is known of one adapter so far; layers that are fed by one tensor share their directions."""

    needs: StartNeeds
    inputs: dict[str, InputDirections] = field(default_factory=dict)
    gradient: dict[str, Tensor] = field(default_factory=dict)
    calls: int = 0

    def is_over(self, batches: int) -> bool:
        if batches >= self.needs.batches:
            return True
        found = self.inputs.values()
        return bool(found) and not self.needs.gradient and all(layer.has_converged for layer in found)


class Looking:
    """A look at rollouts, batch by batch.

    Attributes:
        batches: looked at so far.
    """

    def __init__(
        self,
        model: nn.Module,
        bank: AdapterBank,
        policies: NodePolicies,
        training: TrainingSpec,
        needs: Mapping[str, StartNeeds],
        seed: int,
    ) -> None:
        """Begin; see ``start_from_rollouts``. The gradient is that of the run's credit and estimator."""
        self._model, self._bank, self._policies, self._seed = model, bank, policies, seed
        self._training = training
        self._running = RunningBaseline()
        self._sights = {name: _Sight(needs[name]) for name in needs}
        self.batches = 0

    @property
    def is_over(self) -> bool:
        """Whether every adapter has what it needs, or has seen as much as it may."""
        return all(sight.is_over(self.batches) for sight in self._sights.values())

    def progress(self) -> str:
        """Return how far it has come, for who watches."""
        most = max(sight.needs.batches for sight in self._sights.values())
        layers = [layer for sight in self._sights.values() for layer in sight.inputs.values()]
        converged = f", {sum(layer.has_converged for layer in layers)} of {len(layers)} layers converged"
        return f"batch {self.batches + 1} of at most {most}{converged if layers else ''}"

    def add(self, groups: Sequence[Group]) -> None:
        """Take in the rollouts of one batch."""
        rows = rows_of(groups, self._policies.nodes, self._training)
        by_place = call_advantages(rows.rewards, rows.present_by_place, self._training.estimator, self._running)
        advantages = rows.per_row(by_place).astype(np.float64)
        nodes = rows.node_of_row
        for name, sight in self._sights.items():
            if sight.is_over(self.batches):
                continue
            k = self._bank.index(name)
            told = [
                (call, float(advantage), self._policies.temperatures[node])
                for call, advantage, node in zip(rows.calls, advantages, nodes.tolist(), strict=True)
                if call is not None and self._policies.adapters[node] == k
            ]
            sight.calls += len(told)
            if sight.needs.directions:
                self._see_inputs(name, sight, [call for call, _, _ in told])
            if sight.needs.gradient:
                self._see_gradient(name, sight, [entry for entry in told if entry[1] != 0])
        self._running.update(rows.outcomes)
        self.batches += 1

    def start(self) -> None:
        """Give every adapter its start from what was seen; one whose node said nothing keeps the one it has."""
        for name, sight in self._sights.items():
            if sight.calls:
                self._bank.start(name, {path: self._layer(name, sight, path) for path in self._bank.modules(name)})

    def notice(self, seconds: float) -> Notice:
        """Return what was done, for people and programs."""
        names = list(self._sights)
        blind = [
            name
            for name, sight in self._sights.items()
            if not sight.calls or (sight.needs.gradient and not sight.gradient)
        ]
        layers = [layer for sight in self._sights.values() for layer in sight.inputs.values()]
        converged = sum(layer.has_converged for layer in layers)
        calls = sum(sight.calls for sight in self._sights.values())
        message = f"{len(names)} new adapters start from {calls} messages in {self.batches} batches, {seconds:.1f} s"
        if layers:
            message += f"; the directions of {converged} of {len(layers)} layers converged"
        if blind:
            message += f"; {', '.join(blind)} start at random: no advantage in them, so no gradient"
        return Notice(
            message=message,
            severity="warning" if blind else "info",
            source="data_starts",
            data={
                "adapters": names,
                "at_random": blind,
                "batches": self.batches,
                "calls": calls,
                "layers": len(layers),
                "layers_converged": converged,
                "seconds": seconds,
            },
        )

    def _see_inputs(self, name: str, sight: _Sight, calls: Sequence[NodeCall]) -> None:
        """Take in what a node has read, each different prompt once."""
        prompts = sorted({tuple(call.prompt_token_ids) for call in calls})
        for part in _parts(prompts):
            inputs = prompt_inputs(self._model, self._bank, name, part)
            seen: dict[int, str] = {}
            for path, rows in inputs.items():
                first = seen.setdefault(id(rows), path)
                if path not in sight.inputs:
                    made = InputDirections(sight.needs.directions, sight.needs.tau)
                    sight.inputs[path] = sight.inputs.get(first, made)
                if first == path and not sight.inputs[path].has_converged:
                    sight.inputs[path].add(rows)

    def _see_gradient(self, name: str, sight: _Sight, told: Sequence[tuple[NodeCall, float, float]]) -> None:
        """Add the batch's policy gradient by the layers' weights."""
        for part in _parts(told):
            calls, advantages, temperatures = zip(*part, strict=True)
            found = weight_gradients(self._model, self._bank, name, calls, temperatures, advantages)
            for path, gradient in found.items():
                sight.gradient[path] = gradient + sight.gradient[path] if path in sight.gradient else gradient

    def _layer(self, name: str, sight: _Sight, path: str) -> LayerStatistics:
        inputs, gradient = sight.inputs.get(path), sight.gradient.get(path)
        if inputs is None:
            return LayerStatistics(gradient=gradient)
        return LayerStatistics(inputs.found(self._seed, name, path, "unseen"), gradient, inputs.shares())


def _sampler(
    place: Workplace, stage: Stage, task: Task, bank: AdapterBank, needs: Mapping[str, StartNeeds], cursor: int
) -> StepSampler:
    """Return what samples the stage's first questions for this process alone, under names of their own."""
    changes: dict[str, int] = {"refill_rounds": 0}
    if not any(adapter.gradient for adapter in needs.values()):
        changes["group_size"] = 1
    training = place.spec.training.model_copy(update=changes)
    alone = replace(place, peers=Alone(), spec=place.spec.model_copy(update={"training": training}))
    return StepSampler(alone, replace(stage, name=f"{stage.name}.look"), task, bank.export_all, cursor)


def _spent(stats: RolloutStats) -> Spending:
    return Spending(0, stats.rollouts, stats.calls, stats.prompt_tokens, stats.generated_tokens)


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    for first in range(0, len(items), _ROWS):
        yield items[first : first + _ROWS]
