"""The service's API in a process of its own, as it is deployed, for load to be put on."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import environ
from time import monotonic, sleep
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from neuromas.services.api.server import listen
from neuromas.services.settings import Settings

START_S = 60.0


@dataclass(frozen=True, slots=True)
class ApiProcess:
    """Where it answers, and what it was started with."""

    settings: Settings
    port: int


@contextmanager
def served_api(settings: Settings) -> Iterator[ApiProcess]:
    """Give an API that answers, on a free port of the loopback; it is stopped at the end."""
    settings = settings.model_copy(update={"port": 0, "log_level": "WARNING"})
    listener = listen(settings)
    port = listener.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "neuromas.services.api", "--fd", str(listener.fileno())],
        env={**environ, **settings.environment()},
        pass_fds=(listener.fileno(),),
    )
    listener.close()
    try:
        _wait(process, f"http://127.0.0.1:{port}/healthz")
        yield ApiProcess(settings, port)
    finally:
        process.terminate()
        process.wait()


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
