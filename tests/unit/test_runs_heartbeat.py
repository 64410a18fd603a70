"""The driver's side of the store: one driver at a time, nothing told twice, and a store that may be away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from store_place import until
from stored import a_run

from neuromas.journal import lines as journal
from neuromas.services.records.run import RunRecord, Wanted
from neuromas.services.records.streams import events_stream
from neuromas.services.runs.checkpoints import CheckpointRegistrar
from neuromas.services.runs.forward import Forwarder
from neuromas.services.runs.heartbeat import Assignment, Heartbeat, claim, driver_lease, persistently, release
from neuromas.services.runs.progress import ProgressObserver
from neuromas.services.runs.state import SupersededError, after_full_disk, after_loss, after_stop
from neuromas.services.settings import Settings
from neuromas.services.store.base import StoreUnavailableError
from neuromas.services.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio
RUN, JOB = "run_1", "run_1-0"


class Driver:
    """A driver without training: what it tells, and what it was told."""

    def __init__(self, assignment: Assignment, folder: Path) -> None:
        self.wanted: list[Wanted] = []
        self.is_broken = False
        self.heartbeat = Heartbeat(
            assignment,
            ProgressObserver(),
            Forwarder(assignment.store, RUN, folder, folder / "log.jsonl"),
            CheckpointRegistrar(assignment.store, RUN, folder, folder.parent),
            on_wanted=self.wanted.append,
            on_broken=self._break,
        )

    def _break(self) -> None:
        self.is_broken = True


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path / "store.db")
    await store.create(a_run(RUN, state="running", job=JOB, max_attempts=2))
    yield store
    await store.close()


@pytest.fixture
def assignment(store: SqliteStore, tmp_path: Path) -> Assignment:
    return Assignment(RUN, JOB, Settings(data_dir=tmp_path, heartbeat_s=0.01, lost_after_s=60), store)


async def test_a_driver_takes_its_run(assignment: Assignment) -> None:
    run = await claim(assignment)
    assert run.heartbeat > 0
    assert not await assignment.store.acquire(driver_lease(RUN), "another", 1)
    await release(assignment)
    assert await assignment.store.acquire(driver_lease(RUN), "another", 1)


async def test_a_driver_waits_for_one_that_was_taken_for_dead(assignment: Assignment) -> None:
    assert await assignment.store.acquire(driver_lease(RUN), "run_1-before", 0.1)
    assert (await claim(assignment)).job == JOB


@pytest.mark.parametrize("change", [{"job": "run_1-1"}, {"state": "cancelled"}])
async def test_a_driver_leaves_a_run_that_is_not_its_own(assignment: Assignment, change: dict[str, Any]) -> None:
    await assignment.store.update(RunRecord, RUN, change)
    with pytest.raises(SupersededError):
        await claim(assignment)


async def test_what_is_wanted_reaches_the_driver_once(assignment: Assignment, tmp_path: Path) -> None:
    driver = Driver(assignment, tmp_path)
    await driver.heartbeat.start()
    for wanted in ("pause", "pause", "cancel"):
        await assignment.store.update(RunRecord, RUN, {"wanted": wanted})

        async def is_heard(wanted: str = wanted) -> bool:
            return driver.heartbeat.wanted == wanted

        await until(is_heard)
    assert driver.wanted in ([Wanted.PAUSE, Wanted.CANCEL], [Wanted.CANCEL])
    await driver.heartbeat.deliver(after_stop, "stopped")
    assert (await assignment.store.get(RunRecord, RUN)).state == "cancelled"


async def test_a_driver_that_was_replaced_is_told_so(assignment: Assignment, tmp_path: Path) -> None:
    driver = Driver(assignment, tmp_path)
    await driver.heartbeat.start()
    await assignment.store.update(RunRecord, RUN, {"job": "run_1-1"})

    async def is_broken() -> bool:
        return driver.is_broken

    await until(is_broken)


async def test_the_end_is_told_after_everything_else_and_once(assignment: Assignment, tmp_path: Path) -> None:
    driver = Driver(assignment, tmp_path)
    await driver.heartbeat.start()
    lines = journal.Journal(tmp_path / "metrics.jsonl")
    lines.append(*({"stage": 0, "step": step, "time_s": step} for step in range(1, 301)))
    lines.close()
    await driver.heartbeat.deliver(lambda run: {"state": "succeeded", "accuracy": 0.5}, "done")
    run = await assignment.store.get(RunRecord, RUN)
    assert (run.state, run.accuracy) == ("succeeded", 0.5)
    events = [entry.document for entry in await assignment.store.read(events_stream(RUN), limit=1000)]
    assert [event.get("step", event["type"]) for event in events] == [*range(1, 301), "state"]
    assert events[-1].items() >= {"state": "succeeded", "message": "done"}.items()
    with pytest.raises(SupersededError):
        await driver.heartbeat.deliver(lambda run: {"state": "failed"}, "")
    assert (await assignment.store.get(RunRecord, RUN)).version == run.version


async def test_a_store_that_was_away_gets_the_rest() -> None:
    tries = 0

    async def work() -> int:
        nonlocal tries
        tries += 1
        if tries < 2:
            raise StoreUnavailableError("away")
        return tries

    assert await persistently(work) == 2


async def test_a_store_that_stays_away_is_given_up() -> None:
    async def work() -> None:
        raise StoreUnavailableError("away")

    with pytest.raises(StoreUnavailableError):
        await asyncio.wait_for(persistently(work, give_up_s=0.0), 30)


def test_a_lost_driver_is_replaced_as_often_as_allowed() -> None:
    run = a_run(attempt=4, max_attempts=2)
    assert after_loss(run, "driver_lost", "why") == {"state": "queued", "attempt": 5, "failures": 1}
    end = after_loss(run.model_copy(update={"failures": 1}), "driver_lost", "why")
    assert (end["state"], end["failures"], end["error"].code) == ("failed", 2, "driver_lost")
    assert "why" in end["error"].message


def test_a_run_on_a_full_disk_is_paused_with_the_reason() -> None:
    paused = after_full_disk(a_run(attempt=4), "storage", "a cannot be written: No space left; make space")
    error = paused.pop("error")
    assert paused == {"state": "paused", "wanted": "pause", "attempt": 5}
    assert error is not None
    assert (error.code, error.message) == (
        "storage",
        "a cannot be written: No space left; make space; then resume the run",
    )
    assert after_full_disk(a_run(wanted="cancel"), "storage", "why")["state"] == "cancelled"


@pytest.mark.parametrize(
    ("wanted", "change"),
    [("pause", {"state": "paused", "attempt": 1}), ("run", {"state": "queued", "attempt": 1})],
)
def test_a_run_that_was_stopped_goes_where_it_is_wanted(wanted: str, change: dict[str, Any]) -> None:
    assert after_stop(a_run(wanted=wanted)) == change
