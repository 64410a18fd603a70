"""Whole lists of records, page by page."""

from __future__ import annotations

from typing import Final

from neuromas.services.store.base import MissingError, R, Store

_PAGE: Final = 500


async def all_of(store: Store, kind: type[R], **where: str) -> list[R]:
    """Return all records with these values, newest first."""
    found: list[R] = []
    after: str | None = None
    while True:
        try:
            page = await store.list(kind, where=where or None, after=after, limit=_PAGE)
        except MissingError:  # the last of the page before has been deleted meanwhile
            found, after = [], None
            continue
        found += page.items
        if not page.has_more:
            return found
        after = page.items[-1].id
