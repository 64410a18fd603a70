"""Groups of nodes with adapters of another kind, in a run spec and in the graphs made of its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from neuromas.cli.main import main
from neuromas.errors import SpecError, TopologyError
from neuromas.growth.plan import apply_plan
from neuromas.spec.growth import PlanSpec
from neuromas.spec.node_groups import regrouped
from neuromas.spec.parse import parse_run_spec
from neuromas.studies.arms import arm, default_arms
from neuromas.topology.document import topology_from_document

READERS: Mapping[str, Any] = {"nodes": ["n1", "n2"], "adapter": {"type": "ssf", "channels": 3}}
RUN: Mapping[str, Any] = {
    "topology": {"layers": [3]},
    "task": {"type": "chain", "hops": 2},
    "adapter": {"rank": 2},
    "node_groups": {"readers": READERS},
}


def faults(**changes: object) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_run_spec({**RUN, **changes})
    return {fault.path: fault.message for fault in caught.value.faults}


def test_nodes_of_a_group_have_its_adapters_and_all_others_the_usual_ones() -> None:
    spec = parse_run_spec(RUN)
    assert [node.group for node in spec.topology.nodes] == ["readers", "readers", None, None]
    kinds = {name: spec.adapters.section_of(spec.topology, name).type for name in spec.topology.adapters}
    assert kinds == {"n1": "ssf", "n2": "ssf", "n3": "lora", "n4": "lora"}
    assert spec.adapters.served_rank == 3


def test_a_saved_spec_says_the_same() -> None:
    spec = parse_run_spec(RUN)
    assert parse_run_spec(json.loads(json.dumps(spec.model_dump(mode="json")))) == spec


def test_a_graph_with_groups_is_the_same_graph_to_its_nodes() -> None:
    plain = topology_from_document({"layers": [3]})
    assert parse_run_spec(RUN).topology.content_hash == plain.content_hash


def test_targets_left_out_are_those_of_the_usual_adapters() -> None:
    usual = {"targets": ["q_proj", "o_proj"]}
    assert parse_run_spec({**RUN, "adapter": usual}).adapters.groups["readers"].targets == ("q_proj", "o_proj")
    own = {"readers": {"nodes": ["n1"], "adapter": {"targets": ["v_proj"]}}}
    spec = parse_run_spec({**RUN, "adapter": usual, "node_groups": own})
    assert spec.adapters.groups["readers"].targets == ("v_proj",)
    assert spec.adapters.targets == ("q_proj", "o_proj", "v_proj")


def test_what_does_not_fit_is_refused_with_its_place() -> None:
    groups = {
        "readers": READERS,
        "others": {"nodes": ["n2", "n9"], "adapter": {}},
        "empty": {"adapter": {}},
    }
    assert faults(node_groups=groups) == {
        "node_groups.others.nodes[0]": "'n2' is in group 'readers' already; name it in one of them",
        "node_groups.others.nodes[1]": "got 'n9', which is no node; allowed are n1, n2, n3, n4",
        "node_groups.empty.nodes": "the group has no node; name its nodes, or leave the group out",
    }
    assert list(faults(node_groups={"Readers": READERS})) == ["node_groups.Readers"]
    assert list(faults(node_groups={"a": {"nodes": ["n1"]}})) == ["node_groups.a.adapter"]
    ranked = {"nodes": ["n1"], "adapter": {"type": "loft", "ranks": 2}}
    assert faults(node_groups={"a": ranked})["node_groups.a.adapter.ranks"].startswith(
        "unknown key; did you mean 'rank'"
    )
    assert list(faults(node_groups={"a": {"nodes": "n1", "adapter": {}}})) == ["node_groups.a.nodes"]
    assert list(faults(node_groups={"a": {"nodes": ["n1"], "adapter": {"rank": 0}}})) == ["node_groups.a.adapter.rank"]


def test_a_mark_in_the_graph_needs_a_group() -> None:
    nodes = [{"id": "a", "group": "reader"}, {"id": "b"}]
    graph = {"nodes": nodes, "edges": [["a", "b"]]}
    listed = {"readers": {"nodes": ["b"], "adapter": {}}}
    assert faults(topology=graph, node_groups=listed)["topology.nodes[0].group"].startswith(
        "got 'reader'; did you mean"
    )
    assert faults(topology=graph, node_groups={}) == {
        "topology.nodes[0].group": "got 'reader'; the run has no node_groups"
    }


def test_nodes_that_share_an_adapter_are_in_one_group() -> None:
    nodes = [{"id": "a", "adapter": "x", "group": "g"}, {"id": "b", "adapter": "x"}]
    with pytest.raises(TopologyError) as caught:
        topology_from_document({"nodes": nodes, "edges": [["a", "b"]]})
    (fault,) = caught.value.faults
    assert (fault.path, "shares an adapter with 'a'" in fault.message) == ("nodes[1].group", True)
    shared = {"topology": {"chain": 2, "adapter": "x"}, "node_groups": {"g": {"nodes": ["n1"], "adapter": {}}}}
    assert faults(**shared) == {
        "node_groups.g.nodes[0]": "'n1' shares its adapter with nodes outside the group; name all of them"
    }


def test_a_grown_graph_names_the_nodes_of_its_groups() -> None:
    spec = parse_run_spec(RUN)
    edits = [{"edit": "prune", "nodes": ["n1"]}, {"edit": "widen", "layer": 1}]
    grown = apply_plan(spec.topology, PlanSpec.model_validate({"edits": edits}))
    (new,) = grown.new
    child = spec.with_topology(grown.topology)
    assert child.node_groups["readers"].nodes == ("n2", new)
    document = {**RUN, "topology": grown.topology.to_document()}
    document["node_groups"] = regrouped(document["node_groups"], grown.topology)
    assert parse_run_spec(document).node_groups == child.node_groups
    without = apply_plan(spec.topology, PlanSpec.model_validate({"edits": [{"edit": "prune", "nodes": ["n1", "n2"]}]}))
    assert spec.with_topology(without.topology).node_groups == {}


def test_arms_that_pool_adapters_are_no_default_and_are_refused() -> None:
    spec = parse_run_spec(RUN)
    assert default_arms(spec) == ("graph", "untrained")
    for name in ("single", "shared"):
        make = arm(name).make
        assert make is not None
        with pytest.raises(SpecError, match="several kinds cannot be pooled"):
            make(spec)


def test_validate_counts_and_checks_every_group(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "run.json"
    path.write_text(json.dumps(RUN))
    assert main(["validate", str(path), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert [(kind["group"], kind["type"], kind["adapters"]) for kind in facts["adapter_kinds"]] == [
        (None, "lora", 2),
        ("readers", "ssf", 2),
    ]
    # per layer of the tiny base: 3 scaled channels, or 2 (in + out) of a LoRA
    each = {kind["group"]: kind["trainable_parameters_each"] for kind in facts["adapter_kinds"]}
    assert facts["trainable_parameters"] == 2 * each[None] + 2 * each["readers"]
    assert each["readers"] % 3 == 0
    assert main(["validate", str(path)]) == 0
    assert "group readers: 2 of type ssf" in capsys.readouterr().out
    wide = "node_groups.readers.adapter={type='loft', rank=100}"
    assert main(["validate", str(path), "--json", "--set", wide]) == 2
    (fault,) = json.loads(capsys.readouterr().out)["error"]["faults"]
    assert fault["path"] == "node_groups.readers.adapter.rank"
    assert "allows at most 64" in fault["message"]
