"""RedisServer: a real redis-server on a free port that a test may kill and start again; keeps its data on disk."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from neuromas.services.runs.head import free_port

START_S = 30.0


class RedisServer:
    """A server over a folder. ``start`` after ``kill`` brings it back on the same port, with what it had written."""

    def __init__(self, folder: Path, password: str | None = None) -> None:
        self._binary = shutil.which("redis-server")
        self._folder = folder
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        """Address without the password."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def client(self) -> redis.Redis:
        """A client of the test's own."""
        return redis.Redis(port=self.port, password=self._password)

    def start(self) -> None:
        """Start the server and return when it answers."""
        if self._binary is None:
            pytest.fail("redis-server is not installed; get it with: apt-get install redis-server")
        deadline = time.monotonic() + START_S
        while True:
            self.port = self.port or free_port()
            self._process = subprocess.Popen(self._command(), stdout=subprocess.DEVNULL)
            while self._process.poll() is None:
                if self._answers():
                    return
                if time.monotonic() > deadline:
                    self.kill()
                    pytest.fail(f"redis-server did not answer within {START_S} s; see {self._folder / 'log'}")
                time.sleep(0.01)
            if time.monotonic() > deadline:
                pytest.fail(f"redis-server ended at once; see {self._folder / 'log'}")
            # Another process took the port first. After a kill the port stays: clients know it.
            self.port = self.port if self._is_known() else 0

    def kill(self) -> None:
        """Kill the server as a crash would; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Start the server where it is down."""
        if self._process is None:
            self.start()

    def signal(self, number: signal.Signals) -> None:
        """Send the server a signal, such as SIGSTOP to make it hang."""
        assert self._process is not None
        self._process.send_signal(number)

    def _command(self) -> list[str]:
        settings = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self._folder),
            "appendonly": "yes",
            "appendfsync": "always",
            "save": "",
            "maxmemory-policy": "noeviction",
            "logfile": str(self._folder / "log"),
        }
        if self._password is not None:
            settings["requirepass"] = self._password
        return [str(self._binary), *(part for name, value in settings.items() for part in (f"--{name}", value))]

    def _answers(self) -> bool:
        try:
            with self.client as client:
                return bool(client.config_get("dir")["dir"] == str(self._folder))
        except (redis.ConnectionError, redis.TimeoutError):
            return False

    def _is_known(self) -> bool:
        return (self._folder / "appendonlydir").exists()


@contextmanager
def running_redis(folder: Path, password: str | None = None) -> Iterator[RedisServer]:
    """Give a running server whose data lies in ``folder``; it is killed at the end."""
    server = RedisServer(folder, password)
    server.start()
    try:
        yield server
    finally:
        server.kill()
