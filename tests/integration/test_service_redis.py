"""The service over Redis while its parts are killed during a run: no gap, no duplicate, no wrong answer."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from redis_server import RedisServer, running_redis
from service_chat import chatting
from service_process import (
    ALONE,
    DEADLINE_S,
    ServiceProcess,
    check_whole,
    command,
    descendants,
    is_alive,
    running_service,
    slow,
    tiny,
)
from service_watch import watching
from waiting import until

from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.registry import make_task

pytestmark = [pytest.mark.service, pytest.mark.ray, pytest.mark.timeout(1800)]
STEPS = 20
PARTS = (
    "neuromas.services.api",
    "ray::ServeReplica",
    "ray::ProxyActor",
    "neuromas.services.runs.deployments",
    "neuromas.services.runs.supervisor",
)
"""Words of the command lines of what stands between a question and its answer."""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with running_redis(tmp_path_factory.mktemp("redis"), "secret") as server:
        yield server


@pytest.fixture(scope="module")
def shared(redis: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    data = tmp_path_factory.mktemp("service") / "data"
    with running_service(data, store_url=redis.url, store_password="secret") as service:
        yield service


@pytest.fixture
def service(shared: ServiceProcess, redis: RedisServer) -> Iterator[ServiceProcess]:
    """The module's service, with its Redis up and no run under way before and after the test."""
    yield shared
    redis.restart()
    shared.cancel_all()
    assert "secret" not in shared.words()


def check_end(service: ServiceProcess, run_id: str, attempt: int, steps: int = STEPS) -> None:
    run = service.wait_for_state(run_id, "succeeded", "failed")
    assert (run["error"], run["attempt"]) == (None, attempt), service.words()
    check_whole(service, run_id, steps)


def test_redis_comes_back_during_a_run(service: ServiceProcess, redis: RedisServer) -> None:
    run_id = str(service.post("/v1/runs", slow(steps=STEPS, runtime=ALONE))["id"])
    for step in (3, 8):
        service.wait_for_step(run_id, step)
        redis.kill()
        answer = service.client.get(f"/v1/runs/{run_id}")
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "store_unavailable"
        assert "retry-after" in answer.headers
        redis.start()
        service.wait_for_state(run_id, "running", "succeeded")
    with service.remote() as remote:
        told = [event for event in remote.events(run_id) if event["type"] == "step"]
    assert [event["step"] for event in told] == list(range(1, STEPS + 1))
    check_end(service, run_id, 0)


def test_every_part_is_killed_during_one_run(service: ServiceProcess, redis: RedisServer) -> None:
    """With a second supervisor that waits for the lease, and the API, the workers, the driver and Redis killed."""
    headers, steps = {"Idempotency-Key": "the-one-run"}, 40
    body = slow(steps=steps, checkpoint={"every": 5})
    run_id = str(service.client.post("/v1/runs", json=body, headers=headers).json()["id"])
    with service.beside("neuromas.services.runs.supervisor"), watching(service.url, run_id) as watch:

        def wait_for_steps() -> None:
            seen = len(watch.steps)
            service.wait_for("more steps", lambda: len(watch.steps) > seen)

        service.wait_for_step(run_id, 3)
        os.kill(service.find("ray::RolloutActor")[0], signal.SIGKILL)
        service.wait_for_event(run_id, "notice", lambda event: "rollout worker 0 was lost" in event["message"])
        service.kill("neuromas.services.api")
        wait_for_steps()
        service.kill("neuromas.services.runs.supervisor")
        redis.kill()
        service.wait_for("Redis is missed", lambda: watch.refusals > 0)
        redis.start()
        wait_for_steps()
        assert len(watch.steps) < steps
        service.kill("neuromas.services.runs.driver", run_id)
        service.kill("neuromas.services.api")
        service.wait_for("the run's end", lambda: watch.steps == list(range(1, steps + 1)))
    assert watch.wrong == []
    assert watch.answers > steps
    check_end(service, run_id, 1, steps)
    lost = [event["attempt"] for event in service.events(run_id) if event["type"] == "driver_lost"]
    assert lost == [0]
    again = service.client.post("/v1/runs", json=body, headers=headers)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (run_id, "true")
    assert [run["id"] for run in service.get("/v1/runs", state="succeeded")["data"]].count(run_id) == 1


def test_an_endpoint_gives_no_wrong_answer_while_parts_are_killed(service: ServiceProcess, redis: RedisServer) -> None:
    """The API, the replica, Serve's proxy, supervisor, the process that deploys, and Redis, one after the other."""
    run = service.wait_for_state(service.post("/v1/runs", tiny(steps=4, runtime=ALONE))["id"], "succeeded", "failed")
    assert run["error"] is None
    spec = parse_run_spec(run["spec"])
    task = make_task(spec.task, spec.seed)
    questions = [task.example("test", number).prompt for number in range(8)]
    service.post("/v1/endpoints", {"name": "solver", "checkpoint": f"{run['id']}@latest"})
    service.wait_for("the endpoint", lambda: service.get("/v1/endpoints/solver")["state"] == "ready")
    with chatting(service.url, "solver", questions) as chatter:

        def wait_for_answers(after: str) -> None:
            seen = chatter.right
            service.wait_for(f"answers after {after}", lambda: chatter.right >= seen + 20)

        wait_for_answers("the start")
        for part in PARTS:
            service.kill(part)
            wait_for_answers(part)
        redis.kill()
        service.wait_for("Redis is missed", lambda: chatter.refusals.get("store_unavailable", 0) > 0)
        redis.start()
        wait_for_answers("Redis came back")
    assert chatter.wrong == []
    assert chatter.refusals.keys() >= {"store_unavailable"}
    assert service.client.delete("/v1/endpoints/solver").status_code == 200
    service.wait_for("the end", lambda: service.get("/v1/endpoints/solver")["state"] == "stopped")


def test_a_killed_service_leaves_nothing_running(shared: ServiceProcess) -> None:
    """Ends the module's service: the last test that uses it."""
    family = descendants(shared.process.pid)
    assert len(family) > 5
    shared.process.kill()
    shared.process.wait()
    until(lambda: not any(map(is_alive, family)), lambda: [command(pid) for pid in family if is_alive(pid)], DEADLINE_S)
