"""The HTTP server under every API of ours: uvicorn, with limits on how long and how large a request may be to arrive.

uvicorn bounds neither: a client that sends a header now and then, or half a body, would keep its connection for ever.
"""

from __future__ import annotations

import time
from typing import Any, Final
from weakref import WeakKeyDictionary

import uvicorn
from typing_extensions import override

from neuromas.serving.lingering import LingeringProtocol

HEADERS_S: Final = 10.0
"""Seconds that a connection may take until the headers of a request are whole, its idle time before them included."""
BODY_S: Final = 30.0
"""Seconds in which a body must end, or else bring ``BODY_BYTES`` and have as many again."""
BODY_BYTES: Final = 2**20
MAX_HEADER_BYTES: Final = 64 * 2**10
"""Bytes of a request's first line and headers."""
_TICKS_PER_LOOK: Final = 10  # uvicorn ticks every 0.1 s


class HttpServer(uvicorn.Server):
    """A server that closes connections whose request does not arrive in time."""

    def __init__(self, config: uvicorn.Config) -> None:
        """Take the settings; the protocol is ours, and websockets are off."""
        config.ws = "none"
        config.http = _protocol()
        super().__init__(config)
        self._late = LateConnections()

    @override
    async def on_tick(self, counter: int) -> bool:
        if counter % _TICKS_PER_LOOK == 0:
            self._late.close(self.server_state.connections, time.monotonic())
        return await super().on_tick(counter)


class LateConnections:
    """Remembers since when each connection waits for the rest of a request."""

    def __init__(self) -> None:
        self._since: WeakKeyDictionary[Any, tuple[object, float, int]] = WeakKeyDictionary()

    def close(self, connections: Any, now_s: float) -> None:
        """Close the connections that wait too long.

        Args:
            connections: uvicorn's, of either protocol: ``cycle`` is the request under way, ``transport`` the socket;
                ``num_body_bytes``, where there is one, counts what has come of its body.
            now_s: seconds of any clock.
        """
        for connection in list(connections):
            cycle = connection.cycle
            is_between = cycle is None or cycle.response_complete
            if not is_between and not cycle.more_body:
                self._since.pop(connection, None)
                continue
            come = 0 if is_between else getattr(connection, "num_body_bytes", 0)
            known, since_s, had = self._since.setdefault(connection, (cycle, now_s, come))
            if known is not cycle or come - had >= BODY_BYTES:
                self._since[connection] = cycle, now_s, come
            elif now_s - since_s > (HEADERS_S if is_between else BODY_S):
                connection.transport.close()


def _protocol() -> Any:
    """Return the protocol over httptools with a limit on headers; that over h11 has one of the same size."""
    try:
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
    except ImportError:
        return over_h11()

    class BoundedProtocol(LingeringProtocol, HttpToolsProtocol):
        """Refuses requests whose headers do not end, and counts what comes of bodies."""

        _num_header_bytes = 0
        _is_in_body = False
        num_body_bytes = 0

        @override
        def data_received(self, data: bytes) -> None:
            if self._is_in_body:
                self.num_body_bytes += len(data)
            else:
                self._num_header_bytes += len(data)
            super().data_received(data)
            too_large = not self._is_in_body and self._num_header_bytes > MAX_HEADER_BYTES
            if too_large and self.parser is not None and not self.transport.is_closing():
                self.send_400_response("The headers are too large.")

        @override
        def on_headers_complete(self) -> None:
            self._is_in_body, self.num_body_bytes = True, 0
            super().on_headers_complete()

        @override
        def on_message_complete(self) -> None:
            self._is_in_body, self._num_header_bytes = False, 0
            super().on_message_complete()

    return BoundedProtocol


def over_h11() -> Any:
    """Return the protocol over h11."""
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Protocol(LingeringProtocol, H11Protocol):
        """uvicorn's, which lingers."""

    return Protocol
