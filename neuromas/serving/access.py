"""AccessCheck: who may speak with a server of graphs at all. In front of its routes, whatever the path."""

from __future__ import annotations

import hmac
import ipaddress
from functools import lru_cache
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from neuromas.serving.endpoint_error import EndpointError, invalid

LOOPBACK_NAMES = frozenset({"localhost", "localhost.localdomain"})
_OPEN = ("/healthz", "/health")


class AccessCheck:
    """Refuses requests without the server's token, under foreign names, and those that a web page can forge."""

    def __init__(self, app: ASGIApp, token: str | None = None, *, loopback_only: bool = False) -> None:
        """Guard an application.

        Args:
            app: what is behind.
            token: that requests bring as ``Authorization: Bearer``; None = nobody is asked for one.
            loopback_only: answer only under names of this machine: a page could point a name of its own at it.
        """
        self._app = app
        self._token = None if token is None else token.encode()
        self._loopback_only = loopback_only

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self._app(scope, receive, send)
        else:
            answer = JSONResponse(refusal.body, status_code=refusal.status, headers=refusal.headers)
            await answer(scope, receive, send)

    def _refusal(self, scope: Scope) -> EndpointError | None:
        headers = Headers(scope=scope)
        if self._token is not None and scope["path"] not in _OPEN and not self._is_known(headers):
            message = "this server answers only who brings its token: Authorization: Bearer ..."
            return invalid(message, None, "invalid_api_key", 401)
        if self._loopback_only and not is_loopback_name(headers.get("host", "")):
            return invalid("requests under this host name are not answered", None, "wrong_host", 421)
        kind = headers.get("content-type", "").partition(";")[0].strip().lower()
        if scope["method"] == "POST" and kind != "application/json":
            # Any page can make a browser post forms and texts; this type it cannot.
            return invalid(f"got content type {kind or 'none'}; send application/json", None, None, 415)
        return None

    def _is_known(self, headers: Headers) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        assert self._token is not None
        return kind.lower() == "bearer" and hmac.compare_digest(given.strip().encode(), self._token)


@lru_cache(maxsize=64)
def is_loopback_name(host: str) -> bool:
    """Whether a Host header, with or without a port, names this machine's loopback interface."""
    try:
        name = (urlsplit(f"//{host}").hostname or "").rstrip(".")
        return name in LOOPBACK_NAMES or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
