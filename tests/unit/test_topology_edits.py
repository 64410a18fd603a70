from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neuromas.errors import GrowthError
from neuromas.topology import builders, edits
from neuromas.topology.document import topology_from_document
from neuromas.topology.edits import Edited
from neuromas.topology.graph import Node, Topology
from neuromas.topology.view import PromptFacts

GRAPHS = st.builds(
    builders.random,
    st.integers(1, 12),
    st.floats(0, 1),
    st.integers(0, 99),
    st.sampled_from([Node("template"), Node("template", adapter="all"), Node("template", reads_task=False)]),
)
EDITS: tuple[Callable[[Topology, int], Edited], ...] = (
    lambda graph, size: edits.append(graph, (*[size] * (size - 1), 1)),
    edits.before_output,
    lambda graph, size: edits.widen(graph, 1 + size % (graph.depth - 1), size),
    lambda graph, size: edits.deepen(graph, 1 + size % (graph.depth - 1), size),
    edits.graft,
)


@settings(max_examples=80)
@given(GRAPHS, st.lists(st.tuples(st.sampled_from(EDITS), st.integers(1, 3)), min_size=1, max_size=3))
def test_growth_keeps_old_nodes_and_gives_a_valid_graph(
    graph: Topology, steps: list[tuple[Callable[[Topology, int], Edited], int]]
) -> None:
    for edit, size in steps:
        if len(graph.nodes) > 60 or (graph.depth == 1 and edit in EDITS[2:4]):
            continue  # Grafting could pass 256 nodes; a single layer is neither widened nor deepened.
        edited = edit(graph, size)
        grown = edited.topology
        # Topology validates itself, so a valid acyclic graph with one output is what we have.
        assert set(edited.mapping) == set(grown.order)
        assert [old for old in edited.mapping.values() if old is not None] == [node.id for node in graph.nodes]
        assert edited.new == tuple(node for node, old in edited.mapping.items() if old is None)
        assert not set(edited.new) & {*graph.order, *graph.adapters}
        for old in graph.nodes:
            kept = grown.node(old.id)
            assert grown.position(old.id) == graph.position(old.id)
            assert grown.view(old.id) == graph.view(old.id)
            assert (kept.max_tokens, kept.temperature, kept.reads_task) == (
                old.max_tokens,
                old.temperature,
                old.reads_task,
            )
            assert grown.adapter_of(old.id) == graph.adapter_of(old.id)
        positions = [grown.position(node) for node in grown.order]
        assert len(set(positions)) == len(positions)
        assert topology_from_document(grown.to_document()) == grown
        assert set(edited.twins) <= set(edited.new)
        assert set(edited.twins.values()) <= set(graph.order)
        graph = grown


def test_append_makes_the_old_output_hidden() -> None:
    edited = edits.append(builders.chain(3), (2, 1))
    grown = edited.topology
    assert edited.new == ("n4", "n5", "n6")
    assert grown.layers == (("n1",), ("n2",), ("n3",), ("n4", "n5"), ("n6",))
    assert grown.predecessors("n6") == ("n4", "n5")
    assert [grown.position(node) for node in edited.new] == [(4, 1), (4, 2), (5, 1)]


def test_an_appended_chain_is_the_longer_chain_in_which_old_nodes_see_what_they_saw() -> None:
    grown = edits.append(builders.chain(3)).topology
    assert [grown.view(node) for node in ("n2", "n3", "n4", "n5")] == [
        PromptFacts("inner", 3, 1),
        PromptFacts("output", 3, 1),
        PromptFacts("inner", 5, 1),
        PromptFacts("output", 5, 1),
    ]
    as_new = Topology(tuple(replace(node, view=None) for node in grown.nodes), grown.edges, grown.output)
    assert as_new.content_hash == builders.chain(5).content_hash != grown.content_hash


def test_what_a_second_growth_finds_is_what_it_keeps() -> None:
    twice = edits.graft(edits.append(builders.chain(1)).topology, 0).topology
    assert [twice.view(node) for node in ("n1", "n2", "n3", "n4")] == [
        PromptFacts("output", 1, 1),
        PromptFacts("inner", 3, 1),
        PromptFacts("output", 3, 1),
        PromptFacts("output", 4, 1),
    ]


def test_before_output_leads_all_inputs_of_the_output_through_the_new_layer() -> None:
    grown = edits.before_output(builders.layered([2]), 2).topology
    assert grown.layers == (("n1", "n2"), ("n4", "n5"), ("n3",))
    assert grown.predecessors("n4") == ("n1", "n2")
    assert grown.predecessors("n3") == ("n4", "n5")
    assert [grown.position(node) for node in ("n3", "n4", "n5")] == [(2, 1), (2, 2), (2, 3)]


def test_before_output_of_a_single_node_adds_a_layer_that_reads_the_task() -> None:
    grown = edits.before_output(builders.chain(1), 2).topology
    assert grown.layers == (("n2", "n3"), ("n1",))
    assert grown.output == "n1"


def test_widen_wires_new_nodes_like_their_siblings_in_turn() -> None:
    edited = edits.widen(builders.tree(3), layer=1, count=3)
    assert edited.twins == {"n8": "n1", "n9": "n2", "n10": "n3"}
    assert edited.topology.predecessors("n5") == ("n1", "n2", "n8", "n9")
    assert edited.topology.predecessors("n6") == ("n3", "n4", "n10")


def test_widening_a_layered_graph_gives_the_wider_layered_graph() -> None:
    grown = edits.widen(builders.layered([2, 2]), layer=2, count=1).topology
    assert grown.layers == (("n1", "n2"), ("n3", "n4", "n6"), ("n5",))
    assert grown.predecessors("n6") == ("n1", "n2")
    assert grown.predecessors("n5") == ("n3", "n4", "n6")


def test_deepen_leads_crossing_edges_through_the_new_layer() -> None:
    graph = Topology((Node("a"), Node("b"), Node("c")), (("a", "b"), ("b", "c"), ("a", "c")), "c")
    grown = edits.deepen(graph, after_layer=1, width=1).topology
    assert set(grown.edges) == {("a", "n4"), ("n4", "b"), ("n4", "c"), ("b", "c")}


def test_graft_puts_the_graph_beside_fresh_subtrees() -> None:
    edited = edits.graft(builders.tree(2), siblings=1)
    grown = edited.topology
    assert grown.predecessors("n6") == ("n4", "n5")
    assert grown.predecessors("n7") == ("n3", "n6")
    assert edited.twins == {"n4": "n1", "n5": "n2", "n6": "n3"}
    assert [grown.position(node) for node in ("n4", "n5", "n6", "n7")] == [(1, 3), (1, 4), (2, 2), (3, 1)]


def test_grafted_subtrees_share_adapters_among_themselves_only() -> None:
    graph = Topology((Node("a", adapter="leaf"), Node("b", adapter="leaf"), Node("c")), (("a", "c"), ("b", "c")), "c")
    grown = edits.graft(graph, siblings=1).topology
    assert [grown.adapter_of(node) for node in ("a", "b", "c", "n4", "n5", "n6", "n7")] == [
        "leaf",
        "leaf",
        "c",
        "n4",
        "n4",
        "n6",
        "n7",
    ]


def test_where_all_nodes_share_one_adapter_new_nodes_share_it_too() -> None:
    graph = builders.chain(2, Node("template", adapter="all"))
    assert edits.graft(edits.append(graph).topology).topology.adapters == ("all",)


def test_modules_as_subtrees_keep_free_ids_and_get_fresh_ones_where_taken() -> None:
    other = Topology((Node("x"), Node("n1", adapter="n2")), (("x", "n1"),), "n1")
    joined = edits.graft_modules([builders.chain(2), other])
    assert joined.origin == {"n1": (0, "n1"), "n2": (0, "n2"), "x": (1, "x"), "n5": (1, "n1"), "n7": None}
    assert joined.topology.adapters == ("n1", "x", "n2", "n6", "n7")
    assert joined.topology.predecessors("n7") == ("n2", "n5")
    assert joined.new == ("n7",)


def test_modules_in_series_feed_the_first_layer_of_the_next() -> None:
    joined = edits.graft_modules([builders.chain(2), builders.layered([2])], arrange="series")
    grown = joined.topology
    assert len(grown.order) == 5
    assert joined.new == ()
    assert [joined.origin[node] for node in grown.order] == [(0, "n1"), (0, "n2"), (1, "n1"), (1, "n2"), (1, "n3")]
    assert grown.predecessors(grown.order[2]) == grown.predecessors(grown.order[3]) == ("n2",)
    assert [grown.position(node) for node in grown.order] == [(1, 1), (2, 1), (1, 1), (1, 2), (2, 1)]


@settings(max_examples=40)
@given(st.lists(GRAPHS, min_size=1, max_size=4), st.sampled_from(["subtrees", "series"]))
def test_joined_modules_keep_their_shape_and_share_no_adapter(modules: list[Topology], arrange: str) -> None:
    joined = edits.graft_modules(modules, "series" if arrange == "series" else "subtrees")
    names: set[str] = set()
    for index, module in enumerate(modules):
        place = {came[1]: node for node, came in joined.origin.items() if came is not None and came[0] == index}
        assert set(place) == set(module.order)
        assert {(place[source], place[target]) for source, target in module.edges} <= set(joined.topology.edges)
        assert all(joined.topology.position(place[node]) == module.position(node) for node in module.order)
        adapters = {joined.topology.adapter_of(node) for node in place.values()}
        assert len(adapters) == len(module.adapters)
        assert not adapters & names
        names |= adapters


def test_connect_adds_edges() -> None:
    edited = edits.connect(builders.chain(3), [("n1", "n3")])
    assert edited.topology.predecessors("n3") == ("n1", "n2")
    assert edited.new == ()


def test_prune_removes_nodes_with_their_edges_and_keeps_positions() -> None:
    edited = edits.prune(builders.layered([3]), ["n1"])
    assert edited.topology.edges == (("n2", "n4"), ("n3", "n4"))
    assert edited.mapping == {"n2": "n2", "n3": "n3", "n4": "n4"}
    assert edited.topology.position("n2") == (1, 2)


def test_where_the_output_is_pruned_the_only_sink_left_takes_its_place() -> None:
    assert edits.prune(builders.chain(3), ["n3"]).topology.output == "n2"


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda graph: edits.append(graph, (1, 2)), "the last 1, the new output"),
        (lambda graph: edits.append(graph, (0, 1)), "each must be at least 1"),
        (lambda graph: edits.append(graph, (10_000, 1)), "allowed are 1 to 10000"),
        (lambda graph: edits.before_output(graph, 0), "got width 0"),
        (lambda graph: edits.widen(graph, 3), "allows 1 to 2"),
        (lambda graph: edits.deepen(graph, 3), "use append"),
        (lambda graph: edits.graft(graph, -1), "got -1 siblings"),
        (lambda graph: edits.connect(graph, [("n3", "n1")]), "cycle n1 -> n2 -> n3 -> n1"),
        (lambda graph: edits.connect(graph, [("n1", "n2")]), "repeats"),
        (lambda graph: edits.prune(graph, ["n2"]), "no path leads from 'n1'"),
        (lambda graph: edits.prune(graph, ["n9"]), "got 'n9', which is no node"),
    ],
)
def test_an_edit_that_does_not_fit_says_why(edit: Callable[[Topology], Edited], message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        edit(builders.chain(3))
