"""Targets: an endpoint's address is remembered for a moment while it answers, and asked for anew in all other cases."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from stored import an_endpoint

from neuromas.services.api.problems import ApiError
from neuromas.services.api.targets import Targets
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.settings import Settings
from neuromas.services.store.base import Store
from neuromas.services.store.open import open_store

pytestmark = pytest.mark.anyio
LONG_S = 1e9


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    store = open_store(settings)
    yield store
    await store.close()


async def deploy(store: Store, url: str) -> EndpointRecord:
    made, _ = await store.create(an_endpoint("ep_1", name="solver"))
    return await store.update(EndpointRecord, made.id, {"state": EndpointState.READY, "url": url})


async def test_an_address_is_remembered_until_it_is_forgotten(store: Store, settings: Settings) -> None:
    await deploy(store, "http://a")
    targets = Targets(store, settings, LONG_S)
    assert (await targets.find("solver")).url == "http://a"
    await store.update(EndpointRecord, "ep_1", {"url": "http://b"})
    assert (await targets.find("solver")).url == "http://a"
    targets.forget("solver")
    assert (await targets.find("solver")).url == "http://b"


async def test_an_address_that_has_grown_old_is_asked_for_anew(store: Store, settings: Settings) -> None:
    await deploy(store, "http://a")
    targets = Targets(store, settings, 0.0)
    assert (await targets.find("solver")).url == "http://a"
    await store.update(EndpointRecord, "ep_1", {"url": "http://b"})
    assert (await targets.find("solver")).url == "http://b"


async def test_what_does_not_answer_is_not_remembered(store: Store, settings: Settings) -> None:
    targets = Targets(store, settings, LONG_S)
    with pytest.raises(ApiError) as unknown:
        await targets.find("solver")
    assert unknown.value.status == 404
    await store.create(an_endpoint("ep_1", name="solver"))
    with pytest.raises(ApiError) as deploying:
        await targets.find("solver")
    assert deploying.value.status == 503
    await store.update(EndpointRecord, "ep_1", {"state": EndpointState.READY, "url": "http://a"})
    assert (await targets.find("solver")).url == "http://a"
