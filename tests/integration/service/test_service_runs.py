"""Runs on the embedded service: journeys, and what happens when a part of it is killed."""

from __future__ import annotations

import os
import signal

import pytest
from service_process import ALONE, Document, ServiceProcess, check_whole, slow, tiny

pytestmark = [pytest.mark.service, pytest.mark.ray, pytest.mark.timeout(1800)]
STEPS = 14


def submit(service: ServiceProcess, **changes: object) -> str:
    return str(service.post("/v1/runs", tiny(**changes))["id"])


def submit_slow(service: ServiceProcess, **changes: object) -> str:
    return str(service.post("/v1/runs", slow(steps=STEPS, **changes))["id"])


def states(service: ServiceProcess, run_id: str) -> list[str]:
    return [event["state"] for event in service.events(run_id) if event["type"] == "state"]


def test_a_run_is_trained_then_grown_from_its_checkpoint(service: ServiceProcess, run: Document) -> None:
    run_id = run["id"]
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
    service.wait_for_step(run_id, 1)
    service.post(f"/v1/runs/{run_id}/pause", status=200)
    paused = service.wait_for_state(run_id, "paused", "succeeded", "failed")
    assert paused["state"] == "paused", service.words()
    service.wait_for("the driver's end", lambda: not service.find("neuromas.services.runs.driver", run_id))
    reached = max(service.steps(run_id))
    assert [found["step"] for found in service.get(f"/v1/runs/{run_id}/checkpoints")["data"]] == [reached]
    service.post(f"/v1/runs/{run_id}/resume", status=200)
    service.wait_for_state(run_id, "succeeded", "failed")
    check_whole(service, run_id, STEPS)
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
    run = service.wait_for_state(submit(service, training=training, runtime=ALONE), "failed", "succeeded")
    # No arithmetic in float32 is that exact: the base's own scores are compared first, then the engine's.
    assert run["error"]["code"] in ("base_model", "parity")
    assert "allowed is 1.0" in run["error"]["message"]


def test_a_killed_driver_is_replaced_from_the_checkpoint(service: ServiceProcess) -> None:
    run_id = submit_slow(service, checkpoint={"every": 3})
    service.wait_for_event(run_id, "checkpoint")
    service.kill("neuromas.services.runs.driver", run_id)
    service.wait_for_state(run_id, "succeeded", "failed")
    check_whole(service, run_id, STEPS)
    events = service.events(run_id)
    lost = [event for event in events if event["type"] == "driver_lost"]
    assert len(lost) == 1
    assert "exit code" in lost[0]["message"]
    starts = [event["first_step"] for event in events if event["type"] == "stage_started"]
    assert len(starts) == 2
    assert starts[1] >= 3


def test_a_killed_rollout_worker_is_replaced(service: ServiceProcess) -> None:
    run_id = submit_slow(service)
    service.wait_for_step(run_id, 1)
    os.kill(service.find("ray::RolloutActor")[0], signal.SIGKILL)
    service.wait_for_state(run_id, "succeeded", "failed")
    check_whole(service, run_id, STEPS)
    notices = [event["message"] for event in service.events(run_id) if event["type"] == "notice"]
    assert any("rollout worker 0 was lost" in message for message in notices)


def test_killed_supervisors_and_apis_change_nothing(service: ServiceProcess) -> None:
    run_id, waiting = submit_slow(service, runtime=ALONE), submit(service, steps=100_000, runtime=ALONE)
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
    check_whole(service, run_id, STEPS)
    service.wait_for_event(waiting, "run_started")
