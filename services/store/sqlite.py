"""The store in one SQLite file, for one machine: several processes may have it open at the same time.

Every change is one transaction in write-ahead mode, so that a killed process leaves none half done, and readers never
wait for writers. All statements run in two threads of the store's own (one writes, one reads); the event loop never
touches the file. A store belongs to one event loop at a time. Answers, counters and leases expire; documents and
streams stay until they are deleted. Loss of power may take the last changes, never the file's consistency.
"""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Concatenate, Final, ParamSpec, TypeVar

from neuromas.services.records.record import Record
from neuromas.services.store.base import (
    TRIMMED,
    Document,
    MissingError,
    Page,
    R,
    StoreUnavailableError,
    StoreUnusableError,
    StoreUnwritableError,
    StreamEntry,
    Texts,
)
from neuromas.services.store.indexes import LISTED_BY, check_limit, check_list, lists_texts
from neuromas.services.store.schema import prepare
from neuromas.services.store.versions import decode, encode, entry_id, first_version, next_version, read
from neuromas.services.store.watch import Watch

BUSY_S: Final = 10.0
"""Seconds that a statement waits for another process's transaction before the store counts as unavailable."""
_OF_THE_DISK: Final = {
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_PERM,
}

P = ParamSpec("P")
T = TypeVar("T")
Work = Callable[Concatenate[sqlite3.Connection, P], T]


class SqliteStore:
    """Store over one file; it is made, with its folder, at the first call."""

    def __init__(self, path: Path, busy_s: float = BUSY_S) -> None:
        self._path = path
        self._writer = _Worker(path, "store-write", busy_s)
        self._reader = _Worker(path, "store-read", busy_s)
        self._watch = Watch(self._newest)

    async def check(self) -> Sequence[str]:
        """Open the file and look at it; see Store."""
        await self._reader.run(_ping)
        return ()

    async def ping(self) -> None:
        """Return when the store answers."""
        await self._writer.run(_ping)

    async def close(self) -> None:
        """Close the file. Safe to call twice."""
        await self._watch.close()
        await self._reader.close()
        await self._writer.close()

    async def create(self, record: R) -> tuple[R, bool]:
        """Add a record; see Store."""
        document, kind = first_version(record), type(record)
        text, is_new = await self._writer.change(_create, kind.noun, record.id, document)
        return read(kind, text), is_new

    async def get(self, kind: type[R], id: str) -> R:
        """Return a record; see Store."""
        return read(kind, await self._reader.run(_get, kind.noun, id))

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
        check_list(kind, where or {}, limit)
        found = await self._reader.run(_list, kind, where or {}, after, limit)
        return Texts(tuple(found[:limit]), len(found) > limit)

    async def tally(self, kind: type[Record], states: Sequence[str]) -> Mapping[str, int]:
        """Return how many records are in each of these states; see Store."""
        return await self._reader.run(_tally, kind.noun, states)

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

        def update(connection: sqlite3.Connection) -> R:
            new = next_version(read(kind, _get(connection, kind.noun, id)), change, states, version)
            row = (encode(new.to_document()), kind.noun, id)
            connection.execute("UPDATE documents SET body = ? WHERE kind = ? AND id = ?", row)
            return new

        return await self._writer.change(update)

    async def delete(self, kind: type[Record], id: str) -> bool:
        """Remove a record; see Store."""
        return await self._writer.change(_delete, kind.noun, id)

    async def append(self, stream: str, events: Sequence[tuple[str, Document]]) -> int:
        """Add entries to a stream; see Store."""
        rows = [(stream, key, encode(document)) for key, document in events]
        return await self._writer.change(_append, rows) if rows else 0

    async def read(self, stream: str, *, after: int = 0, limit: int = 100, wait_s: float = 0) -> Sequence[StreamEntry]:
        """Return entries of a stream, waiting for the first; see Store."""
        check_limit(limit)
        after, deadline_s = entry_id(after), time.monotonic() + wait_s
        while True:
            entries = await self._reader.run(_read, stream, after, limit)
            left_s = deadline_s - time.monotonic()
            if entries or left_s <= 0:
                return entries
            await self._watch.wait(stream, after, left_s)

    async def trim(self, stream: str, keep: int) -> int:
        """Forget the oldest entries of a stream; see Store."""
        return await self._writer.change(_trim, stream, keep)

    async def drop(self, stream: str) -> None:
        """Forget a stream."""
        await self._writer.change(_drop, stream)

    async def acquire(self, lease: str, owner: str, ttl_s: float) -> bool:
        """Take or renew a lease; see Store."""
        return await self._writer.change(_acquire, lease, owner, ttl_s)

    async def release(self, lease: str, owner: str) -> None:
        """Give a lease back; see Store."""
        await self._writer.change(_release, lease, owner)

    async def remember(self, key: str, document: Document, ttl_s: float) -> Document:
        """Store a document for a time unless one is there; see Store."""
        return await self._writer.change(_remember, key, encode(document), ttl_s)

    async def count(self, key: str, amount: int, window_s: float) -> int:
        """Add to a counter that starts anew after a time; see Store."""
        return await self._writer.change(_count, key, amount, window_s)

    async def _newest(self, streams: Sequence[str], seen: object) -> tuple[object, Mapping[str, int]]:
        return await self._reader.run(_newest, streams, seen)


class _Worker:
    """One thread with one connection, opened at the first call."""

    def __init__(self, path: Path, name: str, busy_s: float) -> None:
        self._path, self._busy_s = path, busy_s
        self._thread = ThreadPoolExecutor(1, name)
        self._connection: sqlite3.Connection | None = None

    async def run(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return what ``work`` makes of the connection, in the thread."""

        def call() -> T:
            try:
                return work(self._opened(), *args, **kwargs)
            except OSError as error:
                raise StoreUnwritableError(f"the store {self._path} cannot be used now ({error})") from error
            except sqlite3.OperationalError as error:
                # The lower byte of a code is its kind.
                is_the_disk = error.sqlite_errorcode & 0xFF in _OF_THE_DISK
                kind = StoreUnwritableError if is_the_disk else StoreUnavailableError
                raise kind(f"the store {self._path} cannot be used now ({error})") from error
            except sqlite3.DatabaseError as error:
                if type(error) is not sqlite3.DatabaseError:  # its subclasses are about statements, not about the file
                    raise
                message = f"the store {self._path} is damaged ({error}); put back a copy of it"
                raise StoreUnusableError(message) from error

        return await asyncio.get_running_loop().run_in_executor(self._thread, call)

    async def change(self, work: Work[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Do the same in a transaction that no other process's change can come between."""

        def transaction(connection: sqlite3.Connection) -> T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection, *args, **kwargs)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:  # SQLite may have taken it back by itself: a full disk
                    connection.execute("ROLLBACK")
                raise
            return result

        return await self.run(transaction)

    async def close(self) -> None:
        """Close the connection and end the thread."""

        def close() -> None:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

        try:
            await asyncio.get_running_loop().run_in_executor(self._thread, close)
        except RuntimeError:  # the thread has ended: closed before
            return
        self._thread.shutdown(wait=False)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = prepare(self._path, self._busy_s)
        return self._connection


def _ping(connection: sqlite3.Connection) -> None:
    connection.execute("SELECT 1 FROM documents LIMIT 1").fetchall()


def _create(connection: sqlite3.Connection, kind: str, id: str, document: Document) -> tuple[str, bool]:
    text = encode(document)
    there = connection.execute("SELECT body FROM documents WHERE kind = ? AND id = ?", (kind, id)).fetchone()
    if there is not None:
        return str(there[0]), False
    last = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'documents'").fetchone()
    sequence = 1 if last is None else last[0] + 1
    text = f'{{"sequence":{sequence},{text[1:]}'
    row = (sequence, kind, id, document["created"], text)
    connection.execute("INSERT INTO documents VALUES (?, ?, ?, ?, ?)", row)
    return text, True


def _get(connection: sqlite3.Connection, kind: str, id: str) -> str:
    row = connection.execute("SELECT body FROM documents WHERE kind = ? AND id = ?", (kind, id)).fetchone()
    if row is None:
        raise MissingError(f"there is no {kind} {id!r}")
    return str(row[0])


def _list(
    connection: sqlite3.Connection, records: type[Record], where: Mapping[str, str], after: str | None, limit: int
) -> list[str]:
    """Return the texts of a page, with the first of the next one where there is one."""
    kind = records.noun
    tests, values = ["kind = ?"], [kind]
    for key, value in where.items():
        test, holds = _test(records, key)
        tests.append(test)
        values += [*holds, value]
    if after is not None:
        cursor = "SELECT created, sequence FROM documents WHERE kind = ? AND id = ?"
        last = connection.execute(cursor, (kind, after)).fetchone()
        if last is None:
            raise MissingError(f"there is no {kind} {after!r}")
        tests.append("(created, sequence) < (?, ?)")
        values += last
    statement = f"SELECT body FROM documents WHERE {' AND '.join(tests)} ORDER BY created DESC, sequence DESC LIMIT ?"  # noqa: S608
    return [row[0] for row in connection.execute(statement, (*values, limit + 1))]


def _test(records: type[Record], key: str) -> tuple[str, Sequence[str]]:
    """Return the test of a field, and the values that it takes before the one that is asked for.

    A key is the name of a field (check_list). Its path stands in the statement's text, else no index would be used.
    """
    if lists_texts(records, key):
        return f"EXISTS (SELECT 1 FROM json_each(body, '$.{key}') WHERE value = ?)", ()  # noqa: S608 - a field's name
    path, usual = f"json_extract(body, '$.{key}')", records.model_fields[key].default
    if key in LISTED_BY or not isinstance(usual, str):
        return f"{path} = ?", ()
    return f"COALESCE({path}, ?) = ?", (usual,)  # a record of before there was the field has the default


def _tally(connection: sqlite3.Connection, kind: str, states: Sequence[str]) -> Mapping[str, int]:
    # As the index has it: the documents themselves are not read.
    state = "json_extract(body, '$.state')"
    statement = f"SELECT {state}, COUNT(*) FROM documents WHERE kind = ? GROUP BY {state}"  # noqa: S608 - a constant
    found = dict(connection.execute(statement, (kind,)))
    return {state: found.get(state, 0) for state in states}


def _delete(connection: sqlite3.Connection, kind: str, id: str) -> bool:
    return connection.execute("DELETE FROM documents WHERE kind = ? AND id = ?", (kind, id)).rowcount > 0


def _append(connection: sqlite3.Connection, rows: Sequence[tuple[str, str, str]]) -> int:
    # A conflict would use up an id: ids are without gaps over all streams, as in Redis.
    statement = (
        "INSERT INTO entries (stream, key, body) SELECT ?1, ?2, ?3 "
        "WHERE NOT EXISTS (SELECT 1 FROM entries WHERE stream = ?1 AND key = ?2)"
    )
    return sum(connection.execute(statement, row).rowcount for row in rows)


def _read(connection: sqlite3.Connection, stream: str, after: int, limit: int) -> Sequence[StreamEntry]:
    statement = "SELECT id, body FROM entries WHERE stream = ? AND id > ? ORDER BY id LIMIT ?"
    return [StreamEntry(id, body) for id, body in connection.execute(statement, (stream, after, limit))]


def _newest(connection: sqlite3.Connection, streams: Sequence[str], seen: object) -> tuple[object, Mapping[str, int]]:
    """Return the mark of the file's last change, and the newest id of each stream; none where the mark is ``seen``."""
    (mark,) = connection.execute("PRAGMA data_version").fetchone()
    if mark == seen:
        return mark, {}
    statement = "SELECT MAX(id) FROM entries WHERE stream = ?"
    return mark, {stream: connection.execute(statement, (stream,)).fetchone()[0] or 0 for stream in streams}


def _trim(connection: sqlite3.Connection, stream: str, keep: int) -> int:
    statement = (
        "DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE stream = ?1 AND id <= "
        "(SELECT id FROM entries WHERE stream = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2) ORDER BY id LIMIT ?3)"
    )
    return connection.execute(statement, (stream, keep, TRIMMED)).rowcount


def _drop(connection: sqlite3.Connection, stream: str) -> None:
    connection.execute("DELETE FROM entries WHERE stream = ?", (stream,))


def _acquire(connection: sqlite3.Connection, lease: str, owner: str, ttl_s: float) -> bool:
    now = time.time()
    statement = (
        "INSERT INTO leases VALUES (?, ?, ?) ON CONFLICT (name) DO UPDATE SET owner = excluded.owner, "
        "expires = excluded.expires WHERE owner = excluded.owner OR expires <= ?"
    )
    return connection.execute(statement, (lease, owner, now + ttl_s, now)).rowcount > 0


def _release(connection: sqlite3.Connection, lease: str, owner: str) -> None:
    connection.execute("DELETE FROM leases WHERE name = ? AND owner = ?", (lease, owner))


def _remember(connection: sqlite3.Connection, key: str, body: str, ttl_s: float) -> Document:
    now = time.time()
    connection.execute("DELETE FROM answers WHERE expires <= ?", (now,))
    connection.execute("INSERT INTO answers VALUES (?, ?, ?) ON CONFLICT DO NOTHING", (key, body, now + ttl_s))
    return decode(connection.execute("SELECT body FROM answers WHERE key = ?", (key,)).fetchone()[0])


def _count(connection: sqlite3.Connection, key: str, amount: int, window_s: float) -> int:
    now = time.time()
    connection.execute("DELETE FROM counters WHERE expires <= ?", (now,))
    statement = (
        "INSERT INTO counters VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET total = total + excluded.total "
        "RETURNING total"
    )
    # Windows begin at multiples of their length, so that whoever is told to wait knows until when.
    row = (key, amount, now - now % window_s + window_s)
    return int(connection.execute(statement, row).fetchall()[0][0])
