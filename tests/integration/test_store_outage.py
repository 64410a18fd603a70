"""What the stores do when Redis goes away and comes back, or the file cannot be used: a clear error, nothing lost."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from redis_server import RedisServer, running_redis
from store_place import until
from stored import a_run

from neuromas.services.records.run import RunRecord
from neuromas.services.settings import Settings
from neuromas.services.store.base import Store, StoreUnavailableError, StoreUnusableError, StreamEntry
from neuromas.services.store.open import open_store
from neuromas.services.store.redis import RedisStore
from neuromas.services.store.sqlite import SqliteStore

pytestmark = pytest.mark.anyio
Calls = dict[str, Callable[[], Awaitable[Any]]]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisServer]:
    (tmp_path / "redis").mkdir()
    with running_redis(tmp_path / "redis") as running:
        yield running


@pytest.fixture
async def store(server: RedisServer) -> AsyncIterator[Store]:
    opened = open_store(Settings(store_url=server.url))
    yield opened
    await opened.close()


def every_call(store: Store) -> Calls:
    return {
        "ping": store.ping,
        "create": lambda: store.create(a_run("run_new")),
        "get": lambda: store.get(RunRecord, "run_1"),
        "list": lambda: store.list(RunRecord, where={"owner": "me", "state": "queued"}),
        "update": lambda: store.update(RunRecord, "run_1", {"state": "running"}, states=["queued"]),
        "delete": lambda: store.delete(RunRecord, "run_2"),
        "append": lambda: store.append("s", [("k", {"n": 1})]),
        "read": lambda: store.read("s"),
        "drop": lambda: store.drop("t"),
        "acquire": lambda: store.acquire("free", "me", 60),
        "release": lambda: store.release("held", "other"),
        "remember": lambda: store.remember("r", {"n": 1}, 60),
        "count": lambda: store.count("c", 1, 60),
    }


async def test_while_redis_is_gone_every_call_says_so_and_afterwards_all_is_there(
    server: RedisServer, store: Store
) -> None:
    for id in ("run_1", "run_2"):
        await store.create(a_run(id, owner="me"))
    await store.append("s", [("a", {"n": 0})])
    assert await store.acquire("held", "somebody", 600)
    server.kill()
    for call in every_call(store).values():
        with pytest.raises(StoreUnavailableError, match="Redis does not answer"):
            await call()
    server.start()
    # The same client, at its first call: nothing has to be made anew, and nothing of the calls above happened.
    runs = (await store.list(RunRecord, where={"owner": "me", "state": "queued"})).items
    assert [(run.id, run.version) for run in runs] == [("run_2", 1), ("run_1", 1)]
    assert [entry.document for entry in await store.read("s")] == [{"n": 0}]
    assert not await store.acquire("held", "me", 60)
    for call in every_call(store).values():
        await call()


async def test_a_reader_who_waits_is_told_when_redis_goes(server: RedisServer, store: Store) -> None:
    await store.ping()
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_caught(store.read("s", wait_s=60)))

        async def is_waiting() -> bool:
            with server.client as client:
                return waiting.done() or bool(client.info("clients")["blocked_clients"])

        await until(is_waiting)
        server.kill()
    assert isinstance(waiting.result(), StoreUnavailableError)


async def test_a_stream_goes_on_over_outages_without_gap_or_double(server: RedisServer, store: Store) -> None:
    total, outages = 600, 3
    reached = 0

    async def write() -> None:
        nonlocal reached
        for n in range(total):
            while isinstance(await _caught(store.append("s", [(f"step {n}", {"n": n})])), StoreUnavailableError):
                await asyncio.sleep(0.01)
            reached = n

    async def follow() -> list[StreamEntry]:
        found: list[StreamEntry] = []
        while len(found) < total:
            page = await _caught(store.read("s", after=found[-1].id if found else 0, limit=9, wait_s=1))
            if isinstance(page, StoreUnavailableError):
                await asyncio.sleep(0.01)
            else:
                found += page
        return found

    async with asyncio.timeout(240), asyncio.TaskGroup() as tasks:
        following, writing = tasks.create_task(follow()), tasks.create_task(write())
        for outage in range(1, outages + 1):
            await until(lambda outage=outage: _is(reached >= outage * total // (outages + 1)))
            assert not writing.done()
            server.kill()
            await asyncio.to_thread(server.start)
    assert [entry.document["n"] for entry in following.result()] == list(range(total))
    assert len(await store.read("s", limit=1000)) == total


async def test_a_redis_that_hangs_counts_as_gone(server: RedisServer) -> None:
    store = RedisStore(server.url, answer_s=0.3)
    await until(lambda: _is_reached(store))
    server.signal(signal.SIGSTOP)
    with pytest.raises(StoreUnavailableError, match="TimeoutError"):
        await store.count("c", 1, 60)
    server.signal(signal.SIGCONT)
    await until(lambda: _is_reached(store))
    await store.close()


async def test_a_full_redis_refuses_changes_and_answers_questions(server: RedisServer, store: Store) -> None:
    await store.create(a_run())
    with server.client as client:
        client.config_set("maxmemory", "1")
        with pytest.raises(StoreUnavailableError, match="refuses"):
            await store.create(a_run("run_2"))
        with pytest.raises(StoreUnavailableError, match="refuses"):
            await store.append("s", [("a", {})])
        assert (await store.get(RunRecord, "run_1")).version == 1
        client.config_set("maxmemory", "0")
    assert (await store.create(a_run("run_2")))[1]


async def test_a_wrong_password_is_an_unavailable_store_and_is_never_shown(tmp_path: Path) -> None:
    with running_redis(tmp_path, "right") as server:
        for password, is_right in (("right", True), ("wr0ng", False), (None, False)):
            store = open_store(Settings(store_url=server.url, store_password=password))
            outcome = await _caught(store.ping())
            assert isinstance(outcome, StoreUnavailableError) != is_right
            assert "wr0ng" not in f"{outcome!r} {outcome}"
            await store.close()
        with_password = server.url.replace("//", "//:right@")
        store = open_store(Settings(store_url=with_password))
        await store.ping()
        await store.close()


async def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    store = open_store(Settings(data_dir=tmp_path / "data"))
    await store.create(a_run())
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "data").iterdir()}
    assert modes == {"store.db": 0o600, "store.db-wal": 0o600, "store.db-shm": 0o600}
    await store.close()


async def test_a_file_that_another_process_holds_is_unavailable_for_changes_only(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "store.db", busy_s=0.1)
    await store.create(a_run())
    other = sqlite3.connect(tmp_path / "store.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailableError, match="locked"):
        await store.update(RunRecord, "run_1", {"attempt": 1})
    assert (await store.get(RunRecord, "run_1")).version == 1
    other.execute("ROLLBACK")
    other.close()
    assert (await store.update(RunRecord, "run_1", {"attempt": 1})).version == 2
    await store.close()


async def test_a_place_that_cannot_hold_a_file_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    store = open_store(Settings(data_dir=tmp_path / "file"))
    with pytest.raises(StoreUnavailableError, match="cannot be used now"):
        await store.ping()
    with pytest.raises(StoreUnavailableError):
        await store.read("s", wait_s=60)
    await store.close()


async def test_tables_of_another_version_are_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as other:
        other.execute("CREATE TABLE documents (id TEXT)")
        other.execute("PRAGMA user_version = 7")
    other.close()
    store = open_store(Settings(data_dir=tmp_path))
    with pytest.raises(StoreUnusableError, match="tables of version 7, this program knows version 2"):
        await store.ping()
    await store.close()
    assert [path.name for path in tmp_path.iterdir()] == ["store.db"]


async def _caught(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except StoreUnavailableError as error:
        return error


async def _is_reached(store: Store) -> bool:
    return not isinstance(await _caught(store.ping()), StoreUnavailableError)


async def _is(value: bool) -> bool:
    return value
