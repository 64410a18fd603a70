"""Repeats of a request with an Idempotency-Key: one works, however long it takes and whoever comes first."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from typing_extensions import override

from neuromas.services.api.idempotency import _Attempt
from neuromas.services.store.sqlite import SqliteStore


def request() -> Request:
    scope = {
        "type": "http", "method": "POST", "path": "/v1/x", "query_string": b"", "headers": [], "state": {},
        "server": ("localhost", 80), "scheme": "http", "root_path": "",
    }  # fmt: skip

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    return Request(scope, receive)


@asynccontextmanager
async def stored(store: SqliteStore) -> AsyncIterator[SqliteStore]:
    try:
        yield store
    finally:
        await store.close()


def attempt(
    store: SqliteStore, work: Callable[[], Awaitable[Response]], working_s: float = 60.0
) -> Awaitable[Response]:
    return _Attempt(store, "idempotency/a", 60, working_s).answer(request(), work)


def test_work_that_takes_longer_than_the_lease_is_not_done_beside(tmp_path: Path) -> None:
    done: list[str] = []

    async def work() -> Response:
        done.append("begun")
        await asyncio.sleep(2.5)
        return Response(f"answer {len(done)}")

    async def run() -> list[bytes]:
        async with stored(SqliteStore(tmp_path / "store.db")) as store:
            answers = await asyncio.gather(*(attempt(store, work, working_s=1.5) for _ in range(3)))
            return [bytes(answer.body) for answer in answers]

    assert asyncio.run(run()) == [b"answer 1"] * 3


def test_a_repeat_that_overtakes_the_first_request_answers_for_it(tmp_path: Path) -> None:
    done: list[str] = []

    async def work() -> Response:
        done.append("done")
        return Response("answer")

    class Slow(SqliteStore):
        """Lets a repeat through between a request's claim and its lease."""

        has_waited = False

        @override
        async def acquire(self, lease: str, owner: str, ttl_s: float) -> bool:
            if not self.has_waited:
                self.has_waited = True
                await attempt(self, work)
            return await super().acquire(lease, owner, ttl_s)

    async def run() -> Response:
        async with stored(Slow(tmp_path / "store.db")) as store:
            return await attempt(store, work)

    assert asyncio.run(run()).headers["idempotency-replayed"] == "true"
    assert done == ["done"]
