"""The rollout pool loses workers and nothing else: every test kills real processes."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from neuromas.adapters.ref import AdapterRef, PlainLora
from neuromas.cluster.setup import WorkerSetup
from neuromas.errors import RolloutError, RuntimeStartError
from neuromas.events import Event
from neuromas.rollout.batch import RolloutBatch
from neuromas.rollout.client import LocalRolloutClient
from neuromas.rollout.record import Group, Provenance
from neuromas.spec.machine import EngineSpec
from neuromas.spec.parts import ChainTaskSpec, PromptSpec, SamplingSpec
from neuromas.tasks.registry import make_task
from neuromas.topology.builders import chain

ray = pytest.importorskip("ray")
TASK = ChainTaskSpec(type="chain", hops=3)
GRAPH = chain(3)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    from neuromas.cluster.connection import RayConnection

    connection = RayConnection(None, min_cpus=3)
    yield
    connection.close()


@pytest.fixture(scope="module")
def setup(small_base: Path) -> WorkerSetup:
    return WorkerSetup(small_base, EngineSpec(type="transformers"), PromptSpec(), TASK, max_adapters=3, max_rank=1)


def start_actors(setup: WorkerSetup, count: int, max_restarts: int) -> list:
    from neuromas.cluster.actors import RolloutActor

    actor_class = ray.remote(num_cpus=1, max_restarts=max_restarts, max_task_retries=0)(RolloutActor)
    actors = [actor_class.remote(setup) for _ in range(count)]
    ray.get([actor.start.remote() for actor in actors], timeout=120)
    return actors


def process_of(actor) -> int:
    return ray.get(actor.start.remote())["pid"]


def adapters(version: int, setup: WorkerSetup) -> dict[AdapterRef, PlainLora]:
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
        (rollout.example.id, rollout.index, rollout.seed, rollout.reward)
        + tuple((call.node, call.adapter, call.completion_token_ids) for call in rollout.calls)
        for group in groups
        for rollout in group.rollouts
    ]


@pytest.fixture(scope="module")
def undisturbed(setup: WorkerSetup) -> list[tuple]:
    client = LocalRolloutClient(setup.make())
    client.publish(adapters(1, setup))
    groups = client.collect(client.submit(batch(1, 12)))
    client.close()
    return messages(groups)


def test_two_workers_give_the_groups_of_one_process(cluster: None, setup: WorkerSetup, undisturbed: list) -> None:
    from neuromas.cluster.pool import RolloutPool

    pool = RolloutPool(start_actors(setup, 2, max_restarts=0), 60, lambda event: None)
    pool.publish(adapters(1, setup))
    ticket = pool.submit(batch(1, 12))
    assert messages(pool.collect(ticket)) == undisturbed
    assert pool.last_stats.rollouts == 48
    with pytest.raises(RolloutError, match="collected before"):
        pool.collect(ticket)
    pool.close()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_killed_in_the_middle_of_a_step_changes_nothing(
    cluster: None, setup: WorkerSetup, undisturbed: list, workers: int
) -> None:
    from neuromas.cluster.pool import RolloutPool

    events: list[Event] = []
    actors = start_actors(setup, workers, max_restarts=2)
    pool = RolloutPool(actors, 60, events.append)
    pool.publish(adapters(0, setup))
    pool.publish(adapters(1, setup), retire=list(adapters(0, setup)))
    victim = process_of(actors[0])
    ticket = pool.submit(batch(1, 12))
    os.kill(victim, signal.SIGKILL)
    assert messages(pool.collect(ticket)) == undisturbed
    assert pool.last_stats.rollouts == 48
    assert any("was lost" in event.message for event in events)
    # The next step finds the restarted worker with the current adapters.
    assert messages(pool.collect(pool.submit(batch(1, 12)))) == undisturbed
    assert process_of(actors[0]) != victim
    pool.close()


def test_a_worker_that_dies_between_steps_gets_the_adapters_again(
    cluster: None, setup: WorkerSetup, undisturbed: list
) -> None:
    from neuromas.cluster.pool import RolloutPool

    actors = start_actors(setup, 1, max_restarts=1)
    pool = RolloutPool(actors, 60, lambda event: None)
    pool.publish(adapters(0, setup))
    os.kill(process_of(actors[0]), signal.SIGKILL)
    pool.publish(adapters(1, setup), retire=list(adapters(0, setup)))
    assert messages(pool.collect(pool.submit(batch(1, 12)))) == undisturbed
    pool.close()


def test_a_pool_without_workers_says_why(cluster: None, setup: WorkerSetup) -> None:
    from neuromas.cluster.pool import RolloutPool

    actors = start_actors(setup, 1, max_restarts=0)
    pool = RolloutPool(actors, 60, lambda event: None)
    pool.publish(adapters(1, setup))
    os.kill(process_of(actors[0]), signal.SIGKILL)
    with pytest.raises(RuntimeStartError, match=r"runtime\.max_restarts"):
        pool.collect(pool.submit(batch(1, 2)))
    pool.close()


def test_an_error_of_the_work_itself_reaches_the_caller(cluster: None, setup: WorkerSetup, undisturbed: list) -> None:
    from neuromas.cluster.pool import RolloutPool
    from neuromas.errors import AdapterError

    pool = RolloutPool(start_actors(setup, 1, max_restarts=1), 60, lambda event: None)
    pool.publish(adapters(1, setup))
    with pytest.raises(AdapterError, match="slot"):
        pool.publish(adapters(2, setup))
    pool.close()
