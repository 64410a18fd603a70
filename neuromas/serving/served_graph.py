"""A trained graph behind HTTP in threads of this process, and the socket it answers at."""

from __future__ import annotations

import ipaddress
import socket
from threading import Event, Thread
from typing import Self

import uvicorn
from typing_extensions import override

from neuromas.errors import Fault, NeuroMASError, SpecError
from neuromas.serving.app import make_app
from neuromas.serving.graph_server import GraphServer
from neuromas.serving.http_server import HttpServer


class ServedGraph:
    """A graph behind HTTP; ``close`` or the end of a ``with`` block finishes the answers under way and stops it.

    Attributes:
        url: base URL for OpenAI clients, such as http://127.0.0.1:8000/v1.
        model: name of the model.
    """

    def __init__(self, server: GraphServer, listener: socket.socket, model: str) -> None:
        """Start to answer what comes to a bound socket; both the server and the socket are closed in the end."""
        self.url = f"{base_url(listener)}/v1"
        self.model = model
        self._server = server
        self._listener = listener
        is_private = ipaddress.ip_address(listener.getsockname()[0]).is_loopback
        config = uvicorn.Config(
            make_app(server, loopback_only=is_private),
            log_level="warning",
            access_log=False,
            timeout_graceful_shutdown=int(server.limits.drain_s),
        )
        self._http = _Announced(config)
        self._thread = Thread(target=self._http.run, args=([listener],), name="serve", daemon=True)
        self._thread.start()
        while not self._http.has_started.wait(timeout=1):
            if not self._thread.is_alive():
                self.close()
                raise NeuroMASError("the HTTP server did not start; its log says why")

    def close(self) -> None:
        """Stop. Safe to call twice."""
        self._http.should_exit = True
        self._thread.join()
        self._server.close()
        self._listener.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"ServedGraph({self.model!r} at {self.url})"


class _Announced(HttpServer):
    """Tells when it takes requests."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.has_started = Event()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.has_started.set()


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; port 0 = a free one.

    Raises:
        SpecError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        reason = error.strerror or str(error)
        message = f"got {host}:{port}, which cannot be bound: {reason}; choose another port, 0 for a free one"
        raise SpecError("the server cannot start", [Fault("host, port", message)]) from error
    return listener


def base_url(listener: socket.socket) -> str:
    """Return the URL of a bound socket."""
    host, port = listener.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
