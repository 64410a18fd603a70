"""Events over HTTP, over both stores: followed as they come, taken up again, told when a run is over."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import ApiServer, error_of, events_of, queued_run, running_api, settings_over
from waiting import until

from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import events_stream, rollouts_stream
from neuromas.services.store.base import Document

FOLLOW = {"accept": "text/event-stream"}


@pytest.fixture(params=["sqlite", "redis"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiServer]:
    settings = settings_over(request.param, request, tmp_path, keep_alive_s=0.3, max_followers=20)
    with running_api(settings) as server:
        yield server


def step(number: int) -> Document:
    metrics = {"rollout/reward_mean": number / 10, "train/entropy/n1": 1.0, "train/entropy/n2": 2.0}
    return {"type": "step", "stage": 0, "step": number, "time_s": 1.0, "metrics": metrics}


def end(api: ApiServer, run_id: str, state: str = "succeeded") -> None:
    """End a run as its driver does: told first, then written down."""
    api.tell(events_stream(run_id), {"type": "state", "state": state, "time_s": 2.0})
    api.change(RunRecord, run_id, state=state)


class Follower:
    """A client that follows in a thread."""

    def __init__(self, api: ApiServer, run_id: str, headers: dict[str, str] | None = None) -> None:
        self._url = f"{api.url}/v1/runs/{run_id}/events"
        self._headers = FOLLOW | (headers or {})
        self.lines: list[str] = []
        self.opened = threading.Event()
        self.thread = threading.Thread(target=self._follow)
        self.thread.start()
        assert self.opened.wait(60)

    def _follow(self) -> None:
        with httpx.stream("GET", self._url, headers=self._headers, timeout=60, trust_env=False) as answer:
            for line in answer.iter_lines():
                self.lines.append(line)
                self.opened.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        return events_of("\n".join(self.lines))


def test_a_follower_gets_what_was_and_what_comes_until_the_end(api: ApiServer) -> None:
    run = queued_run(api)
    follower = Follower(api, run["id"])
    for number in range(1, 4):
        api.tell(events_stream(run["id"]), step(number))
    end(api, run["id"])
    follower.thread.join(60)
    assert [event["type"] for event in follower.events] == ["state", "step", "step", "step", "state", "end"]
    ids = [event["id"] for event in follower.events[:-1]]
    assert ids == sorted(set(ids))
    assert [f"id: {id}" for id in ids] == [line for line in follower.lines if line.startswith("id: ")]
    assert follower.events[-1] == {"type": "end", "state": "succeeded"}


def test_the_last_event_is_told_of_a_run_that_ends_between_two_looks(
    api: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, look = queued_run(api), api.service.store.get

    async def ended_meanwhile(kind: type[RunRecord], id: str) -> RunRecord:
        """End the run where nothing new was found and its record is about to be read."""
        monkeypatch.undo()
        await asyncio.to_thread(end, api, id)
        return await look(kind, id)

    follower = Follower(api, run["id"])
    until(lambda: follower.events)
    monkeypatch.setattr(api.service.store, "get", ended_meanwhile)
    follower.thread.join(60)
    assert [(event["type"], event["state"]) for event in follower.events] == [
        ("state", "queued"),
        ("state", "succeeded"),
        ("end", "succeeded"),
    ]


def test_a_follower_that_comes_back_goes_on_where_it_was(api: ApiServer) -> None:
    run = queued_run(api)
    api.tell(events_stream(run["id"]), *map(step, range(1, 6)))
    page = api.client.get(f"/v1/runs/{run['id']}/events").json()["data"]
    seen = next(event for event in page if event.get("step") == 3)
    follower = Follower(api, run["id"], {"last-event-id": str(seen["id"])})
    end(api, run["id"])
    follower.thread.join(60)
    assert [event.get("step") for event in follower.events[:2]] == [4, 5]
    last = follower.events[-2]["id"]
    gone = api.client.get(f"/v1/runs/{run['id']}/events", headers=FOLLOW | {"last-event-id": str(last)})
    assert (gone.status_code, gone.text) == (204, "")
    bad = api.client.get(f"/v1/runs/{run['id']}/events", headers=FOLLOW | {"last-event-id": "x"})
    assert (bad.status_code, error_of(bad)["param"]) == (422, "Last-Event-ID")


def test_a_silent_stream_is_kept_alive(api: ApiServer) -> None:
    run = queued_run(api)
    follower = Follower(api, run["id"])
    until(lambda: follower.lines.count(": keep-alive") >= 2)
    end(api, run["id"], "failed")
    follower.thread.join(60)
    assert follower.events[-1]["state"] == "failed"


def test_many_followers_get_every_event_once_and_in_order(api: ApiServer) -> None:
    run = queued_run(api)
    followers = [Follower(api, run["id"]) for _ in range(15)]
    for number in range(1, 31):
        api.tell(events_stream(run["id"]), step(number))
    end(api, run["id"])
    for follower in followers:
        follower.thread.join(60)
        assert [event["step"] for event in follower.events if event["type"] == "step"] == list(range(1, 31))


def test_beyond_the_limit_followers_are_asked_to_wait(api: ApiServer) -> None:
    run = queued_run(api)
    followers = [Follower(api, run["id"]) for _ in range(20)]
    refused = api.client.get(f"/v1/runs/{run['id']}/events", headers=FOLLOW)
    assert (refused.status_code, error_of(refused)["code"]) == (429, "too_many_followers")
    assert int(refused.headers["retry-after"]) >= 1
    polling = api.client.get(f"/v1/runs/{run['id']}/events", params={"wait_s": 5, "after": 10**6})
    assert polling.status_code == 429
    end(api, run["id"])
    for follower in followers:
        follower.thread.join(60)
    assert api.client.get(f"/v1/runs/{run['id']}/events", headers=FOLLOW).status_code == 200


def test_events_can_be_paged(api: ApiServer) -> None:
    run = queued_run(api)
    api.tell(events_stream(run["id"]), *map(step, range(1, 8)))
    steps: list[int] = []
    after, has_more = 0, True
    while has_more:
        page = api.client.get(f"/v1/runs/{run['id']}/events", params={"after": after, "limit": 3}).json()
        steps += [event["step"] for event in page["data"] if event["type"] == "step"]
        after, has_more = page["last_id"], page["has_more"]
    assert steps == list(range(1, 8))
    empty = api.client.get(f"/v1/runs/{run['id']}/events", params={"after": after}).json()
    assert empty == {"object": "list", "data": [], "has_more": False, "last_id": after}


def test_a_long_poll_ends_with_the_first_event_or_with_its_time(api: ApiServer) -> None:
    run = queued_run(api)
    path, after = f"/v1/runs/{run['id']}/events", api.client.get(f"/v1/runs/{run['id']}/events").json()["last_id"]
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(api.client.get, path, params={"after": after, "wait_s": 40})
        api.tell(events_stream(run["id"]), step(1))
        page = waiting.result(60).json()
    assert [event["step"] for event in page["data"]] == [1]
    began = time.monotonic()
    assert api.client.get(path, params={"after": page["last_id"], "wait_s": 0.2}).json()["data"] == []
    assert time.monotonic() - began >= 0.2
    assert api.client.get(path, params={"wait_s": 46}).status_code == 422


def test_metrics_are_the_steps_among_the_events(api: ApiServer) -> None:
    run = queued_run(api)
    api.tell(events_stream(run["id"]), {"type": "notice", "message": "x"}, *map(step, range(1, 6)))
    path = f"/v1/runs/{run['id']}/metrics"
    page = api.client.get(path, params={"limit": 2, "names": "train/entropy/*"}).json()
    assert page["has_more"]
    assert [point["step"] for point in page["data"]] == [1, 2]
    assert page["data"][0]["metrics"] == {"train/entropy/n1": 1.0, "train/entropy/n2": 2.0}
    rest = api.client.get(path, params={"after": page["last_id"], "names": "rollout/reward_mean"}).json()
    assert [point["metrics"]["rollout/reward_mean"] for point in rest["data"]] == [0.3, 0.4, 0.5]
    assert not rest["has_more"]


def test_rollouts_and_logs_are_streams_of_their_own(api: ApiServer) -> None:
    run = queued_run(api)
    rollout = {"stage": 0, "step": 1, "example": "e", "index": 0, "messages": [{"node": "n1", "text": "hi"}]}
    api.tell(rollouts_stream(run["id"]), rollout)
    found = api.client.get(f"/v1/runs/{run['id']}/rollouts").json()["data"]
    assert [{**entry, "id": 0} for entry in found] == [{"id": 0, **rollout}]
    assert api.client.get(f"/v1/runs/{run['id']}/logs").json()["data"] == []
    for name in ("events", "logs", "rollouts", "metrics"):
        assert api.client.get(f"/v1/runs/run_x/{name}").status_code == 404


def test_a_stopping_server_ends_its_streams_and_polls(api: ApiServer) -> None:
    run = queued_run(api)
    follower = Follower(api, run["id"])
    with ThreadPoolExecutor(1) as pool:
        after = api.client.get(f"/v1/runs/{run['id']}/events").json()["last_id"]
        poll = pool.submit(api.client.get, f"/v1/runs/{run['id']}/events", params={"after": after, "wait_s": 45})
        until(lambda: api.service.reads.places.num_taken == 2)
        api.stop()
        follower.thread.join(60)
        assert not follower.thread.is_alive()
        assert poll.result(60).json()["data"] == []
    assert "end" not in [event["type"] for event in follower.events]


def test_rollouts_are_found_over_many_pages_and_none_twice(api: ApiServer) -> None:
    run = queued_run(api)
    said = [{"node": "n1", "text": "needle" if number % 100 == 7 else "hay"} for number in range(320)]
    common = {"stage": 0, "question": "?", "answer": "a", "expected": "a", "reward": 0.0}
    api.tell(rollouts_stream(run["id"]), *({**common, "step": at, "messages": [one]} for at, one in enumerate(said)))
    path, found, after = f"/v1/runs/{run['id']}/rollouts:find", [], 0
    for _ in range(4):
        page = api.client.get(path, params={"contains": "Needle", "after": after, "limit": 1}).json()
        found += [entry["step"] for entry in page["data"]]
        after = page["last_id"]
    assert found == [7, 107, 207, 307]
    assert api.client.get(path, params={"contains": "needle", "after": after}).json() == {
        "object": "list",
        "data": [],
        "has_more": False,
        "last_id": api.client.get(f"/v1/runs/{run['id']}/rollouts", params={"limit": 500}).json()["last_id"],
    }
    assert api.client.get(path, params={"result": "good"}).status_code == 422
