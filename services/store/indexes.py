"""Which keys of documents are indexed: lists by other keys work as well, by reading the documents one after another."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

LISTED_BY: Final = ("state", "owner", "run", "topology", "checkpoint", "parent_run", "name")
"""Top-level keys that lists of the service ask for, over all kinds of documents."""

MAX_PAGE: Final = 1000
"""Documents or entries that one call returns at most."""

_KEY = re.compile(r"[a-z][a-z0-9_]*")


def check_list(where: Mapping[str, str], limit: int) -> None:
    """Raise ValueError for a page size out of range or a key that no document has."""
    check_limit(limit)
    for key in where:
        if not _KEY.fullmatch(key):
            raise ValueError(f"cannot list by {key!r}; keys are lower-case words such as {', '.join(LISTED_BY)}")


def check_limit(limit: int) -> None:
    """Raise ValueError for a page size out of range."""
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit is {limit}; allowed are 1 to {MAX_PAGE}")


def indexed(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the (key, value) pairs under which a document is found quickly."""
    for key in LISTED_BY:
        value = document.get(key)
        if isinstance(value, str):
            yield key, value


def matches(document: Mapping[str, Any], where: Mapping[str, str]) -> bool:
    """Say whether every key has the value asked for."""
    return all(document.get(key) == value for key, value in where.items())
