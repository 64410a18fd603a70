"""A close that loses no answer: what still comes of a request that is answered is read and dropped for a while.

Where bytes lie unread when a socket is closed, or come later, TCP sends a reset: the client's next write fails, and
the answer may be thrown away before it is read. So the server ends its own direction alone, reads until the client
ends the other one, and closes then (RFC 9112, section 9.6).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from typing_extensions import override

LINGER_S: Final = 10.0
"""Seconds that a client has to end a request whose answer is out."""


class LingeringProtocol(asyncio.Protocol):
    """Over one of uvicorn's protocols for HTTP: lingers over requests that are answered before they are whole."""

    transport: asyncio.Transport
    flow: Any
    cycle: Any
    _is_refused = False

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(_LingeringTransport(transport, self._linger))

    @override
    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Refuse what came; where it would have ended is not known."""
        self._is_refused = True
        super().send_400_response(msg)  # type: ignore[misc]

    def _linger(self) -> bool:
        """Whether the client may not have sent all of what is answered; if so, begin to read it."""
        cycle = self.cycle
        if not self._is_refused and (cycle is None or not cycle.response_complete or not cycle.more_body):
            return False
        self.flow.resume_reading()
        return True


class _LingeringTransport(asyncio.Transport):
    """A connection whose ``close`` may linger; it counts as closing from then on."""

    def __init__(self, transport: asyncio.Transport, linger: Callable[[], bool]) -> None:
        super().__init__()
        self._transport = transport
        self._linger = linger
        self._is_lingering = False

    @override
    def close(self) -> None:
        if self._is_lingering:
            return
        if self._transport.is_closing() or not self._transport.can_write_eof() or not self._linger():
            self._transport.close()
            return
        self._is_lingering = True
        self._transport.write_eof()
        asyncio.get_running_loop().call_later(LINGER_S, self._transport.close)

    @override
    def is_closing(self) -> bool:
        return self._is_lingering or self._transport.is_closing()

    @override
    def write(self, data: Any) -> None:
        self._transport.write(data)

    @override
    def pause_reading(self) -> None:
        self._transport.pause_reading()

    @override
    def resume_reading(self) -> None:
        self._transport.resume_reading()

    @override
    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
