"""Which fields of records are indexed: lists by other fields work as well, by reading the records one after another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from neuromas.schema.suggest import suggest
from neuromas.services.records.record import Record

LISTED_BY: Final = ("state", "owner", "run", "topology", "checkpoint", "parent_run", "name")
"""Fields that lists of the service ask for, over all records."""

MAX_PAGE: Final = 1000
"""Records or entries that one call returns at most."""


def lists_texts(kind: type[Record], key: str) -> bool:
    """Whether a field is a list of texts, of which a list of records asks for one."""
    return kind.model_fields[key].annotation == tuple[str, ...]


def check_list(kind: type[Record], where: Mapping[str, str], limit: int) -> None:
    """Raise ValueError for a page size out of range or a field that the records do not have."""
    check_limit(limit)
    for key in where:
        if key not in kind.model_fields:
            raise ValueError(
                f"cannot list by {key!r}: a {kind.noun} has no such field; {suggest(key, kind.model_fields)}"
            )


def check_limit(limit: int) -> None:
    """Raise ValueError for a page size out of range."""
    if not 1 <= limit <= MAX_PAGE:
        raise ValueError(f"limit is {limit}; allowed are 1 to {MAX_PAGE}")


def indexed(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the (field, value) pairs under which a record is found quickly."""
    for key in LISTED_BY:
        value = getattr(record, key, None)
        if isinstance(value, str):
            yield key, value


def matches(record: Record, where: Mapping[str, str]) -> bool:
    """Say whether every field has, or where it is a list holds, the value asked for."""
    found = {key: getattr(record, key) for key in where}
    return all(
        value in found[key] if isinstance(found[key], tuple) else value == found[key] for key, value in where.items()
    )
