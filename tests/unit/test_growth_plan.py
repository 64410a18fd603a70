"""Plans on small graphs: the grown topology and what each of its adapters starts from, by literal values."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuromas.adapters.source import AdapterSource, TrainedAdapter
from neuromas.errors import GrowthError
from neuromas.growth.plan import apply_plan, module_names
from neuromas.spec.growth import (
    AppendSpec,
    BeforeOutputSpec,
    ConnectSpec,
    DeepenSpec,
    EditSpec,
    GraftSpec,
    InheritanceSpec,
    PlanSpec,
    PruneSpec,
    WidenSpec,
)
from neuromas.topology.document import topology_from_document
from neuromas.topology.graph import Node, Topology

CHAIN = topology_from_document({"chain": 3})
TREE = Topology((Node("a"), Node("b"), Node("e")), (("a", "e"), ("b", "e")), "e")
FRESH = AdapterSource("fresh")


def keep(adapter: str, module: int = 0) -> AdapterSource:
    return AdapterSource("keep", (TrainedAdapter(module, adapter),))


def copy(adapter: str, noise: float = 0.0) -> AdapterSource:
    return AdapterSource("copy", (TrainedAdapter(0, adapter),), noise)


def plan(*edits: EditSpec, **inherit: object) -> PlanSpec:
    return PlanSpec(edits=edits, inherit=InheritanceSpec(**inherit))


APPEND = AppendSpec(edit="append")


def test_append_keeps_the_chain_and_starts_the_new_nodes_fresh() -> None:
    grown = apply_plan(CHAIN, plan(APPEND))
    assert grown.topology.order == ("n1", "n2", "n3", "n4", "n5")
    assert grown.topology.edges == (("n1", "n2"), ("n2", "n3"), ("n3", "n4"), ("n4", "n5"))
    assert grown.topology.output == "n5"
    assert grown.new == ("n4", "n5")
    assert grown.mapping == {"n1": "n1", "n2": "n2", "n3": "n3"}
    assert grown.sources == {"n1": keep("n1"), "n2": keep("n2"), "n3": keep("n3"), "n4": FRESH, "n5": FRESH}
    assert grown.old_adapters == ("n1", "n2", "n3")


def test_old_nodes_show_the_positions_they_were_trained_with() -> None:
    grown = apply_plan(CHAIN, plan(BeforeOutputSpec(edit="before_output")))
    assert [grown.topology.position(node) for node in ("n1", "n2", "n3")] == [(1, 1), (2, 1), (3, 1)]


def test_edits_are_applied_in_order_and_their_mappings_composed() -> None:
    grown = apply_plan(CHAIN, plan(APPEND, PruneSpec(edit="prune", nodes=("n1",)), APPEND))
    assert grown.topology.order == ("n2", "n3", "n4", "n5", "n6", "n7")
    assert grown.mapping == {"n2": "n2", "n3": "n3"}
    assert grown.new == ("n4", "n5", "n6", "n7")


def test_copy_takes_the_node_that_the_new_one_feeds() -> None:
    grown = apply_plan(CHAIN, plan(BeforeOutputSpec(edit="before_output"), new="copy", noise=0.1))
    assert grown.sources["n4"] == copy("n3", noise=0.1)


def test_copy_behind_the_output_takes_the_nearest_trained_node_before() -> None:
    grown = apply_plan(CHAIN, plan(APPEND, new="copy"))
    assert (grown.sources["n4"], grown.sources["n5"]) == (copy("n3"), copy("n3"))


def test_copy_in_a_widened_layer_takes_the_sibling_whose_place_it_repeats() -> None:
    grown = apply_plan(TREE, plan(WidenSpec(edit="widen", layer=1, count=3), new="copy"))
    assert [grown.sources[node] for node in grown.new] == [copy("a"), copy("b"), copy("a")]


def test_zero_starts_from_the_a_of_the_node_that_copy_would_take() -> None:
    grown = apply_plan(CHAIN, plan(BeforeOutputSpec(edit="before_output"), new="zero"))
    assert grown.sources["n4"] == AdapterSource("zero", (TrainedAdapter(0, "n3"),))


def test_interpolation_takes_the_trained_nodes_before_and_after() -> None:
    grown = apply_plan(CHAIN, plan(DeepenSpec(edit="deepen", after_layer=1), new="interpolate"))
    assert grown.sources["n4"] == AdapterSource("interpolate", (TrainedAdapter(0, "n1"), TrainedAdapter(0, "n2")))


def test_interpolation_at_the_end_has_one_side_only() -> None:
    grown = apply_plan(CHAIN, plan(APPEND, new="interpolate"))
    assert grown.sources["n5"] == AdapterSource("interpolate", (TrainedAdapter(0, "n3"),))


def test_a_graft_puts_the_trained_tree_beside_a_fresh_one_below_a_new_output() -> None:
    grown = apply_plan(TREE, plan(GraftSpec(edit="graft")))
    assert grown.topology.predecessors(grown.topology.output) == ("e", "n6")
    assert grown.topology.predecessors("n6") == ("n4", "n5")
    assert grown.new == ("n4", "n5", "n6", "n7")
    assert all(grown.sources[node] == FRESH for node in grown.new)


def test_siblings_of_a_graft_can_be_copies_while_the_new_output_is_fresh() -> None:
    grown = apply_plan(TREE, plan(GraftSpec(edit="graft", siblings_from="copy")))
    assert [grown.sources[node] for node in ("n4", "n5", "n6", "n7")] == [copy("a"), copy("b"), copy("e"), FRESH]


def test_fresh_siblings_stay_fresh_when_the_new_output_copies() -> None:
    grown = apply_plan(TREE, plan(GraftSpec(edit="graft"), new="copy"))
    assert grown.sources["n4"] == FRESH
    assert grown.sources["n7"] == copy("e")


def test_further_modules_keep_their_own_trained_adapters() -> None:
    other = Topology((Node("c"), Node("e")), (("c", "e"),), "e")
    grown = apply_plan(TREE, plan(GraftSpec(edit="graft", modules=("runs/other",))), {"runs/other": other})
    renamed = next(node for node, place in grown.origin.items() if place == (1, "e"))
    assert grown.sources["c"] == keep("c", module=1)
    assert renamed != "e"
    assert grown.sources[renamed] == keep("e", module=1)
    assert grown.topology.predecessors(grown.topology.output) == ("e", renamed)
    assert grown.mapping == {"a": "a", "b": "b", "e": "e"}


def test_modules_in_series_are_front_parts_and_need_no_new_node() -> None:
    front = topology_from_document({"chain": 2})
    grown = apply_plan(CHAIN, plan(GraftSpec(edit="graft", modules=("front",), arrange="series")), {"front": front})
    places = [grown.origin[node] for node in grown.topology.order]
    assert places == [(1, "n1"), (1, "n2"), (0, "n1"), (0, "n2"), (0, "n3")]
    assert grown.new == ()
    assert [grown.sources[node] for node in grown.topology.order] == [
        keep("n1", 1),
        keep("n2", 1),
        keep("n1"),
        keep("n2"),
        keep("n3"),
    ]


def test_a_shared_adapter_is_kept_by_new_nodes_that_use_it() -> None:
    shared = topology_from_document({"nodes": [{"id": i, "adapter": "all"} for i in "ab"], "edges": [["a", "b"]]})
    assert apply_plan(shared, plan(APPEND)).sources == {"all": keep("all")}


def test_connect_changes_edges_only() -> None:
    grown = apply_plan(CHAIN, plan(ConnectSpec(edit="connect", edges=(("n1", "n3"),))))
    assert grown.topology.predecessors("n3") == ("n1", "n2")
    assert (grown.new, grown.old_adapters) == ((), ("n1", "n2", "n3"))


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([WidenSpec(edit="widen", layer=3)], r"^edits\[0\]: widen: got layer 3; this graph allows 1 to 2"),
        ([APPEND, DeepenSpec(edit="deepen", after_layer=9)], r"^edits\[1\]: deepen: got after_layer 9.* 1 to 4"),
        ([PruneSpec(edit="prune", nodes=("x",))], r"^edits\[0\]: prune: got 'x'"),
        ([ConnectSpec(edit="connect", edges=(("n3", "n1"),))], r"^edits\[0\]: connect: .*cycle"),
        ([GraftSpec(edit="graft", modules=("gone",))], r"^edits\[0\]: graft\.modules\[0\]: got checkpoint 'gone'"),
    ],
)
def test_a_plan_that_does_not_fit_is_refused_with_its_path_and_what_is_allowed(edits, message: str) -> None:
    with pytest.raises(GrowthError, match=message):
        apply_plan(CHAIN, plan(*edits))


def test_copying_where_nothing_trained_is_left_is_refused() -> None:
    everything_old = PruneSpec(edit="prune", nodes=("n1", "n2", "n3"))
    with pytest.raises(GrowthError, match="use 'fresh'"):
        apply_plan(CHAIN, plan(APPEND, everything_old, new="copy"))


def test_every_named_checkpoint_is_listed_once() -> None:
    graft = GraftSpec(edit="graft", modules=("x", "y", "x"))
    assert module_names([plan(APPEND), plan(graft), plan(graft)]) == ("x", "y")


GRAPHS = st.sampled_from([{"chain": 1}, {"chain": 4}, {"layers": [2, 2]}, {"layers": [3]}, {"star": 3}]).map(
    topology_from_document
)
EDITS = st.lists(
    st.sampled_from(
        [
            APPEND,
            AppendSpec(edit="append", layers=(2, 1)),
            BeforeOutputSpec(edit="before_output", width=2),
            GraftSpec(edit="graft"),
            GraftSpec(edit="graft", siblings=2, siblings_from="copy"),
        ]
    ),
    min_size=1,
    max_size=3,
)


@given(GRAPHS, EDITS, st.sampled_from(["fresh", "zero", "copy", "interpolate"]))
def test_growth_keeps_every_old_node_and_gives_every_adapter_one_source(graph, edits, new) -> None:
    grown = apply_plan(graph, plan(*edits, new=new))
    assert set(grown.mapping) == set(graph.order)
    assert tuple(grown.sources) == grown.topology.adapters
    assert {grown.mapping[adapter] for adapter in graph.order} == set(grown.old_adapters)
    assert all(grown.sources[node].kind != "keep" for node in grown.new)
    known = set(graph.adapters)
    assert all(origin.adapter in known for source in grown.sources.values() for origin in source.origins)
