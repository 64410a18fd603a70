"""Whole lists of documents, page by page."""

from __future__ import annotations

from typing import Final

from neuromas.services.store.base import Document, Kind, MissingError, Store

_PAGE: Final = 500


async def all_of(store: Store, kind: Kind, **where: str) -> list[Document]:
    """Return all documents with these values at top level, newest first."""
    found: list[Document] = []
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
        after = page.items[-1]["id"]
