import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.topology import builders


def test_layers_222_is_the_seven_node_graph_of_the_paper() -> None:
    graph = builders.layered([2, 2, 2])
    assert graph.layers == (("n1", "n2"), ("n3", "n4"), ("n5", "n6"), ("n7",))
    assert len(graph.edges) == 4 + 4 + 2
    assert graph.predecessors("n4") == ("n1", "n2")
    assert graph.output == "n7"


def test_layers_without_widths_are_the_output_alone() -> None:
    assert builders.layered([]).layers == (("n1",),)


def test_chain() -> None:
    graph = builders.chain(4)
    assert graph.order == ("n1", "n2", "n3", "n4")
    assert graph.edges == (("n1", "n2"), ("n2", "n3"), ("n3", "n4"))


def test_tree_of_depth_3_has_four_leaves_and_neighbours_share_a_parent() -> None:
    graph = builders.tree(depth=3)
    assert graph.layers == (("n1", "n2", "n3", "n4"), ("n5", "n6"), ("n7",))
    assert graph.predecessors("n5") == ("n1", "n2")
    assert graph.predecessors("n7") == ("n5", "n6")


def test_star() -> None:
    graph = builders.star(3)
    assert graph.edges == (("n1", "n4"), ("n2", "n4"), ("n3", "n4"))


def test_dense_feeds_every_later_node() -> None:
    graph = builders.dense(4)
    assert graph.depth == 4
    assert graph.predecessors("n4") == ("n1", "n2", "n3")
    assert len(graph.edges) == 6


def test_random_graphs_are_the_same_for_the_same_seed() -> None:
    assert builders.random(8, 0.4, seed=0) == builders.random(8, 0.4, seed=0)
    assert builders.random(8, 0.4, seed=0) != builders.random(8, 0.4, seed=1)
    assert builders.random(3, 0.0).edges == (("n1", "n3"), ("n2", "n3"))
    assert builders.random(3, 1.0).edges == (("n1", "n2"), ("n1", "n3"), ("n2", "n3"))


@given(st.integers(1, 30), st.floats(0, 1), st.integers(0, 99))
def test_random_ids_are_numbered_in_topological_order(nodes: int, probability: float, seed: int) -> None:
    graph = builders.random(nodes, probability, seed)
    assert graph.order == tuple(f"n{index}" for index in range(1, nodes + 1))
    assert graph.output == graph.order[-1]


@pytest.mark.parametrize("seed", range(3))
def test_a_random_graph_has_about_the_edges_asked_for(seed: int) -> None:
    possible = 60 * 59 // 2
    assert abs(len(builders.random(60, 0.3, seed).edges) / possible - 0.3) < 0.05
