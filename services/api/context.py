"""What surrounds every request: its id, log line and count, the headers of its answer, the limit of its body."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from neuromas.services.api.instruments import Instruments
from neuromas.services.api.problems import ApiError, answer
from neuromas.services.logs import request_id

logger = logging.getLogger(__name__)

_GIVEN_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"})
UPLOADS: Final = "/v1/adapters/"
"""Where paths of files begin that are streamed to the disk."""
_QUIET: Final = frozenset({"/healthz", "/readyz", "/metrics"})
PAGE_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "font-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Content-Security-Policy of pages: nothing but what this server sends, no inline script or style."""
DATA_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; sandbox"
"""Content-Security-Policy of data; a drawing opened by itself keeps its own styles."""
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), geolocation=(), microphone=()"),
    (b"cache-control", b"no-store"),
)
"""Of every answer that does not set them itself."""


class RequestContext:
    """Outermost layer: gives a request its id, and its answer headers, a log line and a count."""

    def __init__(self, app: ASGIApp, instruments: Instruments) -> None:
        self._app = app
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get("x-request-id", "")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        id = given if _GIVEN_ID.fullmatch(given) else f"req_{secrets.token_hex(8)}"
        token, started = request_id.set(id), time.perf_counter()
        status = 500

        async def headed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _with_ours(message["headers"], id)
                self._instruments.seconds.labels(method, _route(scope)).observe(time.perf_counter() - started)
            await send(message)

        try:
            await self._app(scope, receive, headed)
        finally:
            self._instruments.requests.labels(method, _route(scope), status).inc()
            _log(scope, status, time.perf_counter() - started)
            request_id.reset(token)


class BodyLimit:
    """Refuses bodies above a size, whether their length is told or not.

    Files that go to the disk as they come have a size of their own.
    """

    def __init__(self, app: ASGIApp, max_bytes: int, max_upload_bytes: int) -> None:
        self._app = app
        self._max_bytes, self._max_upload_bytes = max_bytes, max_upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_upload = scope["method"] == "PUT" and scope["path"].startswith(UPLOADS)
        allowed = self._max_upload_bytes if is_upload else self._max_bytes
        told = Headers(scope=scope).get("content-length", "0")
        if told.isdecimal() and int(told[:20]) > allowed:
            await answer(_too_large(allowed))(scope, receive, send)
            return
        read = 0

        async def counted() -> Message:
            nonlocal read
            message = await receive()
            read += len(message.get("body", b""))
            if read > allowed:
                raise _too_large(allowed)
            return message

        await self._app(scope, counted, send)


def _too_large(allowed: int) -> ApiError:
    message = f"the body is larger than {allowed} bytes, the limit"
    return ApiError(413, "too_large", message, headers={"Connection": "close"})


def _with_ours(headers: Iterable[tuple[bytes, bytes]], id: str) -> list[tuple[bytes, bytes]]:
    """Return the headers of an answer, their names in lower case as ASGI has them, with those that all answers have."""
    theirs = dict(headers)
    is_page = theirs.get(b"content-type", b"").startswith(b"text/html")
    policy = (b"content-security-policy", (PAGE_POLICY if is_page else DATA_POLICY).encode())
    ours = [header for header in (*_HEADERS, policy) if header[0] not in theirs]
    return [*headers, *ours, (b"x-request-id", id.encode())]


def _route(scope: Scope) -> str:
    """Return the pattern of the route: there are few, while paths may be anything."""
    route = scope.get("route")
    return "none" if route is None else str(route.path)


def _log(scope: Scope, status: int, seconds: float) -> None:
    level = logging.DEBUG if scope["path"] in _QUIET else logging.INFO
    fields = {
        "method": scope["method"],
        "route": _route(scope),
        "path": scope["path"],
        "status": status,
        "seconds": round(seconds, 6),
        "caller": scope.get("state", {}).get("caller_id", ""),
    }
    logger.log(level, "request", extra=fields)
