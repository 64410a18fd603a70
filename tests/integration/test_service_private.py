"""What processes of ours leave on the disk is for their user alone."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from service_process import ROOT, ServiceProcess, running_service, tiny

pytestmark = [pytest.mark.service, pytest.mark.ray]
_CONNECT = """
from pathlib import Path
import ray
from neuromas.cluster.connection import RayConnection
connection = RayConnection(None, 1)
session = Path(ray._private.worker._global_node.get_session_dir_path())
print(session)
print(oct(session.parents[1].stat().st_mode & 0o777))
connection.close()
print(session.parents[1].exists())
"""


def open_to_others(folder: Path) -> list[str]:
    """Return what others could read, write or enter."""
    found = [folder, *folder.rglob("*")]
    return [str(path) for path in found if not path.is_symlink() and path.lstat().st_mode & 0o077]


def ray_folder(service: ServiceProcess) -> Path:
    command = Path(f"/proc/{service.find('gcs_server')[0]}/cmdline").read_bytes().decode()
    match = re.search(r"(/[^\0=]*/nm-ray-[^/\0]+)/", command)
    assert match, command
    return Path(match[1])


def test_nobody_else_reads_the_service_or_enters_its_cluster(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir(mode=0o777)
    data.chmod(0o777)
    umask = os.umask(0)
    try:
        with running_service(data) as service:
            run = service.post("/v1/runs", tiny(steps=2))
            assert service.wait_for_state(run["id"], "succeeded", "failed")["error"] is None
            assert service.get("/readyz")["checks"] == {"store": "ok", "ray": "ok"}
            assert stat.S_IMODE(data.stat().st_mode) == 0o700
            assert open_to_others(data) == []
            assert stat.S_IMODE(ray_folder(service).stat().st_mode) == 0o700
    finally:
        os.umask(umask)


def test_nobody_else_enters_a_cluster_of_the_command_line() -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    command = [sys.executable, "-c", _CONNECT]
    environment |= {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, timeout=280, umask=0, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    session, mode, is_left = done.stdout.splitlines()[-3:]
    assert "/nm-ray-" in session
    assert (mode, is_left) == ("0o700", "False")
