"""Adapters that go out of the service and come back: exported, brought along, imported over a killed driver, served."""

from __future__ import annotations

import io
import tarfile

import openai
import pytest
from service_process import ALONE, TINY, Document, ServiceProcess, tiny

from neuromas.adapters.export import CONFIG, WEIGHTS
from neuromas.spec.parse import parse_run_spec
from neuromas.tasks.registry import make_task

pytestmark = [pytest.mark.service, pytest.mark.ray, pytest.mark.timeout(1800)]
QUESTIONS = 4


def answers(service: ServiceProcess, model: str, run: Document) -> list[tuple[str, list[float]]]:
    """Return what a model says to held-out questions, with the log probability of each token."""
    client = openai.OpenAI(base_url=f"{service.url}/v1", api_key="none", max_retries=0)
    spec, found = parse_run_spec(run["spec"]), []
    task = make_task(spec.task, spec.seed)
    for index in range(QUESTIONS):
        asked = client.completions.create(
            model=model, prompt=task.example("test", index).prompt, temperature=0, logprobs=0
        )
        (choice,) = asked.choices
        assert choice.logprobs is not None
        found.append((choice.text, [value or 0.0 for value in choice.logprobs.token_logprobs or ()]))
    return found


@pytest.fixture(scope="module")
def brought(shared: ServiceProcess, run: Document) -> tuple[str, ...]:
    """Names under which the adapters of the folder's run are kept, as they were exported."""
    export = shared.client.get(f"/v1/runs/{run['id']}/checkpoints/latest").json()["id"]
    with tarfile.open(fileobj=io.BytesIO(shared.client.get(f"/v1/checkpoints/{export}/export").content)) as archive:
        members = {name.rpartition("adapters/")[2]: archive.extractfile(name) for name in archive.getnames()}
        files = {name: file.read() for name, file in members.items() if file is not None}
    for node in ("n1", "n2"):
        for file in (CONFIG, WEIGHTS):
            put = shared.client.put(f"/v1/adapters/back.{node}/{file}", content=files[f"{node}/{file}"])
            assert put.status_code == 200, put.text
    return "back.n1", "back.n2"


def test_an_import_trains_on(service: ServiceProcess, brought: tuple[str, ...]) -> None:
    """Over Ray, as by default; the adapter that was not brought along begins as the base."""
    body = {"spec": {**tiny(steps=2), "name": "on"}, "adapters": {"n1": brought[0]}, "train": True}
    id = service.post("/v1/runs:import", body)["id"]
    found = service.wait_for_state(id, "succeeded", "failed")
    assert found["error"] is None
    assert (list(found["imported"]["adapters"]), found["imported"]["fresh"]) == (["n1"], ["n2"])
    assert (service.steps(id), found["result"]["steps"]) == ([1, 2], 2)


def test_what_is_exported_and_imported_answers_alike(
    service: ServiceProcess, run: Document, brought: tuple[str, ...]
) -> None:
    body = {
        "spec": {**TINY, "name": "back", "runtime": ALONE},
        "adapters": dict(zip(("n1", "n2"), brought, strict=True)),
    }
    id = service.post("/v1/runs:import", body)["id"]
    service.kill("neuromas.services.runs.driver", id)
    found = service.wait_for_state(id, "succeeded", "failed")
    assert (found["error"], found["attempt"]) == (None, 1)
    exact = {"method": "LORA", "rank": 16, "error": 0.0, "worst_layer": ""}
    rank = parse_run_spec(run["spec"]).adapter.served_rank
    assert found["imported"] == {"adapters": dict.fromkeys(("n1", "n2"), exact | {"rank": rank}), "fresh": []}
    assert service.client.delete("/v1/adapters/back.n2").status_code == 200

    for name, source in (("there", run["id"]), ("and-back", id)):
        service.post("/v1/endpoints", {"name": name, "checkpoint": f"{source}@latest"})
    for name in ("there", "and-back"):
        service.wait_for(name, lambda name=name: service.get(f"/v1/endpoints/{name}")["state"] == "ready")
    before, after = answers(service, "there", run), answers(service, "and-back", run)
    assert [text for text, _ in after] == [text for text, _ in before]
    for (_, these), (_, those) in zip(before, after, strict=True):
        assert these == pytest.approx(those, abs=1e-4)
    for name in ("there", "and-back"):
        assert service.client.delete(f"/v1/endpoints/{name}").status_code == 200

    grow = {"plan": {"edits": [{"edit": "append", "layers": [1]}]}, "spec": {"training": {"steps": 1}}}
    report = service.post(f"/v1/runs/{id}/grow:validate", grow, 200)
    assert report["nodes"] == 3
