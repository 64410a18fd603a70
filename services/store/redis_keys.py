"""Every name of a key in Redis. A document's ``place`` is its time of creation, number and id, as text in order.

=====================================  ==========  ======================================  ==================
key                                    type        holds                                   expires
=====================================  ==========  ======================================  ==================
neuromas:doc:<kind>:<id>               string      a document as JSON                      never: delete()
neuromas:list:<kind>                   sorted set  places of all documents of the kind     with the documents
neuromas:list:<kind>:<key>:<value>     sorted set  places of those with the value          with the documents
neuromas:sequence                      string      number of the last new document         never (one number)
neuromas:ids                           string      last id that an entry of a stream got   never (one number)
neuromas:stream:<stream>               stream      entries <id>-0: ``d`` = JSON, ``k`` key never: drop(), trim()
neuromas:seen:<stream>                 set         keys of the stream's entries            never: drop(), trim()
neuromas:lease:<lease>                 string      its owner                               after the lease
neuromas:answer:<key>                  string      a remembered document as JSON           as told
neuromas:count:<key>                   string      a counter                               after its window
neuromas:version                       string      version of all these                    never (one number)
=====================================  ==========  ======================================  ==================

Nothing that does not expire may be evicted: the server must run with ``maxmemory-policy noeviction``.
"""

from __future__ import annotations

from typing import Final

VERSION_KEY: Final = "neuromas:version"
VERSION: Final = 1
"""Of the names and what is under them."""

ENTRY_IDS: Final = "neuromas:ids"
"""Counter that gives entries their ids, over all streams: an id is not used again after a stream was dropped."""

SEQUENCE: Final = "neuromas:sequence"
"""Counter that numbers documents, over all kinds."""

_TIME_DIGITS: Final = 12
SEQUENCE_DIGITS: Final = 16
"""Digits of a number in a place; the script that makes documents writes as many."""


def document(kind: str, id: str) -> str:
    """Return the key of a record; ``kind`` is its noun."""
    return f"neuromas:doc:{kind}:{id}"


def listing(kind: str) -> str:
    """Return the key of the list of all documents of a kind."""
    return f"neuromas:list:{kind}"


def index(kind: str, key: str, value: str) -> str:
    """Return the key of the list of documents whose top-level ``key`` has a value."""
    return f"neuromas:list:{kind}:{key}:{value}"


def place(created: int, sequence: int, id: str) -> str:
    """Return the member of the lists that stands for a document; members are in order as texts."""
    return f"{moment(created)}{sequence:0{SEQUENCE_DIGITS}d}:{id}"


def moment(created: int) -> str:
    """Return how a place begins: with the time of creation."""
    return f"{created:0{_TIME_DIGITS}d}:"


def stream(name: str) -> str:
    """Return the key of a stream."""
    return f"neuromas:stream:{name}"


def seen(stream: str) -> str:
    """Return the key of the set of keys that a stream has seen."""
    return f"neuromas:seen:{stream}"


def lease(name: str) -> str:
    """Return the key of a lease."""
    return f"neuromas:lease:{name}"


def answer(key: str) -> str:
    """Return the key of a remembered document."""
    return f"neuromas:answer:{key}"


def counter(key: str) -> str:
    """Return the key of a counter."""
    return f"neuromas:count:{key}"
