"""The rollout pool loses workers and nothing else: every test kills real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import ray

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.cluster.setup import WorkerSetup
from neuromas.cluster.threads import ThreadShare
from neuromas.engines.setup import EngineSetup
from neuromas.errors import AdapterError, RolloutError, RuntimeStartError
from neuromas.growth.stage import Stage
from neuromas.journal.events import Event
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient
from neuromas.rollout.record import Group, NodeCall, Provenance
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import PromptSpec, SamplingSpec
from neuromas.spec.run import RunSpec
from neuromas.tasks.chain import ChainSpec
from neuromas.tasks.registry import make_task
from neuromas.topology.builders import chain
from neuromas.training.sampler import StepSampler
from neuromas.training.workplace import Workplace

if TYPE_CHECKING:
    from neuromas.cluster.pool import RolloutPool

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]
TASK = ChainSpec(type="chain", hops=3)
GRAPH = chain(3)
START_S = 420
"""Seconds that workers have to start."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    from neuromas.cluster.connection import RayConnection

    connection = RayConnection(None, min_cpus=3)
    yield
    connection.close()


@pytest.fixture(scope="module")
def setup(small_base: Path) -> WorkerSetup:
    engine = EngineSetup(small_base, EngineSpec(type="transformers"), 1, ("q_proj",))
    return WorkerSetup(engine, 3, PromptSpec(), TASK)


def start_actors(setup: WorkerSetup, count: int, max_restarts: int) -> list:
    from neuromas.cluster.actors import RolloutActor

    actor_class = ray.remote(num_cpus=1, max_restarts=max_restarts, max_task_retries=0)(RolloutActor)
    actors = [actor_class.remote(setup, ThreadShare(1)) for _ in range(count)]
    ray.get([actor.start.remote() for actor in actors], timeout=START_S)
    return actors


def process_of(actor) -> int:
    """Process id of a worker, once Ray has it running."""
    while True:
        try:
            return ray.get(actor.start.remote())["pid"]
        except ray.exceptions.ActorUnavailableError:  # just being started again
            continue


def adapters(version: int) -> dict[AdapterRef, PlainLora]:
    draw = np.random.default_rng(version)
    shape_a, shape_b = (1, 64), (64, 1)
    loras = {}
    for name in GRAPH.adapters:
        modules = {
            f"model.layers.{layer}.self_attn.q_proj": (
                draw.normal(size=shape_a).astype(np.float32),
                draw.normal(size=shape_b).astype(np.float32),
            )
            for layer in range(2)
        }
        loras[AdapterRef(name, version, "test")] = PlainLora(1, modules)
    return loras


def batch(version: int, examples: int, step: int = 1) -> RolloutBatch:
    task = make_task(TASK, 0)
    return RolloutBatch(
        topology=GRAPH,
        examples=tuple(task.example("train", index) for index in range(examples)),
        group_size=4,
        adapters={name: AdapterRef(name, version, "test") for name in GRAPH.adapters},
        sampling=SamplingSpec(),
        greedy=False,
        seed=0,
        provenance=Provenance("run", 0, step),
    )


def messages(groups: list[Group]) -> list[tuple]:
    """What a rollout consists of, without its timing."""
    return [
        (rollout.example.id, rollout.index, rollout.seed, rollout.reward, *map(completion, rollout.calls))
        for group in groups
        for rollout in group.rollouts
    ]


def completion(call: NodeCall) -> tuple:
    return call.node, call.adapter, call.completion_token_ids


@pytest.fixture(scope="module")
def undisturbed(setup: WorkerSetup) -> list[tuple]:
    client = LocalRolloutClient(setup.make())
    client.publish(adapters(1))
    groups = client.collect(client.submit(batch(1, 12)))
    client.close()
    return messages(groups)


@dataclass
class Crew:
    """Two workers with adapters of version 1, and what their pool has told."""

    pool: RolloutPool
    actors: list
    events: list[Event]

    def kill(self, *workers: int) -> None:
        for worker in workers:
            os.kill(process_of(self.actors[worker]), signal.SIGKILL)

    def step(self) -> list[tuple]:
        return messages(self.pool.collect(self.pool.submit(batch(1, 12))))


@pytest.fixture(scope="module")
def crew(cluster: None, setup: WorkerSetup) -> Iterator[Crew]:
    from neuromas.cluster.pool import RolloutPool

    actors, events = start_actors(setup, 2, max_restarts=3), []
    pool = RolloutPool(actors, START_S, events.append)
    pool.publish(adapters(0))
    pool.publish(adapters(1), retire=list(adapters(0)))
    yield Crew(pool, actors, events)
    pool.close()


def test_two_workers_give_the_groups_of_one_process(crew: Crew, undisturbed: list[tuple]) -> None:
    ticket = crew.pool.submit(batch(1, 12))
    assert messages(crew.pool.collect(ticket)) == undisturbed
    assert crew.pool.last_stats.rollouts == 48
    with pytest.raises(RolloutError, match="collected before"):
        crew.pool.collect(ticket)


@pytest.mark.parametrize("victims", [(0,), (0, 1)])
def test_workers_killed_in_the_middle_of_a_step_change_nothing(
    crew: Crew, undisturbed: list[tuple], victims: tuple[int, ...]
) -> None:
    crew.events.clear()
    pids = [process_of(crew.actors[worker]) for worker in victims]
    ticket = crew.pool.submit(batch(1, 12))
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert messages(crew.pool.collect(ticket)) == undisturbed
    assert crew.pool.last_stats.rollouts == 48
    assert crew.step() == undisturbed
    assert any("was lost" in event.message for event in crew.events)
    assert not set(pids) & {process_of(actor) for actor in crew.actors}


def test_a_worker_that_dies_between_steps_gets_the_adapters_again(crew: Crew, undisturbed: list[tuple]) -> None:
    crew.kill(1)
    assert crew.step() == undisturbed


def test_an_error_of_the_work_itself_reaches_the_caller_and_harms_nobody(crew: Crew, undisturbed: list[tuple]) -> None:
    with pytest.raises(AdapterError, match="3 slots"):
        crew.pool.publish(adapters(2))
    assert crew.step() == undisturbed


def test_a_pool_without_workers_says_why(cluster: None, setup: WorkerSetup) -> None:
    from neuromas.cluster.pool import RolloutPool

    actors = start_actors(setup, 1, max_restarts=0)
    pool = RolloutPool(actors, START_S, lambda event: None)
    os.kill(process_of(actors[0]), signal.SIGKILL)
    with pytest.raises(RuntimeStartError, match=r"runtime\.max_restarts"):
        pool.collect(pool.submit(batch(1, 2)))
    pool.close()


def test_rollouts_ahead_are_done_again_on_their_own_version_while_the_next_is_evaluated(
    crew: Crew, tmp_path: Path
) -> None:
    """As in a stage with training.overlap, where a worker dies between a step and its evaluation."""
    crew.pool.publish({}, retire=list(adapters(1)))
    crew.events.clear()
    task = make_task(TASK, 0)
    weights = {ref.name: lora for ref, lora in adapters(2).items()}
    training = {"prompts_per_step": 12, "group_size": 4}
    document = {"name": "run", "topology": GRAPH.to_document(), "task": TASK.model_dump(mode="json")}
    spec = RunSpec.model_validate({**document, "training": training})
    place = Workplace(spec, tmp_path, crew.pool, lambda event: None)
    sampler = StepSampler(place, Stage("ahead", 0, GRAPH, 2), task, lambda: weights, cursor=0)
    victim = process_of(crew.actors[0])
    sampler.sample(0, ahead=True)
    os.kill(victim, signal.SIGKILL)
    sampler.publish(1)
    (evaluated,) = sampler.rollouts([task.example("test", 0)], greedy=True, step=0, seed=0)
    ahead = sampler.sample(1)
    assert any("was lost" in event.message for event in crew.events)
    assert {call.adapter.version for call in evaluated.rollouts[0].calls if call.adapter} == {1}
    calls = [call for group in ahead.groups for rollout in group.rollouts for call in rollout.calls]
    assert {call.adapter.version for call in calls if call.adapter} == {ahead.version} == {0}
    assert len(calls) == 12 * 4 * len(GRAPH.nodes)
