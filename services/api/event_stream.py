"""A run's streams as server-sent events, or page by page."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send
from typing_extensions import override

from neuromas.errors import Fault
from neuromas.services.api.fair_limit import FairLimit
from neuromas.services.api.problems import invalid
from neuromas.services.api.service import Service
from neuromas.services.api.shared_reads import EncodedEntry
from neuromas.services.api.told import told_page
from neuromas.services.records.run import ENDED, RunRecord
from neuromas.services.records.streams import events_stream
from neuromas.services.store.base import MissingError, StoreUnavailableError
from neuromas.services.store.indexes import MAX_PAGE

EVENTS: Final = "text/event-stream"
_BATCH: Final = 200
_STATE: Final = '"type":"state"'
_AWAY_S: Final = 1.0
"""Seconds between two tries while the store is away."""
_OPENING: Final = b"retry: 2000\n\n"
_AWAY: Final = b": the store is away\n\n"
_LAST_WORDS_S: Final = 1.0
"""Seconds that a follower stays for what is told after a run's end."""
_ALIVE: Final = b": keep-alive\n\n"
_HEADERS: Final = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def wants_events(request: Request) -> bool:
    """Whether a client asks for a stream of events, by its Accept header."""
    return EVENTS in request.headers.get("accept", "").lower()


async def page(
    service: Service, owner: str, run_id: str | None, stream: str, after: int, limit: int, wait_s: float
) -> Response:
    """Return entries of a stream, of a run's or of the service's, as an answer; waits for the first where asked to.

    Raises:
        MissingError: there is no such run.
        ApiError: too many wait already.
    """
    wanted = min(limit + 1, MAX_PAGE)
    frames = await service.reads.read(stream, after, wanted, 0)
    if not frames:
        if run_id is not None:  # a run that is gone has left none
            await service.store.get(RunRecord, run_id)
        if wait_s > 0:
            with service.reads.places.place(owner):
                frames = await service.reads.read(stream, after, wanted, wait_s)
    found = frames[:limit]
    last = found[-1].id if found else after
    has_more = len(frames) > limit or (len(found) == wanted and bool(await service.reads.read(stream, last, 1, 0)))
    return told_page([frame.text for frame in found], last, has_more=has_more)


async def follow(service: Service, request: Request, owner: str, run_id: str, stream: str, after: int) -> Response:
    """Return a stream of a run as server-sent events: all there are, then each as it comes, until the run has ended.

    A client that comes back says in ``Last-Event-ID`` where it was; one that has seen the end is told 204, upon which
    browsers stop coming back.

    Raises:
        ApiError: the header is no id (422), or too many follow already (429).
    """
    after = max(after, _last_event_id(request))
    is_back = "last-event-id" in request.headers
    if is_back and await _end_state(service, run_id) and not await service.reads.read(stream, after, 1, 0):
        return Response(status_code=204)
    return _Following(_events(service, run_id, stream, after), service.reads.places, owner)


def _last_event_id(request: Request) -> int:
    text = request.headers.get("last-event-id", "").strip()
    if not text:
        return 0
    if not text.isdecimal() or len(text) > 19:
        raise invalid(
            "the request is not valid", [Fault("Last-Event-ID", f"got {text[:40]!r}; expected the id of an event")]
        )
    return int(text)


class _Following(StreamingResponse):
    """A stream that holds a follower's place while it is open."""

    def __init__(self, events: AsyncIterator[bytes], places: FairLimit, owner: str) -> None:
        super().__init__(events, headers=_HEADERS, media_type=EVENTS)
        self._places, self._owner = places, owner
        places.take(owner)  # now, while a refusal still has a status of its own

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._places.leave(self._owner)


async def _events(service: Service, run_id: str, stream: str, after: int) -> AsyncIterator[bytes]:
    yield _OPENING
    keep_alive_s, wait_s = service.settings.keep_alive_s, 0.0
    last_words_s = _LAST_WORDS_S if stream == events_stream(run_id) else 0.0  # of the end no other stream tells
    while not service.reads.is_closed:
        try:
            frames = await service.reads.read(stream, after, _BATCH, wait_s)
            if not frames and (state := await _end_state(service, run_id)):
                # The last may have been told between these two looks; a move of the API's is told after its record.
                frames = await service.reads.read(stream, after, _BATCH, last_words_s)
                if not frames:
                    yield f"event: end\ndata: {json.dumps({'type': 'end', 'state': state})}\n\n".encode()
                    return
        except StoreUnavailableError:  # the followers stay; what happened meanwhile is told when the store is back
            yield _AWAY
            await asyncio.sleep(_AWAY_S)
            continue
        if frames:
            yield b"".join(frame.event for frame in frames)
            after = frames[-1].id
        elif wait_s:
            yield _ALIVE
        wait_s = keep_alive_s
        if _has_end(frames):
            wait_s, last_words_s = _LAST_WORDS_S, 0.0


async def _end_state(service: Service, run_id: str) -> str | None:
    """Return how a run has ended; None while it has not."""
    try:
        run = await service.store.get(RunRecord, run_id)
    except MissingError:  # deleted while it was followed
        return "deleted"
    return run.state if run.has_ended else None


def _has_end(frames: tuple[EncodedEntry, ...]) -> bool:
    return any(frame.entry.document.get("state") in ENDED for frame in frames if _STATE in frame.text)
