"""HEAD: every GET can be asked without its body."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class HeadAsGet:
    """Answers HEAD as GET without the body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def bare(message: Message) -> None:
            await send(message if message["type"] != "http.response.body" else {**message, "body": b""})

        # A stream of events has no end to wait for: what it would begin with is a page.
        headers = [(name, value) for name, value in scope["headers"] if name != b"accept"]
        await self._app({**scope, "method": "GET", "headers": headers}, receive, bare)
