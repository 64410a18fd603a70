"""One key cannot take all places of streams, exports or questions: the next key finds one."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from api_server import RUN, ApiServer, checkpoint_of, error_of, running_api, settings_over

from neuromas.services.keys import make_key
from neuromas.services.records.endpoint import EndpointRecord
from neuromas.services.store.base import Document

Headers = dict[str, str]
FOLLOWERS = 8


@pytest.fixture
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(settings_over("sqlite", request, tmp_path, auth="keys", max_followers=FOLLOWERS)) as server:
        yield server


def key(api: ApiServer) -> tuple[str, Headers]:
    made, text = api.store(lambda store: make_key(store, "test", ["read", "train", "serve"]))
    return made.id, {"authorization": f"Bearer {text}"}


def run_of(api: ApiServer, headers: Headers) -> Document:
    run: Document = api.client.post("/v1/runs", json=RUN, headers=headers).raise_for_status().json()
    return run


def test_of_streams_a_key_gets_half(api: ApiServer) -> None:
    (_, greedy), (_, other) = key(api), key(api)
    path = f"/v1/runs/{run_of(api, greedy)['id']}/events"

    with ExitStack() as opened:

        def follow(headers: Headers) -> int:
            request = api.client.stream("GET", path, headers=headers | {"accept": "text/event-stream"})
            return opened.enter_context(request).status_code

        assert [follow(greedy) for _ in range(FOLLOWERS)] == [200] * 4 + [429] * 4
        assert follow(other) == 200


def test_of_exports_a_key_gets_half(api: ApiServer) -> None:
    (id, greedy), (_, other) = key(api), key(api)
    path = f"/v1/checkpoints/{checkpoint_of(api, run_of(api, greedy), 3)['id']}/export"
    with api.service.exports.place(id), api.service.exports.place(id):
        refused = api.client.get(path, headers=greedy)
        assert (refused.status_code, error_of(refused)["code"]) == (429, "too_many_exports")
        # It has a place, and then no weights to pack.
        assert error_of(api.client.get(path, headers=other))["code"] == "checkpoint"


def test_of_questions_a_key_gets_half(api: ApiServer) -> None:
    (_, greedy), (_, other) = key(api), key(api)
    asked, may_answer = threading.Semaphore(0), threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.release()
            may_answer.wait(60)
            self.send_error(503)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Silent)
    threading.Thread(target=server.serve_forever).start()
    checkpoint = checkpoint_of(api, run_of(api, greedy), 3)
    wish = {"name": "solver", "checkpoint": checkpoint["id"]}
    endpoint = api.client.post("/v1/endpoints", json=wish, headers=greedy).json()
    api.change(EndpointRecord, endpoint["id"], state="ready", url=f"http://127.0.0.1:{server.server_port}")

    def ask(headers: Headers) -> httpx.Response:
        body = {"model": "solver", "messages": [{"role": "user", "content": "f 1 2"}], "n": 16}
        return api.client.post("/v1/chat/completions", json=body, headers=headers)

    places = 128 + api.settings.serving_queue
    held = places // 2 // 16
    with ThreadPoolExecutor(held + 1) as pool:
        try:
            first = [pool.submit(ask, greedy) for _ in range(held)]
            assert all(asked.acquire(timeout=30) for _ in first)
            refused = ask(greedy)
            assert (refused.status_code, error_of(refused)["code"]) == (429, "too_busy")
            last = pool.submit(ask, other)
            assert asked.acquire(timeout=30), "the question of another key is passed on"
        finally:
            may_answer.set()
        assert 429 not in {answer.result().status_code for answer in (*first, last)}
    server.shutdown()
    server.server_close()
