"""Clients that are slow, or send what is too large to be looked at, do not keep others waiting."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from urllib.parse import urlsplit

import pytest
from api_server import ApiServer, error_of, running_api, settings_over

from neuromas.services.api.readiness import Readiness
from neuromas.services.store.sqlite import SqliteStore
from neuromas.serving import lingering
from neuromas.serving.http_server import MAX_HEADER_BYTES

WAIT_S = 60.0


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api(settings_over("sqlite", request, tmp_path_factory.mktemp("api"))) as server:
        yield server


def connect(api: ApiServer) -> socket.socket:
    address = urlsplit(api.url)
    return socket.create_connection((address.hostname or "", address.port or 0), timeout=WAIT_S)


def told_until_closed(connection: socket.socket) -> bytes:
    told = b""
    while part := connection.recv(65536):
        told += part
    return told


def test_a_request_that_does_not_come_loses_its_connection(api: ApiServer) -> None:
    """After how many seconds is what test_http_server.py says."""
    with connect(api) as silent, connect(api) as slow:
        slow.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow:")
        assert [told_until_closed(connection) for connection in (silent, slow)] == [b"", b""]


def test_a_client_that_leaves_is_counted_as_such_and_breaks_nothing(
    api: ApiServer, caplog: pytest.LogCaptureFixture
) -> None:
    for path in ("/v1/runs", "/v1/chat/completions", "/v1/topologies:validate"):
        with connect(api) as connection:
            headers = "Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 99"
            connection.sendall(f"POST {path} HTTP/1.1\r\n{headers}\r\n\r\n{{".encode())
        line = f'neuromas_requests_total{{method="POST",route="{path}",status="499"}} 1.0'
        deadline = monotonic() + WAIT_S
        while line not in (text := api.client.get("/metrics").text):
            assert monotonic() < deadline, text
        assert f'route="{path}",status="500"' not in text
    assert "request crashed" not in caplog.text


def test_headers_without_end_are_refused(api: ApiServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 3600.0)
    with connect(api) as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for number in range(100 * MAX_HEADER_BYTES // 1000):
            connection.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1000))
        told = told_until_closed(connection)
    assert told.startswith(b"HTTP/1.1 4")


def test_websockets_are_not_spoken(api: ApiServer) -> None:
    with connect(api) as connection:
        connection.sendall(
            b"GET /v1/models HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert connection.recv(12) == b"HTTP/1.1 200"


def test_two_million_values_are_refused_at_once(api: ApiServer) -> None:
    raw = b'{"name": [' + b"1," * 1_999_999 + b"1]}"
    for path in ("/v1/runs", "/v1/topologies", "/v1/topologies:validate", "/v1/chat/completions", "/v1/endpoints"):
        answer = api.client.post(path, content=raw, headers={"content-type": "application/json"})
        assert (answer.status_code, error_of(answer)["code"]) == (422, "invalid_request"), path
        assert "100000 values" in answer.text


class CountingStore(SqliteStore):
    """Counts how often it is looked at."""

    num_looks = 0

    async def ping(self) -> None:
        self.num_looks += 1
        await super().ping()


@pytest.mark.anyio
async def test_many_who_ask_whether_it_is_ready_cost_one_look(tmp_path: Path) -> None:
    store = CountingStore(tmp_path / "store.db")
    readiness = Readiness(store)
    answers = await asyncio.gather(*(readiness.checks() for _ in range(300)))
    assert {answer["store"] for answer in answers} == {"ok"}
    assert store.num_looks == 1
    await asyncio.gather(*(readiness.checks() for _ in range(300)))
    assert store.num_looks <= 2  # the second only where what was found has grown old meanwhile
    await store.close()


def test_a_format_in_an_instruction_is_refused(api: ApiServer) -> None:
    spec = {"topology": {"chain": 2}, "task": {"type": "chain", "hops": 2}}
    for instruction in (
        "{layer:>999999999}",
        "{layer!r}",
        "{layer.__class__}",
        "{0}",
        "{max_tokens:{width}}",
        "{",
        "{role}",
    ):
        answer = api.client.post("/v1/runs", json=spec | {"prompt": {"renderer": "plain", "instruction": instruction}})
        assert (answer.status_code, error_of(answer)["param"]) == (422, "prompt.instruction"), instruction
    fine = "Layer {layer} of {depth}, {index} of {width}: {{x}} in {max_tokens}."
    body = spec | {"prompt": {"renderer": "plain", "instruction": fine}}
    assert api.client.post("/v1/topologies:validate", json=body).is_success
