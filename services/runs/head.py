"""The Ray cluster of an embedded service: one head on the loopback interface, with token authentication."""

from __future__ import annotations

import os
import secrets
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
STOP_WAIT_S: Final = 45
"""Seconds that Ray gives a job between asking it to stop and killing it: a step and its checkpoint."""
_OFFERED_CPUS: Final = 8
_CPUS_PER_RUN: Final = 4
_PORTS: Final = range(20_000, 32_768)
_FOREIGN: Final = ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_TOKEN")
"""Variables that would lead to a cluster which is not ours."""


@dataclass(frozen=True, slots=True)
class RayHead:
    """What a head is started with.

    Attributes:
        dashboard_port: of the dashboard, where jobs are submitted.
        folder: of Ray's sessions; its path must be short, because sockets lie in it.
        token_file: holds the cluster's token, readable by its owner only.
        cpus: processors that the cluster offers. Logical ones: they bound how much is begun, not where it runs.
    """

    dashboard_port: int
    folder: Path
    token_file: Path
    cpus: int

    @property
    def address(self) -> str:
        """Address of the dashboard."""
        return f"http://{LOOPBACK}:{self.dashboard_port}"

    def command(self) -> list[str]:
        """Return the command that runs the head until it gets SIGTERM."""
        options = {
            "node-ip-address": LOOPBACK,
            "port": 0,
            "dashboard-host": LOOPBACK,
            "dashboard-port": self.dashboard_port,
            "dashboard-agent-listen-port": 0,  # its default is one number, and a second cluster then takes no jobs
            "ray-client-server-port": free_port(),
            "num-cpus": self.cpus,
            "temp-dir": self.folder,
            "include-log-monitor": False,  # it copies workers' words to drivers, which do not ask for them
        }
        settings = [f"--{name}={value}" for name, value in options.items()]
        start = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--disable-usage-stats"]
        return [*start, "--no-monitor", *settings]  # which is the autoscaler's

    def environment(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the environment of the head, and of everybody who speaks with it."""
        kept = {name: value for name, value in base.items() if name not in _FOREIGN}
        return kept | {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(self.token_file),
            # Without this Ray takes the machine's outer address for 127.0.0.1 and listens on all interfaces.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S),
            "RAY_USAGE_STATS_ENABLED": "0",
            # Ray starts workers at niceness 15, behind everything else; here they are what the machine is for.
            "RAY_worker_niceness": "0",
            # The default of 30 s is too short for a machine that is busy with something else.
            "RAY_raylet_start_wait_time_s": "120",
        }

    def is_ready(self) -> bool:
        """Whether the dashboard answers."""
        token = self.token_file.read_text(encoding="ascii").strip()
        headers = {"Authorization": f"Bearer {token}"}
        request = urllib.request.Request(f"{self.address}/api/version", headers=headers)  # noqa: S310 - Ray's own
        try:
            with urllib.request.urlopen(request, timeout=2):  # noqa: S310
                return True
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return False


def make_head(folder: Path, token_file: Path, max_running: int) -> RayHead:
    """Return a head for a service that has ``max_running`` runs at a time; writes the token's file."""
    write_token(token_file)
    cpus = max(os.cpu_count() or 1, _OFFERED_CPUS + _CPUS_PER_RUN * max_running)
    return RayHead(free_port(), folder, token_file, cpus)


def write_token(file: Path) -> None:
    """Write a new random token."""
    file.unlink(missing_ok=True)
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    os.write(descriptor, secrets.token_hex(32).encode())
    os.close(descriptor)


def free_port() -> int:
    """Return a port that is free now, and that nobody gets who takes any: those of Linux begin at 32768.

    Ray's own workers take 10002 to 19999.
    """
    while True:
        port = _PORTS.start + secrets.randbelow(len(_PORTS))
        with socket.socket() as listener, suppress(OSError):
            listener.bind((LOOPBACK, port))
            return port
