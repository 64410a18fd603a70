"""What clients see while Redis is away and when it is back: a clear 503, streams that stay and miss nothing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from api_server import RUN, ApiServer, error_of, events_of, queued_run, running_api
from redis_server import RedisServer, running_redis
from waiting import until

from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import events_stream
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def api(redis_server: RedisServer, tmp_path: Path) -> Iterator[ApiServer]:
    settings = Settings(data_dir=tmp_path / "data", store_url=redis_server.url, port=0, keep_alive_s=0.5)
    with running_api(settings) as server:
        yield server


def step(number: int) -> Document:
    return {"type": "step", "stage": 0, "step": number, "time_s": 0.0, "metrics": {"x": float(number)}}


def test_while_the_store_is_away_every_request_says_so_and_then_all_is_as_it_was(
    api: ApiServer, redis_server: RedisServer
) -> None:
    run = queued_run(api)
    keyed = {"idempotency-key": "a"}
    redis_server.kill()
    for method, path, body in (
        ("GET", "/v1/runs", None),
        ("GET", f"/v1/runs/{run['id']}", None),
        ("GET", f"/v1/runs/{run['id']}/events", None),
        ("POST", "/v1/runs", RUN),
        ("POST", "/v1/topologies", {"chain": 2}),
        ("POST", f"/v1/runs/{run['id']}/cancel", None),
        ("GET", "/metrics", None),
        ("GET", "/v1/models", None),
    ):
        for headers in ({}, keyed):
            answer = api.client.request(method, path, json=body, headers=headers)
            assert (answer.status_code, error_of(answer)["code"]) == (503, "store_unavailable"), f"{method} {path}"
            assert int(answer.headers["retry-after"]) >= 1
    assert api.client.get("/healthz").status_code == 200
    assert api.client.get("/readyz").json()["checks"]["store"] == "unreachable"
    redis_server.start()
    assert api.client.get(f"/v1/runs/{run['id']}").json() == run
    assert len(api.client.get("/v1/runs").json()["data"]) == 1
    assert api.client.post("/v1/runs", json=RUN, headers=keyed).status_code == 202
    # What was found a moment ago is told again for a while.
    until(lambda: api.client.get("/readyz").json()["checks"]["store"] == "ok")


def test_followers_stay_and_miss_nothing(api: ApiServer, redis_server: RedisServer) -> None:
    run = queued_run(api)
    lines: list[str] = []

    def collect() -> None:
        url, headers = f"{api.url}/v1/runs/{run['id']}/events", {"accept": "text/event-stream"}
        with httpx.stream("GET", url, headers=headers, timeout=120, trust_env=False) as answer:
            for line in answer.iter_lines():
                lines.append(line)  # noqa: PERF402 - seen as they come

    def wait_for(text: str) -> None:
        until(lambda: any(text in line for line in lines), lambda: lines)

    thread = threading.Thread(target=collect)
    thread.start()
    api.tell(events_stream(run["id"]), step(1))
    wait_for('"step":1')
    redis_server.kill()
    wait_for(": the store is away")
    redis_server.start()
    api.tell(events_stream(run["id"]), step(2), step(3))
    wait_for('"step":3')
    api.change(RunRecord, run["id"], state="succeeded")
    api.tell(events_stream(run["id"]), {"type": "state", "state": "succeeded", "time_s": 0.0})
    thread.join(60)
    events = events_of("\n".join(lines))
    assert [event["step"] for event in events if event["type"] == "step"] == [1, 2, 3]
    assert events[-1] == {"type": "end", "state": "succeeded"}
