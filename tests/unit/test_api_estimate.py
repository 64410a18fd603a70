"""Estimates of graphs, against numbers counted by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from neuromas.base.resolve import resolve_base
from neuromas.run.expected_time import expected_time
from neuromas.services.api.checked import CheckedRun, check
from neuromas.services.api.estimate import draw, report
from neuromas.services.api.schemas.topology import TimeEstimate
from neuromas.services.settings import Settings
from neuromas.spec.parse import parse_run_spec
from neuromas.topology.document import topology_from_document

DIAMOND = {
    "name": "diamond",
    "nodes": [{"id": "a", "max_tokens": 24}, {"id": "b", "reads_task": True}, {"id": "out", "reads_task": False}],
    "edges": [["a", "out"], ["b", "out"]],
}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path)


def test_tokens_of_a_bare_topology(settings: Settings) -> None:
    found = report(topology_from_document(DIAMOND), None, settings)
    assert found["kind"] == "topology"
    assert (found["depth"], found["width"], found["calls_per_answer"], found["edges"]) == (2, 2, 3, 2)
    assert found["layers"] == [["a", "b"], ["out"]]
    assert found["critical_path"] == ["a", "out"]
    assert found["tokens"] == {
        "completion_max": 24 + 8 + 8,
        "messages_read_max": 24 + 8,
        "question_reads": 2,
        "critical_path": 24 + 8,
        "rollouts_per_step": None,
        "calls_per_step": None,
    }


def test_tokens_of_a_run_follow_its_sampling_and_prompt(settings: Settings) -> None:
    spec = parse_run_spec(
        {
            "topology": DIAMOND,
            "task": {"type": "chain", "hops": 2},
            "sampling": {"max_tokens": 4},
            "prompt": {"max_signal_tokens": 3},
            "training": {"prompts_per_step": 5, "group_size": 4},
        }
    )
    tokens = report(spec.topology, CheckedRun(spec, (spec.topology,), (), ()), settings)["tokens"]
    assert tokens["completion_max"] == 24 + 4 + 4
    assert tokens["messages_read_max"] == 3 + 3
    assert (tokens["rollouts_per_step"], tokens["calls_per_step"]) == (20, 60)
    training = spec.training.model_copy(update={"credit": "counterfactual"})
    contexts = spec.model_copy(update={"training": training})
    tokens = report(spec.topology, CheckedRun(contexts, (spec.topology,), (), ()), settings)["tokens"]
    # An anchor and three replays of each node: of the output one call, of the others theirs and the output's.
    assert (tokens["rollouts_per_step"], tokens["calls_per_step"]) == (5 * (1 + 3 * 3), 5 * (3 + 3 * (1 + 2 + 2)))


def test_memory_follows_the_shapes_of_the_base(settings: Settings) -> None:
    config = json.loads((resolve_base("tiny") / "config.json").read_text())
    hidden, inner, layers = config["hidden_size"], config["intermediate_size"], config["num_hidden_layers"]
    heads = config["num_attention_heads"] * config["head_dim"], config["num_key_value_heads"] * config["head_dim"]
    # q and v projections, up and down projections: rows and columns of each.
    per_adapter = layers * ((hidden + heads[0]) + (hidden + heads[1]) + 2 * (hidden + inner))
    found = report(topology_from_document({"chain": 3}), None, settings)
    assert found["trainable_parameters"] == 3 * per_adapter
    assert found["memory"]["adapter_bytes"] == 3 * per_adapter * 4
    assert found["memory"]["training_bytes"] == 3 * per_adapter * 16
    assert found["memory"]["kv_cache_bytes"] == (24 + 16) * 2 * layers * heads[1] * 4


def test_nodes_that_share_an_adapter_are_counted_once(settings: Settings) -> None:
    found = report(topology_from_document({"chain": 3, "adapter": "one"}), None, settings)
    alone = report(topology_from_document({"chain": 1}), None, settings)
    assert found["adapters"] == 1
    assert found["memory"]["adapter_bytes"] == alone["memory"]["adapter_bytes"]


def test_a_base_that_cannot_be_read_from_here_leaves_memory_open(settings: Settings) -> None:
    spec = parse_run_spec({"topology": {"chain": 2}, "task": {"type": "chain"}, "base": "owner/model"})
    found = report(spec.topology, CheckedRun(spec, (spec.topology,), (), ()), settings)
    assert found["trainable_parameters"] is None
    assert set(found["memory"].values()) == {None}


def test_a_large_graph_is_returned_whole_and_drawn_by_layers(settings: Settings) -> None:
    topology = topology_from_document({"chain": 400})
    found = report(topology, None, settings)
    assert found["document"] == topology.to_document()
    assert [len(found["drawn"]["nodes"]), found["drawn"]["output"]] == [41, "n400"]
    small = report(topology_from_document(DIAMOND), None, settings)
    assert small["drawn"] == small["document"]


def test_drawings() -> None:
    topology = topology_from_document(DIAMOND)
    assert draw(topology, "svg").startswith("<svg")
    assert draw(topology, "mermaid").startswith("flowchart LR")
    crowded = topology_from_document({"dense": 80})
    assert "too many to draw" in draw(crowded, "svg")


def test_a_run_is_reported_with_what_its_base_decides_and_its_time(settings: Settings) -> None:
    spec = parse_run_spec({"topology": {"chain": 2}, "task": {"type": "chain"}, "training": {"steps": 3}})
    checked = check(spec, {}, settings)
    found = report(spec.topology, checked, settings)
    assert checked.preflight is not None
    expected = expected_time(checked.preflight)
    assert expected is not None
    assert found["time"] == expected.to_document()
    assert TimeEstimate.model_validate(found["time"]).seconds == round(expected.seconds, 1)
    assert report(spec.topology, None, settings)["time"] is None
