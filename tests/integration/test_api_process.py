"""The API as a process of its own: it starts, says where it listens, and ends as it should when it is told to."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest
from api_server import RUN
from waiting import until

import neuromas

ROOT = Path(neuromas.__file__).parents[1]
WAIT_S = 120.0


@contextmanager
def process(
    folder: Path, *arguments: str, descriptors: tuple[int, ...] = (), **given: str
) -> Iterator[subprocess.Popen[str]]:
    """Start the API's process over a data folder; it is killed at the end if it still lives."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("NEUROMAS_")}
    environment |= {"NEUROMAS_DATA_DIR": str(folder), "NEUROMAS_PORT": "0", "PYTHONPATH": str(ROOT), **given}
    command = [sys.executable, "-m", "neuromas.services.api", *arguments]
    started = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True, pass_fds=descriptors)
    try:
        yield started
    finally:
        started.kill()
        started.wait()
        assert started.stderr is not None
        started.stderr.close()


def address_of(started: subprocess.Popen[str]) -> str:
    """Return the address in the process's first log lines."""
    assert started.stderr is not None
    for line in started.stderr:
        found = json.loads(line)
        if found["message"] == "listening":
            return str(found["address"])
    raise AssertionError(f"the process ended with {started.wait()}")


def is_alive(url: str) -> bool:
    with suppress(httpx.TransportError):
        return httpx.get(f"{url}/healthz", timeout=WAIT_S, trust_env=False).status_code == 200
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_open_streams_and_the_process(tmp_path: Path, number: signal.Signals) -> None:
    with process(tmp_path) as started:
        url = address_of(started)
        until(lambda: is_alive(url), within_s=WAIT_S)
        run = httpx.post(f"{url}/v1/runs", json=RUN, timeout=WAIT_S, trust_env=False).json()
        lines: list[str] = []

        def follow() -> None:
            headers = {"accept": "text/event-stream"}
            with httpx.stream(
                "GET", f"{url}/v1/runs/{run['id']}/events", headers=headers, timeout=WAIT_S, trust_env=False
            ) as a:
                for line in a.iter_lines():
                    lines.append(line)  # noqa: PERF402 - seen as they come

        thread = threading.Thread(target=follow)
        thread.start()
        until(lambda: any('"queued"' in line for line in lines))
        started.send_signal(number)
        thread.join(WAIT_S)
        assert not thread.is_alive()
        assert started.wait(WAIT_S) == 0
        assert started.stderr is not None
        assert "Traceback" not in started.stderr.read()


def test_what_one_process_queued_the_next_one_knows(tmp_path: Path) -> None:
    with process(tmp_path) as started:
        url = address_of(started)
        until(lambda: is_alive(url), within_s=WAIT_S)
        run = httpx.post(f"{url}/v1/runs", json=RUN, timeout=WAIT_S, trust_env=False).json()
        started.kill()
    with process(tmp_path) as started:
        url = address_of(started)
        until(lambda: is_alive(url), within_s=WAIT_S)
        assert httpx.get(f"{url}/v1/runs/{run['id']}", timeout=WAIT_S, trust_env=False).json() == run


def test_a_socket_that_is_bound_already_is_taken_over(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        descriptor = listener.fileno()
        with process(tmp_path, "--fd", str(descriptor), descriptors=(descriptor,)) as started:
            assert address_of(started) == url
            until(lambda: is_alive(url), within_s=WAIT_S)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"NEUROMAS_HOST": "0.0.0.0"}, "neuromas keys create"),
        ({"NEUROMAS_HOST": "0.0.0.0", "NEUROMAS_AUTH": "off"}, "NEUROMAS_AUTH"),
        ({"NEUROMAS_HOST": "203.0.113.1", "NEUROMAS_AUTH": "keys"}, "neuromas keys create"),
        ({"NEUROMAS_PROT": "80"}, "NEUROMAS_PORT"),
    ],
)
def test_settings_that_are_not_safe_or_not_known_do_not_start(
    tmp_path: Path, given: dict[str, str], message: str
) -> None:
    with process(tmp_path, **given) as started:
        _, said = started.communicate(timeout=WAIT_S)
        assert started.returncode == 2
        assert message in said
        assert "Traceback" not in said


def test_a_port_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = str(listener.getsockname()[1])
        with process(tmp_path, NEUROMAS_PORT=taken) as started:
            _, said = started.communicate(timeout=WAIT_S)
            assert (started.returncode, f"127.0.0.1:{taken}" in said) == (2, True)
