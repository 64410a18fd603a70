"""Runs over HTTP, over both stores: submitted after all checks, listed, moved, and grown."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from api_server import RUN, ApiServer, checkpoint_of, error_of, queued_run, running_api, settings_over

from neuromas.cli.main import main
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import streams_of

TOO_LARGE = {"edit": "append", "layers": [10**9]}
APPEND = {"edits": [{"edit": "append", "layers": [1]}]}


@pytest.fixture(params=["sqlite", "redis"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ApiServer]:
    (tmp_path / "tasks").mkdir()
    settings = settings_over(request.param, request, tmp_path, task_roots=(tmp_path / "tasks",))
    with running_api(settings) as server:
        yield server


def states(api: ApiServer, run_id: str) -> list[str]:
    return [event["state"] for event in api.client.get(f"/v1/runs/{run_id}/events").json()["data"]]


def test_a_submitted_run_is_queued_with_its_whole_spec(api: ApiServer) -> None:
    answer = api.client.post("/v1/runs", json=RUN)
    run = answer.json()
    assert answer.status_code == 202
    assert (run["state"], run["wanted"], run["task"], run["base"], run["attempt"]) == (
        "queued",
        "run",
        "chain",
        "tiny",
        0,
    )
    assert run["spec"]["training"]["group_size"] == 8
    assert run["spec"]["topology"]["output"] == "n2"
    assert api.client.get(f"/v1/topologies/{run['topology']}").json()["document"] == run["spec"]["topology"]
    assert api.client.get(f"/v1/runs/{run['id']}").json() == run
    assert states(api, run["id"]) == ["queued"]


def test_a_stored_topology_can_be_named(api: ApiServer) -> None:
    topology = api.client.post("/v1/topologies", json={"layers": [2]}).json()
    run = queued_run(api, topology=topology["id"])
    assert run["topology"] == topology["id"]
    assert run["spec"]["topology"] == topology["document"]
    unknown = api.client.post("/v1/runs", json=RUN | {"topology": "topo_0123"})
    assert (unknown.status_code, error_of(unknown)["param"]) == (404, "topology")
    assert api.client.post("/v1/runs", json=RUN | {"topology": "nonsense"}).status_code == 422


@pytest.mark.parametrize(
    ("changes", "status", "path"),
    [
        ({"trainng": {}}, 422, "trainng"),
        ({"training": {"steps": 0}}, 422, "training.steps"),
        ({"training": {"steps": "5"}}, 422, "training.steps"),
        ({"topology": {"nodes": [{"id": "a"}, {"id": "b"}]}}, 422, "topology.output"),
        ({"topology": None}, 422, "topology"),
        ({"task": {"type": "quiz"}}, 422, "task"),
        ({"task": {"type": "file", "train": "/etc/passwd", "test": "/etc/passwd"}}, 400, "task.train"),
        ({"base": "/etc"}, 400, "base"),
        ({"runtime": {"address": "1.2.3.4:6379"}}, 400, "runtime.address"),
        ({"growth": {"levels": [1, 3]}}, 422, "growth.levels"),
        ({"growth": {"without_levels": "grow", "plans": [{"edits": [{"edit": "widen", "layer": 7}]}]}}, 422, "growth"),
        ({"growth": {"plans": [{"edits": [TOO_LARGE]}]}}, 422, "growth.plans[0].edits[0].layers"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_at_submit(api: ApiServer, changes: dict[str, Any], status: int, path: str) -> None:
    answer = api.client.post("/v1/runs", json=RUN | changes)
    assert (answer.status_code, error_of(answer)["param"]) == (status, path), answer.text
    assert api.client.get("/v1/runs").json()["data"] == []


def test_a_file_task_is_read_at_submit(api: ApiServer) -> None:
    file = api.settings.task_roots[0] / "examples.jsonl"
    task = {"type": "file", "train": str(file), "test": str(file)}
    missing = api.client.post("/v1/runs", json=RUN | {"task": task})
    assert (missing.status_code, error_of(missing)["param"]) == (422, "task")
    file.write_text("".join(f'{{"question": "{number}+1", "answer": "{number + 1}"}}\n' for number in range(200)))
    assert api.client.post("/v1/runs", json=RUN | {"task": task}).status_code == 202


def test_runs_are_listed_by_state_topology_parent_and_name(api: ApiServer) -> None:
    first, second = queued_run(api, name="first"), queued_run(api, name="second", topology={"chain": 3})
    api.client.post(f"/v1/runs/{first['id']}/cancel").raise_for_status()

    def ids(**filters: str) -> list[str]:
        return [run["id"] for run in api.client.get("/v1/runs", params=filters).json()["data"]]

    assert set(ids()) == {first["id"], second["id"]}
    assert ids(state="queued") == [second["id"]]
    assert ids(state="cancelled") == [first["id"]]
    assert ids(topology=first["topology"]) == [first["id"]]
    assert ids(name="second", owner="local") == [second["id"]]
    assert ids(parent=first["id"]) == []
    assert api.client.get("/v1/runs", params={"state": "done"}).status_code == 422
    assert error_of(api.client.get("/v1/runs", params={"after": "run_x"}))["code"] == "invalid_cursor"


def test_a_waiting_run_is_moved_at_once_and_every_state_is_told(api: ApiServer) -> None:
    run = queued_run(api)
    moves = [
        api.client.post(f"/v1/runs/{run['id']}/{verb}") for verb in ("pause", "resume", "pause", "resume", "cancel")
    ]
    assert [move.json()["state"] for move in moves] == ["paused", "queued", "paused", "queued", "cancelled"]
    assert moves[-1].json()["ended"] is not None
    assert states(api, run["id"]) == ["queued", "paused", "queued", "paused", "queued", "cancelled"]
    for verb in ("pause", "resume", "cancel"):
        refused = api.client.post(f"/v1/runs/{run['id']}/{verb}")
        assert (refused.status_code, error_of(refused)["code"]) == (409, "illegal_move")
    assert api.client.post("/v1/runs/run_x/pause").status_code == 404


def test_of_a_running_run_the_wish_is_written_down(api: ApiServer) -> None:
    run = queued_run(api)
    api.change(RunRecord, run["id"], state="running", job="job")
    paused = api.client.post(f"/v1/runs/{run['id']}/pause").json()
    assert (paused["state"], paused["wanted"]) == ("running", "pause")
    assert api.client.post(f"/v1/runs/{run['id']}/resume").json()["wanted"] == "run"
    assert api.client.post(f"/v1/runs/{run['id']}/cancel").json()["wanted"] == "cancel"
    assert api.client.post(f"/v1/runs/{run['id']}/resume").status_code == 409


def test_of_many_who_cancel_at_once_one_does(api: ApiServer) -> None:
    run = queued_run(api)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: api.client.post(f"/v1/runs/{run['id']}/cancel").status_code, range(8)))
    assert sorted(answers) == [200] + [409] * 7
    assert states(api, run["id"]) == ["queued", "cancelled"]


def test_growing_makes_a_new_run_and_keeps_the_family_tree(api: ApiServer) -> None:
    run = queued_run(api)
    low, high = checkpoint_of(api, run, 1, 0.9), checkpoint_of(api, run, 2, 0.1)
    body = {"plan": APPEND, "spec": {"training": {"steps": 7}}, "name": "bigger"}
    answer = api.client.post(f"/v1/runs/{run['id']}/grow", json=body)
    child = answer.json()
    assert answer.status_code == 202, answer.text
    assert child["id"] != run["id"]
    assert (child["name"], child["state"], child["spec"]["training"]["steps"]) == ("bigger", "queued", 7)
    assert len(child["spec"]["topology"]["nodes"]) == 3
    assert child["parent"]["run"] == run["id"]
    assert child["parent"]["checkpoint"] == high["id"]
    assert child["parent"]["plan"]["edits"] == [{"edit": "append", "layers": [1]}]
    assert api.client.get(f"/v1/runs/{run['id']}").json() == run
    best = api.client.post(f"/v1/runs/{run['id']}/grow", json={"plan": APPEND, "checkpoint": "best"}).json()
    assert (best["parent"]["checkpoint"], best["name"]) == (low["id"], "small-grown")
    grandchild_base = checkpoint_of(api, child, 1)
    grandchild = api.client.post(f"/v1/runs/{child['id']}/grow", json={"plan": APPEND}).json()
    assert grandchild["parent"]["checkpoint"] == grandchild_base["id"]
    for asked in (run, child, grandchild):
        tree = api.client.get(f"/v1/runs/{asked['id']}/lineage").json()
        assert tree["root"]["id"] == run["id"]
        assert {entry["id"] for entry in tree["root"]["children"]} == {child["id"], best["id"]}
        branch = next(entry for entry in tree["root"]["children"] if entry["id"] == child["id"])
        assert [(entry["id"], entry["nodes"]) for entry in branch["children"]] == [(grandchild["id"], 4)]
    children = api.client.get("/v1/runs", params={"parent": run["id"]}).json()["data"]
    assert {entry["id"] for entry in children} == {child["id"], best["id"]}


def test_a_growth_is_checked_and_nothing_is_kept(api: ApiServer) -> None:
    run = queued_run(api)
    checkpoint_of(api, run, 1)
    body = {"plan": {"edits": [{"edit": "append", "layers": [2, 1]}]}, "name": "bigger"}
    answer = api.client.post(f"/v1/runs/{run['id']}/grow:validate", json=body)
    report = answer.json()
    assert answer.status_code == 200, answer.text
    assert (report["kind"], report["name"], report["nodes"]) == ("growth", "bigger", 5)
    old = [node["id"] for node in run["spec"]["topology"]["nodes"]]
    assert sorted([*old, *report["new"]]) == sorted(report["order"])
    assert report["output"] == report["new"][-1]
    assert report["tokens"]["calls_per_step"] == 5 * report["tokens"]["rollouts_per_step"]
    assert [entry["id"] for entry in api.client.get("/v1/runs").json()["data"]] == [run["id"]]
    child = api.client.post(f"/v1/runs/{run['id']}/grow", json=body).json()
    assert child["spec"]["topology"] == report["document"]


def test_the_command_line_shows_what_a_run_would_become(api: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    run = queued_run(api)
    checkpoint_of(api, run, 1)
    assert main(["runs", "grow", run["id"], "--append", "2", "--check", "--server", api.url]) == 0
    shown = capsys.readouterr().out
    assert "4 nodes, 2 of them new: n3, n4\nnothing was started" in shown
    assert [entry["id"] for entry in api.client.get("/v1/runs").json()["data"]] == [run["id"]]


@pytest.mark.parametrize(
    ("body", "status", "path"),
    [
        ({"plan": {"edits": [{"edit": "widen", "layer": 9}]}}, 422, "plan"),
        ({"plan": {"edits": []}}, 422, "plan.edits"),
        ({"plan": {"edits": [{"edit": "sprout"}]}}, 422, "plan.edits[0]"),
        ({}, 422, "plan"),
        ({"plan": APPEND, "checkpoint": "stage-9-000001"}, 404, "checkpoint"),
        ({"plan": APPEND, "checkpoint": "../../etc"}, 422, "checkpoint"),
        ({"plan": APPEND, "level": 9}, 422, "level"),
        ({"plan": APPEND, "spec": {"base": "other", "topology": {"chain": 9}}}, 422, "spec.base"),
        ({"plan": APPEND, "spec": {"training": {"steps": -1}}}, 422, "spec.training.steps"),
        ({"plan": {"edits": [{"edit": "graft", "modules": ["/etc"]}]}}, 400, "plan[0]"),
        ({"plan": {"edits": [{"edit": "graft", "modules": ["ckpt_none"]}]}}, 404, "plan"),
    ],
)
def test_a_plan_that_does_not_fit_starts_nothing(api: ApiServer, body: dict[str, Any], status: int, path: str) -> None:
    run = queued_run(api)
    checkpoint_of(api, run, 1)
    answer = api.client.post(f"/v1/runs/{run['id']}/grow", json=body)
    assert (answer.status_code, error_of(answer)["param"]) == (status, path), answer.text
    checked = api.client.post(f"/v1/runs/{run['id']}/grow:validate", json=body)
    assert (checked.status_code, error_of(checked)) == (status, error_of(answer))
    assert [entry["id"] for entry in api.client.get("/v1/runs").json()["data"]] == [run["id"]]


def test_a_run_without_a_checkpoint_cannot_be_grown(api: ApiServer) -> None:
    answer = api.client.post(f"/v1/runs/{queued_run(api)['id']}/grow", json={"plan": APPEND})
    assert (answer.status_code, error_of(answer)["code"]) == (404, "no_checkpoint")
    assert api.client.post("/v1/runs/run_x/grow", json={"plan": APPEND}).status_code == 404


def test_a_graft_reads_the_graph_of_the_checkpoint_it_names(api: ApiServer) -> None:
    run, module = queued_run(api), queued_run(api, name="module", topology={"chain": 4})
    checkpoint_of(api, run, 1)
    grafted = checkpoint_of(api, module, 1)
    plan = {"edits": [{"edit": "graft", "modules": [grafted["id"]]}]}
    child = api.client.post(f"/v1/runs/{run['id']}/grow", json={"plan": plan}).json()
    assert len(child["spec"]["topology"]["nodes"]) == 2 + 4 + 1
    assert child["parent"]["plan"]["edits"][0]["modules"] == [grafted["id"]]


def test_tags_are_set_with_the_run_changed_later_and_searched_by(api: ApiServer) -> None:
    first = api.client.post("/v1/runs?tag=a&tag=b&tag=a", json=RUN).json()
    second = queued_run(api)
    assert (first["tags"], second["tags"]) == (["a", "b"], [])

    def found(tag: str) -> list[str]:
        return [run["id"] for run in api.client.get("/v1/runs", params={"tag": tag}).json()["data"]]

    assert found("b") == [first["id"]]
    changed = api.client.patch(f"/v1/runs/{second['id']}", json={"tags": ["b", "c"]}).json()
    assert (changed["tags"], changed["state"], changed["version"]) == (["b", "c"], "queued", second["version"] + 1)
    assert found("b") == [second["id"], first["id"]]
    checkpoint_of(api, first, 3)
    grown = api.client.post(f"/v1/runs/{first['id']}/grow?tag=c", json={"plan": APPEND})
    assert grown.json()["tags"] == ["c"]


@pytest.mark.parametrize("tags", [["two words"], [""], ["x" * 65], ["<b>"], [f"t{number}" for number in range(17)]])
def test_tags_that_are_no_words_or_too_many_are_refused(api: ApiServer, tags: list[str]) -> None:
    run = queued_run(api)
    answer = api.client.patch(f"/v1/runs/{run['id']}", json={"tags": tags})
    assert (answer.status_code, (error_of(answer)["param"] or "").partition("[")[0]) == (422, "tags")
    assert api.client.post("/v1/runs", params={"tag": tags}, json=RUN).status_code == 422
    assert api.client.get(f"/v1/runs/{run['id']}").json()["tags"] == []


def test_a_run_that_has_ended_is_deleted_with_all_that_belongs_to_it(api: ApiServer) -> None:
    run = queued_run(api)
    checkpoint = checkpoint_of(api, run, 3)
    path, folder = f"/v1/runs/{run['id']}", api.settings.runs_dir / run["id"]
    for stream in streams_of(run["id"]):
        api.tell(stream, {"type": "x"})
    assert error_of(api.client.delete(path))["code"] == "not_ended"
    api.change(RunRecord, run["id"], state="succeeded")
    child = api.client.post(f"{path}/grow", json={"plan": APPEND}).json()
    assert child["id"] in error_of(api.client.delete(path))["message"]
    api.client.post(f"/v1/runs/{child['id']}/cancel").raise_for_status()
    assert folder.is_dir()
    assert api.client.delete(path).json() == {"id": run["id"], "object": "run", "deleted": True}
    assert not folder.exists()
    assert [api.client.get(one).status_code for one in (path, f"/v1/checkpoints/{checkpoint['id']}")] == [404, 404]
    assert all(api.store(lambda store, name=stream: store.read(name)) == [] for stream in streams_of(run["id"]))  # type: ignore[misc]
    assert api.client.delete(path).status_code == 404
    assert api.client.get(f"/v1/runs/{child['id']}/lineage").json()["root"]["id"] == child["id"]


def test_a_run_says_what_has_come_out_of_it(api: ApiServer) -> None:
    run = queued_run(api)
    assert run["verdict"] is None
    figures = {"correct": 90.0, "examples": 100, "value": 0.9, "low": 0.82, "high": 0.95}
    before = figures | {"correct": 10.0, "value": 0.1, "low": 0.05, "high": 0.18}
    result = {"accuracy": {"greedy": figures, "untrained": before}}
    api.change(RunRecord, run["id"], state="succeeded", result=result)
    assert api.client.get(f"/v1/runs/{run['id']}").json()["verdict"] == (
        "The graph has learned: 90.0 % (95 % interval 82.0 % to 95.0 %, 100 questions) right, untrained 10.0 %."
    )


def test_a_graft_with_other_adapters_is_refused_before_it_is_queued(api: ApiServer) -> None:
    run, module = queued_run(api), queued_run(api, name="module", topology={"chain": 4}, adapter={"rank": 4})
    checkpoint_of(api, run, 1)
    plan = {"edits": [{"edit": "graft", "modules": [checkpoint_of(api, module, 1)["id"]]}]}
    for action in ("grow", "grow:validate"):
        answer = api.client.post(f"/v1/runs/{run['id']}/{action}", json={"plan": plan})
        assert (answer.status_code, error_of(answer)["param"]) == (422, "plan.edits[0].modules[0]"), answer.text
        assert "whose adapter.rank is 4; allowed is 1, this run's" in answer.text
    growth = {"levels": [2, 3], "plans": [plan], "trigger": {"type": "threshold"}}
    answer = api.client.post("/v1/runs", json=RUN | {"growth": growth, "task": {"type": "chain", "hops": 3}})
    assert (answer.status_code, error_of(answer)["param"]) == (422, "growth.plans[0].edits[0].modules[0]"), answer.text
