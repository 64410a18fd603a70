"""Fixtures of the store's suite: every test runs over both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from redis_server import RedisServer
from store_place import StorePlace

from neuromas.services.settings import Settings
from neuromas.services.store.base import Store


@pytest.fixture(params=["sqlite", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> StorePlace:
    if request.param == "sqlite":
        return StorePlace(Settings(data_dir=tmp_path / "data"))
    server: RedisServer = request.getfixturevalue("empty_redis")
    return StorePlace(Settings(data_dir=tmp_path, store_url=server.url))


@pytest.fixture
async def store(place: StorePlace) -> AsyncIterator[Store]:
    opened = place.open()
    yield opened
    await opened.close()
