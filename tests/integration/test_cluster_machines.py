"""A cluster of two machines: the base reaches the second, and a run goes on when that is lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import ray
from held_answers import DISK
from ray.cluster_utils import Cluster
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from safetensors.numpy import load_file

import neuromas as nm
from neuromas.base.fingerprint import fingerprint
from neuromas.base.resolve import resolve_base
from neuromas.checkpoints.location import ADAPTERS
from neuromas.checkpoints.trained import find_trained
from neuromas.cluster.actors import RolloutActor
from neuromas.cluster.base_copy import BaseCopy
from neuromas.cluster.machine import Machine
from neuromas.cluster.threads import ThreadShare
from neuromas.errors import BaseModelError, RuntimeStartError
from neuromas.journal.events import Event, Notice, StepDone
from neuromas.run.preflight import check_run
from neuromas.run.run import worker_setup
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first machine's disk."""
    return tmp_path_factory.mktemp("first")


@pytest.fixture(scope="module")
def cluster(disk: Path) -> Iterator[Cluster]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("RAY_worker_niceness", "0")  # else actors wait for all else that the machine does
        patched.chdir(disk)
        found = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        yield found
        if ray.is_initialized():
            ray.shutdown()
        found.shutdown()


def spec(name: str, address: str) -> RunSpec:
    return parse_run_spec(
        {
            "name": name,
            "topology": {"chain": 2},
            "task": {"type": "chain", "hops": 2},
            "training": {"steps": 6, "prompts_per_step": 4, "group_size": 4, "estimator": "reinforce"},
            "evaluation": {"examples": 8},
            "runtime": {"rollout_workers": 2, "address": address},
        }
    )


def test_a_run_goes_on_to_the_same_weights_when_a_machine_is_lost(cluster: Cluster, tmp_path: Path) -> None:
    second = cluster.add_node(num_cpus=1)
    lost: list[str] = []

    def lose(event: Event) -> None:
        if isinstance(event, StepDone) and event.step == 2:
            cluster.remove_node(second, allow_graceful=False)
        if isinstance(event, Notice) and "was lost" in event.message:
            lost.append(event.message)

    # One worker has no place but on the second machine: worker and learner fill the first.
    broken = nm.train(spec("broken", cluster.address), out=tmp_path, on_event=lose)
    assert len(lost) == 1
    whole = nm.train(spec("whole", cluster.address).on_machine(runtime="local"), out=tmp_path)
    weights = [load_file(find_trained(run.folder).checkpoint / ADAPTERS) for run in (broken, whole)]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        assert tensor == pytest.approx(weights[1][name], abs=1e-5), name


def test_a_machine_without_the_base_gets_it(cluster: Cluster, disk: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(tmp_path)
        second = cluster.add_node(num_cpus=1, env_vars={"XDG_CACHE_HOME": str(tmp_path)})
    ray.init(cluster.address, runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}})
    shutil.copytree(resolve_base("tiny"), disk / "base")
    offered = BaseCopy.of(DISK / "base", Machine.here())
    wanted = spec("run", cluster.address)
    setup = worker_setup(wanted, check_run(wanted, find_trained))
    setup = replace(setup, engine=replace(setup.engine, base_folder=offered.folder))
    there = NodeAffinitySchedulingStrategy(second.node_id, soft=False)
    actor_class = ray.remote(num_cpus=1, scheduling_strategy=there)(RolloutActor)
    actor = actor_class.remote(setup, ThreadShare(1), offered)
    assert ray.get(actor.start.remote())["threads"] == 1
    kept = tmp_path / "neuromas/bases" / offered.sha256
    assert fingerprint(kept) == fingerprint(disk / "base")
    assert [file.name for file in kept.parent.iterdir()] == [offered.sha256]
    ray.kill(actor)

    other = actor_class.remote(setup, ThreadShare(1), replace(offered, sha256="0" * 64))
    with pytest.raises(BaseModelError, match="changed while it was brought"):
        ray.get(other.start.remote())
    assert [file.name for file in kept.parent.iterdir()] == [offered.sha256]

    cluster.remove_node(second, allow_graceful=False)
    with pytest.raises(RuntimeStartError, match=f"machine {second.node_id[:12]} cannot be reached"):
        BaseCopy.of(DISK / "base", Machine(second.node_id))
