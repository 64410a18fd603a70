"""The command line against a running API: every verb that steers runs, checkpoints and endpoints."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_server import RUN, ApiServer, checkpoint_of, queued_run, running_api, settings_over

from neuromas.adapters.export import write_peft_folder
from neuromas.adapters.ref import PlainLora
from neuromas.cli.main import main
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.records.run import RunRecord

Say = Callable[..., dict[str, Any]]


@pytest.fixture
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(settings_over("sqlite", request, tmp_path)) as server:
        yield server


@pytest.fixture
def say(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> Say:
    """Give a command to the API and return what it printed as JSON."""

    def command(*words: str, code: int = 0) -> dict[str, Any]:
        assert main([*words, "--json", "--server", api.url]) == code
        found: dict[str, Any] = json.loads(capsys.readouterr().out)
        return found

    return command


def test_a_run_is_submitted_shown_listed_and_cancelled(api: ApiServer, say: Say, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(RUN))
    run = say("runs", "submit", str(spec))
    assert run["state"] == "queued"
    assert say("runs", "show", run["id"])["id"] == run["id"]
    assert [one["id"] for one in say("runs", "list", "--state", "queued")["data"]] == [run["id"]]
    assert say("runs", "cancel", run["id"])["state"] == "cancelled"
    assert say("runs", "list", "--state", "queued")["data"] == []
    assert "cancelled" in say("runs", "resume", run["id"], code=2)["error"]["message"]


def test_adapters_of_this_machine_begin_a_run_and_are_listed_and_deleted(
    api: ApiServer, say: Say, tmp_path: Path
) -> None:
    spec, folder = tmp_path / "spec.json", tmp_path / "adapters"
    spec.write_text(json.dumps(RUN | {"name": "brought"}))
    for adapter in ("n1", "n2"):
        lora = PlainLora(1, {"model.q_proj": (np.ones((1, 8), "f4"), np.ones((4, 1), "f4"))})
        write_peft_folder(lora, "tiny", folder / adapter)
    run = say("runs", "import", str(spec), str(folder), "--max-error", "0.2", "--train", "--tag", "theirs")
    assert (run["name"], run["state"], run["tags"]) == ("brought", "queued", ["theirs"])
    record = api.store(lambda store: store.get(RunRecord, run["id"]))
    assert record.imports is not None
    assert record.imports.adapters == {"n1": "brought.n1", "n2": "brought.n2"}
    assert (record.imports.max_error, record.imports.train) == (0.2, True)
    kept = say("adapters", "list")["data"]
    assert [(one["name"], one["method"], one["missing"]) for one in kept] == [
        ("brought.n1", "LORA", []),
        ("brought.n2", "LORA", []),
    ]
    assert run["id"] in say("adapters", "delete", "brought.n1", code=2)["error"]["message"]
    say("runs", "cancel", run["id"])
    assert len(say("adapters", "delete", "brought.n1", "brought.n2")["data"]) == 2
    assert say("adapters", "list")["data"] == []


def test_an_adapter_without_safetensors_is_not_sent(api: ApiServer, say: Say, tmp_path: Path) -> None:
    spec, folder = tmp_path / "spec.json", tmp_path / "adapters"
    spec.write_text(json.dumps(RUN))
    (folder / "n1").mkdir(parents=True)
    assert "holds no PEFT folder" in say("runs", "import", str(spec), str(folder), code=2)["error"]["message"]
    (folder / "n1" / "adapter_config.json").write_text("{}")
    (folder / "n1" / "adapter_model.bin").write_bytes(b"")
    assert "safetensors alone" in say("runs", "import", str(spec), str(folder), code=2)["error"]["message"]
    assert say("adapters", "list")["data"] == []


def test_runs_are_tagged_and_found_by_their_tags(api: ApiServer, say: Say, tmp_path: Path) -> None:
    spec = tmp_path / "spec.json"
    spec.write_text(json.dumps(RUN))
    run = say("runs", "submit", str(spec), "--tag", "baseline", "--tag", "seed-1")
    queued_run(api)
    assert run["tags"] == ["baseline", "seed-1"]
    assert [one["id"] for one in say("runs", "list", "--tag", "seed-1")["data"]] == [run["id"]]
    assert say("runs", "tag", run["id"], "final")["tags"] == ["final"]
    assert say("runs", "list", "--tag", "seed-1")["data"] == []
    assert say("runs", "tag", run["id"])["tags"] == []
    assert "tags[0]" in say("runs", "tag", run["id"], "two words", code=2)["error"]["message"]


def test_a_run_is_deleted_once_it_has_ended_and_somebody_has_said_yes(
    api: ApiServer, say: Say, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = queued_run(api)
    assert "queued" in say("runs", "delete", run["id"], "--yes", code=2)["error"]["message"]
    say("runs", "cancel", run["id"])
    for refusal in ("n\n", "\n", ""):
        monkeypatch.setattr("sys.stdin", io.StringIO(refusal))
        assert main(["runs", "delete", run["id"], "--server", api.url]) == 1
    assert f"delete run {run['id']} (small, cancelled)" in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    assert say("runs", "delete", run["id"])["deleted"] is True
    assert say("runs", "list")["data"] == []


def test_a_run_is_paused_and_resumed(api: ApiServer, say: Say) -> None:
    run = queued_run(api)
    assert say("runs", "pause", run["id"])["state"] == "paused"
    assert say("runs", "resume", run["id"])["state"] == "queued"


def test_checkpoints_are_listed(api: ApiServer, say: Say) -> None:
    run = queued_run(api)
    checkpoints = [checkpoint_of(api, run, step) for step in (1, 2)]
    listed = say("checkpoints", "list", run["id"])["data"]
    assert [one["id"] for one in listed] == [one["id"] for one in reversed(checkpoints)]


def test_what_is_too_long_for_its_column_keeps_its_distance(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    name = "n" * 40
    run = queued_run(api, name=name)
    checkpoint = checkpoint_of(api, run, 2, 1.0)
    api.client.post("/v1/endpoints", json={"name": name, "checkpoint": checkpoint["id"]})
    api.change(RunRecord, run["id"], accuracy=1.0)
    lines = []
    for words in (["runs", "list"], ["checkpoints", "list", run["id"]], ["endpoints", "list"]):
        assert main([*words, "--server", api.url]) == 0
        lines.append(capsys.readouterr().out.split())
    runs, checkpoints, endpoints = lines
    assert [name in runs, name in endpoints] == [True, True]
    assert " ".join(checkpoints[-5:]) == "accuracy 100.0 % (latest, best)"


def test_an_endpoint_is_deployed_swapped_and_deleted(api: ApiServer, say: Say) -> None:
    run = queued_run(api)
    first, second = checkpoint_of(api, run, 1, 0.5), checkpoint_of(api, run, 2, 0.4)
    endpoint = say("endpoints", "deploy", "solver", f"{run['id']}@best")
    assert (endpoint["checkpoint"], endpoint["state"], endpoint["served"]) == (first["id"], "deploying", None)
    api.change(EndpointRecord, endpoint["id"], state=EndpointState.READY, url="/engine", served=1)
    assert say("endpoints", "deploy", "solver", f"{run['id']}@best", "--wait")["state"] == "ready"

    swapped = say("endpoints", "swap", "solver", f"{run['id']}@latest")
    assert (swapped["checkpoint"], swapped["state"]) == (second["id"], "ready")
    assert (swapped["generation"], swapped["served"]) == (2, 1)
    api.change(EndpointRecord, endpoint["id"], error={"code": "swap_failed", "message": "wrong rank", "param": None})
    refused = say("endpoints", "swap", "solver", second["id"], "--wait", code=1)["error"]
    assert (refused["code"], refused["message"]) == ("swap_failed", "endpoint solver failed: wrong rank")

    assert say("endpoints", "delete", "solver")["wanted"] == "stop"
    api.change(EndpointRecord, endpoint["id"], state=EndpointState.STOPPED, served=None)
    assert say("endpoints", "delete", "solver", "--wait")["state"] == "stopped"
    assert [one["state"] for one in say("endpoints", "list")["data"]] == ["stopped"]


def test_a_swap_and_a_stop_under_way_are_said(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    run = queued_run(api)
    checkpoint_of(api, run, 1)
    assert main(["endpoints", "deploy", "solver", f"{run['id']}@latest", "--server", api.url]) == 0
    endpoint = json.loads(api.client.get("/v1/endpoints/solver").text)
    api.change(EndpointRecord, endpoint["id"], state=EndpointState.READY, url="/engine", served=1, generation=2)
    capsys.readouterr()
    assert main(["endpoints", "list", "--server", api.url]) == 0
    assert capsys.readouterr().out.split()[:2] == ["solver", "swapping"]
    assert main(["endpoints", "delete", "solver", "--server", api.url]) == 0
    assert capsys.readouterr().out.split()[:2] == ["solver", "stopping"]
