"""The tables of the SQLite store, and how its file is opened."""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from neuromas.services.store.base import StoreUnusableError
from neuromas.services.store.indexes import LISTED_BY

VERSION: Final = 2
"""Of the tables; kept in the file."""
MIGRATIONS: Final[Mapping[int, Sequence[str]]] = {}
"""From a version of the tables, the statements that make the next one of it."""

_TABLES: Final = (
    # AUTOINCREMENT: a number is not used again, even after those above it are gone. Every index ends with it.
    """CREATE TABLE documents (
        sequence INTEGER PRIMARY KEY AUTOINCREMENT,
        kind TEXT NOT NULL, id TEXT NOT NULL, created INTEGER NOT NULL, body TEXT NOT NULL,
        UNIQUE (kind, id)
    )""",
    "CREATE INDEX documents_newest ON documents (kind, created)",
    *(
        f"CREATE INDEX documents_by_{key} ON documents (kind, json_extract(body, '$.{key}'), created)"
        for key in LISTED_BY
    ),
    """CREATE TABLE entries (
        id INTEGER PRIMARY KEY AUTOINCREMENT, stream TEXT NOT NULL, key TEXT NOT NULL, body TEXT NOT NULL,
        UNIQUE (stream, key)
    )""",
    "CREATE INDEX entries_of_stream ON entries (stream, id)",
    "CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, expires REAL NOT NULL) WITHOUT ROWID",
    "CREATE TABLE answers (key TEXT PRIMARY KEY, body TEXT NOT NULL, expires REAL NOT NULL)",
    "CREATE INDEX answers_by_expiry ON answers (expires)",
    "CREATE TABLE counters (key TEXT PRIMARY KEY, total INTEGER NOT NULL, expires REAL NOT NULL)",
    "CREATE INDEX counters_by_expiry ON counters (expires)",
)


def prepare(path: Path, busy_s: float, migrations: Mapping[int, Sequence[str]] = MIGRATIONS) -> sqlite3.Connection:
    """Open the file, made with its folder and tables where it is missing; only its owner may read it.

    Args:
        path: of the file.
        busy_s: seconds that a statement waits for another process.
        migrations: see MIGRATIONS.

    Raises:
        StoreUnusableError: the file is empty, no database, or of a version that cannot be brought up to date.
        sqlite3.OperationalError: it cannot be opened.
        OSError: its folder cannot be made.
    """
    if not path.exists():
        _make(path)
    connection = _connect(path, busy_s)
    try:
        _migrate(connection, migrations)
        _check_version(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _migrate(connection: sqlite3.Connection, migrations: Mapping[int, Sequence[str]]) -> None:
    """Bring the tables up to date, step by step; each step is done whole or not at all, by one process."""
    while (found := _version(connection)) != VERSION and found in migrations:
        connection.execute("BEGIN IMMEDIATE")
        try:
            if _version(connection) == found:  # else another process came first
                for statement in migrations[found]:
                    connection.execute(statement)
                connection.execute(f"PRAGMA user_version = {found + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _check_version(connection: sqlite3.Connection, path: Path) -> None:
    found = _version(connection)
    if found == VERSION:
        return
    if not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        raise StoreUnusableError(f"{path} is empty: it was cut off or replaced; put back a copy, or remove the file")
    raise StoreUnusableError(
        f"{path} has tables of version {found}, this program knows version {VERSION}; "
        "use the program that wrote it, or another data folder"
    )


def _version(connection: sqlite3.Connection) -> int:
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def _make(path: Path) -> None:
    """Make the file beside its place and move it there whole, unless another process did so first.

    Tables and write-ahead mode made in place would be seen half done: SQLite waits for no lock when it changes modes.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    os.close(os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        with closing(_connect(new, 0)) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
            for statement in _TABLES:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {VERSION}")
        with suppress(FileExistsError):
            os.link(new, path)
    finally:
        for suffix in ("", "-wal", "-shm"):  # the last two stay where the disk was full
            new.with_name(new.name + suffix).unlink(missing_ok=True)


def _connect(path: Path, busy_s: float) -> sqlite3.Connection:
    # A store is closed by the event loop's thread where its own has ended, so the check of threads is off.
    connection = sqlite3.connect(path, timeout=busy_s, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection
