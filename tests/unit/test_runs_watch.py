"""The supervisor's eye on runs: over a real store, with a cluster whose jobs do what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from job_cluster import JobCluster
from stored import a_run

from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import events_stream
from neuromas.services.runs.heartbeat import driver_lease
from neuromas.services.runs.jobs import Job, RayUnavailableError
from neuromas.services.runs.watch import RunWatch
from neuromas.services.settings import Settings
from neuromas.services.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


@dataclass
class World:
    store: SqliteStore
    cluster: JobCluster
    settings: Settings
    watch: RunWatch

    async def add(self, id: str, **values: Any) -> None:
        await self.store.create(a_run(id, **{"max_attempts": 3, "created": 1, **values}))

    async def run(self, id: str = "run_1") -> RunRecord:
        return await self.store.get(RunRecord, id)

    async def states(self) -> dict[str, str]:
        return {run.id: run.state for run in (await self.store.list(RunRecord)).items}

    async def round(self, room: int = 1) -> None:
        await self.watch.look()
        await self.watch.start(room)

    async def beat(self, id: str = "run_1", heartbeat: float = 1.0) -> None:
        await self.store.update(RunRecord, id, {"heartbeat": heartbeat})

    async def told(self, id: str = "run_1") -> list[str]:
        events = [entry.document for entry in await self.store.read(events_stream(id))]
        return [event["state"] if event["type"] == "state" else event["type"] for event in events]

    def another_supervisor(self) -> None:
        self.watch = RunWatch(self.store, self.cluster, self.settings)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store, cluster = SqliteStore(tmp_path / "store.db"), JobCluster()
    settings = Settings(data_dir=tmp_path, heartbeat_s=0.01, lost_after_s=0.05)
    yield World(store, cluster, settings, RunWatch(store, cluster, settings))
    await store.close()


async def test_a_run_is_started_as_a_job_of_its_own(world: World) -> None:
    await world.add("run_1")
    await world.round()
    run = await world.run()
    assert (run.state, run.job, run.heartbeat) == ("running", "run_1-0", None)
    assert run.started is not None
    assert list(world.cluster.commands["run_1-0"][1:]) == ["-m", "neuromas.services.runs.driver", "run_1", "run_1-0"]
    assert await world.told() == ["running"]


async def test_no_more_runs_than_there_is_room_for(world: World) -> None:
    for number in range(5):
        await world.add(f"run_{number}", created=number)
    await world.round(room=2)
    await world.round(room=2)
    assert sorted(world.cluster.jobs) == ["run_0-0", "run_1-0"]


async def test_a_lost_driver_is_replaced_and_the_reason_kept(world: World) -> None:
    await world.add("run_1")
    await world.round()
    await world.beat()
    await world.store.acquire(driver_lease("run_1"), "run_1-0", 600)
    world.cluster.end("run_1-0", message="exit code -9")
    await world.round()
    assert await world.store.acquire(driver_lease("run_1"), "run_1-1", 1), "the next driver need not wait"
    run = await world.run()
    assert (run.state, run.job, run.attempt, run.failures) == ("running", "run_1-1", 1, 1)
    assert await world.told() == ["running", "driver_lost", "queued", "running"]
    events = [entry.document for entry in await world.store.read(events_stream("run_1"))]
    assert "exit code -9" in events[1]["message"]


async def test_a_driver_that_is_lost_too_often_fails_the_run(world: World) -> None:
    await world.add("run_1", max_attempts=3)
    for attempt in range(3):
        await world.round()
        world.cluster.end(f"run_1-{attempt}", message="exit code -9")
    await world.round()
    run = await world.run()
    assert (run.state, run.failures) == ("failed", 3)
    assert run.error.code == "driver_lost"
    assert "exit code -9" in run.error.message
    assert sorted(world.cluster.jobs) == ["run_1-0", "run_1-1", "run_1-2"]


async def test_a_run_whose_job_was_never_submitted_is_submitted_by_the_next_supervisor(world: World) -> None:
    await world.add("run_1")
    world.cluster.is_away = True
    with pytest.raises(RayUnavailableError):
        await world.round()
    assert (await world.run()).state == "running"
    world.cluster.is_away = False
    world.another_supervisor()
    await world.round()
    assert list(world.cluster.jobs) == ["run_1-0"]
    assert (await world.run()).attempt == 0


async def test_another_supervisor_goes_on_and_submits_nothing_twice(world: World) -> None:
    await world.add("run_1")
    await world.round()
    await world.beat()
    before = await world.run()
    world.another_supervisor()
    await world.round()
    assert await world.run() == before
    assert list(world.cluster.commands) == ["run_1-0"]


async def test_a_job_that_a_new_cluster_does_not_know_is_waited_for_while_its_driver_lives(world: World) -> None:
    await world.add("run_1")
    await world.round()
    await world.beat()
    world.cluster.jobs.clear()
    await world.store.acquire(driver_lease("run_1"), "run_1-0", 60)
    await world.round()
    assert (await world.run()).job == "run_1-0"
    await world.store.release(driver_lease("run_1"), "run_1-0")
    await world.round()
    run = await world.run()
    assert (run.job, run.failures) == ("run_1-1", 1)


async def test_a_silent_driver_is_stopped(world: World) -> None:
    await world.add("run_1")
    await world.round()
    await world.beat()
    while not world.cluster.stopped:
        await world.watch.look()
    assert world.cluster.stopped == ["run_1-0"]
    await world.round()
    assert (await world.run()).job == "run_1-1"


async def test_silence_during_an_outage_does_not_count(world: World) -> None:
    await world.add("run_1")
    await world.round()
    await world.beat()
    await world.watch.look()
    sign = world.watch._signs["run_1"]
    sign.seen_s -= 1_000
    world.watch.outage()
    await world.watch.look()
    assert world.cluster.stopped == []


@pytest.mark.parametrize(("wanted", "state", "attempt"), [("cancel", "cancelled", 0), ("pause", "paused", 1)])
async def test_what_is_wanted_holds_when_the_driver_ends_without_saying_so(
    world: World, wanted: str, state: str, attempt: int
) -> None:
    await world.add("run_1")
    await world.round()
    await world.store.update(RunRecord, "run_1", {"wanted": wanted})
    world.cluster.end("run_1-0")
    await world.round()
    run = await world.run()
    assert (run.state, run.attempt, run.failures) == (state, attempt, 0)
    assert await world.told() == ["running", state]


async def test_a_job_that_has_not_begun_is_stopped_at_once(world: World) -> None:
    await world.add("run_1")
    await world.round()
    world.cluster.jobs["run_1-0"] = Job("run_1-0", "PENDING")
    await world.store.update(RunRecord, "run_1", {"wanted": "cancel"})
    await world.round()
    await world.round()
    assert world.cluster.stopped == ["run_1-0"]
    assert (await world.run()).state == "cancelled"


async def test_a_driver_has_time_for_its_checkpoint(world: World) -> None:
    await world.add("run_1")
    await world.round()
    await world.store.update(RunRecord, "run_1", {"wanted": "pause"})
    await world.round()
    await world.round()
    assert world.cluster.stopped == []


@pytest.mark.parametrize(
    ("before", "wanted", "after"),
    [("queued", "cancel", "cancelled"), ("queued", "pause", "paused"), ("paused", "cancel", "cancelled"),
     ("paused", "run", "queued"), ("paused", "pause", "paused"), ("queued", "run", "queued")],
)  # fmt: skip
async def test_runs_without_a_driver_are_moved_as_wanted(world: World, before: str, wanted: str, after: str) -> None:
    await world.add("run_1", state=before, wanted=wanted)
    await world.watch.look()
    assert await world.states() == {"run_1": after}


async def test_a_resumed_run_is_a_new_job(world: World) -> None:
    await world.add("run_1")
    await world.round()
    await world.store.update(RunRecord, "run_1", {"wanted": "pause"})
    world.cluster.end("run_1-0", "SUCCEEDED")
    await world.round()
    await world.store.update(RunRecord, "run_1", {"wanted": "run", "state": "queued"})
    await world.round()
    run = await world.run()
    assert (run.job, run.state, run.failures) == ("run_1-1", "running", 0)


async def test_a_failed_run_is_left_alone(world: World) -> None:
    await world.add("run_1", state="failed", attempt=2, job="run_1-2")
    before = await world.run()
    await world.round()
    assert await world.run() == before
    assert world.cluster.jobs == {}
