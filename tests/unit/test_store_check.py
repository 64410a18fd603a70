"""A store that cannot be used is told from one that is away, before any work begins."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from redis_server import RedisServer
from small_files import files_of_at_most
from stored import a_run

from neuromas.services.api.problems import problem_of
from neuromas.services.api.server import check_store
from neuromas.services.records.run import RunRecord
from neuromas.services.settings import Settings, SettingsError
from neuromas.services.store import redis_keys as keys
from neuromas.services.store import schema
from neuromas.services.store.base import StoreUnusableError, StoreUnwritableError
from neuromas.services.store.open import open_store
from neuromas.services.store.redis import RedisStore
from neuromas.services.store.sqlite import SqliteStore


def filled(path: Path) -> None:
    async def run() -> None:
        store = SqliteStore(path)
        await store.create(a_run())
        await store.close()

    asyncio.run(run())


def version(path: Path, number: int) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {number}")
    connection.close()


def refusal(settings: Settings) -> str:
    with pytest.raises(SettingsError) as caught:
        asyncio.run(check_store(settings))
    return str(caught.value)


def test_a_good_store_is_let_through(tmp_path: Path) -> None:
    filled(tmp_path / "store.db")
    asyncio.run(check_store(Settings(data_dir=tmp_path)))


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "is empty"), (b"no database" * 1000, "is damaged"), (None, "is damaged")]
)
def test_an_empty_or_damaged_file_stops_the_start_with_its_reason(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "store.db"
    filled(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\0" * (len(whole) - 100) if content is None else content)
    assert reason in refusal(Settings(data_dir=tmp_path))


@pytest.mark.parametrize("number", [1, schema.VERSION + 1])
def test_a_file_of_another_version_stops_the_start_and_is_left_as_it_is(tmp_path: Path, number: int) -> None:
    path = tmp_path / "store.db"
    filled(path)
    version(path, number)
    message = refusal(Settings(data_dir=tmp_path))
    assert f"tables of version {number}, this program knows version {schema.VERSION}" in message
    version(path, schema.VERSION)
    asyncio.run(check_store(Settings(data_dir=tmp_path)))


def test_an_earlier_file_is_brought_up_to_date_step_by_step(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    filled(path)
    version(path, schema.VERSION - 2)
    steps = {
        schema.VERSION - 2: ("CREATE TABLE first (id TEXT)",),
        schema.VERSION - 1: ("ALTER TABLE first RENAME TO second", "INSERT INTO second VALUES ('x')"),
    }
    connection = schema.prepare(path, 1.0, steps)
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    assert connection.execute("SELECT id FROM second").fetchall() == [("x",)]
    assert connection.execute("SELECT id FROM documents").fetchall() == [("run_1",)]
    connection.close()


def test_a_step_that_fails_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    filled(path)
    version(path, schema.VERSION - 1)
    steps = {schema.VERSION - 1: ("CREATE TABLE first (id TEXT)", "INSERT INTO nowhere VALUES (1)")}
    with pytest.raises(sqlite3.OperationalError):
        schema.prepare(path, 1.0, steps)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION - 1,)
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'first'").fetchall() == []
    connection.close()


def test_a_redis_database_of_another_version_stops_the_start(empty_redis: RedisServer, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, store_url=empty_redis.url)
    asyncio.run(check_store(settings))
    with empty_redis.client as client:
        client.set(keys.VERSION_KEY, "9")
    assert "version b'9'" in refusal(settings)

    async def run() -> None:
        store = open_store(settings)
        with pytest.raises(StoreUnusableError):
            await store.check()
        await store.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    ("setting", "value", "warning"),
    [
        ("appendonly", "no", "gone when it ends"),
        ("appendfsync", "everysec", "a crash loses its last answers"),
        ("maxmemory-policy", "allkeys-lru", "may forget"),
    ],
)
def test_a_redis_that_forgets_is_told(empty_redis: RedisServer, setting: str, value: str, warning: str) -> None:
    good = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction"}

    async def warnings() -> list[str]:
        store = RedisStore(empty_redis.url)
        try:
            return list(await store.check())
        finally:
            await store.close()

    with empty_redis.client as client:
        before = {name: client.config_get(name)[name] for name in good}
        try:
            for name, wanted in good.items():
                client.config_set(name, wanted)
            assert asyncio.run(warnings()) == []
            client.config_set(setting, value)
            (found,) = asyncio.run(warnings())
            assert warning in found
        finally:
            for name, old in before.items():
                client.config_set(name, old)


def test_a_disk_that_takes_no_change_is_told_from_a_store_that_is_away(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    filled(path)

    async def change(record: RunRecord) -> None:
        store = SqliteStore(path)
        try:
            await store.create(record)
        finally:
            await store.close()

    with files_of_at_most(4096), pytest.raises(StoreUnwritableError, match=r"store\.db cannot be used now"):
        asyncio.run(change(a_run("run_2", name="x" * 50_000)))
    asyncio.run(change(a_run("run_3")))
    problem = problem_of(StoreUnwritableError("the store /secret/store.db cannot be used now"))
    assert problem is not None
    assert (problem.status, problem.code) == (503, "store_unwritable")
    assert "make space" in str(problem)
    assert "/secret" not in str(problem)


def test_a_disk_that_cannot_hold_a_store_stops_the_start(tmp_path: Path) -> None:
    with files_of_at_most(4096):
        assert "cannot be used now" in refusal(Settings(data_dir=tmp_path))
    assert list(tmp_path.iterdir()) == []
    asyncio.run(check_store(Settings(data_dir=tmp_path)))
