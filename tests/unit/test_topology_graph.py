import pickle

import pytest

from neuromas.errors import Fault, TopologyError
from neuromas.topology.graph import Node, Topology
from neuromas.topology.view import PromptFacts

DIAMOND = Topology(
    nodes=(Node("a"), Node("b"), Node("c"), Node("out")),
    edges=(("a", "c"), ("b", "c"), ("c", "out"), ("a", "out")),
    output="out",
)


def faults(*nodes: Node, edges: tuple[tuple[str, str], ...] = (), output: str = "a") -> tuple[Fault, ...]:
    with pytest.raises(TopologyError) as caught:
        Topology(nodes, edges, output)
    return caught.value.faults


def test_a_layer_is_one_more_than_the_longest_path_from_the_input() -> None:
    assert DIAMOND.layers == (("a", "b"), ("c",), ("out",))
    assert [DIAMOND.layer(node) for node in ("a", "b", "c", "out")] == [1, 1, 2, 3]
    assert (DIAMOND.depth, DIAMOND.width) == (3, 2)


def test_order_is_by_layer_and_ties_keep_the_declaration() -> None:
    graph = Topology(
        nodes=(Node("out"), Node("late"), Node("z"), Node("a")),
        edges=(("z", "late"), ("late", "out"), ("a", "out")),
        output="out",
    )
    assert graph.order == ("z", "a", "late", "out")
    assert graph.predecessors("out") == ("a", "late")
    assert graph.successors("z") == ("late",)


def test_positions_are_the_places_in_the_layers() -> None:
    assert [DIAMOND.position(node) for node in ("a", "b", "c", "out")] == [(1, 1), (1, 2), (2, 1), (3, 1)]


def test_a_pinned_position_is_kept_and_others_step_aside() -> None:
    nodes = (Node("new"), Node("old", position=(1, 1)), Node("out", position=(9, 2)))
    graph = Topology(nodes, (("new", "out"), ("old", "out")), "out")
    assert graph.position("old") == (1, 1)
    assert graph.position("new") == (1, 2)
    assert graph.position("out") == (9, 2)


def test_nodes_share_an_adapter_by_name() -> None:
    nodes = (Node("a", adapter="shared"), Node("b", adapter="shared"), Node("c"), Node("out", adapter="c"))
    graph = Topology(nodes, (("a", "out"), ("b", "out"), ("c", "out")), "out")
    assert graph.adapters == ("shared", "c")
    assert graph.adapter_of("out") == "c"


def test_the_content_hash_ignores_the_name_and_how_the_graph_is_written() -> None:
    chain = Topology((Node("a"), Node("b")), (("a", "b"),), "b", name="first")
    pinned = Node("b", adapter="b", position=(2, 1), view=PromptFacts("output", 2, 1))
    same = Topology((pinned, Node("a", position=(1, 1))), (("a", "b"),), "b")
    assert chain.content_hash == same.content_hash
    # Written into run folders: a graph that was not grown keeps its hash over versions.
    assert chain.content_hash == "ec14c324ebd9baecd28847ff137746978966edc821391361a540bae4fd496bec"


@pytest.mark.parametrize(
    "changed",
    [
        Node("b", max_tokens=4),
        Node("b", temperature=0.5),
        Node("b", reads_task=False),
        Node("b", adapter="a"),
        Node("b", position=(3, 1)),
        Node("b", view=PromptFacts("output", 1, 1)),
        Node("b", view=PromptFacts("inner", 2, 1)),
    ],
)
def test_the_content_hash_changes_with_every_setting(changed: Node) -> None:
    chain = Topology((Node("a"), Node("b")), (("a", "b"),), "b")
    assert Topology((Node("a"), changed), (("a", "b"),), "b").content_hash != chain.content_hash


def test_a_topology_survives_pickling() -> None:
    assert pickle.loads(pickle.dumps(DIAMOND)) == DIAMOND


def test_an_unknown_id_is_answered_with_the_nearest() -> None:
    with pytest.raises(TopologyError, match="got node id 'ot', did you mean 'out'"):
        DIAMOND.layer("ot")


def test_every_cycle_is_named() -> None:
    nodes = [Node(name) for name in "abcdef"]
    edges = (("a", "b"), ("b", "c"), ("c", "b"), ("d", "e"), ("e", "f"), ("f", "d"), ("c", "a"), ("a", "f"))
    messages = [fault.message for fault in faults(*nodes, edges=edges) if fault.path == "edges"]
    assert messages == [
        "hold the cycle b -> c -> b; remove one of its edges",
        "hold the cycle d -> e -> f -> d; remove one of its edges",
    ]


def test_all_faults_come_at_once_with_their_paths() -> None:
    found = faults(
        Node("Bad Id", max_tokens=0),
        Node("a"),
        Node("a", temperature=0.0),
        Node("deaf", reads_task=False, adapter="../up", position=(0, 1)),
        edges=(("a", "a"), ("a", "x"), ("deaf", "a"), ("deaf", "a")),
        output="nowhere",
    )
    assert [fault.path for fault in found] == [
        "nodes[0].id",
        "nodes[0].max_tokens",
        "nodes[2].id",
        "nodes[2].temperature",
        "nodes[3].adapter",
        "nodes[3].position",
        "edges[0]",
        "edges[1]",
        "edges[3]",
        "output",
        "nodes[3].reads_task",
    ]


def test_a_node_that_does_not_lead_to_the_output_is_refused() -> None:
    (fault,) = faults(Node("a"), Node("b"), Node("c"), edges=(("b", "a"), ("b", "c")))
    assert fault.path == "nodes[2]"
    assert fault.message.startswith("no path leads from 'c' to the output 'a'")


def test_an_output_that_is_read_leaves_its_reader_without_a_way() -> None:
    (fault,) = faults(Node("a"), Node("b"), edges=(("a", "b"),))
    assert fault.path == "nodes[1]"


@pytest.mark.parametrize("node", [Node("a", max_tokens=1, temperature=4.0), Node("a", max_tokens=32768), Node("0")])
def test_the_ends_of_the_ranges_are_allowed(node: Node) -> None:
    assert Topology((node,), (), node.id).order == (node.id,)


@pytest.mark.parametrize("node", [Node("a", max_tokens=32769), Node("a", temperature=4.1), Node("a" * 64)])
def test_past_the_ends_of_the_ranges_is_refused(node: Node) -> None:
    assert len(faults(node, output=node.id)) == 1


def test_at_most_ten_thousand_nodes() -> None:
    leaves = [Node(f"n{index}") for index in range(10_000)]
    edges = tuple((leaf.id, "a") for leaf in leaves)
    (fault,) = faults(Node("a"), *leaves, edges=edges)
    assert fault == Fault("nodes", "got 10001 nodes; allowed are 1 to 10000")
