"""The gate in front of a server of graphs: its token, its names, and what a web page can forge."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import httpx
import pytest
from served_app import served

from neuromas.engines.scripted import ScriptedEngine
from neuromas.serving.app import make_app
from neuromas.serving.graph_server import GraphServer

CHAT = "/v1/chat/completions"
BODY = {"model": "g", "messages": [{"role": "user", "content": "x"}], "neuromas": {"trace": True}}
BEARER = {"Authorization": "Bearer right"}
get, post = partial(httpx.get, timeout=60), partial(httpx.post, timeout=60)


@pytest.fixture(scope="module")
def server() -> Iterator[GraphServer]:
    server = GraphServer(lambda: ScriptedEngine(lambda call: [1]))
    yield server
    server.close()


def code_of(answer: httpx.Response) -> tuple[int, str | None]:
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return answer.status_code, error["code"]


def test_only_who_brings_the_token_is_answered(server: GraphServer) -> None:
    with served(make_app(server, "right")) as url:
        for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "right"}, {"X-Api-Key": "right"}):
            assert code_of(post(f"{url}{CHAT}", json=BODY, headers=headers)) == (401, "invalid_api_key")
            assert get(f"{url}/v1/models", headers=headers).status_code == 401
        assert get(f"{url}/healthz").status_code == 200
        assert get(f"{url}/v1/models", headers=BEARER).json()["data"] == []
        assert code_of(post(f"{url}{CHAT}", json=BODY, headers=BEARER)) == (404, "model_not_found")


def test_no_page_of_another_site_reaches_a_server_of_this_machine(server: GraphServer) -> None:
    with served(make_app(server, loopback_only=True)) as url:
        for host in ("evil.com", "127.0.0.1.evil.com", "localhost.evil.com:80", "", "10.0.0.1"):
            answer = post(f"{url}{CHAT}", json=BODY, headers={"Host": host})
            assert (answer.status_code, host) == (421, host)
        for host in ("localhost", "127.0.0.1:8000", "[::1]:80", "LOCALHOST."):
            answer = post(f"{url}{CHAT}", json=BODY, headers={"Host": host})
            assert code_of(answer) == (404, "model_not_found"), host


def test_what_is_no_route_is_told_in_the_one_shape(server: GraphServer) -> None:
    with served(make_app(server)) as url:
        assert code_of(get(f"{url}/nowhere")) == (404, None)
        assert code_of(get(f"{url}{CHAT}")) == (405, None)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""])
def test_what_a_form_can_send_is_no_question(server: GraphServer, kind: str) -> None:
    with served(make_app(server)) as url:
        answer = post(f"{url}{CHAT}", content=b"{}", headers={"Content-Type": kind} if kind else {})
        assert answer.status_code == 415
