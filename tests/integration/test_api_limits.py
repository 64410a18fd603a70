"""Limits and the edges of HTTP: sizes, methods, headers, health, metrics."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import RUN, ApiServer, error_of, queued_run, running_api, settings_over

from neuromas.services.records.run import RunRecord

MAX_BODY = 20_000


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    folder = tmp_path_factory.mktemp("api")
    settings = settings_over("sqlite", request, folder, max_body_bytes=MAX_BODY, max_spec_bytes=5000)
    with running_api(settings) as server:
        yield server


def test_a_body_beyond_the_limit_is_refused_whether_its_length_is_told_or_not(api: ApiServer) -> None:
    large = json.dumps({"name": "x" * (MAX_BODY + 1)}).encode()
    headers = {"content-type": "application/json"}

    def pieces() -> Iterator[bytes]:
        for begin in range(0, len(large), 1000):
            yield large[begin : begin + 1000]

    for content in (large, pieces()):
        answer = api.client.post("/v1/topologies", content=content, headers=headers)
        assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large")


def test_a_spec_has_a_limit_of_its_own(api: ApiServer) -> None:
    for path, body in (
        ("/v1/runs", RUN | {"prompt": {"instruction": "x" * 6000}}),
        ("/v1/topologies", {"chain": 2, "name": "x" * 6000}),
        ("/v1/topologies:validate", RUN | {"prompt": {"instruction": "x" * 6000}}),
    ):
        answer = api.client.post(path, json=body)
        assert (answer.status_code, error_of(answer)["code"]) == (413, "too_large"), path


@pytest.mark.parametrize("length", ["-1", "abc", "99999999999999999999999999"])
def test_a_length_that_is_none_does_no_harm(api: ApiServer, length: str) -> None:
    connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=30)
    connection.putrequest("POST", "/v1/topologies")
    connection.putheader("content-type", "application/json")
    connection.putheader("content-length", length)
    connection.endheaders()
    assert connection.getresponse().status in (400, 413)
    connection.close()


def test_wrong_methods_are_told_what_is_allowed(api: ApiServer) -> None:
    answer = api.client.put("/v1/runs", json={})
    assert (answer.status_code, error_of(answer)["code"]) == (405, "method_not_allowed")
    assert answer.headers["allow"]


def test_head_is_get_without_a_body(api: ApiServer) -> None:
    for path in ("/v1/runs", "/healthz", "/health", "/", "/v1/models"):
        head, whole = api.client.head(path), api.client.get(path)
        assert (head.status_code, head.content) == (200, b""), path
        assert head.headers["content-length"] == whole.headers["content-length"]
    run = queued_run(api)
    assert api.client.head(f"/v1/runs/{run['id']}/events", headers={"accept": "text/event-stream"}).status_code == 200
    assert api.client.head("/v1/runs/none").status_code == 404


def test_pages_of_named_origins_may_ask_with_a_key(request: pytest.FixtureRequest, tmp_path: Path) -> None:
    known = "https://chat.example"
    with running_api(settings_over("sqlite", request, tmp_path, auth="keys", cors_origins=(known,))) as server:
        asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
        answer = server.client.options("/v1/runs", headers=asked | {"origin": known})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, known)
        answer = server.client.options("/v1/runs", headers=asked | {"origin": "https://evil.example"})
        assert "access-control-allow-origin" not in answer.headers
        for origin, status in ((known, 401), ("https://evil.example", 403)):
            assert server.client.post("/v1/runs", json=RUN, headers={"origin": origin}).status_code == status
    with pytest.raises(ValueError, match="needs keys"):
        settings_over("sqlite", request, tmp_path, cors_origins=(known,))


def test_every_answer_has_security_headers(api: ApiServer) -> None:
    for path in ("/", "/v1/runs", "/nowhere", "/healthz"):
        headers = api.client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "server" not in headers
    page = api.client.get("/").headers["content-security-policy"]
    assert "script-src 'self'" in page
    assert "unsafe" not in page
    assert api.client.get("/v1/runs").headers["cache-control"] == "no-store"


def test_no_path_of_a_request_reaches_a_file(api: ApiServer) -> None:
    for path in ("/assets/../app.py", "/assets/%2e%2e/settings.py", "/../etc/passwd", "/assets//etc/passwd"):
        connection = http.client.HTTPConnection(api.url.removeprefix("http://"), timeout=30)
        connection.request("GET", path)
        assert connection.getresponse().status == 404
        connection.close()


def test_readiness_names_what_is_missing(api: ApiServer) -> None:
    answer = api.client.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["store"]) == (503, "ok")
    assert answer.json()["checks"]["ray"] != "ok"


def test_prometheus_reads_requests_and_runs(api: ApiServer) -> None:
    run = queued_run(api)
    api.change(
        RunRecord,
        run["id"],
        state="running",
        started=run["created"] + 5,
        latest={"time/step_s": 2.0, "rollout/tokens": 100.0},
    )
    text = api.client.get("/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert float(lines['neuromas_requests_total{method="POST",route="/v1/runs",status="202"}']) >= 1
    assert lines['neuromas_runs{state="running"}'] == "1.0"
    assert lines[f'neuromas_run_step_seconds{{run="{run["id"]}"}}'] == "2.0"
    assert lines[f'neuromas_run_tokens_per_second{{run="{run["id"]}"}}'] == "50.0"
    assert lines[f'neuromas_run_wait_seconds{{run="{run["id"]}"}}'] == "5.0"


def test_paths_and_methods_that_nobody_knows_make_no_series_of_their_own(api: ApiServer) -> None:
    api.client.get("/a/b/c")
    api.client.request("BREW", "/v1/runs")
    text = api.client.get("/metrics").text
    assert "/a/b/c" not in text
    assert "BREW" not in text


def test_capabilities_say_what_a_submit_may_ask_for(api: ApiServer) -> None:
    found: dict[str, Any] = api.client.get("/v1/capabilities").json()
    assert {"chain", "tree", "file"} <= set(found["tasks"])
    assert found["bases"] == ["tiny"]
    assert {"append", "widen", "deepen", "connect", "graft", "prune", "before_output"} == set(found["edits"])
    assert found["limits"]["max_spec_bytes"] == 5000
    assert not found["keys_required"]
    import jsonschema

    jsonschema.validate(RUN, found["run_schema"])
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(RUN | {"foo": 1}, found["run_schema"])
