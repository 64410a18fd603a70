"""Endpoints: from records to Ray Serve and back, with a Serve that does what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from stored import a_checkpoint, an_endpoint

from neuromas.engines.setup import EngineSetup
from neuromas.errors import CheckpointError
from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.runs.deployments import Deployments
from neuromas.services.settings import Settings
from neuromas.services.store.sqlite import SqliteStore
from neuromas.serving.deployment_status import GraphStatus, GroupStatus, State
from neuromas.serving.group import EngineGroup, GraphSource
from neuromas.serving.load import ServerLimits
from neuromas.spec.machine import EngineSpec

pytestmark = pytest.mark.anyio


@dataclass
class Serve:
    """Ray Serve in memory: what is deployed serves as soon as ``settle`` is called."""

    groups: dict[str, EngineGroup] = field(default_factory=dict)
    served: dict[str, dict[str, int]] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    state: State = "running"
    deploys: int = 0

    def deploy(self, groups: Sequence[EngineGroup]) -> None:
        self.deploys += 1
        self.groups |= {group.name: group for group in groups}

    def settle(self) -> None:
        for group in self.groups.values():
            good = {source.name: source.generation for source in group.graphs if source.name not in self.errors}
            bad = {name: old for name, old in self.served.get(group.name, {}).items() if name in self.errors}
            self.served[group.name] = {**bad, **good}

    def status(self) -> dict[str, GroupStatus]:
        return {name: self._status(group) for name, group in self.groups.items()}

    def stop(self, name: str) -> None:
        del self.groups[name]
        self.served.pop(name, None)

    def _status(self, group: EngineGroup) -> GroupStatus:
        served = self.served.get(group.name, {})
        wanted = {source.name: source.generation for source in group.graphs}
        graphs = {
            name: GraphStatus(
                wanted.get(name, 0), served.get(name), served.get(name) == wanted.get(name), self.errors.get(name)
            )
            for name in (wanted.keys() | served.keys() if served or self.errors else ())
        }
        return GroupStatus(group.name, self.state, "why", 1, graphs, {})


def grouping(
    wanted: Sequence[GraphSource], *, replicas: Mapping[str, tuple[int, int]], limits: ServerLimits
) -> tuple[EngineGroup, ...]:
    """Put graphs together by the first letter of their names."""
    for source in wanted:
        if not Path(source.checkpoint).is_dir():
            raise CheckpointError(f"{source.checkpoint} is missing")
    letters = sorted({source.name[0] for source in wanted})
    return tuple(
        EngineGroup(
            EngineSetup(Path(letter), EngineSpec(type="vllm"), 8, ("q_proj",)),
            tuple(source for source in wanted if source.name[0] == letter),
            slots=8,
            limits=limits,
        )
        for letter in letters
    )


@dataclass
class World:
    store: SqliteStore
    serve: Serve
    deployments: Deployments
    data: Path

    async def add(self, name: str, checkpoint: str = "ckpt_1", **values: Any) -> None:
        folder = self.data / "kept" / checkpoint
        folder.mkdir(parents=True, exist_ok=True)
        await self.store.create(a_checkpoint(checkpoint, path=f"kept/{checkpoint}"))
        await self.store.create(an_endpoint(f"ep_{name}", name=name, checkpoint=checkpoint, **values))

    async def add_served(self, name: str) -> None:
        """Add an endpoint and have Serve answer for it."""
        await self.add(name)
        await self.deployments.round()
        self.serve.settle()
        await self.deployments.round()

    def later(self, **limits: float) -> Deployments:
        """Return what another process does with the same records and the same Serve."""
        return Deployments(self.store, Settings(data_dir=self.data), self.serve, grouping, **limits)

    async def change(self, name: str, **change: Any) -> None:
        await self.store.update(EndpointRecord, f"ep_{name}", change)

    async def read(self, name: str) -> EndpointRecord:
        return await self.store.get(EndpointRecord, f"ep_{name}")

    async def states(self) -> dict[str, str]:
        return {one.name: one.state for one in (await self.store.list(EndpointRecord)).items}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store, serve = SqliteStore(tmp_path / "store.db"), Serve()
    yield World(store, serve, Deployments(store, Settings(data_dir=tmp_path), serve, grouping), tmp_path)
    await store.close()


async def test_an_endpoint_is_ready_when_its_graph_is_served(world: World) -> None:
    await world.add("a")
    assert await world.deployments.round()
    assert await world.states() == {"a": "deploying"}
    world.serve.settle()
    await world.deployments.round()
    endpoint = await world.read("a")
    (group,) = world.serve.groups.values()
    assert (endpoint.state, endpoint.url, endpoint.served) == ("ready", group.route, 1)
    assert group.slots == 64
    assert group.limits == ServerLimits(max_waiting=256, deadline_s=300)


async def test_nothing_is_done_where_nothing_changes(world: World) -> None:
    await world.add_served("a")
    before = await world.read("a")
    await world.deployments.round()
    assert await world.read("a") == before
    assert world.serve.deploys == 1


async def test_a_swap_keeps_the_endpoint_ready(world: World) -> None:
    await world.add_served("a")
    await world.add("other", "ckpt_2", state="stopped")
    await world.change("a", checkpoint="ckpt_2", generation=2)
    await world.deployments.round()
    endpoint = await world.read("a")
    assert (endpoint.state, endpoint.served) == ("ready", 1)
    world.serve.settle()
    await world.deployments.round()
    assert (await world.read("a")).served == 2


async def test_an_endpoint_stays_ready_while_its_replicas_say_nothing(world: World) -> None:
    await world.add_served("a")
    world.serve.served.clear()
    await world.add("ab")
    await world.deployments.round()
    assert await world.states() == {"a": "ready", "ab": "deploying"}
    await world.later(unconfirmed_s=0.0).round()
    assert await world.states() == {"a": "deploying", "ab": "deploying"}


async def test_a_swap_that_fails_leaves_the_old_graph_and_says_why(world: World) -> None:
    await world.add("a")
    await world.deployments.round()
    world.serve.settle()
    world.serve.errors["a"] = "wrong rank"
    await world.change("a", generation=2)
    await world.deployments.round()
    world.serve.settle()
    await world.deployments.round()
    endpoint = await world.read("a")
    assert (endpoint.state, endpoint.served, endpoint.error.message) == ("ready", 1, "wrong rank")


async def test_a_swap_is_not_blamed_for_what_replicas_say_of_an_earlier_one(world: World) -> None:
    await world.add_served("a")
    world.serve.errors["a"] = "wrong rank"
    await world.change("a", generation=2)
    await world.deployments.round()
    status = world.serve.status()
    await world.change("a", generation=3, error=None)
    world.serve.status = lambda: status  # type: ignore[method-assign]
    await world.deployments.round()
    endpoint = await world.read("a")
    assert (endpoint.state, endpoint.served, endpoint.error) == ("ready", 1, None)


async def test_an_endpoint_that_nobody_serves_any_more_says_so(world: World) -> None:
    await world.add_served("a")
    world.serve.served.clear()
    await world.later(unconfirmed_s=0.0).round()
    endpoint = await world.read("a")
    assert (endpoint.state, endpoint.served) == ("deploying", None)


async def test_an_endpoint_whose_checkpoint_is_gone_fails_alone(world: World) -> None:
    await world.add("a", "ckpt_1")
    await world.add("b", "ckpt_2")
    (world.data / "kept" / "ckpt_1").rmdir()
    await world.deployments.round()
    world.serve.settle()
    await world.deployments.round()
    assert await world.states() == {"a": "failed", "b": "ready"}
    assert "ckpt_1 is missing" in (await world.read("a")).error.message


async def test_an_application_that_fails_fails_its_endpoints(world: World) -> None:
    await world.add("a")
    world.serve.state = "failed"
    await world.deployments.round()
    endpoint = await world.read("a")
    assert (endpoint.state, endpoint.error.code) == ("failed", "deploy_failed")
    await world.deployments.round()
    assert world.serve.groups == {}


async def test_a_stopped_endpoint_leaves_the_others(world: World) -> None:
    await world.add("a")
    await world.add("ab")
    await world.deployments.round()
    world.serve.settle()
    await world.deployments.round()
    await world.change("a", wanted="stop")
    await world.deployments.round()
    world.serve.settle()
    await world.deployments.round()
    assert await world.states() == {"a": "stopped", "ab": "ready"}
    await world.change("ab", wanted="stop")
    await world.deployments.round()
    await world.deployments.round()
    assert await world.states() == {"a": "stopped", "ab": "stopped"}
    assert world.serve.groups == {}
    assert not await world.deployments.round()


async def test_what_serve_has_lost_is_deployed_again(world: World) -> None:
    await world.add_served("a")
    world.serve.groups.clear()
    world.serve.served.clear()
    await world.deployments.round()
    assert await world.states() == {"a": "deploying"}
    world.serve.settle()
    await world.deployments.round()
    assert await world.states() == {"a": "ready"}


async def test_another_process_goes_on(world: World) -> None:
    await world.add_served("a")
    before = await world.read("a")
    again = world.later()
    await again.round()
    assert await world.read("a") == before
