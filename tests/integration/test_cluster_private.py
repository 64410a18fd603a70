"""The cluster that a command of ours starts is for its user alone, and has only the processes that something uses."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
ROOT = Path(__file__).parents[2]
_CONNECT = """
from pathlib import Path
import ray
from neuromas.cluster.connection import RayConnection
connection = RayConnection(None, 1, show_worker_logs={show_worker_logs})
session = Path(ray._private.worker._global_node.get_session_dir_path())
print(session)
print(oct(session.parents[1].stat().st_mode & 0o777))
print(*sorted(ray._private.worker._global_node.all_processes))
connection.close()
print(session.parents[1].exists())
"""


@pytest.mark.parametrize(
    ("show_worker_logs", "home"),
    [(False, {}), (True, {"HOME": "/dev/null"}), (False, {"HOME": "/dev/null", "RAY_AUTH_MODE": "token"})],
)
def test_nobody_else_enters_a_cluster_of_the_command_line(show_worker_logs: bool, home: dict[str, str]) -> None:
    """Also of a user who has no home that can be written."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", _CONNECT.format(show_worker_logs=show_worker_logs)]
    environment |= {"PYTHONPATH": str(ROOT)} | home
    done = subprocess.run(command, env=environment, capture_output=True, text=True, umask=0, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    session, mode, processes, is_left = done.stdout.splitlines()[-4:]
    assert "/nm-ray-" in session
    assert (mode, is_left) == ("0o700", "False")
    assert processes.split() == ["gcs_server", *(["log_monitor"] if show_worker_logs else []), "raylet"]
