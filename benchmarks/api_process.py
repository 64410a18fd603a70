"""The service's API in a process of its own, as it is deployed, for load to be put on."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import environ
from pathlib import Path
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from benchmarks.peers.process_tree import cpu_s
from neuromas.services.api.server import listen
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.settings import Settings
from neuromas.services.store.open import open_store

HERE = Path(__file__).parents[1]
START_S = 60.0


@dataclass(frozen=True, slots=True)
class ApiProcess:
    """Where it answers, what it was started with, and its process."""

    settings: Settings
    port: int
    pid: int

    def cpu_s(self) -> float:
        """Return the processor seconds that it has taken."""
        return cpu_s(self.pid)


@contextmanager
def served_api(settings: Settings, checkout: Path = HERE) -> Iterator[ApiProcess]:
    """Give an API that answers, on a free port of the loopback; it is stopped at the end.

    Args:
        settings: of the service.
        checkout: folder of the program.
    """
    settings = settings.model_copy(update={"port": 0, "log_level": "WARNING"})
    listener = listen(settings)
    port = listener.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "neuromas.services.api", "--fd", str(listener.fileno())],
        env={**environ, **settings.environment(), "PYTHONPATH": str(checkout.resolve())},
        pass_fds=(listener.fileno(),),
    )
    listener.close()
    try:
        _wait(process, f"http://127.0.0.1:{port}/healthz")
        yield ApiProcess(settings, port, process.pid)
    finally:
        process.terminate()
        process.wait()


@contextmanager
def canned_endpoint(settings: Settings) -> Iterator[None]:
    """Serve an endpoint named graph inside the block, which says the same to everybody; see ``canned_endpoint``."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "-m", "benchmarks.canned_endpoint", "--fd", str(listener.fileno())]
        process = subprocess.Popen(command, pass_fds=(listener.fileno(),))
    try:
        asyncio.run(add_endpoint(settings, f"http://127.0.0.1:{port}"))
        yield
    finally:
        process.terminate()
        process.wait()


async def add_endpoint(settings: Settings, url: str) -> None:
    """Write down what the supervisor would of an endpoint that it has deployed."""
    store = open_store(settings)
    endpoint = EndpointRecord(
        id="ep_0", name="graph", checkpoint="ckpt_0", run="run_0", state=EndpointState.READY, url=url, owner="local"
    )
    await store.create(endpoint)
    await store.close()


def _wait(process: subprocess.Popen[bytes], url: str) -> None:
    deadline, opener = monotonic() + START_S, build_opener(ProxyHandler({}))
    while True:
        try:
            with opener.open(url, timeout=5):
                return
        except (URLError, OSError) as error:
            if process.poll() is not None or monotonic() > deadline:
                raise RuntimeError("the API did not start") from error
            sleep(0.05)
