from collections.abc import Mapping

import pytest

from neuromas.errors import Fault, TopologyError
from neuromas.topology.document import topology_from_document


def faults(document: Mapping[str, object]) -> list[tuple[str, str]]:
    with pytest.raises(TopologyError) as caught:
        topology_from_document(document)
    return [(fault.path, fault.message) for fault in caught.value.faults]


def test_the_explicit_form() -> None:
    document: dict[str, object] = {
        "name": "diamond",
        "nodes": [{"id": "a", "max_tokens": 24}, {"id": "b", "reads_task": False, "temperature": 1}, {"id": "out"}],
        "edges": [["a", "out"], ["a", "b"], ["b", "out"]],
        "output": "out",
    }
    graph = topology_from_document(document)
    assert graph.name == "diamond"
    assert graph.layers == (("a",), ("b",), ("out",))
    assert graph.node("a").max_tokens == 24
    assert graph.node("b").temperature == 1.0
    assert graph.to_document() == document


def test_the_output_may_be_left_out_where_one_node_leads_nowhere() -> None:
    document = {"nodes": [{"id": "a"}, {"id": "b"}], "edges": [["b", "a"]]}
    assert topology_from_document(document).output == "a"


def test_several_sinks_without_an_output_are_named() -> None:
    document = {"nodes": [{"id": "a"}, {"id": "b"}, {"id": "c"}], "edges": [["c", "a"]]}
    assert faults(document) == [("output", "is not named and a, b have no successor; lead all but one of them on")]


@pytest.mark.parametrize(
    "document",
    [
        {"layers": [2, 2], "max_tokens": 5, "temperature": 0.7, "name": "paper-5"},
        {"chain": 5, "adapter": "all"},
        {"tree": {"depth": 3, "branching": 3}, "reads_task": False},
        {"star": 4},
        {"dense": 5},
        {"random": {"nodes": 12, "edge_probability": 0.3, "seed": 5}},
    ],
)
def test_a_topology_writes_the_document_it_is_read_from(document: Mapping[str, object]) -> None:
    graph = topology_from_document(document)
    assert topology_from_document(graph.to_document()) == graph


def test_shorthand_settings_reach_all_nodes() -> None:
    graph = topology_from_document({"chain": 3, "max_tokens": 5, "temperature": 0.5, "adapter": "one"})
    assert {(node.max_tokens, node.temperature, node.adapter) for node in graph.nodes} == {(5, 0.5, "one")}
    assert graph.adapters == ("one",)


def test_the_first_layer_reads_the_task_even_if_the_others_do_not() -> None:
    graph = topology_from_document({"layers": [2, 2], "reads_task": False})
    assert [node.id for node in graph.nodes if node.reads_task] == ["n1", "n2"]


def test_exactly_one_form() -> None:
    allowed = "give exactly one of nodes, layers, chain, tree, star, dense, random"
    assert faults({"chain": 3, "star": 2}) == [("", f"got chain and star; {allowed}")]
    assert faults({"chian": 3}) == [("", f"got no graph, only the keys ['chian']; {allowed}")]


def test_faults_of_a_shorthand_come_at_once() -> None:
    assert [path for path, _ in faults({"chain": "x", "max_tokens": 0, "tempreature": 1, "name": "A"})] == [
        "tempreature",
        "name",
        "max_tokens",
        "chain",
    ]


@pytest.mark.parametrize(
    ("document", "path", "part"),
    [
        ({"chain": 0}, "chain", "got 0 nodes; allowed are 1 to 10000"),
        ({"chain": 10_001}, "chain", "got 10001 nodes"),
        ({"chain": True}, "chain", "got the boolean True"),
        ({"layers": [2, 0]}, "layers", "got layer widths [2, 0]"),
        ({"layers": [2, "2"]}, "layers", "expected a list of layer widths"),
        ({"layers": 3}, "layers", "got the integer 3"),
        ({"tree": 3}, "tree", "expected a table such as {depth = 3, branching = 2}"),
        ({"tree": {"branching": 2}}, "tree.depth", "is missing"),
        ({"tree": {"depth": 2.5}}, "tree.depth", "got the number 2.5; expected an integer"),
        ({"tree": {"depth": 14, "branching": 2}}, "tree", "got 16383 nodes"),
        ({"tree": {"depth": 200, "branching": 200}}, "tree", "got more than 10000 nodes"),
        ({"star": 0}, "star", "got 0 leaves"),
        ({"random": {"nodes": 3, "edge_probability": 2}}, "random", "got edge_probability 2"),
        ({"random": {"nodes": 3, "sed": 2}}, "random.sed", "did you mean 'seed'?"),
        ({"nodes": []}, "nodes", "got 0 nodes"),
        ({"nodes": "a"}, "nodes", "expected a list of tables"),
        ({"nodes": [{"max_tokens": 3}]}, "nodes[0].id", "is missing"),
        ({"nodes": ["a"]}, "nodes[0]", "expected a table such as {id = 'a'}"),
        ({"nodes": [{"id": "a", "max_tokens": "3"}]}, "nodes[0].max_tokens", "got the string '3'; expected an integer"),
        ({"nodes": [{"id": "a", "role": "critic"}]}, "nodes[0].role", "unknown key"),
        ({"nodes": [{"id": "a"}], "edges": [["a"]]}, "edges[0]", "expected a pair of node ids"),
        ({"nodes": [{"id": "a"}], "max_tokens": 3}, "max_tokens", "unknown key"),
    ],
)
def test_one_fault_with_its_path(document: Mapping[str, object], path: str, part: str) -> None:
    found = dict(faults(document))
    assert part in found[path]


def test_wrong_types_and_a_wrong_graph_are_told_together() -> None:
    document = {"nodes": [{"id": "a", "temperature": "hot"}, {"id": "b"}], "edges": [["a", "b"], ["b", "a"]]}
    assert [path for path, _ in faults(document)] == ["nodes[0].temperature", "output", "edges"]


def test_a_document_that_is_no_table() -> None:
    with pytest.raises(TopologyError) as caught:
        topology_from_document([1])  # type: ignore[arg-type]
    assert caught.value.faults == (Fault("", "got the list [1]; expected a table"),)


def test_a_view_is_read_back_and_its_faults_are_named() -> None:
    view = {"role": "output", "depth": 1, "width": 1}
    document: dict[str, object] = {
        "nodes": [{"id": "a", "position": [1, 1], "view": view}, {"id": "out"}],
        "edges": [["a", "out"]],
        "output": "out",
    }
    assert topology_from_document(document).to_document() == document
    nodes = [{"id": "a", "view": {"role": "king", "depth": 0}}, {"id": "b", "view": 3}]
    assert faults({"nodes": nodes, "edges": [["a", "b"]]}) == [
        ("nodes[0].view.role", "got the string 'king'; expected 'inner' or 'output'"),
        ("nodes[0].view.width", "is missing; a view holds role, depth and width"),
        ("nodes[1].view", "got the integer 3; expected a table such as {role = 'output', depth = 2, width = 1}"),
    ]
    flat = {"nodes": [{"id": "a", "view": view | {"depth": 0}}], "edges": []}
    assert faults(flat) == [("nodes[0].view", "got depth 0 and width 1; both are 1 to 65536")]
