"""The embedded service as its user has it: journeys, and what happens when a part of it is killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from service_process import ROOT, ServiceProcess, command, descendants, is_alive, running_service, slow, tiny

from neuromas.journal import lines as journal

pytestmark = [pytest.mark.service, pytest.mark.ray, pytest.mark.timeout(1800)]
STEPS = 20


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServiceProcess]:
    with running_service(tmp_path_factory.mktemp("embedded") / "data") as service:
        yield service


@pytest.fixture
def service(shared: ServiceProcess) -> Iterator[ServiceProcess]:
    """The module's service, with no run under way before and after the test."""
    yield shared
    shared.cancel_all()


def submit(service: ServiceProcess, **changes: object) -> str:
    return str(service.post("/v1/runs", tiny(**changes))["id"])


def submit_slow(service: ServiceProcess, **changes: object) -> str:
    return str(service.post("/v1/runs", slow(steps=STEPS, **changes))["id"])


def check_whole(service: ServiceProcess, run_id: str, steps: int = STEPS) -> None:
    """A finished run has told every step once, in order, and its folder holds the same."""
    run = service.get(f"/v1/runs/{run_id}")
    assert (run["state"], run["error"]) == ("succeeded", None), service.words()
    assert service.steps(run_id) == list(range(1, steps + 1))
    folder = service.data / "runs" / run_id / "tiny"
    assert [line["step"] for line in journal.read(folder / "metrics.jsonl")] == list(range(1, steps + 1))
    assert run["result"]["steps"] == steps
    assert run["progress"]["step"] == steps


def states(service: ServiceProcess, run_id: str) -> list[str]:
    return [event["state"] for event in service.events(run_id) if event["type"] == "state"]


def test_a_run_is_trained_then_grown_from_its_checkpoint(service: ServiceProcess) -> None:
    run_id = submit(service, steps=6)
    with service.remote() as remote:
        kinds = [event["type"] for event in remote.events(run_id)]
    assert kinds.count("step") == 6
    assert {"run_started", "stage_started", "evaluated", "checkpoint", "stage_ended", "run_ended"} <= set(kinds)
    check_whole(service, run_id, 6)
    assert states(service, run_id) == ["queued", "running", "succeeded"]

    checkpoints = service.get(f"/v1/runs/{run_id}/checkpoints")["data"]
    assert sorted(checkpoint["step"] for checkpoint in checkpoints) == [2, 4, 6]
    newest = next(checkpoint for checkpoint in checkpoints if checkpoint["step"] == 6)
    assert newest["aliases"] == ["latest", "best"]

    plan = {"edits": [{"edit": "append", "layers": [1]}]}
    child = service.post(f"/v1/runs/{run_id}/grow", {"plan": plan, "spec": {"training": {"steps": 3}}})
    grown = service.wait_for_state(child["id"], "succeeded", "failed")
    assert grown["error"] is None
    assert len(grown["result"]["topology"]["nodes"]) == 3
    assert grown["parent"]["checkpoint"] == newest["id"]
    lineage = service.get(f"/v1/runs/{child['id']}/lineage")
    assert (lineage["root"]["id"], lineage["root"]["children"][0]["id"]) == (run_id, child["id"])
    log = service.get(f"/v1/runs/{run_id}/logs")["data"]
    assert log[0]["message"] == "driving"


def test_a_run_is_paused_and_goes_on_from_its_checkpoint(service: ServiceProcess) -> None:
    run_id = submit_slow(service, checkpoint={"every": 0})
    service.wait_for_step(run_id, 5)
    service.post(f"/v1/runs/{run_id}/pause", status=200)
    paused = service.wait_for_state(run_id, "paused", "succeeded", "failed")
    assert paused["state"] == "paused", service.words()
    service.wait_for("the driver's end", lambda: not service.find("neuromas.services.runs.driver", run_id))
    reached = max(service.steps(run_id))
    assert [found["step"] for found in service.get(f"/v1/runs/{run_id}/checkpoints")["data"]] == [reached]
    service.post(f"/v1/runs/{run_id}/resume", status=200)
    service.wait_for_state(run_id, "succeeded", "failed")
    check_whole(service, run_id)
    resumed = [event for event in service.events(run_id) if event["type"] == "stage_started"]
    assert [event["first_step"] for event in resumed] == [0, reached]


def test_a_cancelled_run_ends_and_the_next_one_has_its_place(service: ServiceProcess) -> None:
    first, waiting, third = submit(service, steps=100_000), submit(service, steps=2), submit(service, steps=2)
    service.wait_for_step(first, 2)
    assert service.get(f"/v1/runs/{waiting}")["state"] == "queued"
    assert service.post(f"/v1/runs/{third}/cancel", status=200)["state"] == "cancelled"
    service.post(f"/v1/runs/{first}/cancel", status=200)
    service.wait_for_state(first, "cancelled")
    service.wait_for_event(waiting, "run_started")
    assert service.events(third)[-1]["state"] == "cancelled"


def test_a_run_that_fails_tells_its_reason(service: ServiceProcess) -> None:
    training = tiny()["training"] | {"parity_tolerance": 1e-12}
    run = service.wait_for_state(submit(service, training=training), "failed", "succeeded")
    # No arithmetic in float32 is that exact: the base's own scores are compared first, then the engine's.
    assert run["error"]["code"] in ("base_model", "parity")
    assert "allowed is 1.0" in run["error"]["message"]


def test_a_killed_driver_is_replaced_from_the_checkpoint(service: ServiceProcess) -> None:
    run_id = submit_slow(service, checkpoint={"every": 5})
    service.wait_for_step(run_id, 8)
    service.kill("neuromas.services.runs.driver", run_id)
    service.wait_for_state(run_id, "succeeded", "failed")
    check_whole(service, run_id)
    events = service.events(run_id)
    lost = [event for event in events if event["type"] == "driver_lost"]
    assert len(lost) == 1
    assert "exit code" in lost[0]["message"]
    starts = [event["first_step"] for event in events if event["type"] == "stage_started"]
    assert len(starts) == 2
    assert starts[1] >= 5


def test_a_killed_rollout_worker_is_replaced(service: ServiceProcess) -> None:
    run_id = submit_slow(service)
    service.wait_for_step(run_id, 5)
    os.kill(service.find("ray::RolloutActor")[0], signal.SIGKILL)
    service.wait_for_state(run_id, "succeeded", "failed")
    check_whole(service, run_id)
    notices = [event["message"] for event in service.events(run_id) if event["type"] == "notice"]
    assert any("rollout worker 0 was lost" in message for message in notices)


def test_killed_supervisors_and_apis_change_nothing(service: ServiceProcess) -> None:
    run_id, waiting = submit_slow(service), submit(service, steps=100_000)
    service.wait_for_step(run_id, 3)
    driver = service.find("neuromas.services.runs.driver", run_id)
    with service.remote() as remote:
        told = []
        for event in remote.events(run_id):
            told.append(event)
            if event["type"] == "step" and event["step"] == 5:
                service.kill("neuromas.services.runs.supervisor")
                service.kill("neuromas.services.api")
    assert [event["step"] for event in told if event["type"] == "step"] == list(range(1, STEPS + 1))
    assert service.get(f"/v1/runs/{run_id}")["attempt"] == 0
    assert len(driver) >= 1
    check_whole(service, run_id)
    service.wait_for_event(waiting, "run_started")


def test_a_data_folder_has_one_service(service: ServiceProcess) -> None:
    assert "is used by another service" in refused("--port", "0", "--data", str(service.data))


def test_ctrl_c_leaves_nothing_running_and_the_next_start_goes_on(shared: ServiceProcess) -> None:
    """Ends the module's service: the last test that uses it."""
    run_id = submit_slow(shared, checkpoint={"every": 0})
    shared.wait_for_step(run_id, 4)
    family = descendants(shared.process.pid)
    assert len(family) > 5
    assert shared.stop() == 0, shared.words()
    assert [command(pid) for pid in family if is_alive(pid)] == []
    with running_service(shared.data) as second:
        second.wait_for_state(run_id, "succeeded", "failed")
        check_whole(second, run_id)
        run = second.get(f"/v1/runs/{run_id}")
        assert run["attempt"] == 1
        starts = [event["first_step"] for event in second.events(run_id) if event["type"] == "stage_started"]
        assert starts[1] >= 4, "the checkpoint that was asked for at Ctrl-C"
        assert [event for event in second.events(run_id) if event["type"] == "driver_lost"] == []
        second.process.send_signal(signal.SIGINT)
        second.process.send_signal(signal.SIGINT)


def test_a_killed_service_leaves_nothing_running(tmp_path: Path) -> None:
    service = ServiceProcess(tmp_path / "data")
    service.wait_until_ready()
    family = descendants(service.process.pid)
    service.process.kill()
    service.process.wait()
    end_by = 60.0
    while any(is_alive(pid) for pid in family) and end_by > 0:
        end_by -= 0.1
        subprocess.run(["sleep", "0.1"], check=True)
    assert [command(pid) for pid in family if is_alive(pid)] == []


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
