"""ApiServer: the real API over a real store, on a free port, for tests to send requests to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
from redis_server import RedisServer
from waiting import until

from neuromas.services.api.server import Server, listen, make_server
from neuromas.services.api.service import Service
from neuromas.services.records.checkpoint import CheckpointRecord
from neuromas.services.records.record import Record
from neuromas.services.settings import Settings
from neuromas.services.store.base import Document, Store
from neuromas.services.store.open import open_store

T = TypeVar("T")
START_S = 30.0
RUN = {"name": "small", "topology": {"chain": 2}, "task": {"type": "chain", "hops": 2}, "training": {"steps": 2}}


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

    @property
    def service(self) -> Service:
        """What the routes share."""
        service: Service = self._server.config.app.state.service  # type: ignore[union-attr]
        return service

    def at(self, place: str) -> str:
        """Return the address of a page of the dashboard."""
        return f"{self.url}/{place}"

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

    def put(self, record: Record) -> Document:
        """Add a record; one that is there already is replaced."""

        async def add(store: Store) -> Document:
            await store.delete(type(record), record.id)
            stored, _ = await store.create(record)
            return stored.to_document()

        return self.store(add)

    def change(self, kind: type[Record], id: str, **change: Any) -> Document:
        """Update a record, as the supervisor would; what has not begun is begun before it ends."""

        async def update(store: Store) -> Document:
            stored, state = await store.get(kind, id), change.get("state")
            if state not in (None, stored.state, *stored.moves.get(stored.state, ())):
                await store.update(kind, id, {"state": "running"})
            return (await store.update(kind, id, change)).to_document()

        return self.store(update)

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
        until(lambda: server.started or not thread.is_alive(), within_s=START_S)
        assert server.started, "the server ended at once"
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


def settings_over(store: str, request: pytest.FixtureRequest, folder: Path, **given: Any) -> Settings:
    """Return settings of a service on the loopback whose state is kept in "sqlite" or "redis"."""
    server: RedisServer | None = request.getfixturevalue("empty_redis") if store == "redis" else None
    url = "sqlite" if server is None else server.url
    return Settings(data_dir=folder / "data", store_url=url, port=0, **given)


def queued_run(api: ApiServer, **changes: Any) -> Document:
    """Submit a small run and return it."""
    answer = api.client.post("/v1/runs", json=RUN | changes)
    assert answer.status_code == 202, answer.text
    document: Document = answer.json()
    return document


def checkpoint_of(api: ApiServer, run: Document, step: int, accuracy: float | None = None, stage: int = 0) -> Document:
    """Add a checkpoint to a run as its driver would: the record, and the graph on disk."""
    name = f"stage-{stage}-{step:06d}"
    path = f"runs/{run['id']}/{run['name']}/kept/{name}"
    folder = api.settings.data_dir / path
    folder.mkdir(parents=True)
    (folder / "topology.json").write_text(json.dumps(run["spec"]["topology"]))
    return api.put(
        CheckpointRecord(
            id="ckpt_" + hashlib.sha256(f"{run['id']}/{name}".encode()).hexdigest()[:16],
            run=run["id"],
            stage=stage,
            stage_name=f"stage-{stage}",
            step=step,
            path=path,
            nodes=len(run["spec"]["topology"]["nodes"]),
            accuracy=accuracy,
        )
    )


def events_of(text: str) -> list[dict[str, Any]]:
    """Return the data of the events in a stream, comments left out."""
    lines = (line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: "))
    return [json.loads(line) for line in lines]
