"""Keys of the API: how they are made, found and revoked. The store holds a hash of a key, never the key itself."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from neuromas.errors import NeuroMASError
from neuromas.schema.suggest import suggest
from neuromas.services.records.key import KeyRecord, KeyState, KeyUpdate, Scope
from neuromas.services.records.record import new_id
from neuromas.services.store.base import ConflictError, Document, MissingError, Store, StoreUnavailableError
from neuromas.topology.graph import NAME, NAME_RULE

QUOTAS: Final = ("requests_per_minute", "max_queued_runs", "max_queued_evaluations")
CACHE_S: Final = 5.0
"""Seconds that a key found in the store counts as valid without asking again: what a revocation takes to be known."""

_SCOPES: Final = tuple(scope.value for scope in Scope)
_PREFIX: Final = "nmk"
_SECRET_BYTES: Final = 32
_KEY: Final = re.compile(rf"{_PREFIX}_([0-9a-f]{{16}})_([A-Za-z0-9_-]{{43}})")
_CACHED: Final = 4096
_USE_S: Final = 3600


class KeyRequestError(NeuroMASError, ValueError):
    """A key was asked for with a name, scopes or a quota that are not allowed."""

    code = "invalid_key_request"


async def make_key(
    store: Store,
    name: str,
    scopes: Sequence[str],
    quota: Mapping[str, int] | None = None,
    *,
    project: str | None = None,
    expires: int | None = None,
    owner: str | None = None,
) -> tuple[KeyRecord, str]:
    """Make a key; returns its record and its text, which is nowhere else and cannot be had again.

    Args:
        store: keeps the record.
        name: what people call the key; several keys may have the same.
        scopes: at least one of read, train, serve, admin.
        project: keys of one may change what the others have made; None = only its own.
        expires: unix seconds from which on it is not valid; None = it is until it is revoked.
        owner: id of the key that it is made in place of; None = it owns what it makes itself.
        quota: limits of this key in place of the settings', by their names in QUOTAS; 0 = none.

    Raises:
        KeyRequestError: the name, a scope or a limit is not allowed.
        StoreUnavailableError: the store cannot be reached.
    """
    _check(name, scopes, quota or {})
    if project is not None and not NAME.fullmatch(project):
        raise KeyRequestError(f"a project cannot be named {project!r}; {NAME_RULE}")
    id, secret = new_id("key"), secrets.token_urlsafe(_SECRET_BYTES)
    key = KeyRecord(
        id=id,
        name=name,
        hash=_hash(secret),
        scopes=tuple(scope for scope in Scope if scope in scopes),
        quota=None if quota is None else dict(quota),
        project=project,
        expires=expires,
        owner=owner or id,
    )
    stored, _ = await store.create(key)
    return stored, f"{_PREFIX}_{id.removeprefix('key_')}_{secret}"


async def find_key(store: Store, text: str) -> KeyRecord | None:
    """Return the record of a key that a request came with; None where it is not valid, or was revoked.

    Raises:
        StoreUnavailableError: the store cannot be reached.
    """
    match = _KEY.fullmatch(text)
    if match is None:
        return None
    id, secret = f"key_{match[1]}", match[2]
    try:
        key = await store.get(KeyRecord, id)
    except MissingError:
        key = None
    # As long for an unknown id as for a wrong secret. The secret is 256 random bits: a slow hash would add nothing.
    is_right = hmac.compare_digest(_hash(secret), _NOBODY if key is None else key.hash)
    return key if key is not None and is_right and _is_valid(key) else None


async def rotate_key(store: Store, id: str, grace_s: float) -> tuple[KeyRecord, str]:
    """Make a key in place of another: same name, scopes, limits, project and belongings. The old one expires.

    Args:
        store: keeps both.
        id: of the old one.
        grace_s: seconds for which the old one stays valid.

    Raises:
        MissingError: there is no such key.
        KeyRequestError: it is not valid any more.
    """
    old = await store.get(KeyRecord, id)
    if not _is_valid(old):
        raise KeyRequestError(f"key {id} is not valid any more; make a new one with `neuromas keys create`")
    made = await make_key(store, old.name, old.scopes, old.quota, project=old.project, owner=old.owner_id)
    expires = int(time.time() + grace_s)
    change: KeyUpdate = {"expires": min(expires, old.expires or expires)}
    await store.update(KeyRecord, id, change)
    return made


def _is_valid(key: KeyRecord) -> bool:
    return key.state == KeyState.ACTIVE and (key.expires is None or time.time() < key.expires)


class KeyRing:
    """Keys that were found lately, so that not every request asks the store. One per process.

    Holds hashes of whole keys, no keys. A revoked key is refused after ``CACHE_S`` seconds at the latest; a key that
    is not valid is looked up every time.
    """

    def __init__(self, store: Store, cache_s: float = CACHE_S) -> None:
        self._store = store
        self._cache_s = cache_s
        self._found: OrderedDict[str, _Found] = OrderedDict()

    async def find(self, text: str) -> KeyRecord | None:
        """Return the record of a key as ``find_key`` does.

        Raises:
            StoreUnavailableError: the store cannot be reached and the key is not remembered.
        """
        name, now = _hash(text), time.monotonic()
        known = self._found.get(name)
        if known is not None and now < known.until:
            return known.key
        self._found.pop(name, None)
        key = await find_key(self._store, text)
        if key is not None:
            await self._note_use(key)
            self._found[name] = _Found(key, now + self._cache_s)
            while len(self._found) > _CACHED:
                self._found.popitem(last=False)
        return key

    async def _note_use(self, key: KeyRecord) -> None:
        """Write down that a key is used, once an hour: for people who wonder whether it still is."""
        now = int(time.time())
        if now - (key.used or 0) > _USE_S:
            change: KeyUpdate = {"used": now}
            with suppress(ConflictError, MissingError, StoreUnavailableError):
                await self._store.update(KeyRecord, key.id, change, version=key.version)


@dataclass(frozen=True, slots=True)
class _Found:
    key: KeyRecord
    until: float


async def revoke_key(store: Store, id: str) -> KeyRecord:
    """Make a key invalid for good; its record stays. Revoking twice is revoking once.

    Raises:
        MissingError: there is no such key.
        StoreUnavailableError: the store cannot be reached.
    """
    change: KeyUpdate = {"state": KeyState.REVOKED, "revoked": int(time.time())}
    try:
        return await store.update(KeyRecord, id, change, states=[KeyState.ACTIVE])
    except ConflictError:
        return await store.get(KeyRecord, id)


def shown(key: KeyRecord) -> Document:
    """Return what people may see of a key: everything but its hash."""
    return key.model_dump(mode="json", exclude={"hash"})


def _check(name: str, scopes: Sequence[str], quota: Mapping[str, int]) -> None:
    if not NAME.fullmatch(name):
        raise KeyRequestError(f"a key cannot be named {name!r}; {NAME_RULE}")
    if not scopes:
        raise KeyRequestError(f"a key needs a scope; allowed are {', '.join(_SCOPES)}")
    for scope in scopes:
        if scope not in _SCOPES:
            raise KeyRequestError(f"there is no scope {scope!r}; {suggest(scope, _SCOPES)}")
    for limit, value in quota.items():
        if limit not in QUOTAS:
            raise KeyRequestError(f"there is no limit {limit!r}; {suggest(limit, QUOTAS)}")
        if type(value) is not int or value < 0:
            raise KeyRequestError(f"{limit} is {value!r}; allowed are whole numbers from 0, where 0 sets no limit")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()


_NOBODY: Final = _hash("")
