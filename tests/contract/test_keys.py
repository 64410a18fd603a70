"""Keys of the API over both stores: made, found, revoked, and never to be read again."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from store_place import StorePlace, until

from neuromas.services.keys import KeyRequestError, KeyRing, find_key, make_key, revoke_key, shown
from neuromas.services.records.key import KeyRecord
from neuromas.services.store.base import MissingError, Store

pytestmark = pytest.mark.anyio


async def test_a_key_is_found_by_its_text_alone(store: Store) -> None:
    key, text = await make_key(store, "laptop", ["train", "read"], {"requests_per_minute": 60})
    assert re.fullmatch(r"nmk_[0-9a-f]{16}_[A-Za-z0-9_-]{43}", text)
    found = await find_key(store, text)
    assert found == key == await store.get(KeyRecord, key.id)
    assert (found.name, found.state, found.object) == ("laptop", "active", "key")
    assert found.scopes == ("read", "train")
    assert found.quota == {"requests_per_minute": 60}


async def test_nothing_that_is_stored_or_shown_gives_the_secret(place: StorePlace, store: Store) -> None:
    key, text = await make_key(store, "laptop", ["read"])
    secret = text[21:]
    assert secret not in key.model_dump_json()
    assert "hash" not in shown(key)
    for file in Path(place.settings.data_dir).rglob("store.db*"):
        assert secret.encode() not in file.read_bytes()


async def test_a_wrong_secret_or_an_unknown_key_is_not_found(store: Store) -> None:
    _, text = await make_key(store, "one", ["read"])
    _, other = await make_key(store, "two", ["read"])
    id, secret = text[:20], text[21:]
    assert await find_key(store, f"{id}_{secret}") is not None
    wrong = [
        f"{id}_{other[21:]}",
        f"{id}_{secret[:-1]}{'A' if secret[-1] != 'A' else 'B'}",
        f"nmk_{'0' * 16}_{secret}",
        f"{id}_{secret}\n",
        f" {text}",
        text.upper(),
        id,
        "",
        "nmk__",
        "Bearer",
        "\ud800",
        "nmk_" + "x" * 10_000,
    ]
    assert [key for key in wrong if await find_key(store, key) is not None] == []


async def test_a_revoked_key_is_not_found_again(store: Store) -> None:
    key, text = await make_key(store, "laptop", ["read"])
    _, other = await make_key(store, "desk", ["read"])
    revoked = await revoke_key(store, key.id)
    assert revoked.state == "revoked"
    assert await find_key(store, text) is None
    assert await find_key(store, other) is not None
    assert await revoke_key(store, key.id) == revoked
    with pytest.raises(MissingError, match="there is no key 'key_0'"):
        await revoke_key(store, "key_0")


async def test_a_key_ring_asks_the_store_again_after_a_while(store: Store) -> None:
    ring = KeyRing(store, cache_s=0.3)
    key, text = await make_key(store, "laptop", ["read"])
    assert await ring.find(text) == key
    assert await ring.find(text[:-1] + "!") is None
    await revoke_key(store, key.id)

    async def is_refused() -> bool:
        return await ring.find(text) is None

    await until(is_refused, deadline_s=20)


async def test_a_key_ring_knows_its_keys_while_the_store_is_away(place: StorePlace) -> None:
    store = place.open()
    ring = KeyRing(store, cache_s=1000)
    key, text = await make_key(store, "laptop", ["read"])
    assert await ring.find(text) == key
    assert await store.delete(KeyRecord, key.id)
    assert await ring.find(text) == key
    await store.close()


@pytest.mark.parametrize(
    ("name", "scopes", "quota", "message"),
    [
        ("Laptop!", ["read"], None, "cannot be named 'Laptop!'"),
        ("laptop", [], None, "needs a scope; allowed are read, train, serve"),
        ("laptop", ["reed"], None, "did you mean 'read'"),
        ("laptop", ["read"], {"request_per_minute": 1}, "did you mean 'requests_per_minute'"),
        ("laptop", ["read"], {"max_queued_runs": -1}, "max_queued_runs is -1"),
        ("laptop", ["read"], {"max_queued_runs": True}, "max_queued_runs is True"),
    ],
)
async def test_a_key_that_is_not_allowed_is_refused_with_what_is(
    store: Store, name: str, scopes: list[str], quota: dict[str, int] | None, message: str
) -> None:
    with pytest.raises(KeyRequestError) as caught:
        await make_key(store, name, scopes, quota)
    assert message in str(caught.value)
    assert (await store.list(KeyRecord)).items == ()
