"""Small requests cannot ask for work without bound."""

from __future__ import annotations

import time
from typing import Any

import pytest

from neuromas.services.api.bounds import (
    MAX_EDGES,
    MAX_EDITS,
    MAX_PLANS,
    check_built,
    check_graph,
    check_plan,
    check_plans,
)
from neuromas.services.api.problems import ApiError
from neuromas.topology.document import topology_from_document


def paths(check: Any, *arguments: Any) -> list[str]:
    with pytest.raises(ApiError) as caught:
        check(*arguments)
    assert caught.value.status == 422
    return [fault.path for fault in caught.value.faults]


def test_graphs_beyond_the_limits_are_refused() -> None:
    nodes = [{"id": f"n{index}"} for index in range(17)]
    assert paths(check_graph, {"nodes": nodes}, 16, "topology.") == ["topology.nodes"]
    assert paths(check_graph, {"layers": [1] * 17}, 16) == ["layers"]
    assert paths(check_graph, {"nodes": nodes, "edges": [["n0", "n1"]] * (MAX_EDGES + 1)}, 32) == ["edges"]


def test_names_without_nodes_are_refused_in_short() -> None:
    edges = [[f"a{index}", f"b{index}"] for index in range(MAX_EDGES)]
    began = time.process_time()
    with pytest.raises(ApiError) as caught:
        check_graph({"nodes": [{"id": "a"}], "edges": edges}, 256)
    assert time.process_time() - began < 5
    assert f"name {2 * MAX_EDGES} nodes" in str(caught.value)
    assert len(str(caught.value.document)) < 5000


@pytest.mark.parametrize(
    "document", [{}, {"nodes": 3, "edges": "x"}, {"nodes": [1, {"id": []}], "edges": [[1, []], 2]}]
)
def test_documents_of_another_form_are_left_to_the_reader(document: dict[str, Any]) -> None:
    check_graph(document, 256)


@pytest.mark.parametrize(
    "edit",
    [
        {"edit": "append", "layers": [10**6, 1]},
        {"edit": "append", "layers": [6000, 6000, 1]},
        {"edit": "append", "layers": [1] * 10_001},
        {"edit": "widen", "layer": 1, "count": 10**9},
        {"edit": "deepen", "after_layer": 1, "width": 10**9},
        {"edit": "before_output", "width": 10_001},
        {"edit": "graft", "siblings": 10**9},
    ],
)
def test_plans_that_ask_for_too_many_nodes_are_refused(edit: dict[str, Any]) -> None:
    assert paths(check_plan, {"edits": [edit]})[0].startswith("plan.edits[0].")


def test_long_lists_of_plans_and_edits_are_refused() -> None:
    edit = {"edit": "before_output"}
    assert paths(check_plan, {"edits": [edit] * (MAX_EDITS + 1)}) == ["plan.edits"]
    assert paths(check_plans, [{"edits": [edit]}] * (MAX_PLANS + 1), "growth.plans") == ["growth.plans"]


@pytest.mark.parametrize("plan", [None, 3, {}, {"edits": 3}, {"edits": [3, {"layers": "x"}]}])
def test_plans_of_another_form_are_left_to_the_reader(plan: object) -> None:
    check_plan(plan)


def test_a_graph_that_a_shorthand_makes_too_large_is_refused() -> None:
    check_built(topology_from_document({"chain": 8}), 8, "topology")
    assert paths(check_built, topology_from_document({"chain": 9}), 8, "topology") == ["topology"]
    assert paths(check_built, topology_from_document({"dense": 201}), 256, "topology") == ["topology"]
