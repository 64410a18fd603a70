"""Idempotency-Key: a POST that is sent again with the same key gets the answer that the first one got.

A claim under the key holds what was asked and a seed for the ids of what is made; so a request whose server died half
way makes nothing twice when it is sent again. A lease says that somebody works on the answer, and the answer is kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any, Final

from fastapi import Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import StreamingResponse
from starlette.exceptions import HTTPException

from neuromas.errors import NeuroMASError
from neuromas.services.api.auth import authenticate
from neuromas.services.api.problems import ApiError, answer, problem_of
from neuromas.services.api.service import service_of
from neuromas.services.store.base import Document, Store, StoreUnavailableError

HEADER: Final = "Idempotency-Key"
MAX_KEPT_BYTES: Final = 2**20
"""Largest answer that is kept."""
_ALLOWED: Final = re.compile(r"[\x21-\x7e]{1,255}")
_WORKING_S: Final = 60.0
"""Seconds after which the work of a server that says no more counts as given up."""
_WAIT_S: Final = 30.0
"""Seconds that a repeated request waits for the answer to the first."""
_POLL_S: Final = 0.05
"""Seconds between the first two looks for the answer; each pause is half as long again as the one before."""
_NOTE_S: Final = 0.001
"""Life of the note that a look for an answer leaves: the store remembers, and tells what is there already."""
_NOTE: Final = "note"
_KEPT_HEADERS: Final = ("content-type", "location", "www-authenticate")

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


async def answer_once(request: Request, handle: Handler) -> Response:
    """Return the answer to a POST: the one that was given to its Idempotency-Key before, or that ``handle`` makes.

    Raises:
        ApiError: the key is not valid (400), was used for another request (409), or the first request with it is
            still being answered (409).
    """
    key = request.headers.get(HEADER)
    if key is None:
        return await handle(request)
    if not _ALLOWED.fullmatch(key):
        message = f"{HEADER}: allowed are 1 to 255 characters of ASCII without spaces"
        raise ApiError(400, "invalid_idempotency_key", message, param=HEADER)
    caller = await authenticate(request)
    name = hashlib.sha256(f"{caller.id}\n{key}".encode()).hexdigest()
    service = service_of(request)
    attempt = _Attempt(service.store, f"idempotency/{name}", service.settings.idempotency_s)
    return await attempt.answer(request, lambda: _answered(handle, request))


@dataclass(slots=True)
class _Attempt:
    """One request with a key."""

    store: Store
    name: str
    keep_s: float
    working_s: float = _WORKING_S

    async def answer(self, request: Request, work: Callable[[], Awaitable[Response]]) -> Response:
        """Return the answer that is kept, or else the one that ``work`` makes."""
        mine = secrets.token_hex(16)
        asked = hashlib.sha256(
            b"\n".join([request.method.encode(), str(request.url.path).encode(), request.url.query.encode(),
                        await request.body()])
        ).hexdigest()  # fmt: skip
        claim = await self.store.remember(self.name, {"asked": asked, "seed": mine}, self.keep_s)
        if claim["asked"] != asked:
            message = f"this {HEADER} was used for another request; use a new one"
            raise ApiError(409, "idempotency_key_reused", message, param=HEADER)
        request.state.idempotency_seed = claim["seed"]
        deadline, pause_s = time.monotonic() + _WAIT_S, _POLL_S
        while not await self.store.acquire(self.name, mine, self.working_s):
            if time.monotonic() > deadline:
                message = f"the first request with this {HEADER} is still being answered"
                raise ApiError(409, "idempotency_in_progress", message, param=HEADER, headers={"Retry-After": "5"})
            await asyncio.sleep(pause_s)
            pause_s = min(1.0, 1.5 * pause_s)
        try:
            # Also for the first: a repeat of it may have come between the claim and the lease, and be done already.
            kept = await self._kept()
            if kept is not None:
                return _replayed(kept)
            async with self._renewed(mine):
                response = await work()
            await self._keep(response)
        finally:
            await self.store.release(self.name, mine)
        return response

    @asynccontextmanager
    async def _renewed(self, owner: str) -> AsyncIterator[None]:
        """Renew the lease inside the block: answers of endpoints may take longer than it lasts."""

        async def renew() -> None:
            while True:
                await asyncio.sleep(self.working_s / 3)
                with suppress(StoreUnavailableError):
                    await self.store.acquire(self.name, owner, self.working_s)

        renewing = asyncio.create_task(renew())
        try:
            yield
        finally:
            renewing.cancel()
            await asyncio.gather(renewing, return_exceptions=True)

    async def _kept(self) -> Document | None:
        found = await self.store.remember(f"{self.name}/answer", {_NOTE: True}, _NOTE_S)
        return None if _NOTE in found else found

    async def _keep(self, response: Response) -> None:
        if isinstance(response, StreamingResponse) or not is_kept(response.status_code):
            return
        if len(response.body) > MAX_KEPT_BYTES:
            return
        headers = {name: response.headers[name] for name in _KEPT_HEADERS if name in response.headers}
        document = {"status": response.status_code, "headers": headers, "body": bytes(response.body).decode()}
        # A look that came just before may have left its note.
        while _NOTE in await self.store.remember(f"{self.name}/answer", document, self.keep_s):
            await asyncio.sleep(_NOTE_S)


def is_kept(status: int) -> bool:
    """Whether an answer stands: not what may be different in a moment."""
    return status < 500 and status not in (401, 403, 421, 429)


async def _answered(handle: Handler, request: Request) -> Response:
    """Return an answer, also where it is one of the problems that a client is told of."""
    try:
        return await handle(request)
    except (ApiError, NeuroMASError, RequestValidationError, HTTPException) as error:
        problem = problem_of(error)
        if problem is None:
            raise
        return answer(problem)


def _replayed(kept: Document) -> Response:
    headers = {**kept["headers"], "Idempotency-Replayed": "true"}
    return Response(kept["body"], status_code=kept["status"], headers=headers)
