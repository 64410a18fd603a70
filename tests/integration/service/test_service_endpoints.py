"""What is made of a trained run on the service: an endpoint that answers, swaps and stops, an evaluation."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import openai
import pytest
from service_process import ROOT, Document, ServiceProcess

from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.registry import make_task

pytestmark = [pytest.mark.service, pytest.mark.ray, pytest.mark.timeout(1800)]


def question(run: Document) -> str:
    spec = parse_run_spec(run["spec"])
    return make_task(spec.task, spec.seed).example("test", 0).prompt


def endpoint(service: ServiceProcess, name: str, state: str) -> Document:
    """Return an endpoint once it is in a state."""
    found: Document = {}

    def is_so() -> bool:
        found.update(service.get(f"/v1/endpoints/{name}"))
        assert found["state"] != "failed" or state == "failed", found["error"]
        return bool(found["state"] == state)

    service.wait_for(f"endpoint {name} {state}", is_so)
    return found


def checkpoint_of(service: ServiceProcess, run: Document, step: int) -> str:
    checkpoints = service.get(f"/v1/runs/{run['id']}/checkpoints")["data"]
    return next(str(one["id"]) for one in checkpoints if one["step"] == step)


def test_an_endpoint_answers_swaps_and_stops(service: ServiceProcess, run: Document) -> None:
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    before = {model.id for model in client.models.list()}
    service.post("/v1/endpoints", {"name": "solver", "checkpoint": checkpoint_of(service, run, 2)})
    endpoint(service, "solver", "ready")
    assert {model.id for model in client.models.list()} == {*before, "solver"}
    asked = [{"role": "user", "content": question(run)}]

    answer = client.chat.completions.create(model="solver", messages=asked, temperature=0)
    pieces = client.chat.completions.create(model="solver", messages=asked, temperature=0, stream=True)
    streamed = "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
    assert streamed == answer.choices[0].message.content
    prompt = question(run)
    sampled = client.completions.create(model="solver", prompt=prompt, temperature=1, seed=3, n=2, logprobs=0)
    assert [choice.logprobs is not None and len(choice.logprobs.tokens or ()) > 0 for choice in sampled.choices] == [
        True,
        True,
    ]
    with client.responses.stream(model="solver", input=prompt, temperature=0) as events:
        assert events.get_final_response().output_text == streamed

    # Two names on one base share an engine; a swap fails no request.
    service.post("/v1/endpoints", {"name": "other", "checkpoint": checkpoint_of(service, run, 6)})
    endpoint(service, "other", "ready")
    newest = client.chat.completions.create(model="other", messages=asked, temperature=0)
    change = service.client.patch("/v1/endpoints/solver", json={"checkpoint": f"{run['id']}@latest"})
    assert change.status_code == 200
    for _ in range(20):
        client.chat.completions.create(model="solver", messages=asked, temperature=0)
    assert newest.choices[0].message.content

    # Who waits for a swap is answered by the new checkpoint.
    middle = checkpoint_of(service, run, 4)
    swap = [sys.executable, "-m", "neuromas", "endpoints", "swap", "solver", middle, "--wait", "--server", service.url]
    said = subprocess.run(swap, cwd=ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.split()[:2] == ["solver", "ready"]
    swapped = client.chat.completions.create(model="solver", messages=asked, temperature=0)
    assert swapped.to_dict()["neuromas"]["version"] == middle

    assert service.client.delete("/v1/endpoints/solver").status_code == 200
    endpoint(service, "solver", "stopped")
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="solver", messages=asked)
    assert client.chat.completions.create(model="other", messages=asked, temperature=0).choices
    assert {model.id for model in client.models.list()} == {*before, "other"}


def evaluated(service: ServiceProcess, body: Document, *states: str) -> Document:
    """Return an evaluation once it is in one of the states; the ends where none is named."""
    id, found = service.post("/v1/evaluations", body)["id"], Document()

    def is_there() -> bool:
        found.update(service.get(f"/v1/evaluations/{id}"))
        return found["state"] in (states or ("succeeded", "failed"))

    service.wait_for(f"evaluation {id} there", is_there)
    return found


def test_a_checkpoint_is_evaluated_beside_the_untrained_graph(service: ServiceProcess, run: Document) -> None:
    found = evaluated(service, {"checkpoint": f"{run['id']}@latest", "examples": 8, "baselines": ["untrained"]})
    assert found["error"] is None
    accuracy = found["result"]["accuracy"]
    assert sorted(accuracy) == ["greedy", "sampled", "untrained", "untrained_sampled"]
    assert accuracy["greedy"]["examples"] == 8
    assert accuracy["greedy"]["value"] == run["result"]["accuracy"]["greedy"]["value"]
    assert [role["node"] for role in found["result"]["roles"]] == ["n1", "n2"]


def test_a_checkpoint_is_analysed_and_diagnosed_where_its_workers_are(service: ServiceProcess, run: Document) -> None:
    newest = f"{run['id']}@latest"
    found = evaluated(service, {"checkpoint": newest, "kind": "analysis", "examples": 8})
    assert found["error"] is None
    analysis = found["result"]
    assert analysis["accuracy"] == run["result"]["accuracy"]["greedy"]["value"]
    assert {node["node"]: sorted(node["changes"]) for node in analysis["nodes"]} == {
        "n1": ["cut", "shuffled", "untrained"],
        "n2": ["untrained"],
    }
    assert [entry["change"] for entry in analysis["edges"]] == ["n1 -> n2"]

    found = evaluated(service, {"checkpoint": newest, "kind": "diagnosis", "examples": 4, "calls": 6})
    assert found["error"] is None
    diagnosis = found["result"]
    assert diagnosis["questions"] == 4
    assert [(one["adapter"], one["calls"]) for one in diagnosis["adapters"]] == [("n1", 6), ("n2", 6)]
    assert not list((service.data / "evaluations").iterdir())


def test_a_cancelled_analysis_ends_with_its_processes(service: ServiceProcess, run: Document) -> None:
    body = {"checkpoint": f"{run['id']}@latest", "kind": "analysis", "examples": 50_000}
    id = evaluated(service, body, "running")["id"]
    service.wait_for("its scratch folder", (service.data / "evaluations" / id).is_dir)
    assert service.post(f"/v1/evaluations/{id}/cancel", {}, 200)["state"] == "cancelled"
    service.wait_for("its processes' end", lambda: not service.find("neuromas.services.runs.evaluator", id))
    service.wait_for("its scratch folder's end", lambda: not (service.data / "evaluations" / id).exists())
    found = service.get(f"/v1/evaluations/{id}")
    assert (found["state"], found["result"], found["error"]) == ("cancelled", None, None)
    following = evaluated(service, {"checkpoint": f"{run['id']}@latest", "examples": 8, "sampled": False})
    assert following["state"] == "succeeded"


def open_to_others(folder: Path) -> list[str]:
    """Return what others could read, write or enter."""
    found = []
    for place, folders, files in os.walk(folder):
        for path in (Path(place), *(Path(place, name) for name in (*folders, *files))):
            with suppress(FileNotFoundError):  # the service works on
                if not path.is_symlink() and path.lstat().st_mode & 0o077:
                    found.append(str(path))
    return found


def ray_folder(service: ServiceProcess) -> Path:
    command = Path(f"/proc/{service.find('gcs_server')[0]}/cmdline").read_bytes().decode()
    match = re.search(r"(/[^\0=]*/nm-ray-[^/\0]+)/", command)
    assert match, command
    return Path(match[1])


def test_nobody_else_reads_the_service_or_enters_its_cluster(service: ServiceProcess, run: Document) -> None:
    assert (service.data / "runs" / run["id"]).is_dir()
    assert service.get("/readyz")["checks"] == {"store": "ok", "ray": "ok"}
    assert stat.S_IMODE(service.data.stat().st_mode) == 0o700
    assert open_to_others(service.data) == []
    assert stat.S_IMODE(ray_folder(service).stat().st_mode) == 0o700
