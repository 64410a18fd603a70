"""Graphs with more edges than can be told apart: the pages and the report draw them by layers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer, queued_run, running_api
from dashboard_world import aside, opened
from playwright.sync_api import Browser, expect

from neuromas.journal.events import StageStarted
from neuromas.journal.folder import RunFolder, RunWriter
from neuromas.report.page import write_report
from neuromas.services.records.run import RunRecord
from neuromas.services.records.streams import events_stream, rollouts_stream
from neuromas.services.settings import Settings
from neuromas.topology.builders import dense, layered
from neuromas.topology.graph import Topology

pytestmark = pytest.mark.browser
DRAWN = "graph of 82 nodes, output n82, drawn by layers"


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    with running_api(Settings(data_dir=tmp_path_factory.mktemp("dense") / "data", port=0)) as server:
        yield server


def begun(api: ApiServer, topology: Topology) -> dict[str, Any]:
    """Return a run that trains a graph, with a rollout in which every node says its name."""
    run = queued_run(api, name="dense")
    stage: dict[str, Any] = {"type": "stage_started", "stage": 0, "name": "stage-0", "topology": topology.to_document()}
    stage |= {"level": None, "steps": 9, "trainable_parameters": 10, "first_step": 0, "time_s": 1000.0}
    message = {"adapter": "x", "prompt_tokens": 4, "completion_tokens": 1, "logprob": -1.0, "finish_reason": "stop"}
    rollout = {"stage": 0, "step": 1, "example": "e", "index": 0, "question": "?", "expected": "x", "answer": "x"}
    rollout |= {"reward": 0.0, "failure": None, "level": None}
    rollout["messages"] = [message | {"node": node, "text": f"{node} said"} for node in topology.order]
    api.tell(events_stream(run["id"]), stage)
    api.tell(rollouts_stream(run["id"]), rollout)
    progress = {"stage": 0, "stage_name": "stage-0", "step": 0, "steps": 9, "nodes": 82, "level": None, "eta_s": None}
    api.change(RunRecord, run["id"], state="running", attempt=1, progress=progress)
    return run


def test_layers_of_a_dense_graph_are_drawn_as_one_node(browser: Browser, api: ApiServer) -> None:
    run = aside(lambda: begun(api, layered([1, 40, 40])))
    with opened(browser, api.at(f"#/runs/{run['id']}")) as page:
        graph = page.get_by_role("group", name=DRAWN, exact=True)
        expect(graph.locator(".node text:first-of-type")).to_have_text(
            ["n1", "layer 2: 40 nodes", "layer 3: 40 nodes", "n82"]
        )
        expect(graph.locator(".edge > title")).to_have_text(
            ["n1 to layer 2: 40 nodes: n1 said", "layer 2: 40 nodes to layer 3: 40 nodes", "layer 3: 40 nodes to n82"]
        )
        expect(graph.locator(".label text")).to_have_text(["n1 said"])
        expect(graph.get_by_role("button")).to_have_count(2)
        page.get_by_role("button", name="n40", exact=True).click()
        expect(graph.locator(".node.chosen")).to_contain_text("layer 2: 40 nodes")
        expect(graph.locator(".edge.chosen")).to_have_count(2)


@pytest.mark.parametrize(
    ("text", "nodes", "edges"),
    [("dense 45", 45, 990), ("dense 46", 41, 820), ("layers 299", 300, 299)],
)
def test_edges_decide_what_is_drawn(browser: Browser, api: ApiServer, text: str, nodes: int, edges: int) -> None:
    with opened(browser, api.at("#/new")) as page:
        page.get_by_label("Graph", exact=True).fill(text)
        expect(page.locator(".graph .node")).to_have_count(nodes)
        expect(page.locator(".graph .edge")).to_have_count(edges)


def test_a_report_draws_a_dense_graph_by_layers(browser: Browser, tmp_path: Path) -> None:
    RunFolder(tmp_path / "run").create({"name": "dense", "seed": 7, "base": "tiny", "task": {"type": "chain"}})
    topology = dense(60).to_document()
    writer = RunWriter(tmp_path / "run")
    writer(StageStarted(stage=0, name="only", topology=topology, level=2, steps=9, trainable_parameters=10))
    writer.close()
    with opened(browser, write_report(tmp_path / "run").as_uri()) as page:
        graph = page.get_by_role("img", name="graph of 60 nodes, output n60, drawn by layers")
        expect(graph.locator(".edge")).to_have_count(820)
        expect(graph.locator(".node text:first-of-type").first).to_have_text("layers 1–2: 2 nodes")
