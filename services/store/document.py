"""What both stores do to a document: the first version of it, a change of it, and its text. Knows no database."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from neuromas.services.store.base import ConflictError, Document, Kind

_OWN_KEYS: Final = frozenset({"id", "version", "created", "sequence"})
MAX_ENTRY_ID: Final = 2**63 - 1
"""Largest id that an entry of a stream can have."""


def first_version(kind: Kind, document: Mapping[str, Any]) -> Document:
    """Return a document as it is stored first: version 1, a state (or None), a time of creation (now where not given).

    Only the store can number it: ``sequence`` is not there yet.

    Raises:
        ValueError: it has no id, or a time that is not a whole number of seconds.
    """
    if not isinstance(document.get("id"), str) or not document["id"]:
        raise ValueError(f"a document of kind {kind} needs an id, a text that is not empty; got {document.get('id')!r}")
    created = document.get("created", int(time.time()))
    if type(created) is not int or not 0 <= created < 10**12:
        raise ValueError(f"created is {created!r}; it must be whole unix seconds")
    given = {key: value for key, value in document.items() if key != "sequence"}
    return {**given, "state": document.get("state"), "version": 1, "created": created}


def changed(
    kind: Kind, stored: Document, change: Mapping[str, Any], states: Sequence[str] | None, version: int | None
) -> Document:
    """Return the next version of a document.

    Raises:
        ConflictError: it is in none of ``states``, or not at ``version``.
        ValueError: the change names a key that is the store's own.
    """
    if forbidden := _OWN_KEYS & change.keys():
        raise ValueError(f"a change cannot set {', '.join(sorted(forbidden))}: the store does")
    if states is not None and stored["state"] not in states:
        wanted = " or ".join(states) or "no state at all"
        raise ConflictError(f"{kind} {stored['id']} is {stored['state']}; this needs it to be {wanted}", stored)
    if version is not None and stored["version"] != version:
        raise ConflictError(
            f"{kind} {stored['id']} is at version {stored['version']}; this was meant for version {version}", stored
        )
    return {**stored, **change, "version": stored["version"] + 1}


def encode(document: Mapping[str, Any]) -> str:
    """Return a document as ASCII JSON; raises ValueError for NaN and infinity, TypeError for what is not JSON."""
    return json.dumps(document, allow_nan=False, separators=(",", ":"))


def decode(text: str | bytes) -> Document:
    """Return the document of a text."""
    document: Document = json.loads(text)
    return document


def entry_id(id: int) -> int:
    """Return an id that a client gave, brought into the range that streams have."""
    return min(max(id, 0), MAX_ENTRY_ID)
