"""Idempotency-Key over HTTP, over both stores: what is sent again is answered again, and made once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from api_server import RUN, ApiServer, checkpoint_of, error_of, queued_run, running_api, settings_over

from neuromas.services.records.endpoint import EndpointRecord


@pytest.fixture(params=["sqlite", "redis"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(settings_over(request.param, request, tmp_path)) as server:
        yield server


def post(api: ApiServer, path: str, body: object, key: str) -> httpx.Response:
    return api.client.post(path, json=body, headers={b"idempotency-key": key})


def test_the_same_key_and_body_make_one_run_and_get_one_answer(api: ApiServer) -> None:
    first = post(api, "/v1/runs", RUN, "a")
    api.client.post(f"/v1/runs/{first.json()['id']}/cancel").raise_for_status()
    again = post(api, "/v1/runs", RUN, "a")
    assert (again.status_code, again.content) == (202, first.content)
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    other = post(api, "/v1/runs", RUN, "b")
    assert other.json()["id"] != first.json()["id"]
    assert len(api.client.get("/v1/runs").json()["data"]) == 2


def test_a_key_is_for_one_body_and_one_route(api: ApiServer) -> None:
    post(api, "/v1/runs", RUN, "a").raise_for_status()
    for path, body in (("/v1/runs", RUN | {"name": "other"}), ("/v1/topologies", RUN), ("/v1/runs?limit=1", RUN)):
        answer = post(api, path, body, "a")
        assert answer.status_code in (409, 422)
        assert error_of(answer)["code"] in ("idempotency_key_reused", "invalid_request")
    assert len(api.client.get("/v1/runs").json()["data"]) == 1


def test_many_at_once_make_one(api: ApiServer) -> None:
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(api, "/v1/runs", RUN, "together"), range(8)))
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["id"] for answer in answers}) == 1
    assert len(api.client.get("/v1/runs").json()["data"]) == 1


def test_a_move_that_is_sent_again_is_not_made_again(api: ApiServer) -> None:
    run = queued_run(api)
    path = f"/v1/runs/{run['id']}"
    first = post(api, f"{path}/pause", None, "p")
    api.client.post(f"{path}/resume").raise_for_status()
    again = post(api, f"{path}/pause", None, "p")
    assert again.json() == first.json()
    assert api.client.get(path).json()["state"] == "queued"


def test_a_refusal_stands_too(api: ApiServer) -> None:
    run = queued_run(api)
    path = f"/v1/runs/{run['id']}"
    refused = post(api, f"{path}/resume", None, "r")
    assert refused.status_code == 409
    api.client.post(f"{path}/pause").raise_for_status()
    again = post(api, f"{path}/resume", None, "r")
    assert (again.status_code, again.json()) == (409, refused.json())
    bad = post(api, "/v1/runs", {"foo": 1}, "bad")
    assert post(api, "/v1/runs", {"foo": 1}, "bad").json() == bad.json()


def test_every_post_takes_a_key(api: ApiServer) -> None:
    run = queued_run(api)
    checkpoint = checkpoint_of(api, run, 1)["id"]
    plan = {"plan": {"edits": [{"edit": "append", "layers": [1]}]}}
    bodies = {
        "/v1/topologies": {"chain": 2},
        "/v1/topologies:validate": {"chain": 2},
        f"/v1/runs/{run['id']}/grow": plan,
        f"/v1/runs/{run['id']}/grow:validate": plan,
        "/v1/evaluations": {"checkpoint": checkpoint},
        "/v1/endpoints": {"name": "e", "checkpoint": checkpoint},
        "/v1/chat/completions": {"model": "none", "messages": [{"role": "user", "content": "x"}]},
    }
    for number, (path, body) in enumerate(bodies.items()):
        first = post(api, path, body, f"key-{number}")
        again = post(api, path, body, f"key-{number}")
        assert (again.status_code, again.json()) == (first.status_code, first.json()), path
        assert again.headers["idempotency-replayed"] == "true"


@pytest.mark.parametrize("key", [b"", b"a b", b"x" * 256, b"\xe9"])
def test_keys_that_are_none_are_refused(api: ApiServer, key: bytes) -> None:
    answer = api.client.post("/v1/topologies", json={"chain": 1}, headers={b"idempotency-key": key})
    assert (answer.status_code, error_of(answer)["param"]) == (400, "Idempotency-Key")


def test_a_server_that_died_half_way_makes_nothing_twice(api: ApiServer) -> None:
    """The first server queued the run and died before it answered: its claim stands, its answer is missing."""
    first = post(api, "/v1/runs", RUN, "a").json()
    if api.settings.uses_sqlite:
        import sqlite3

        with sqlite3.connect(api.settings.sqlite_file) as file:
            file.execute("DELETE FROM answers WHERE key LIKE '%/answer'")
        file.close()
    else:
        import redis

        with redis.Redis.from_url(api.settings.store_url) as client:
            for key in client.scan_iter("*/answer"):
                client.delete(key)
    again = post(api, "/v1/runs", RUN, "a")
    assert "idempotency-replayed" not in again.headers
    assert again.json() == first
    assert len(api.client.get("/v1/runs").json()["data"]) == 1


def test_a_name_that_is_taken_is_told_to_all_but_one(api: ApiServer) -> None:
    run = queued_run(api)
    checkpoints = [checkpoint_of(api, run, step)["id"] for step in (1, 2)]

    def deploy(checkpoint: str) -> int:
        return api.client.post("/v1/endpoints", json={"name": "solver", "checkpoint": checkpoint}).status_code

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(deploy, checkpoints)) == [202, 409]
    assert len(api.client.get("/v1/endpoints").json()["data"]) == 1
    assert api.store(lambda store: store.list(EndpointRecord)).items[0].generation == 1
