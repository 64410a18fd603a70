"""ApiServer: the real API over a real store, on a free port, for tests to send requests to."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import httpx

from services.api.server import Server, listen, make_server
from services.settings import Settings
from services.store.base import Document, Kind, Store
from services.store.open import open_store

T = TypeVar("T")
START_S = 30.0


class ApiServer:
    """A server in a thread; requests go over real connections.

    Attributes:
        settings: of the service.
        url: where it answers.
        client: a client without a key.
    """

    def __init__(self, settings: Settings, server: Server, url: str) -> None:
        self.settings = settings
        self.url = url
        self.client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        self._server = server

    def stop(self) -> None:
        """Begin to stop, as a signal does."""
        self._server.stop()

    def store(self, work: Callable[[Store], Awaitable[T]]) -> T:
        """Do something with the store, as another process would."""

        async def run() -> T:
            store = open_store(self.settings)
            try:
                return await work(store)
            finally:
                await store.close()

        return asyncio.run(run())

    def put(self, kind: Kind, document: Document) -> Document:
        """Add a document; one that is there already is replaced."""

        async def add(store: Store) -> Document:
            await store.delete(kind, document["id"])
            stored, _ = await store.create(kind, document)
            return stored

        return self.store(add)

    def change(self, kind: Kind, id: str, **change: Any) -> Document:
        """Change a document, as the supervisor would."""
        return self.store(lambda store: store.update(kind, id, change))

    def tell(self, stream: str, *events: Document) -> None:
        """Append events to a stream, each under a key of its own."""

        async def append(store: Store) -> int:
            keyed = [(f"test/{time.monotonic_ns()}/{index}", event) for index, event in enumerate(events)]
            return await store.append(stream, keyed)

        self.store(append)


@contextmanager
def running_api(settings: Settings) -> Iterator[ApiServer]:
    """Give a server that answers; it is stopped at the end."""
    server, listener = make_server(settings), listen(settings)
    host, port = listener.getsockname()[:2]
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    api = ApiServer(settings, server, f"http://{host}:{port}")
    try:
        deadline = time.monotonic() + START_S
        while not server.started:
            assert thread.is_alive(), "the server ended at once"
            assert time.monotonic() < deadline, f"the server did not start within {START_S} s"
            time.sleep(0.005)
        yield api
    finally:
        api.client.close()
        server.stop()
        thread.join()
        listener.close()


def error_of(response: httpx.Response) -> dict[str, Any]:
    """Return the error of an answer, after checking that it has the one shape."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message", "param", "type", "faults"}
    error: dict[str, Any] = body["error"]
    return error
