"""The end of the embedded service, and starts that are refused. The last file: it ends the folder's service."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from service_process import (
    ROOT,
    ServiceProcess,
    check_whole,
    command,
    descendants,
    is_alive,
    running_service,
    slow,
)

pytestmark = [pytest.mark.service, pytest.mark.ray, pytest.mark.timeout(1800)]
STEPS = 14


def test_a_data_folder_has_one_service(shared: ServiceProcess) -> None:
    assert "is used by another service" in refused("--port", "0", "--data", str(shared.data))


def test_ctrl_c_leaves_nothing_running_and_the_next_start_goes_on(shared: ServiceProcess) -> None:
    """Ends the folder's service: the last test that uses it."""
    run_id = str(shared.post("/v1/runs", slow(steps=STEPS, checkpoint={"every": 0}))["id"])
    shared.wait_for_step(run_id, 4)
    family = descendants(shared.process.pid)
    assert len(family) > 5
    assert shared.stop() == 0, shared.words()
    assert [command(pid) for pid in family if is_alive(pid)] == []
    with running_service(shared.data) as second:
        second.wait_for_state(run_id, "succeeded", "failed")
        check_whole(second, run_id, STEPS)
        run = second.get(f"/v1/runs/{run_id}")
        assert run["attempt"] == 1
        starts = [event["first_step"] for event in second.events(run_id) if event["type"] == "stage_started"]
        assert starts[1] >= 4, "the checkpoint that was asked for at Ctrl-C"
        assert [event for event in second.events(run_id) if event["type"] == "driver_lost"] == []
        second.process.send_signal(signal.SIGINT)
        second.process.send_signal(signal.SIGINT)


def refused(*options: str) -> str:
    found = subprocess.run(
        [sys.executable, "-m", "neuromas", "service", *options],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found.returncode == 2, found.stderr
    return found.stderr


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert f"127.0.0.1:{port} cannot be listened on" in refused("--port", str(port), "--data", str(tmp_path))


def test_others_are_not_let_in_without_keys(tmp_path: Path) -> None:
    assert "neuromas keys create" in refused("--host", "0.0.0.0", "--port", "0", "--data", str(tmp_path / "data"))
