"""Who may ask what: keys, scopes, quotas, hosts, pages of other sites."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import RUN, ApiServer, checkpoint_of, error_of, running_api, settings_over

from neuromas.report.verdict import verdict
from neuromas.services.api.server import check_store
from neuromas.services.keys import make_key, revoke_key
from neuromas.services.logs import JsonFormatter
from neuromas.services.records.evaluation import EvaluationRecord
from neuromas.services.records.key import Scope
from neuromas.services.records.run import RunRecord
from neuromas.services.settings import Settings, SettingsError

CHAT = {"model": "none", "messages": [{"role": "user", "content": "hello"}]}


@pytest.fixture(params=["sqlite", "redis"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(settings_over(request.param, request, tmp_path, auth="keys")) as server:
        yield server


def key(api: ApiServer, *scopes: str, **quota: int) -> tuple[str, dict[str, str]]:
    """Make a key; returns its id and the header that uses it."""
    made, text = api.store(lambda store: make_key(store, "test", scopes or tuple(Scope), quota or None))
    return made.id, {"authorization": f"Bearer {text}"}


def ask(api: ApiServer, method: str, path: str, headers: dict[str, str], body: Any = None) -> httpx.Response:
    return api.client.request(method, path, headers=headers, json=body)


def test_without_a_valid_key_only_health_and_pages_answer(api: ApiServer) -> None:
    _, valid = key(api)
    wrong = {"authorization": valid["authorization"][:-3] + "xxx"}
    for headers in (
        {},
        wrong,
        {"authorization": "Basic abc"},
        {"authorization": "Bearer"},
        {"authorization": "Bearer nmk_x_y"},
    ):
        for method, path in (("GET", "/v1/runs"), ("POST", "/v1/runs"), ("GET", "/metrics"), ("GET", "/v1/models")):
            answer = ask(api, method, path, headers)
            assert (answer.status_code, error_of(answer)["type"]) == (401, "authentication_error")
            assert answer.headers["www-authenticate"] == "Bearer"
    assert [api.client.get(path).status_code for path in ("/healthz", "/", "/openapi.json")] == [200] * 3
    assert api.client.get("/readyz").status_code in (200, 503)
    assert ask(api, "GET", "/v1/runs", valid).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "scopes"),
    [
        ("GET", "/v1/runs", None, {"read"}),
        ("GET", "/v1/topologies", None, {"read"}),
        ("GET", "/v1/runs/run_x", None, {"read"}),
        ("GET", "/v1/runs/run_x/rollouts/1/prompt?node=n1", None, {"read"}),
        ("GET", "/v1/runs/run_x/questions/1/prompt?node=n1", None, {"read"}),
        ("POST", "/v1/topologies:validate", {"chain": 1}, {"read"}),
        ("GET", "/metrics", None, {"read"}),
        ("POST", "/v1/topologies", {"chain": 1}, {"train"}),
        ("POST", "/v1/runs", RUN, {"train"}),
        ("POST", "/v1/runs/run_x/cancel", None, {"train"}),
        ("POST", "/v1/runs/run_x/grow", {}, {"train"}),
        ("POST", "/v1/runs/run_x/grow:validate", {}, {"read"}),
        ("POST", "/v1/evaluations", {"checkpoint": "c"}, {"train"}),
        ("POST", "/v1/evaluations/eval_x/cancel", None, {"train"}),
        ("DELETE", "/v1/checkpoints/ckpt_x", None, {"train"}),
        ("POST", "/v1/endpoints", {"name": "a", "checkpoint": "c"}, {"serve"}),
        ("DELETE", "/v1/endpoints/ep_x", None, {"serve"}),
        ("POST", "/v1/chat/completions", CHAT, {"serve"}),
        ("GET", "/v1/models", None, {"read", "serve"}),
        ("GET", "/v1/endpoints", None, {"read", "serve"}),
        ("GET", "/v1/capabilities", None, {"read", "serve"}),
    ],
)
def test_scopes(api: ApiServer, method: str, path: str, body: Any, scopes: set[str]) -> None:
    for scope in Scope:
        answer = ask(api, method, path, key(api, scope)[1], body)
        assert (answer.status_code == 403) == (scope not in scopes), f"{scope}: {answer.text}"
        if answer.status_code == 403:
            assert error_of(answer)["code"] == "missing_scope"


def test_a_key_that_may_only_read_is_told_what_a_run_has_come_to(api: ApiServer) -> None:
    (_, training), (_, reading) = key(api, "train", "read"), key(api, "read")
    run = ask(api, "POST", "/v1/runs", training, RUN).json()
    figure = {"correct": 96.0, "examples": 100, "value": 0.96, "low": 0.9, "high": 0.98}
    api.change(RunRecord, run["id"], state="succeeded", result={"accuracy": {"greedy": figure}})
    answer = ask(api, "GET", f"/v1/runs/{run['id']}", reading)
    assert (answer.status_code, answer.json()["verdict"]) == (200, verdict({"accuracy": {"greedy": figure}}))
    assert "96.0 %" in answer.json()["verdict"]
    assert ask(api, "PATCH", f"/v1/runs/{run['id']}", reading, {"tags": ["mine"]}).status_code == 403
    assert ask(api, "DELETE", f"/v1/runs/{run['id']}", reading).status_code == 403


def test_a_revoked_key_is_refused(api: ApiServer) -> None:
    id, headers = key(api)
    api.store(lambda store: revoke_key(store, id))
    assert ask(api, "GET", "/v1/runs", headers).status_code == 401


def test_a_quota_of_requests_holds_per_key(api: ApiServer) -> None:
    _, limited = key(api, "read", requests_per_minute=3)
    _, free = key(api, "read")
    codes = [ask(api, "GET", "/v1/runs", limited) for _ in range(8)]  # a minute may end in between
    refused = [answer for answer in codes if answer.status_code == 429]
    assert len(refused) >= 2
    assert error_of(refused[0])["code"] == "rate_limited"
    assert 1 <= int(refused[0].headers["retry-after"]) <= 60
    assert {ask(api, "GET", "/v1/runs", free).status_code for _ in range(8)} == {200}


def test_a_quota_of_unfinished_runs_holds_under_concurrency(api: ApiServer) -> None:
    _, headers = key(api, "train", "read", max_queued_runs=2)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(api, "POST", "/v1/runs", headers, RUN), range(6)))
    assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429, 429]
    made = [answer.json()["id"] for answer in answers if answer.status_code == 202]
    ask(api, "POST", f"/v1/runs/{made[0]}/cancel", headers).raise_for_status()
    assert ask(api, "POST", "/v1/runs", headers, RUN).status_code == 202
    refused = ask(api, "POST", "/v1/runs", headers, RUN)
    assert (refused.status_code, error_of(refused)["code"]) == (429, "too_many_runs")


def test_a_quota_of_unfinished_evaluations_holds_under_concurrency(api: ApiServer) -> None:
    _, headers = key(api, "train", "read", max_queued_evaluations=2)
    run = ask(api, "POST", "/v1/runs", headers, RUN).json()
    wish = {"checkpoint": checkpoint_of(api, run, 3)["id"]}
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: ask(api, "POST", "/v1/evaluations", headers, wish), range(6)))
    assert sorted(answer.status_code for answer in answers) == [202, 202, 429, 429, 429, 429]
    first, second = (answer.json()["id"] for answer in answers if answer.status_code == 202)
    api.change(EvaluationRecord, first, state="running")
    refused = ask(api, "POST", "/v1/evaluations", headers, wish)
    assert (refused.status_code, error_of(refused)["code"]) == (429, "too_many_evaluations")
    message = "2 evaluations are unfinished; this key may have 2 (max_queued_evaluations)"
    assert error_of(refused)["message"] == message
    assert ask(api, "POST", "/v1/evaluations", key(api, "train")[1], wish).status_code == 202
    ask(api, "POST", f"/v1/evaluations/{second}/cancel", headers).raise_for_status()
    assert ask(api, "POST", "/v1/evaluations", headers, wish).status_code == 202


def test_a_run_belongs_to_the_key_that_submitted_it(api: ApiServer) -> None:
    id, headers = key(api)
    assert ask(api, "POST", "/v1/runs", headers, RUN).json()["owner"] == id


def test_answers_kept_under_an_idempotency_key_are_the_callers_own(api: ApiServer) -> None:
    answers = [
        ask(api, "POST", "/v1/runs", key(api)[1] | {"idempotency-key": "same"}, RUN).json()["id"] for _ in range(2)
    ]
    assert answers[0] != answers[1]
    anonymous = ask(api, "POST", "/v1/runs", {"idempotency-key": "same"}, RUN)
    assert anonymous.status_code == 401


def test_keys_are_in_no_log_line(api: ApiServer, caplog: pytest.LogCaptureFixture) -> None:
    _, headers = key(api)
    text = headers["authorization"].removeprefix("Bearer ")
    with caplog.at_level(logging.DEBUG):
        ask(api, "GET", f"/v1/runs?after={text}", headers)
        ask(api, "POST", "/v1/runs", headers | {"x-request-id": "mine-1"}, {"base": text})
    lines = [JsonFormatter().format(record) for record in caplog.records]
    ours = [json.loads(line) for line in lines if '"neuromas.services.' in line]
    assert {line["path"] for line in ours if "path" in line} >= {"/v1/runs"}
    assert text not in "".join(json.dumps(line) for line in ours)


def test_a_request_keeps_its_own_id_or_gets_one(api: ApiServer) -> None:
    assert api.client.get("/healthz", headers={"x-request-id": "mine-1"}).headers["x-request-id"] == "mine-1"
    for given in ("", "a b", "x" * 65, "a/b"):
        found = api.client.get("/healthz", headers={"x-request-id": given}).headers["x-request-id"]
        assert found.startswith("req_")


@pytest.fixture
def open_api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(settings_over("sqlite", request, tmp_path)) as server:
        yield server


def test_without_keys_a_page_cannot_reach_the_service_under_its_own_name(open_api: ApiServer) -> None:
    port = open_api.url.rpartition(":")[2]
    for host in (f"127.0.0.1:{port}", f"localhost:{port}", "[::1]:80", "LOCALHOST", "127.9.9.9"):
        assert open_api.client.get("/v1/runs", headers={"host": host}).status_code == 200, host
    for host in ("evil.example", f"evil.example:{port}", "127.0.0.1.evil.example", "8.8.8.8", "[::2]", "["):
        answer = open_api.client.get("/v1/runs", headers={"host": host})
        assert (answer.status_code, error_of(answer)["code"]) == (421, "wrong_host"), host


def test_names_of_hosts_are_compared_as_dns_does(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    with running_api(settings_over("sqlite", request, tmp_path, allowed_hosts=("Neuro.example",))) as api:
        for host, status in (("neuro.example", 200), ("NEURO.example:80", 200), ("127.0.0.1", 421)):
            assert api.client.get("/v1/runs", headers={"host": host}).status_code == status, host
        pair = {"host": "NEURO.example", "origin": "https://neuro.example"}
        assert api.client.post("/v1/runs", json=RUN, headers=pair).status_code == 202


def test_a_page_of_another_site_cannot_change_anything(open_api: ApiServer) -> None:
    run = open_api.client.post("/v1/runs", json=RUN, headers={"origin": open_api.url}).json()
    for origin in ("http://evil.example", "null", "http://127.0.0.1:1", "https://localhost", "http://[", ""):
        answer = open_api.client.post(f"/v1/runs/{run['id']}/cancel", headers={"origin": origin})
        assert (answer.status_code, error_of(answer)["code"]) == (403, "cross_origin"), origin
    form = open_api.client.post("/v1/runs", content=json.dumps(RUN), headers={"content-type": "text/plain"})
    assert form.status_code == 415
    assert open_api.client.get(f"/v1/runs/{run['id']}").json()["state"] == "queued"


def test_another_address_than_the_loopback_needs_keys_to_begin(tmp_path: Path) -> None:
    import asyncio

    settings = Settings(data_dir=tmp_path, host="0.0.0.0")
    with pytest.raises(SettingsError, match=r"neuromas keys create --scope read,train,serve` and the --data"):
        asyncio.run(check_store(settings))

    async def begin() -> None:
        from neuromas.services.store.open import open_store

        store = open_store(settings)
        await make_key(store, "first", ["read"])
        await store.close()
        await check_store(settings)

    asyncio.run(begin())
    asyncio.run(check_store(Settings(data_dir=tmp_path / "other")))
