"""One service for all tests of this folder: they run in one process, in the order of the names of their files."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from service_process import Document, ServiceProcess, running_service, tiny


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    """A service whose user lets everybody read and write, as far as it is not told otherwise."""
    data = tmp_path_factory.mktemp("service") / "data"
    data.mkdir()
    data.chmod(0o777)
    umask = os.umask(0)
    try:
        with running_service(data) as service:
            os.umask(umask)
            yield service
    finally:
        os.umask(umask)


@pytest.fixture
def service(shared: ServiceProcess) -> Iterator[ServiceProcess]:
    """The folder's service, with no run under way before and after the test."""
    yield shared
    shared.cancel_all()


@pytest.fixture(scope="session")
def run(shared: ServiceProcess) -> Document:
    """A trained run with checkpoints of steps 2, 4 and 6."""
    run_id = shared.post("/v1/runs", tiny(steps=6))["id"]
    found = shared.wait_for_state(run_id, "succeeded", "failed")
    assert found["error"] is None
    return found
