"""An application on a real port, in a thread of this process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from fastapi import FastAPI

START_S = 30.0


@contextmanager
def served(app: FastAPI) -> Iterator[str]:
    """Serve ``app`` inside the block; gives its address."""
    server = uvicorn.Server(
        uvicorn.Config(app, port=0, log_level="error", access_log=False, timeout_graceful_shutdown=5)
    )
    has_started = threading.Event()
    startup = server.startup

    async def announced(sockets: list | None = None) -> None:
        await startup(sockets)
        has_started.set()

    server.startup = announced  # type: ignore[method-assign]
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert has_started.wait(START_S)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()
