"""Credit, by counting out everything that can happen: a chain of two nodes that say one of two words.

The policy is a logit for the first node and one for the second in each context: whatever the first has said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from word_batches import TASK, make_batch, tokens

from neuromas.engines.scripted import ScriptedEngine
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.dataflow import Dataflow
from neuromas.rollout.record import Group, Rollout
from neuromas.rollout.renderer import Renderer
from neuromas.spec.training import TrainingSpec
from neuromas.topology.builders import chain
from neuromas.training.advantage import RunningBaseline, call_advantages
from neuromas.training.calls import call_rows, rows_of

Floats = NDArray[np.float64]
GRAPH = chain(2)
FIRST, SECOND = GRAPH.order


@dataclass(frozen=True)
class World:
    """Probabilities of the word 1: of the first node, and of the second by what the first has said; and what is paid
    for what the first and the second have said."""

    first: float = 0.3
    second: tuple[float, float] = (0.1, 0.8)
    rewards: tuple[tuple[float, float], tuple[float, float]] = ((0.1, 0.9), (0.5, 1.0))

    def probability(self, group: Group) -> float:
        """That of all calls of a group."""
        found = 1.0
        for rollout in group.rollouts:
            said = words(rollout)
            for call, word, ones in zip(rollout.calls, said, (self.first, self.second[said[0]]), strict=True):
                if call.completion_token_ids:
                    found *= ones if word else 1 - ones
        return found

    def estimate(self, group: Group, training: TrainingSpec) -> Floats:
        """The gradient by the three logits that the calls of a group give: d log p / d logit = word - P(1)."""
        paid = tuple(replace(r, reward=self.rewards[words(r)[0]][words(r)[1]]) for r in group.rollouts)
        rows = rows_of([Group(group.example, paid)], GRAPH.order, training)
        by_place = call_advantages(rows.rewards, rows.present_by_place, training.estimator, RunningBaseline())
        gradient = np.zeros(3)
        for call, advantage in zip(rows.calls, rows.per_row(by_place).tolist(), strict=True):
            (rollout,) = (r for r in paid if any(call is other for other in r.calls))
            first, second = words(rollout)
            if call is not None and call.node == FIRST:
                gradient[0] += advantage * (first - self.first) / rows.group_size
            else:
                gradient[1 + first] += advantage * (second - self.second[first]) / rows.group_size
        return gradient

    def policy_gradient(self) -> Floats:
        """The gradient of the expected reward by the logits: d P(1) / d logit = P(1) (1 - P(1))."""
        p, (q0, q1), (r0, r1) = self.first, self.second, self.rewards
        worth = [(1 - q) * r[0] + q * r[1] for q, r in ((q0, r0), (q1, r1))]
        of_first = p * (1 - p) * (worth[1] - worth[0])
        return np.array([of_first, (1 - p) * q0 * (1 - q0) * (r0[1] - r0[0]), p * q1 * (1 - q1) * (r1[1] - r1[0])])


def words(rollout: Rollout) -> tuple[int, int]:
    first, second = (int(call.text) for call in rollout.calls)
    return first, second


def order_of_calls(batch: RolloutBatch) -> list[str]:
    """The calls of a batch, each after those that it reads."""
    if not batch.replays:
        return [f"{index}.{node}" for index in range(batch.group_size) for node in (FIRST, SECOND)]
    replays = range(1, 1 + batch.replays)
    of_first = [f"{index}.{node}" for index in (0, *replays) for node in (FIRST, SECOND)]
    return of_first + [f"{index + batch.replays}.{SECOND}" for index in replays]


def outcomes(training: TrainingSpec, renderer: Renderer) -> Iterator[tuple[int, Group]]:
    """Everything that a question's group can be, and how many calls it takes."""
    size = training.group_size
    batch = make_batch(GRAPH, group_size=size)
    if training.credit == "counterfactual":
        batch = make_batch(GRAPH, replays=size - 1)
    calls = order_of_calls(batch)
    for said in product((0, 1), repeat=len(calls)):
        script = dict(zip(calls, said, strict=True))
        engine = ScriptedEngine(lambda call, script=script: tokens(str(script[call.id])))
        (group,) = Dataflow(engine, renderer).run(TASK, batch)
        assert sorted(call.id for _, call in engine.history) == sorted(calls)
        yield len(calls), group


def moments(world: World, renderer: Renderer, **settings: object) -> tuple[Floats, Floats, int]:
    """Mean and variance of the estimate, and the calls that one takes."""
    training = TrainingSpec.model_validate(settings)
    calls, groups = zip(*outcomes(training, renderer), strict=True)
    weights = [world.probability(group) for group in groups]
    assert sum(weights) == pytest.approx(1.0)
    found = np.array([world.estimate(group, training) for group in groups])
    mean = np.average(found, axis=0, weights=weights)
    return mean, np.average((found - mean) ** 2, axis=0, weights=weights), calls[0]


@pytest.mark.parametrize(
    ("credit", "group_size"), [("shared", 2), ("shared", 3), ("counterfactual", 2), ("counterfactual", 3)]
)
def test_the_expected_estimate_is_the_policy_gradient(credit: str, group_size: int, renderer: Renderer) -> None:
    mean, _, _ = moments(World(), renderer, credit=credit, group_size=group_size)
    assert mean == pytest.approx(World().policy_gradient(), abs=1e-12)


def test_dr_grpo_is_it_times_a_constant_in_contexts_too(renderer: Renderer) -> None:
    mean, _, _ = moments(World(), renderer, credit="counterfactual", group_size=3, estimator="dr_grpo")
    assert mean == pytest.approx(2 / 3 * World().policy_gradient(), abs=1e-12)


def test_a_context_takes_the_others_chance_out_of_a_node_s_advantage(renderer: Renderer) -> None:
    """Here what the first says settles nearly all of the reward, which tells next to nothing of the second's word."""
    world = World(first=0.5, rewards=((0.0, 0.1), (0.9, 1.0)))
    shared_mean, shared, shared_calls = moments(world, renderer, credit="shared", group_size=3)
    mean, variance, calls = moments(world, renderer, credit="counterfactual", group_size=2)
    assert (shared_calls, calls) == (6, 5)
    assert mean == pytest.approx(shared_mean, abs=1e-12)
    assert variance[1:].sum() < 0.1 * shared[1:].sum()
    assert variance[0] > shared[0]  # fewer samples of the first, whose context is the question either way


def test_the_samples_of_one_node_are_those_of_a_group(renderer: Renderer) -> None:
    engine = ScriptedEngine(lambda call: tokens(str(int(call.id.split(".")[0]) % 2)))
    one = chain(1)
    shared = Dataflow(engine, renderer).run(TASK, make_batch(one, group_size=4))
    contexts = Dataflow(engine, renderer).run(TASK, make_batch(one, replays=3))
    first, second = call_rows(shared, one.order), call_rows(contexts, one.order, 4)
    texts = [[call.text for call in rows.calls if call is not None] for rows in (first, second)]
    assert texts[0] == texts[1] == ["0", "1", "0", "1"]
    assert (first.rewards == second.rewards).all()
