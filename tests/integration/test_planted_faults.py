"""Faults between trainer and engine, planted one by one: each stops the run where it begins and names its node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from trainer_world import DigitTask, World, make_world

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.errors import ParityError, TrainingError
from neuromas.journal.events import StepDone
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import Ticket
from neuromas.rollout.record import Group, Rollout
from neuromas.run.run import run
from neuromas.spec.load import parse_run_spec
from neuromas.spec.parts import SamplingSpec
from neuromas.spec.training import TrainingSpec
from neuromas.training.parity import check_nodes
from neuromas.training.sampler import StepRollouts

TREE = {
    "nodes": [{"id": f"n{index}", "max_tokens": 3} for index in range(31)],
    "edges": [[f"n{index}", f"n{(index - 1) // 2}"] for index in range(1, 31)],
    "output": "n0",
}
Change = Callable[[AdapterRef, PlainLora], PlainLora]


class Tampering:
    """The world's rollout client, with every published adapter changed on its way to the engine."""

    def __init__(self, client: Any, change: Change) -> None:
        self._client, self._change = client, change

    def publish(self, adapters: Mapping[AdapterRef, PlainLora], retire: Sequence[AdapterRef] = ()) -> None:
        self._client.publish({ref: self._change(ref, lora) for ref, lora in adapters.items()}, retire)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


class Astray:
    """The world's rollout client, whose engine routes the first call of node "a" to the adapter of "b"."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._batches: dict[Ticket, RolloutBatch] = {}

    def submit(self, batch: RolloutBatch) -> Ticket:
        ticket: Ticket = self._client.submit(batch)
        self._batches[ticket] = batch
        return ticket

    def collect(self, ticket: Ticket) -> list[Group]:
        first, *others = self._client.collect(ticket)
        batch = self._batches[ticket]
        routes = {**batch.adapters, "a": batch.adapters["b"]}
        astray = self._client.collect(self._client.submit(replace(batch, adapters=routes)))[0].rollouts[0]
        wrong = next(call for call in astray.calls if call.node == "a")
        rollout = first.rollouts[0]
        calls = [replace(wrong, adapter=call.adapter) if call.node == "a" else call for call in rollout.calls]
        return [replace(first, rollouts=(replace(rollout, calls=tuple(calls)), *first.rollouts[1:])), *others]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)


def stale(node: str) -> Change:
    """An engine that keeps the first weights of a node whatever version it is given."""
    first: dict[str, PlainLora] = {}

    def change(ref: AdapterRef, lora: PlainLora) -> PlainLora:
        held = first.setdefault(ref.name, lora)
        return held if ref.name == node else lora

    return change


def train(
    world: World, steps: int = 4, overlap: int = 0, sample: Any = None, group_size: int = 4, **settings: Any
) -> World:
    spec = TrainingSpec(steps=steps, prompts_per_step=3, group_size=group_size, overlap=overlap, **settings)
    sampler = world.sampler(group_size=group_size)
    ahead = sample or (lambda step: sampler.sample(step, ahead=bool(overlap) and step + 1 < steps))
    world.trainer(spec, ahead).train()
    return world


@pytest.mark.parametrize("overlap", [0, 1])
def test_one_stale_node_of_many_is_named_in_the_first_step_that_it_samples(
    small_base: Path, tmp_path: Path, overlap: int
) -> None:
    world = make_world(small_base, tmp_path, graph=TREE)
    nodes = world.topology.order
    assert len(nodes) == 31
    world.client = Tampering(world.client, stale(nodes[7]))
    with pytest.raises(ParityError, match=rf"^version 1: .* at 1 of 31 nodes \('{nodes[7]}' by"):
        train(world, overlap=overlap)


@pytest.mark.parametrize("overlap", [0, 1])
def test_an_engine_stuck_at_its_first_version_stops_the_run(small_base: Path, tmp_path: Path, overlap: int) -> None:
    world = make_world(small_base, tmp_path)
    first: dict[str, PlainLora] = {}
    world.client = Tampering(world.client, lambda ref, lora: first.setdefault(ref.name, lora))
    with pytest.raises(ParityError, match=r"^version 1: .* at 3 of 3 nodes"):
        train(world, overlap=overlap)


@pytest.mark.parametrize("overlap", [0, 1])
def test_a_sound_engine_is_not_suspected(small_base: Path, tmp_path: Path, overlap: int) -> None:
    train(make_world(small_base, tmp_path), overlap=overlap, parity_tolerance=1e-4)


def test_the_b_of_one_node_scaled_by_a_twentieth(small_base: Path, tmp_path: Path) -> None:
    world = make_world(small_base, tmp_path)

    def change(ref: AdapterRef, lora: PlainLora) -> PlainLora:
        factor = 1.05 if ref.name == "a" else 1.0
        return PlainLora(lora.rank, {path: (a, b * factor) for path, (a, b) in lora.modules.items()})

    world.client = Tampering(world.client, change)
    with pytest.raises(ParityError, match=r"^version 0: .* at 1 of 3 nodes \('a' by"):
        train(world)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"group_size": 16}, r"at 1 of 3 nodes \('a' by"),
        # The call is off by about half a nat: the mean of 144 rows passes, a single call may be off by .2.
        ({"group_size": 48, "parity_tolerance": 0.01}, "on one call of node 'a'"),
    ],
    ids=["by_default", "behind_the_mean_of_many"],
)
def test_one_call_routed_to_another_adapter(
    small_base: Path, tmp_path: Path, settings: dict[str, float], message: str
) -> None:
    world = make_world(small_base, tmp_path)
    world.client = Astray(world.client)
    with pytest.raises(ParityError, match=rf"^version 0: .* {message}"):
        train(world, **settings)


def test_another_temperature_than_that_of_training(small_base: Path, tmp_path: Path) -> None:
    world = make_world(small_base, tmp_path)
    sampler = world.sampler()
    world.sampling = SamplingSpec(max_tokens=5, temperature=0.9)
    with pytest.raises(ParityError, match=r"at 2 of 3 nodes \('[ac]' by .* '[ac]' by"):
        train(world, sample=sampler.sample)


def test_one_seed_for_the_rollouts_of_a_group(small_base: Path, tmp_path: Path) -> None:
    world = make_world(small_base, tmp_path)
    sampler = world.sampler()

    def copies(group: Group) -> Group:
        first = group.rollouts[0]
        rollouts: tuple[Rollout, ...] = tuple(replace(first, index=index) for index in range(len(group.rollouts)))
        return replace(group, rollouts=rollouts)

    def sample(step: int) -> StepRollouts:
        found = sampler.sample(step)
        return replace(found, groups=tuple(map(copies, found.groups)))

    with pytest.raises(ParityError, match="one seed"):
        train(world, sample=sample)


def test_a_version_that_is_only_evaluated_is_probed_too(small_base: Path, tmp_path: Path) -> None:
    world = make_world(small_base, tmp_path)
    change = stale("c")
    world.client = Tampering(world.client, change)
    sampler = world.sampler()
    trainer = world.trainer(TrainingSpec(steps=1, prompts_per_step=3, group_size=4), sampler.sample)
    trainer.train()
    sampler.publish(1)
    groups = sampler.rollouts([DigitTask().example("train", index) for index in range(3)], greedy=False, step=1, seed=0)
    with pytest.raises(ParityError, match=r"^version 1: .* at 1 of 3 nodes \('c' by"):
        trainer.check_published(groups, 1)


def test_a_mean_that_is_no_number_is_told_as_such_and_not_as_a_disagreement() -> None:
    with pytest.raises(TrainingError) as caught:
        check_nodes({"a": 1e-6, "b": float("nan")}, 1e-3, version=4)
    assert not isinstance(caught.value, ParityError)
    assert str(caught.value) == (
        "version 4: the trainer's log-probabilities of node 'b' are not finite, where the engine's are (1 of 2 nodes); "
        "nothing can be compared"
    )


@pytest.mark.parametrize("engine", ["transformers", pytest.param("vllm", marks=pytest.mark.engine)])
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_trains_with_the_default_tolerance(dtype: str, engine: str, tmp_path: Path) -> None:
    document = {
        "name": dtype,
        "topology": {"chain": 3},
        "task": {"type": "chain", "hops": 3},
        "training": {"steps": 3, "prompts_per_step": 4},
        "engine": {"type": engine, "dtype": dtype},
        "runtime": {"type": "local"},
        "evaluation": {"examples": 8},
    }
    steps: list[StepDone] = []
    run(parse_run_spec(document), tmp_path, lambda event: steps.append(event) if isinstance(event, StepDone) else None)
    assert [event.step for event in steps] == [1, 2, 3]
    assert all(1e-5 < event.metrics["parity/logprob_diff_mean"] < 2e-2 for event in steps)
