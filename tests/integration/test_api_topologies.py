"""Topologies over HTTP: known by their content, checked with all faults at once, drawn."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from api_server import ApiServer, error_of, running_api, settings_over

DIAMOND = {"nodes": [{"id": "a"}, {"id": "b"}, {"id": "out"}], "edges": [["a", "out"], ["b", "out"]]}


@pytest.fixture(scope="module")
def api(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    settings = settings_over("sqlite", request, tmp_path_factory.mktemp("api"), max_graph_nodes=32)
    with running_api(settings) as server:
        yield server


def test_the_same_content_is_one_topology(api: ApiServer) -> None:
    first = api.client.post("/v1/topologies", json={"name": "one", **DIAMOND})
    again = api.client.post("/v1/topologies", json={"name": "two", **DIAMOND, "output": "out"})
    other = api.client.post("/v1/topologies", json={"chain": 3})
    assert (first.status_code, again.status_code, other.status_code) == (201, 200, 201)
    assert first.json() == again.json()
    assert first.json()["id"] == f"topo_{first.json()['hash'][:24]}"
    assert other.json()["id"] != first.json()["id"]
    assert api.client.get(f"/v1/topologies/{first.json()['id']}").json() == first.json()


def test_lists_are_paged_newest_first(api: ApiServer) -> None:
    made = [
        api.client.post("/v1/topologies", json={"chain": 5, "name": f"p{n}", "max_tokens": n}).json() for n in (1, 2, 3)
    ]
    ids: list[str] = []
    after = None
    while True:
        page = api.client.get("/v1/topologies", params={"limit": 2} | ({"after": after} if after else {})).json()
        ids += [item["id"] for item in page["data"]]
        assert page["last_id"] == ids[-1]
        if not page["has_more"]:
            break
        after = page["last_id"]
    assert {item["id"] for item in made} <= set(ids)
    assert len(ids) == len(set(ids))
    found = api.client.get("/v1/topologies", params={"name": "p2"}).json()["data"]
    assert [item["id"] for item in found] == [made[1]["id"]]


def test_validation_says_what_a_graph_is_and_keeps_nothing(api: ApiServer) -> None:
    before = api.client.get("/v1/topologies", params={"limit": 100}).json()["data"]
    report = api.client.post("/v1/topologies:validate", json={"tree": {"depth": 3}}).json()
    assert (report["kind"], report["nodes"], report["depth"], report["width"]) == ("topology", 7, 3, 4)
    assert report["drawing"].startswith("<svg")
    assert report["memory"]["adapter_bytes"] > 0
    assert api.client.get("/v1/topologies", params={"limit": 100}).json()["data"] == before


def test_validation_takes_a_whole_run_spec(api: ApiServer) -> None:
    spec = {
        "name": "grows",
        "topology": {"chain": 2},
        "task": {"type": "chain", "hops": 2},
        "growth": {"levels": [1, 2], "plans": [{"edits": [{"edit": "append", "layers": [1]}]}]},
    }
    report = api.client.post("/v1/topologies:validate", json=spec).json()
    assert (report["kind"], report["name"], report["stages"]) == ("run", "grows", [2, 3])


def test_all_faults_come_at_once_with_their_paths(api: ApiServer) -> None:
    bad = {"nodes": [{"id": "A"}, {"id": "b", "max_token": 3}], "edges": [["b", "c"]], "foo": 1}
    answer = api.client.post("/v1/topologies", json=bad)
    error = error_of(answer)
    assert (answer.status_code, error["code"], error["param"]) == (422, "invalid_topology", "foo")
    paths = [fault["path"] for fault in error["faults"]]
    assert {"foo", "nodes[0].id", "nodes[1].max_token", "edges[0]"} <= set(paths)
    assert any("did you mean 'max_tokens'" in fault["message"] for fault in error["faults"])


def test_larger_graphs_than_the_service_takes_are_refused(api: ApiServer) -> None:
    for body in ({"chain": 33}, {"nodes": [{"id": f"n{k}"} for k in range(33)]}):
        answer = api.client.post("/v1/topologies", json=body)
        assert answer.status_code == 422
        assert "32" in error_of(answer)["message"]


def test_a_topology_can_be_read_as_a_drawing(api: ApiServer) -> None:
    id = api.client.post("/v1/topologies", json=DIAMOND).json()["id"]
    mermaid = api.client.get(f"/v1/topologies/{id}", params={"format": "mermaid"})
    svg = api.client.get(f"/v1/topologies/{id}", params={"format": "svg"})
    assert mermaid.text.startswith("flowchart LR")
    assert svg.headers["content-type"].startswith("image/svg+xml")
    assert "sandbox" in svg.headers["content-security-policy"]
    assert api.client.get(f"/v1/topologies/{id}", params={"format": "png"}).status_code == 422


def test_what_is_not_there_is_a_404(api: ApiServer) -> None:
    for path in ("/v1/topologies/topo_x", "/v1/topologies/%00", "/v1/runs/%ff", "/nowhere"):
        answer = api.client.get(path)
        assert answer.status_code == 404
        assert error_of(answer)["code"] == "not_found"


def test_a_misspelt_parameter_does_not_pass_for_none(api: ApiServer) -> None:
    error = error_of(api.client.get("/v1/topologies", params={"nmae": "x", "limit": 5}))
    assert error["param"] == "nmae"
    assert "did you mean 'name'" in error["message"]
