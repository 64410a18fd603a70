"""Pages: how lists and streams are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from fastapi import Query

from neuromas.services.api.problems import ApiError
from neuromas.services.store.base import Document, MissingError, R, Store

MAX_PAGE: Final = 500
"""Records of one page."""
MAX_ENTRIES: Final = 1000
"""Entries of a stream in one page."""
MAX_WAIT_S: Final = 45.0
"""Longest time that a request waits for something to happen."""

MAX_ID: Final = 200
"""Characters of an id or a name in a request."""

After = Annotated[str | None, Query(max_length=MAX_ID, description="Id of the last entry of the page before.")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="Entries of the page.")]
AfterEntry = Annotated[
    int, Query(ge=0, le=2**53, description="Id of the last entry that is known; 0 = from the first.")
]
Text = Annotated[str | None, Query(max_length=MAX_ID, description="Only those with exactly this value.")]
EntryLimit = Annotated[int, Query(ge=1, le=MAX_ENTRIES, description="Entries of the page.")]
Wait = Annotated[
    float, Query(ge=0, le=MAX_WAIT_S, description="Seconds to wait for the first entry where there is none yet.")
]


async def listing(
    store: Store, kind: type[R], where: Mapping[str, str | None], after: str | None, limit: int
) -> Document:
    """Return a page of records as the body of an answer.

    Args:
        store: has them.
        kind: which.
        where: values of fields; None leaves a field out.
        after: id of the last record of the page before.
        limit: records of the page.

    Raises:
        ApiError: ``after`` is no record.
    """
    asked = {key: value for key, value in where.items() if value is not None}
    try:
        page = await store.list(kind, where=asked, after=after, limit=limit)
    except MissingError as error:
        message = f"after: there is no {kind.noun} {after!r}; begin again without it"
        raise ApiError(400, "invalid_cursor", message, param="after") from error
    last = page.items[-1].id if page.items else None
    return {"object": "list", "data": list(page.items), "has_more": page.has_more, "last_id": last}
