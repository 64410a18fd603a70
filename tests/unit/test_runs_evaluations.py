"""The supervisor's eye on evaluations: over a real store, with a cluster whose jobs do what the test says."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from job_cluster import JobCluster
from stored import an_evaluation

from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.runs.evaluations import Evaluations
from neuromas.services.runs.retention import Retention
from neuromas.services.settings import Settings
from neuromas.services.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio


@dataclass
class World:
    store: SqliteStore
    cluster: JobCluster
    settings: Settings

    async def round(self, room: int = 1) -> int:
        return await Evaluations(self.store, self.cluster, self.settings).round(room)

    async def state(self, id: str = "eval_1") -> str:
        return (await self.store.get(EvaluationRecord, id)).state


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    store = SqliteStore(tmp_path / "store.db")
    yield World(store, JobCluster(), Settings(data_dir=tmp_path, max_attempts=2))
    await store.close()


async def test_the_oldest_is_started_as_a_job_of_its_own(world: World) -> None:
    for id in ("eval_1", "eval_2"):
        await world.store.create(an_evaluation(id, kind="analysis"))
    assert await world.round() == 1
    assert list(world.cluster.commands["eval_1-0"][1:]) == [
        "-m",
        "neuromas.services.runs.evaluator",
        "eval_1",
        "eval_1-0",
    ]
    assert (await world.state(), await world.state("eval_2")) == ("running", "queued")


async def test_a_lost_process_is_replaced_as_often_as_allowed(world: World) -> None:
    await world.store.create(an_evaluation())
    for attempt in range(2):
        await world.round()
        world.cluster.end(f"eval_1-{attempt}", message="exit code -9")
        await world.round(room=0)
    record = await world.store.get(EvaluationRecord, "eval_1")
    assert record.state == "failed"
    assert record.error is not None
    assert record.error.message == "its process was lost: exit code -9"


async def test_the_job_of_a_cancelled_one_is_stopped_and_holds_its_place_until_it_has_ended(world: World) -> None:
    await world.store.create(an_evaluation())
    await world.store.create(an_evaluation("eval_2"))
    await world.round()
    await world.store.update(EvaluationRecord, "eval_1", {"state": "cancelled"})
    assert await world.round() == 1
    assert (world.cluster.stopped, await world.state("eval_2")) == (["eval_1-0"], "queued")
    assert await world.round() == 1
    assert (world.cluster.stopped, await world.state("eval_2")) == (["eval_1-0"], "running")


async def test_one_that_has_told_its_end_may_leave_by_itself(world: World) -> None:
    await world.store.create(an_evaluation())
    await world.round()
    await world.store.update(EvaluationRecord, "eval_1", {"state": "succeeded"})
    assert await world.round() == 0
    assert world.cluster.stopped == []


async def test_what_killed_processes_leave_is_removed(world: World) -> None:
    for id, state in (("eval_1", "queued"), ("eval_2", "running"), ("eval_3", "cancelled")):
        await world.store.create(an_evaluation(id, state=state))
    for id in ("eval_1", "eval_2", "eval_3", "eval_4"):
        (world.settings.evaluations_dir / id / "checkpoints").mkdir(parents=True)
    await Retention(world.store, world.settings).round()
    assert sorted(path.name for path in world.settings.evaluations_dir.iterdir()) == ["eval_1", "eval_2"]
