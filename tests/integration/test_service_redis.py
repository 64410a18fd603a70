"""The service over a Redis that is killed and started again during a run: no gap, no duplicate, no wrong answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from redis_server import RedisServer, running_redis
from service_process import ServiceProcess, running_service, slow

pytestmark = pytest.mark.timeout(1800)
STEPS = 40


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServer]:
    folder = tmp_path / "redis"
    folder.mkdir()
    with running_redis(folder, "secret") as server:
        yield server


@pytest.fixture
def service(redis: RedisServer, tmp_path: Path) -> Iterator[ServiceProcess]:
    with running_service(tmp_path / "data", store_url=redis.url, store_password="secret") as service:
        yield service


def test_redis_comes_back_during_a_run(service: ServiceProcess, redis: RedisServer) -> None:
    run_id = str(service.post("/v1/runs", slow(steps=STEPS, checkpoint={"every": 5}))["id"])
    for step in (3, 12):
        service.wait_for_step(run_id, step)
        redis.kill()
        answer = httpx.get(f"{service.url}/v1/runs/{run_id}", timeout=30)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "store_unavailable"
        assert "retry-after" in answer.headers
        redis.start()
        service.wait_for("an answer", lambda: service.get(f"/v1/runs/{run_id}")["state"] == "running")
    with service.remote() as remote:
        told = [event for event in remote.events(run_id) if event["type"] == "step"]
    assert [event["step"] for event in told] == list(range(1, STEPS + 1))
    run = service.wait_for_state(run_id, "succeeded", "failed")
    assert (run["state"], run["attempt"]) == ("succeeded", 0), service.words()
    assert service.steps(run_id) == list(range(1, STEPS + 1))
    assert "secret" not in service.words()
