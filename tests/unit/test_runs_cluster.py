"""What is said of the cluster and of endpoints is the truth also when Ray, or a machine of it, is gone."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from stored import an_endpoint

from neuromas.services.api.readiness import SILENCE_S, Readiness
from neuromas.services.records.cluster import CLUSTER_ID, ClusterRecord
from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.runs.cluster import ClusterWatch
from neuromas.services.runs.jobs import Job, RayUnavailableError
from neuromas.services.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


@dataclass
class Ray:
    """A cluster of so many living machines; None = it does not answer."""

    nodes: int | None = 1

    async def num_nodes(self) -> int:
        if self.nodes is None:
            raise RayUnavailableError("away")
        return self.nodes

    async def list(self) -> Mapping[str, Job]:
        return {}

    async def submit(self, id: str, command: Sequence[str], *, cpus: float = 0) -> None:
        raise NotImplementedError

    async def stop(self, id: str) -> None:
        raise NotImplementedError


async def checks(store: SqliteStore) -> Mapping[str, str]:
    return await Readiness(store).checks()


async def test_readiness_says_what_the_supervisor_last_saw(tmp_path: Path) -> None:
    store, ray = SqliteStore(tmp_path / "store.db"), Ray()
    assert (await checks(store))["ray"] == "unknown: no supervisor has looked at it yet"
    watch = ClusterWatch(store, ray)
    await watch.round()
    assert await checks(store) == {"store": "ok", "ray": "ok"}
    ray.nodes = 0
    await watch.round()
    assert (await checks(store))["ray"] == "none of its nodes is alive"
    ray.nodes = None
    await watch.round()
    assert (await checks(store))["ray"] == "unreachable"
    ray.nodes = 2
    await watch.round()
    assert (await checks(store))["ray"] == "ok"
    await store.close()


async def test_a_supervisor_that_says_no_more_is_no_proof(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db")
    await store.create(ClusterRecord(fault="", seen=time.time() - SILENCE_S + 20))
    assert (await checks(store))["ray"] == "ok"
    await store.update(ClusterRecord, CLUSTER_ID, {"seen": time.time() - 1000})
    found = (await checks(store))["ray"]
    assert re.fullmatch(r"unknown: no supervisor has looked at it for 10\d\d s", found), found
    await store.close()


@pytest.mark.parametrize("nodes", [None, 0])
async def test_endpoints_of_a_cluster_that_is_gone_are_not_ready(tmp_path: Path, nodes: int | None) -> None:
    store, ray = SqliteStore(tmp_path / "store.db"), Ray()
    for name, state in (("a", "ready"), ("b", "stopped")):
        await store.create(an_endpoint(name, name=name, state=state, served=1))

    async def states() -> dict[str, str]:
        return {one.name: one.state for one in (await store.list(EndpointRecord)).items}

    ray.nodes = nodes
    await ClusterWatch(store, ray).round()
    assert await states() == {"a": "ready", "b": "stopped"}  # a moment may be a restart of the dashboard
    await ClusterWatch(store, ray, unconfirmed_s=0.0).round()
    assert await states() == {"a": "deploying", "b": "stopped"}
    assert (await store.get(EndpointRecord, "a")).served is None
    await store.close()
