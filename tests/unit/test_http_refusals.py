"""A refusal arrives whole, however much of its request is still to come, and the connection ends without a reset."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from waiting import until

from neuromas.serving import lingering
from neuromas.serving.http_server import HttpServer, over_h11

WAIT_S = 60.0
NUM_BYTES = 32 * 2**20
"""More than the buffers of both ends hold: a client that sends them all waits for a server that reads."""
HEAD = b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n"
ANSWER = [(b"content-type", b"text/plain"), (b"content-length", b"9")]


async def refuse(scope: Any, receive: Any, send: Any) -> None:
    """Answer without a look at the body."""
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 413, "headers": ANSWER})
    await send({"type": "http.response.body", "body": b"too large"})


@contextmanager
def refusing(protocol: str) -> Iterator[HttpServer]:
    """Give a server that refuses everything."""
    server = HttpServer(uvicorn.Config(refuse, lifespan="off", log_config=None, timeout_graceful_shutdown=1))
    if protocol == "h11":
        server.config.http = over_h11()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        until(lambda: server.started or not thread.is_alive())
        try:
            yield server
        finally:
            server.should_exit = True
            thread.join()


def connect(server: HttpServer) -> socket.socket:
    return socket.create_connection(server.servers[0].sockets[0].getsockname(), timeout=WAIT_S)


def told_until_end(client: socket.socket) -> bytes:
    return b"".join(iter(lambda: client.recv(2**16), b""))


@pytest.mark.parametrize("protocol", ["httptools", "h11"])
@pytest.mark.parametrize(
    ("begin", "rest", "status"),
    [
        (HEAD + b"X-Long: ", b"x" * NUM_BYTES, 400),
        (b"\x16\x03\x01 no HTTP \r\n\r\n", b"x" * NUM_BYTES, 400),
        (HEAD + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % NUM_BYTES, b"x" * NUM_BYTES, 413),
        (HEAD + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % NUM_BYTES, b"x" * NUM_BYTES, 413),
    ],
    ids=["headers without end", "no HTTP", "told length", "chunks"],
)
def test_what_is_sent_after_a_refusal_is_read(
    protocol: str, begin: bytes, rest: bytes, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 3600.0)
    with refusing(protocol) as server, connect(server) as client:
        client.sendall(begin)
        client.sendall(rest)
        told = told_until_end(client)
    assert told.startswith(b"HTTP/1.1 %d " % status), told
    assert told.lower().count(b"connection: close") == 1


@pytest.mark.parametrize("protocol", ["httptools", "h11"])
def test_a_client_that_never_ends_is_left(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lingering.LINGER_S == 10
    monkeypatch.setattr(lingering, "LINGER_S", 0.1)
    with refusing(protocol) as server, connect(server) as client:
        client.sendall(HEAD + b"Connection: close\r\nContent-Length: 9\r\n\r\n")
        assert told_until_end(client).endswith(b"too large")
        until(lambda: not server.server_state.connections)


@pytest.mark.parametrize("protocol", ["httptools", "h11"])
def test_a_connection_whose_request_is_whole_is_closed_at_once(protocol: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lingering, "LINGER_S", 3600.0)
    with refusing(protocol) as server, connect(server) as client:
        client.sendall(HEAD + b"Connection: close\r\nContent-Length: 9\r\n\r\nthe body.")
        assert told_until_end(client).endswith(b"too large")
        until(lambda: not server.server_state.connections)
