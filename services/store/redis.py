"""The store in Redis, for several machines; the only file that knows the client. Key names are in ``redis_keys.py``.

What must happen at once is a Lua script. Changes of records are made here and written where the text that they were
made from still stands, else made again. No command is repeated after a lost connection, as it may have been carried
out: the caller gets StoreUnavailableError and knows whether a repeat is harmless. The next call connects anew. What
expires and what does not is listed in ``redis_keys.py``. A store belongs to one event loop.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

import redis.asyncio
from redis import exceptions
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from neuromas.services.records.record import Record
from neuromas.services.store import redis_keys as keys
from neuromas.services.store import scripts
from neuromas.services.store.base import (
    TRIMMED,
    Document,
    MissingError,
    Page,
    R,
    StoreUnavailableError,
    StoreUnusableError,
    StreamEntry,
    Texts,
)
from neuromas.services.store.indexes import LISTED_BY, check_limit, check_list, indexed, matches
from neuromas.services.store.versions import decode, encode, entry_id, first_version, next_version, read

CONNECT_S: Final = 5.0
"""Seconds that connecting may take."""
ANSWER_S: Final = 10.0
"""Seconds that the answer to a command may take."""
_BLOCK_S: Final = 3.0
_MAX_CONNECTIONS: Final = 2048  # a follower that waits holds one
_CHUNK: Final = 200
_PASSING: Final = ("MISCONF", "MASTERDOWN", "NOREPLICAS", "BUSY", "LOADING", "OOM", "READONLY", "NOAUTH", "WRONGPASS")
"""Words that begin answers with which a server refuses commands for reasons of its own."""


class RedisStore:
    """Store over a Redis server of version 6.2 or later; connects at the first call."""

    def __init__(self, url: str, password: str | None = None, answer_s: float = ANSWER_S) -> None:
        self._answer_s = answer_s
        self._redis = redis.asyncio.Redis.from_url(
            url,
            password=password,  # one in the address comes first
            protocol=2,
            socket_connect_timeout=CONNECT_S,
            socket_timeout=None,
            socket_keepalive=True,
            max_connections=_MAX_CONNECTIONS,
            retry=Retry(NoBackoff(), 0),
        )

    async def check(self) -> Sequence[str]:
        """Compare versions, and look whether the server keeps what it is told; see Store."""
        async with self._reaching():
            await self._redis.set(keys.VERSION_KEY, keys.VERSION, nx=True)
            found = await self._redis.get(keys.VERSION_KEY)
        if found is None or not found.isdigit() or int(found) != keys.VERSION:
            raise StoreUnusableError(
                f"the Redis database holds version {found!r} of the service's state, this program knows version "
                f"{keys.VERSION}; use the program that wrote it, or another database"
            )
        return await self._lossy_settings()

    async def _lossy_settings(self) -> Sequence[str]:
        """Return what of the server's settings loses state, in words; none where it does not say."""
        try:
            async with self._reaching():
                found = await self._redis.config_get("appendonly", "appendfsync", "maxmemory-policy")
        except exceptions.ResponseError:  # CONFIG is often forbidden; whoever runs such a server knows its settings
            return ()
        told = {str(name): str(value) for name, value in found.items()}
        warnings = []
        if told.get("appendonly") == "no":
            warnings.append("Redis runs with appendonly no: what it is told is gone when it ends; set it to yes")
        elif told.get("appendfsync") != "always":
            warnings.append(
                f"Redis runs with appendfsync {told.get('appendfsync')}: a crash loses its last answers; use always"
            )
        if told.get("maxmemory-policy") != "noeviction":
            warnings.append(f"Redis may forget: maxmemory-policy is {told.get('maxmemory-policy')}; use noeviction")
        return warnings

    async def ping(self) -> None:
        """Return when the store answers."""
        async with self._reaching():
            await self._redis.ping()

    async def close(self) -> None:
        """Close connections. Safe to call twice."""
        async with self._reaching():
            await self._redis.aclose()

    async def create(self, record: R) -> tuple[R, bool]:
        """Add a record; see Store."""
        kind, text = type(record), encode(first_version(record))
        names = [keys.document(kind.noun, record.id), keys.SEQUENCE, *_lists(record)]
        place = (keys.moment(record.created), keys.SEQUENCE_DIGITS, record.id)
        is_new, stored = await self._run(scripts.CREATE, names, text, *place)
        return read(kind, stored), bool(is_new)

    async def get(self, kind: type[R], id: str) -> R:
        """Return a record; see Store."""
        return read(kind, await self._text(kind, id))

    async def list(
        self,
        kind: type[R],
        *,
        where: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> Page[R]:
        """Return records, newest first; see Store."""
        texts = await self.texts(kind, where=where, after=after, limit=limit)
        return Page(tuple(read(kind, text) for text in texts.items), texts.has_more)

    async def texts(
        self,
        kind: type[Record],
        *,
        where: Mapping[str, str] | None = None,
        after: str | None = None,
        limit: int = 20,
    ) -> Texts:
        """Return records as they are stored; see Store."""
        where = where or {}
        check_list(kind, where, limit)
        begin = "+" if after is None else f"({_place(await self.get(kind, after))}"
        source = await self._shortest(kind, where)
        # All in a list by one value have it; what more is asked for is looked for in the records.
        is_enough = not where or (len(where) == 1 and not where.keys() - set(LISTED_BY))
        size = limit + 1 if len(where) <= 1 else max(limit + 1, _CHUNK)
        found: list[bytes] = []
        while len(found) <= limit:
            places, texts = await self._run(scripts.PAGE, [source], begin, size, keys.document(kind.noun, ""))
            found += [text for text in texts if is_enough or matches(read(kind, text), where)]
            if len(places) < size:
                break
            begin = f"({places[-1].decode()}"
        return Texts(tuple(text.decode() for text in found[:limit]), len(found) > limit)

    async def tally(self, kind: type[Record], states: Sequence[str]) -> Mapping[str, int]:
        """Return how many records are in each of these states; see Store."""
        async with self._reaching(), self._redis.pipeline(transaction=True) as pipeline:
            for state in states:
                pipeline.zcard(keys.index(kind.noun, "state", state))
            return dict(zip(states, await pipeline.execute(), strict=True))

    async def update(
        self,
        kind: type[R],
        id: str,
        change: Mapping[str, object],
        *,
        states: Collection[str] | None = None,
        version: int | None = None,
    ) -> R:
        """Replace fields of a record; see Store."""
        while True:  # another round means that another writer came first: together they always get on
            text = await self._text(kind, id)
            stored = read(kind, text)
            new = next_version(stored, change, states, version)
            if await self._replace(text, stored, new):
                return new

    async def delete(self, kind: type[Record], id: str) -> bool:
        """Remove a record; see Store."""
        while True:
            try:
                text = await self._text(kind, id)
            except MissingError:
                return False
            if await self._replace(text, read(kind, text), None):
                return True

    async def append(self, stream: str, events: Sequence[tuple[str, Document]]) -> int:
        """Add entries to a stream; see Store."""
        if not events:
            return 0
        names = [keys.stream(stream), keys.seen(stream), keys.ENTRY_IDS]
        arguments = [text for key, document in events for text in (key, encode(document))]
        return int(await self._run(scripts.APPEND, names, *arguments))

    async def read(self, stream: str, *, after: int = 0, limit: int = 100, wait_s: float = 0) -> Sequence[StreamEntry]:
        """Return entries of a stream, waiting for the first; see Store."""
        check_limit(limit)
        position: dict[Any, Any] = {keys.stream(stream): f"{entry_id(after)}-0"}
        deadline_s = time.monotonic() + wait_s
        while True:
            left_s = deadline_s - time.monotonic()
            # Shorter than the time for an answer, or a silent server could not be told from a silent stream.
            block = max(1, round(1000 * min(left_s, _BLOCK_S))) if left_s > 0 else None
            async with self._reaching():
                answer: Any = await self._redis.xread(position, count=limit, block=block)
            if answer:
                return [StreamEntry(int(id.partition(b"-")[0]), fields[b"d"].decode()) for id, fields in answer[0][1]]
            if time.monotonic() >= deadline_s:
                return []

    async def trim(self, stream: str, keep: int) -> int:
        """Forget the oldest entries of a stream; see Store."""
        return int(await self._run(scripts.TRIM, [keys.stream(stream), keys.seen(stream)], keep, TRIMMED))

    async def drop(self, stream: str) -> None:
        """Forget a stream."""
        async with self._reaching():
            await self._redis.unlink(keys.stream(stream), keys.seen(stream))

    async def acquire(self, lease: str, owner: str, ttl_s: float) -> bool:
        """Take or renew a lease; see Store."""
        return bool(await self._run(scripts.ACQUIRE, [keys.lease(lease)], owner, _milliseconds(ttl_s)))

    async def release(self, lease: str, owner: str) -> None:
        """Give a lease back; see Store."""
        await self._run(scripts.RELEASE, [keys.lease(lease)], owner)

    async def remember(self, key: str, document: Document, ttl_s: float) -> Document:
        """Store a document for a time unless one is there; see Store."""
        name, text = keys.answer(key), encode(document)
        return decode(await self._run(scripts.REMEMBER, [name], text, _milliseconds(ttl_s)))

    async def count(self, key: str, amount: int, window_s: float) -> int:
        """Add to a counter that starts anew after a time; see Store."""
        return int(await self._run(scripts.COUNT, [keys.counter(key)], amount, _milliseconds(window_s)))

    async def _run(self, script: str, names: Sequence[str], *arguments: str | bytes | int) -> Any:
        async with self._reaching():
            return await self._redis.register_script(script)(names, arguments)

    async def _text(self, kind: type[Record], id: str) -> str | bytes:
        async with self._reaching():
            text = await self._redis.get(keys.document(kind.noun, id))
        if text is None:
            raise MissingError(f"there is no {kind.noun} {id!r}")
        return text

    async def _replace(self, old: str | bytes, before: Record, after: Record | None) -> bool:
        """Put a record (None: nothing) where the text ``old`` still stands; False where it does not."""
        names, wanted = _lists(before), [] if after is None else _lists(after)
        new = "" if after is None else encode(after.to_document())
        left = [name for name in names if name not in wanted]
        entered = [name for name in wanted if name not in names]
        lists = [keys.document(before.noun, before.id), *left, *entered]
        return bool(await self._run(scripts.REPLACE, lists, old, new, _place(before), len(left)))

    async def _shortest(self, kind: type[Record], where: Mapping[str, str]) -> str:
        """Return the shortest list that holds everything asked for."""
        sources = [keys.index(kind.noun, key, value) for key, value in where.items() if key in LISTED_BY]
        if len(sources) < 2:
            return sources[0] if sources else keys.listing(kind.noun)
        async with self._reaching(), self._redis.pipeline(transaction=False) as pipeline:
            for name in sources:
                pipeline.zcard(name)
            sizes = await pipeline.execute()
        return min(zip(sizes, sources, strict=True))[1]

    @asynccontextmanager
    async def _reaching(self) -> AsyncIterator[None]:
        """Turn what the client raises when the server is away, or refuses everybody, into our error."""
        try:
            # Not the client's own timeout: it rests on asyncio.wait_for, which before Python 3.12 may lose a
            # cancellation.
            async with asyncio.timeout(self._answer_s):
                yield
        except (exceptions.ConnectionError, exceptions.TimeoutError, OSError) as error:
            raise StoreUnavailableError(f"Redis does not answer ({type(error).__name__}); try again") from error
        except exceptions.ResponseError as error:
            word = str(error).partition(" ")[0]
            if word in _PASSING or isinstance(error, exceptions.OutOfMemoryError | exceptions.ReadOnlyError):
                raise StoreUnavailableError(f"Redis refuses commands now ({error})") from error
            raise


def _lists(record: Record) -> list[str]:
    return [keys.listing(record.noun), *(keys.index(record.noun, key, value) for key, value in indexed(record))]


def _place(record: Record) -> str:
    return keys.place(record.created, record.sequence, record.id)


def _milliseconds(seconds: float) -> int:
    return max(1, round(1000 * seconds))
