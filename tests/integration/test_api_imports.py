"""Runs that begin with adapters of elsewhere: refused by the request, or by the driver in the command's own words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from api_server import ApiServer, error_of, running_api
from safetensors.numpy import load_file, save_file

from neuromas.adapters.export import CONFIG, WEIGHTS, read_peft_folder, write_peft_folder
from neuromas.adapters.ref import PlainLora
from neuromas.cli.main import main
from neuromas.errors import AdapterError
from neuromas.journal.events import AdapterImported, Event
from neuromas.services.keys import make_key
from neuromas.services.records.run import RunImport, RunRecord
from neuromas.services.runs.importing import import_uploads
from neuromas.services.runs.progress import ProgressObserver
from neuromas.services.settings import Settings
from neuromas.spec.parse import parse_run_spec

PATHS = [f"model.layers.{layer}.self_attn.{name}" for layer in range(4) for name in ("q_proj", "v_proj")]
SPEC = {
    "name": "brought",
    "topology": {"layers": [2]},
    "task": {"type": "chain", "hops": 2},
    "adapter": {"rank": 4, "targets": ["q_proj", "v_proj"]},
    "training": {"steps": 2},
    "runtime": {"type": "local"},
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path / "data", port=0)) as server:
        yield server


def saved(folder: Path, rank: int = 2) -> Path:
    """Return a folder with a LoRA of the tiny base."""
    rng = np.random.default_rng(rank)
    pairs = {
        path: tuple(rng.normal(0, 0.1, shape).astype("f4") for shape in ((rank, 64), (64, rank))) for path in PATHS
    }
    write_peft_folder(PlainLora(rank, pairs), "tiny", folder)
    return folder


def bring(api: ApiServer, folder: Path, name: str, headers: dict[str, str] | None = None) -> None:
    for file in (CONFIG, WEIGHTS):
        content = (folder / file).read_bytes()
        answer = api.client.put(f"/v1/adapters/{name}/{file}", content=content, headers=headers)
        assert answer.status_code == 200, answer.text


def faults_of(api: ApiServer, **changes: Any) -> dict[str, str]:
    body = {"spec": SPEC, "adapters": {"n1": "mine"}} | changes
    answer = api.client.post("/v1/runs:import", json=body)
    assert answer.status_code in (400, 422), answer.text
    return {fault["path"]: fault["message"] for fault in error_of(answer)["faults"]}


def test_what_is_wrong_with_a_request_is_told_by_its_place(api: ApiServer, tmp_path: Path) -> None:
    bring(api, saved(tmp_path / "mine"), "mine")
    api.client.put(f"/v1/adapters/half/{CONFIG}", content=(tmp_path / "mine" / CONFIG).read_bytes())
    unknown = faults_of(api, adapters={"n9": "mine", "n1": "mine"})
    assert unknown == {"adapters": "got ['n9']; the adapters of the graph are ['n1', 'n2', 'n3']"}
    missing = faults_of(api, adapters={"n1": "other", "n2": "half", "n3": "mine"})
    assert set(missing) == {"adapters.n1", "adapters.n2"}
    assert missing["adapters.n1"].startswith("got 'other'; no adapter of this key or its project has this name")
    assert missing["adapters.n2"] == f"'half' lacks {WEIGHTS} (PUT /v1/adapters/half/{WEIGHTS})"
    assert set(faults_of(api, spec=SPEC | {"adapter": {"rank": 0}})) == {"spec.adapter.rank"}
    assert set(faults_of(api, spec=SPEC | {"base": "other/base"})) == {"spec.base"}
    assert set(faults_of(api, max_error=2, train="yes", adapters={})) == {"max_error", "train", "adapters"}
    for names in ({"n1": "../mine"}, {"n1": ""}, {"../n1": "mine"}):
        assert len(faults_of(api, adapters=names)) == 1


def test_what_a_waiting_run_imports_stays_as_it_is_until_the_run_has_ended(tmp_path: Path) -> None:
    folder = saved(tmp_path / "mine")
    with running_api(Settings(data_dir=tmp_path / "data", port=0, auth="keys")) as api:
        keys = [api.store(lambda store: make_key(store, "test", ("read", "train")))[1] for _ in range(2)]
        mine, other = ({"authorization": f"Bearer {text}"} for text in keys)
        for headers in (mine, other):
            bring(api, folder, "mine", headers)
        body = {"spec": SPEC, "adapters": {"n1": "mine", "n2": "mine"}, "max_error": 0.1}
        run = api.client.post("/v1/runs:import", json=body, headers=mine, params={"tag": "x"}).json()
        assert run["imports"] == {"adapters": {"n1": "mine", "n2": "mine"}, "max_error": 0.1, "train": False}
        assert (run["state"], run["imported"], run["tags"]) == ("queued", None, ["x"])
        path = f"/v1/adapters/mine/{CONFIG}"
        for answer in (
            api.client.delete("/v1/adapters/mine", headers=mine),
            api.client.put(path, content=(folder / CONFIG).read_bytes(), headers=mine),
        ):
            assert (answer.status_code, error_of(answer)["code"]) == (409, "in_use")
            assert f"is needed by run {run['id']}, which is queued" in error_of(answer)["message"]
        assert api.client.delete("/v1/adapters/mine", headers=other).status_code == 200
        body["adapters"] = {"n1": "mine"}
        refused = api.client.post("/v1/runs:import", json=body, headers=other)
        assert (refused.status_code, error_of(refused)["param"]) == (422, "adapters.n1")
        api.change(RunRecord, run["id"], state="cancelled")
        assert api.client.delete("/v1/adapters/mine", headers=mine).status_code == 200


def as_driver(settings: Settings, folder: Path, spec: dict[str, Any], max_error: float = 0.05) -> dict[str, Any]:
    """Import a folder as node n1's, as a run's driver does that finds it among its owner's."""
    imports = RunImport(adapters={"n1": folder.name}, max_error=max_error, train=False)
    own = settings.adapters_of("local", None)
    own.mkdir(parents=True, exist_ok=True)
    if not (own / folder.name).exists():
        (own / folder.name).symlink_to(folder)
    parsed = parse_run_spec(spec)
    record = RunRecord(id="run_1", name=parsed.name, spec=spec, task="chain", base="tiny", topology="", owner="local")
    return import_uploads(record, imports, parsed, settings, ProgressObserver())


def rewritten(folder: Path, config: dict[str, Any], weights: Callable[[str, Any], Any]) -> None:
    told = json.loads((folder / CONFIG).read_text()) | config
    (folder / CONFIG).write_text(json.dumps(told))
    changed = {key: np.ascontiguousarray(weights(key, value)) for key, value in load_file(folder / WEIGHTS).items()}
    save_file(changed, folder / WEIGHTS)


REFUSED: dict[str, tuple[dict[str, Any], Callable[[str, Any], Any], dict[str, Any]]] = {
    "too low a rank": ({}, lambda key, value: value, {"adapter": {"rank": 1, "targets": ["q_proj", "v_proj"]}}),
    "layers that are left alone": ({}, lambda key, value: value, {"adapter": {"rank": 4, "targets": ["q_proj"]}}),
    "another base": ({}, lambda key, value: value[:, :32] if "lora_A" in key else value, {}),
    "a rank that lies": ({"r": 3, "lora_alpha": 3}, lambda key, value: value, {}),
    "no numbers": ({}, lambda key, value: value * np.float32("nan"), {}),
    "a method that PEFT lacks": ({"peft_type": "MAGIC"}, lambda key, value: value, {}),
    "code by name": ({"megatron_config": {"a": 1}}, lambda key, value: value, {}),
}


@pytest.mark.parametrize("kind", list(REFUSED))
def test_a_driver_refuses_what_the_command_refuses_in_the_same_words(
    tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config, weights, changes = REFUSED[kind]
    folder = saved(tmp_path / "made" / "n1")
    rewritten(folder, config, weights)
    spec = SPEC | changes
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = ["import", str(tmp_path / "spec.json"), str(folder.parent), "--out", str(tmp_path), "--json"]
    assert main(command) == 2
    captured = capsys.readouterr()
    told = json.loads(captured.out or captured.err)["error"]
    with pytest.raises(AdapterError) as refused:
        as_driver(Settings(data_dir=tmp_path / "data"), folder, spec)
    assert (told["code"], told["message"]) == ("adapter", str(refused.value).replace("folder n1", f"folder {folder}"))
    assert str(tmp_path) not in str(refused.value)
    assert not list((tmp_path / "data" / "runs").rglob("spec.resolved.json"))


def test_errors_are_told_while_it_goes_on_and_an_import_that_was_broken_off_is_made_again(tmp_path: Path) -> None:
    settings, folder = Settings(data_dir=tmp_path / "data"), saved(tmp_path / "high", rank=6)
    spec = SPEC | {"adapter": {"rank": 4, "targets": ["q_proj", "v_proj"]}}
    found = as_driver(settings, folder, spec, max_error=1)
    made = found["adapters"]["n1"]
    assert (made["method"], made["rank"], found["fresh"]) == ("LORA", 4, ["n2", "n3"])
    updates = {path: (b @ a).astype("f8") for path, (a, b) in read_peft_folder(folder).modules.items()}
    sizes = {path: np.linalg.svd(update, compute_uv=False) for path, update in updates.items()}
    errors = {path: float(np.linalg.norm(size[4:]) / np.linalg.norm(size)) for path, size in sizes.items()}
    assert made["error"] == pytest.approx(max(errors.values()), rel=1e-4)
    assert made["worst_layer"] == max(errors, key=errors.__getitem__)

    run_folder = settings.runs_dir / "run_1" / "brought"
    (checkpoint,) = (run_folder / "checkpoints").glob("stage-*")
    manifest = (checkpoint / "manifest.json").read_bytes()
    (settings.adapters_of("local", None) / "high").unlink()
    assert as_driver(settings, saved(tmp_path / "other" / "high"), spec, max_error=1) == found, "it is there already"
    assert (checkpoint / "manifest.json").read_bytes() == manifest
    (checkpoint / "manifest.json").rename(checkpoint / ".killed")  # as a driver leaves it that dies before it stands
    again = as_driver(settings, tmp_path / "other" / "high", spec)
    assert again["adapters"]["n1"] == {"method": "LORA", "rank": 2, "error": 0.0, "worst_layer": ""}


def test_progress_and_errors_are_in_the_record_adapter_by_adapter() -> None:
    progress = ProgressObserver()
    became = {"method": "LORA", "rank": 2, "error": 0.01, "worst_layer": "q"}
    events: list[Event] = [AdapterImported(adapter=f"n{k}", done=k, total=3, became=became) for k in (1, 2)]
    for event in events:
        progress(event)
    update = progress.update()
    assert update["imported"] == {"adapters": {"n1": became, "n2": became}, "fresh": []}
    assert update["progress"] is not None
    assert (update["progress"].stage_name, update["progress"].step, update["progress"].steps) == ("import", 2, 3)
