"""Pages: how lists and streams are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Final

from fastapi import Query, Response

from neuromas.services.api.problems import ApiError
from neuromas.services.api.schemas.view import View
from neuromas.services.api.service import Service
from neuromas.services.api.told import told_page
from neuromas.services.records.record import Record
from neuromas.services.store.base import MissingError

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
    service: Service,
    kind: type[Record],
    view: type[View],
    where: Mapping[str, str | None],
    after: str | None,
    limit: int,
) -> Response:
    """Return a page of records as an answer.

    Args:
        service: has the store.
        kind: which records.
        view: what clients see of one.
        where: values of fields; None leaves a field out.
        after: id of the last record of the page before.
        limit: records of the page.

    Raises:
        ApiError: ``after`` is no record.
    """
    asked = {key: value for key, value in where.items() if value is not None}
    with cursor(kind, after):
        page = await service.store.texts(kind, where=asked, after=after, limit=limit)
    told = [service.telling.tell(kind, view, text) for text in page.items]
    last_id = told[-1][0] if told else None
    return told_page([body for _, body in told], last_id, has_more=page.has_more)


@contextmanager
def cursor(kind: type[Record], after: str | None) -> Iterator[None]:
    """Tell what is wrong where the last record of the page before is none.

    Raises:
        ApiError: instead of MissingError.
    """
    try:
        yield
    except MissingError as error:
        message = f"after: there is no {kind.noun} {after!r}; begin again without it"
        raise ApiError(400, "invalid_cursor", message, param="after") from error
