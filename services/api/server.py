"""The API's process: one server, which ends open streams and then requests when it is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI
from typing_extensions import override

from neuromas.services.api.app import make_app
from neuromas.services.api.service import Service
from neuromas.services.records.key import KeyRecord, KeyState
from neuromas.services.settings import Settings, SettingsError
from neuromas.services.store.base import StoreUnavailableError, StoreUnusableError, StoreUnwritableError
from neuromas.services.store.open import open_store
from neuromas.serving.http_server import HttpServer

logger = logging.getLogger(__name__)
STOP_S: Final = 30
"""Seconds that requests under way have when the server is told to stop."""
_BACKLOG: Final = 2048


class Server(HttpServer):
    """A server whose streams end when it is told to stop, instead of holding it up; clients come back to another."""

    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._streams = app
        self._loop: asyncio.AbstractEventLoop | None = None

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self.end_streams()

    def stop(self) -> None:
        """Begin to stop; may be called from any thread."""
        self.should_exit = True
        self.end_streams()

    def end_streams(self) -> None:
        """End open event streams; may be called from any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended, and the streams with it
                self._loop.call_soon_threadsafe(self._end_streams)

    def _end_streams(self) -> None:
        service: Service = self._streams.state.service
        service.reads.close()


def make_server(settings: Settings) -> Server:
    """Return a server of the service's API, not yet listening."""
    app = make_app(settings, open_store(settings))
    config = uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        timeout_graceful_shutdown=STOP_S,
        # The address of a client is what the connection says; a header could say anything.
        proxy_headers=False,
        backlog=_BACKLOG,
    )
    return Server(config, app)


def serve(settings: Settings, listener: socket.socket | None = None) -> None:
    """Serve the API until SIGINT or SIGTERM.

    Args:
        settings: of the service.
        listener: a bound socket to listen on; None = one for the settings' address.

    Raises:
        SettingsError: the address cannot be listened on, or keys are needed and there are none.
    """
    asyncio.run(check_store(settings))
    with listener or listen(settings) as bound:
        host, port = bound.getsockname()[:2]
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}"
        logger.info("listening", extra={"address": address, "keys_required": settings.keys_required})
        make_server(settings).run(sockets=[bound])


async def check_store(settings: Settings) -> None:
    """Refuse to begin over a store that cannot be used, or has no key where requests need one.

    A store that is away is waited for by requests.

    Raises:
        SettingsError: it cannot be used, or there is no key.
    """
    store = open_store(settings)
    try:
        for warning in await store.check():
            logger.warning("the store may lose state", extra={"reason": warning})
        if not settings.keys_required:
            return
        found = await store.list(KeyRecord, where={"state": KeyState.ACTIVE}, limit=1)
    except (StoreUnusableError, StoreUnwritableError) as error:
        raise SettingsError(f"NEUROMAS_STORE_URL, NEUROMAS_DATA_DIR: {error}") from error
    except StoreUnavailableError as error:
        logger.warning("the store is away", extra={"reason": str(error)})
        return
    finally:
        await store.close()
    if not found.items:
        raise SettingsError(
            f"{settings.host} can be reached from other machines, requests need a key and there is none; make one with "
            "`neuromas keys create --scope read,train,serve` and the --data and --store of the service, or listen on "
            "127.0.0.1 (NEUROMAS_HOST)"
        )


def listen(settings: Settings) -> socket.socket:
    """Return a socket that is bound to the settings' address.

    Raises:
        SettingsError: it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((settings.host, settings.port))
    except OSError as error:
        listener.close()
        reason = error.strerror or error
        raise SettingsError(
            f"NEUROMAS_HOST, NEUROMAS_PORT: {settings.host}:{settings.port} cannot be listened on ({reason}); "
            "choose another with --port, 0 for a free one"
        ) from error
    return listener
