"""Graphs of thousands of nodes: read, checked, and drawn as what a person can look at."""

from itertools import pairwise

import pytest

from neuromas.errors import TopologyError
from neuromas.topology.builders import chain, dense, layered, random, tree
from neuromas.topology.document import topology_from_document
from neuromas.topology.draw import draw_mermaid, draw_text
from neuromas.topology.graph import MAX_EDGES, MAX_NODES
from neuromas.topology.summary import summary
from neuromas.topology.svg import draw_svg


def wide(layers: int, width: int) -> dict[str, object]:
    """Each node reads the one beside it in the layer before; the output reads the last layer."""
    ids = [[f"n{layer}.{place}" for place in range(width)] for layer in range(layers)]
    edges = [list(pair) for before, after in pairwise(ids) for pair in zip(before, after, strict=True)]
    edges += [[node, "out"] for node in ids[-1]]
    return {"nodes": [{"id": node} for layer in ids for node in layer] + [{"id": "out"}], "edges": edges}


def test_ten_thousand_nodes_are_drawn_layer_by_layer() -> None:
    graph = topology_from_document(wide(3, 3333))
    assert (len(graph.nodes), graph.depth) == (MAX_NODES, 4)
    shown = summary(graph)
    assert [node.id for node in shown.nodes] == [
        "layer-1.3333-nodes",
        "layer-2.3333-nodes",
        "layer-3.3333-nodes",
        "out",
    ]
    assert len(shown.edges) == 3
    assert "layer-2.3333-nodes" in draw_text(graph)
    assert draw_mermaid(graph).count("\n") == 7
    svg = draw_svg(graph)
    assert svg.count("<rect") == 4
    assert "10000 nodes in 4 layers" in svg


def test_of_a_deep_graph_neighbouring_layers_are_one() -> None:
    shown = summary(chain(1001))
    assert len(shown.nodes) == 41
    assert (shown.nodes[0].id, shown.nodes[-2].id, shown.output) == (
        "layer-1-25.25-nodes",
        "layer-976-1000.25-nodes",
        "n1001",
    )
    assert shown.depth == 41


def test_a_graph_that_can_be_looked_at_is_drawn_as_it_is() -> None:
    graph = layered([150, 149])
    assert summary(graph) is graph


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: chain(MAX_NODES + 1), "got 10001 nodes; allowed are 1 to 10000"),
        (lambda: dense(500), "got up to 124750 edges; allowed are 100000"),
        (lambda: random(500, 0.01), "got up to 124750 edges; allowed are 100000"),
        (lambda: layered([400, 400]), "got up to 160400 edges; allowed are 100000"),
        (lambda: tree(20), "got more than 10000 nodes, the limit"),
    ],
)
def test_graphs_beyond_the_limits_are_refused_before_they_are_built(build: object, message: str) -> None:
    with pytest.raises(TopologyError, match=message):
        build()  # type: ignore[operator]


def test_edges_of_a_document_are_counted_and_repeated_ids_found_in_a_large_one() -> None:
    document = wide(2, 400)
    nodes = [*document["nodes"], {"id": "n0.7"}]  # type: ignore[misc]
    with pytest.raises(TopologyError, match=r"'n0.7' is used by nodes\[7\] already"):
        topology_from_document(document | {"nodes": nodes})
    edges = [[f"n0.{a}", f"n1.{b}"] for a in range(400) for b in range(400)]
    with pytest.raises(TopologyError, match=f"got 160000 edges; allowed are up to {MAX_EDGES}"):
        topology_from_document(document | {"edges": edges})
