"""Checkpoints over HTTP: of a run that was really trained, listed, exported as stock PEFT folders, deleted."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer, checkpoint_of, error_of, queued_run, running_api, settings_over
from stored import a_checkpoint, a_run
from waiting import until

from neuromas.checkpoints.trained import find_trained
from neuromas.cli.export import export
from neuromas.run.outcome import RunResult
from neuromas.run.run import run
from neuromas.services.records.endpoint import EndpointRecord, EndpointState
from neuromas.services.records.evaluation import EvaluationRecord, EvaluationState
from neuromas.services.records.run import RunRecord, RunState
from neuromas.spec.parse import parse_run_spec
from neuromas.topology.builders import chain

SPEC: dict[str, Any] = {
    "name": "trained",
    "topology": {"nodes": [{"id": "a"}, {"id": "b"}, {"id": "out"}], "edges": [["a", "out"], ["b", "out"]]},
    "task": {"type": "chain", "hops": 2},
    "adapter": {"rank": 2, "alpha": 6.0},
    "training": {"steps": 2, "prompts_per_step": 2, "group_size": 2},
    "evaluation": {"examples": 8},
    "engine": {"type": "transformers"},
    "runtime": {"type": "local"},
}


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api(settings_over("sqlite", request, tmp_path_factory.mktemp("api"))) as server:
        yield server


def train(api: ApiServer, small_base: Path, name: str, **changes: Any) -> tuple[RunResult, str]:
    """Train below the data folder of a service and make the checkpoint known, as a driver does; returns its id."""
    spec = parse_run_spec(SPEC | {"base": str(small_base), "name": name} | changes)
    result = run(spec, api.settings.runs_dir / name)
    folder = find_trained(result.folder).checkpoint
    id = f"ckpt_{name:0>16}"
    api.put(a_run(f"run_{name}", name=name, state=RunState.SUCCEEDED))
    path = str(folder.relative_to(api.settings.data_dir))
    api.put(a_checkpoint(id, run=f"run_{name}", step=2, path=path, nodes=3, accuracy=0.5))
    return result, id


@pytest.fixture(scope="module")
def trained(api: ApiServer, small_base: Path) -> tuple[RunResult, str]:
    return train(api, small_base, "trained")


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def unpack(content: bytes, form: str) -> dict[str, bytes]:
    if form == "zip":
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            return {name: packed.read(name) for name in packed.namelist()}
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        entries = tar.getmembers()
        assert {(entry.uid, entry.uname, entry.isfile()) for entry in entries} == {(0, "", True)}
        return {entry.name: tar.extractfile(entry).read() for entry in entries}  # type: ignore[union-attr]


@pytest.mark.parametrize("form", ["tar", "zip"])
def test_an_archive_holds_what_the_command_line_exports(
    api: ApiServer, trained: tuple[RunResult, str], tmp_path: Path, form: str
) -> None:
    result, id = trained
    answer = api.client.get(f"/v1/checkpoints/{id}/export", params={"format": form})
    assert answer.status_code == 200
    assert answer.headers["content-disposition"] == f'attachment; filename="{id}.{form}"'
    export(find_trained(result.folder), tmp_path / "out")
    expected = contents(tmp_path / "out")
    assert set(expected) >= {
        "topology.json",
        "adapters/out/adapter_model.safetensors",
        "adapters/a/adapter_config.json",
    }
    assert unpack(answer.content, form) == {f"{id}/{name}": content for name, content in expected.items()}


@pytest.mark.parametrize("asked", ["bytes=5-9", "bytes=999999999-", "nonsense"])
def test_an_archive_comes_whole(api: ApiServer, trained: tuple[RunResult, str], asked: str) -> None:
    answer = api.client.get(f"/v1/checkpoints/{trained[1]}/export", headers={"range": asked})
    assert (answer.status_code, answer.headers["accept-ranges"]) == (200, "none")
    assert unpack(answer.content, "tar")


def test_nothing_is_left_of_an_export(api: ApiServer, trained: tuple[RunResult, str]) -> None:
    left = api.settings.data_dir / "exports" / "left"  # by a process that was killed
    left.mkdir(parents=True)
    os.utime(left, (0, 0))
    api.client.get(f"/v1/checkpoints/{trained[1]}/export").raise_for_status()
    until(lambda: not list((api.settings.data_dir / "exports").iterdir()))


def test_adapters_that_torch_makes_are_exported_by_a_process_of_its_own(
    api: ApiServer, small_base: Path, tmp_path: Path
) -> None:
    result, id = train(api, small_base, "unilora", adapter={"type": "unilora", "rank": 2, "dimension": 64})
    answer = api.client.get(f"/v1/checkpoints/{id}/export")
    assert answer.status_code == 200, answer.text
    export(find_trained(result.folder), tmp_path / "out")
    assert unpack(answer.content, "tar") == {
        f"{id}/{name}": found for name, found in contents(tmp_path / "out").items()
    }


def test_an_altered_checkpoint_is_not_exported(api: ApiServer, small_base: Path) -> None:
    result, id = train(api, small_base, "altered")
    weights = find_trained(result.folder).checkpoint / "adapters.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\xff")
    answer = api.client.get(f"/v1/checkpoints/{id}/export")
    assert (answer.status_code, error_of(answer)["code"]) == (409, "checkpoint")
    assert str(api.settings.data_dir) not in answer.text


def test_a_record_that_leads_out_of_the_data_folder_is_not_followed(api: ApiServer, tmp_path: Path) -> None:
    for path in ("../outside", str(tmp_path), "."):
        api.put(a_checkpoint("ckpt_outside", run="run_outside", path=path))
        assert api.client.get("/v1/checkpoints/ckpt_outside/export").status_code == 409


def test_checkpoints_are_found_by_id_folder_and_alias(api: ApiServer) -> None:
    run = queued_run(api)
    first, second = checkpoint_of(api, run, 5, 0.9), checkpoint_of(api, run, 9, 0.2)
    listed = api.client.get(f"/v1/runs/{run['id']}/checkpoints").json()["data"]
    assert {entry["id"]: entry["aliases"] for entry in listed} == {first["id"]: ["best"], second["id"]: ["latest"]}
    for name, expected in (("latest", second), ("best", first), ("stage-0-000005", first), (second["id"], second)):
        found = api.client.get(f"/v1/runs/{run['id']}/checkpoints/{name}").json()
        assert found["id"] == expected["id"]
        assert api.client.get(f"/v1/checkpoints/{expected['id']}").json() == found
    assert "path" not in listed[0]
    for path in (f"/v1/runs/{run['id']}/checkpoints/none", "/v1/runs/run_x/checkpoints", "/v1/checkpoints/ckpt_x"):
        assert api.client.get(path).status_code == 404


def test_a_checkpoint_is_deleted_when_nothing_needs_it(api: ApiServer) -> None:
    run = queued_run(api)
    id = checkpoint_of(api, run, 5, 0.9)["id"]
    path = f"/v1/checkpoints/{id}"

    def refusal() -> str:
        answer = api.client.delete(path)
        assert (answer.status_code, error_of(answer)["code"]) == (409, "in_use")
        return str(error_of(answer)["message"])

    assert "its run, which is queued" in refusal()
    api.change(RunRecord, run["id"], state=RunState.SUCCEEDED)
    child = api.client.post(f"/v1/runs/{run['id']}/grow", json={"plan": {"edits": [{"edit": "append"}]}}).json()
    assert child["id"] in refusal()
    api.client.post(f"/v1/runs/{child['id']}/cancel").raise_for_status()
    evaluation = api.client.post("/v1/evaluations", json={"checkpoint": id}).json()
    assert evaluation["id"] in refusal()
    api.change(EvaluationRecord, evaluation["id"], state=EvaluationState.FAILED)
    endpoint = api.client.post("/v1/endpoints", json={"name": f"e-{id[-8:]}", "checkpoint": id}).json()
    assert endpoint["name"] in refusal()
    api.change(EndpointRecord, endpoint["id"], state=EndpointState.STOPPED)
    assert api.client.delete(path).json() == {"id": id, "object": "checkpoint", "deleted": True}
    assert api.client.get(path).status_code == 404
    assert api.client.delete(path).status_code == 404
    assert api.client.get(f"/v1/runs/{run['id']}/checkpoints").json()["data"] == []
    assert api.client.post("/v1/endpoints", json={"name": "gone", "checkpoint": id}).status_code == 404


def test_evaluations_are_queued_and_read(api: ApiServer) -> None:
    run = queued_run(api)
    best = checkpoint_of(api, run, 5, 0.9)
    checkpoint_of(api, run, 9, 0.2)
    body = {"checkpoint": f"{run['id']}@best", "examples": 16, "baselines": ["untrained"], "sampled": False}
    answer = api.client.post("/v1/evaluations", json=body)
    evaluation = answer.json()
    assert (answer.status_code, evaluation["state"]) == (202, "queued")
    assert (evaluation["checkpoint"], evaluation["run"], evaluation["examples"]) == (best["id"], run["id"], 16)
    result = {"accuracy": {"greedy": {"value": 0.5}}}
    api.change(EvaluationRecord, evaluation["id"], state=EvaluationState.SUCCEEDED, result=result)
    assert api.client.get(f"/v1/evaluations/{evaluation['id']}").json()["result"] == result
    listed = api.client.get("/v1/evaluations", params={"run": run["id"], "state": "succeeded"}).json()["data"]
    assert [entry["id"] for entry in listed] == [evaluation["id"]]
    assert json.dumps(api.client.get("/v1/evaluations", params={"run": "run_x"}).json()["data"]) == "[]"
    for body in ({"checkpoint": "ckpt_x"}, {"checkpoint": f"{run['id']}@none"}, {"checkpoint": "run_x@latest"}):
        assert api.client.post("/v1/evaluations", json=body).status_code == 404
    assert api.client.post("/v1/evaluations", json={"checkpoint": best["id"], "examples": 0}).status_code == 422


def test_an_analysis_and_a_diagnosis_are_evaluations_of_their_kinds(api: ApiServer) -> None:
    run = queued_run(api)
    checkpoint = checkpoint_of(api, run, 5)["id"]
    made = {}
    for kind, more in (("analysis", {"examples": 8, "level": 2}), ("diagnosis", {"calls": 16})):
        answer = api.client.post("/v1/evaluations", json={"checkpoint": checkpoint, "kind": kind, **more})
        assert answer.status_code == 202, answer.text
        made[kind] = answer.json()
        assert made[kind] | more == made[kind]
        assert (made[kind]["kind"], made[kind]["sampled"], made[kind]["state"]) == (kind, False, "queued")
    plain = api.client.post("/v1/evaluations", json={"checkpoint": checkpoint}).json()
    for kind, found in (*made.items(), ("accuracy", plain)):
        listed = api.client.get("/v1/evaluations", params={"run": run["id"], "kind": kind}).json()["data"]
        assert [entry["id"] for entry in listed] == [found["id"]]
    assert api.client.get("/v1/evaluations", params={"kind": "opinion"}).status_code == 422


@pytest.mark.parametrize(
    ("kind", "setting", "value"),
    [
        ("analysis", "baselines", ["untrained"]),
        ("analysis", "sampled", True),
        ("analysis", "calls", 8),
        ("diagnosis", "sampled", False),
        ("accuracy", "calls", 8),
        ("diagnosis", "calls", 257),
        ("diagnosis", "calls", 0),
        ("guess", "kind", "guess"),
    ],
)
def test_settings_that_a_kind_does_not_read_are_refused(api: ApiServer, kind: str, setting: str, value: Any) -> None:
    checkpoint = checkpoint_of(api, queued_run(api), 5)["id"]
    answer = api.client.post("/v1/evaluations", json={"checkpoint": checkpoint, "kind": kind, setting: value})
    assert (answer.status_code, error_of(answer)["param"]) == (422, setting)


def test_graphs_that_would_be_studied_for_ever_are_refused(api: ApiServer) -> None:
    wide = queued_run(api, topology={"layers": [4, 4]})
    deep = queued_run(api) | {"spec": {"topology": chain(257).to_document()}}  # as its checkpoint has it
    ids = {name: checkpoint_of(api, run, 5)["id"] for name, run in (("wide", wide), ("deep", deep))}

    def ask(name: str, kind: str) -> tuple[int, str]:
        answer = api.client.post("/v1/evaluations", json={"checkpoint": ids[name], "kind": kind})
        return answer.status_code, "" if answer.status_code == 202 else error_of(answer)["message"]

    assert ask("wide", "analysis")[0] == ask("wide", "diagnosis")[0] == ask("deep", "accuracy")[0] == 202
    assert ask("deep", "diagnosis") == (400, "checkpoint: has 257 adapters; a diagnosis takes at most 256")
    code, message = ask("deep", "analysis")
    assert (code, message) == (
        400,
        "checkpoint: an analysis of this graph asks its questions 1027 times; allowed are 1024",
    )


def test_an_evaluation_is_cancelled_once(api: ApiServer) -> None:
    checkpoint = checkpoint_of(api, queued_run(api), 5)["id"]
    for state in ("queued", "running"):
        id = api.client.post("/v1/evaluations", json={"checkpoint": checkpoint, "kind": "analysis"}).json()["id"]
        if state == "running":
            api.change(EvaluationRecord, id, state=EvaluationState.RUNNING)
        answer = api.client.post(f"/v1/evaluations/{id}/cancel")
        assert (answer.status_code, answer.json()["state"]) == (200, "cancelled")
        again = api.client.post(f"/v1/evaluations/{id}/cancel")
        assert (again.status_code, error_of(again)["code"]) == (409, "illegal_move")
        assert error_of(again)["message"] == f"evaluation {id} has ended (cancelled)"
    assert api.client.post("/v1/evaluations/eval_x/cancel").status_code == 404
    ended = api.client.get("/v1/evaluations", params={"checkpoint": checkpoint, "state": "cancelled"}).json()["data"]
    assert len(ended) == 2
