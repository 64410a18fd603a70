"""What both stores do to a record: the first version of it, the next one, and its text. Knows no database."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any, Final

from pydantic import ValidationError

from neuromas.services.records.record import Record
from neuromas.services.store.base import ConflictError, Document, R, StoreUnusableError

MAX_ENTRY_ID: Final = 2**63 - 1
"""Largest id that an entry of a stream can have."""


def first_version(record: Record) -> Document:
    """Return a record as it is stored first. Only the store can number it: ``sequence`` is not there yet."""
    return {**record.model_dump(mode="json", exclude={"sequence"}), "version": 1}


def next_version(stored: R, change: Mapping[str, object], states: Collection[str] | None, version: int | None) -> R:
    """Return the next version of a record.

    Raises:
        ConflictError: it is in none of ``states``, not at ``version``, or may not move to the state of the change.
        ValueError: its class does not let a field change, or not to that value.
    """
    noun = f"{stored.noun} {stored.id}"
    if forbidden := change.keys() - stored.updatable:
        allowed = ", ".join(sorted(stored.updatable)) or "none"
        raise ValueError(f"{', '.join(sorted(forbidden))} of {noun} cannot be changed; allowed are {allowed}")
    if states is not None and stored.state not in states:
        raise ConflictError(f"{noun} is {stored.state}; this needs it to be {' or '.join(states) or 'no state at all'}")
    if version is not None and stored.version != version:
        raise ConflictError(f"{noun} is at version {stored.version}; this was meant for version {version}")
    new = type(stored).model_validate({**stored.model_dump(), **change, "version": stored.version + 1})
    if new.state != stored.state and new.state not in stored.moves.get(stored.state, ()):
        raise ConflictError(f"{noun} is {stored.state}; it cannot become {new.state}")
    return new


def encode(document: Mapping[str, Any]) -> str:
    """Return a JSON object as ASCII text; raises ValueError for NaN and infinity, TypeError for what is not JSON."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def decode(text: str | bytes) -> Document:
    """Return the JSON object of a text."""
    document: Document = json.loads(text)
    return document


def read(kind: type[R], text: str | bytes) -> R:
    """Return the record of a text.

    Raises:
        StoreUnusableError: it is none.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"the store holds a {kind.noun} that cannot be read ({place}: {first['msg']})"
        raise StoreUnusableError(f"{message}; use the program that wrote it") from error


def entry_id(id: int) -> int:
    """Return an id that a client gave, brought into the range that streams have."""
    return min(max(id, 0), MAX_ENTRY_ID)
