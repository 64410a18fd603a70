import json
import pickle
from collections.abc import Mapping

import pytest

from neuromas.errors import Fault, SpecError
from neuromas.schema.parse import parse_section
from neuromas.spec.growth import PlanSpec
from neuromas.spec.machine import RuntimeSpec
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.topology.builders import chain

FAMILIES = "chain, tree, circuit, arithmetic, hidden_tree, dynamics, file, hub, reasoning_gym, programs, python"
SMALLEST: Mapping[str, object] = {"topology": {"chain": 3}, "task": {"type": "chain", "hops": 7}}


def faults(**changes: object) -> dict[str, str]:
    with pytest.raises(SpecError) as caught:
        parse_run_spec({**SMALLEST, **changes})
    return {fault.path: fault.message for fault in caught.value.faults}


def test_topology_and_task_are_enough() -> None:
    spec = parse_run_spec(SMALLEST)
    assert spec.topology == chain(3)
    assert spec.base == "tiny"
    assert spec.growth is None


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"topology": {"tree": {"depth": 3}, "max_tokens": 5, "name": "tree"}, "task": {"type": "tree"}},
        {"growth": {"levels": [3, 5, 7], "plans": [{"edits": [{"edit": "append", "layers": [2, 1]}]}]}},
        {"training": {"adam_betas": [0.9, 0.99], "learning_rate": 1}, "adapter": {"type": "unilora", "dimension": 64}},
    ],
)
def test_the_resolved_document_reads_back_to_an_equal_spec(changes: Mapping[str, object]) -> None:
    spec = parse_run_spec({**SMALLEST, **changes})
    text = spec.model_dump_json()
    assert parse_run_spec(json.loads(text)) == spec
    assert RunSpec.model_validate_json(text) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec


def test_the_resolved_topology_is_its_document() -> None:
    resolved = json.loads(parse_run_spec(SMALLEST).model_dump_json())
    assert resolved["topology"] == chain(3).to_document()


def test_faults_of_all_sections_come_at_once() -> None:
    found = faults(
        name="A B",
        topology={"nodes": [{"id": "a"}, {"id": "b"}], "edges": [["a", "b"], ["b", "a"]], "output": "b"},
        task={"type": "tre"},
        trainning={},
        training={"steps": "10", "los": 3, "loss": "gpro", "adam_betas": [0.9], "entropy": {"start": -1}},
        growth={"plans": [{"edits": [{"edit": "apend"}, {"edit": "append", "layers": [1, "1"]}]}, {"edits": []}]},
        engine=3,
    )
    assert set(found) == {
        "name",
        "topology.edges",
        "task",
        "trainning",
        "training.steps",
        "training.los",
        "training.loss",
        "training.adam_betas[1]",
        "training.entropy.start",
        "growth.plans[0].edits[0]",
        "growth.plans[0].edits[1].layers[1]",
        "growth.plans[1].edits",
        "engine",
    }
    assert found["topology.edges"] == "hold the cycle a -> b -> a; remove one of its edges"
    assert found["task"] == "got type = 'tre'; did you mean 'tree'? allowed are " + FAMILIES
    assert found["trainning"].startswith("unknown key; did you mean 'training'? allowed are name, seed,")
    assert found["training.steps"] == "got '10'; expected an integer"
    assert found["training.los"].startswith("unknown key; did you mean 'loss'?")
    assert found["training.loss"].startswith("got 'gpro'; did you mean 'grpo'? allowed are rollout,")
    assert found["training.entropy.start"] == "got -1; allowed is at least 0.0"
    assert found["engine"] == "got 3; expected a table"


def test_missing_sections_say_what_they_are() -> None:
    with pytest.raises(SpecError) as caught:
        parse_run_spec({})
    assert caught.value.faults == (
        Fault("topology", "is missing"),
        Fault("task", "is missing; it is a table whose type is one of " + FAMILIES),
    )


def test_an_unknown_key_of_a_variant_names_the_keys_of_that_variant() -> None:
    assert faults(task={"type": "chain", "hop": 3}) == {
        "task.hop": "unknown key; did you mean 'hops'? allowed are type, hops, cycles"
    }
    assert faults(task={"hops": 3}) == {"task": "the key type is missing; allowed are " + FAMILIES}


def pulled(settings: dict[str, object]) -> dict[str, object]:
    return {"growth": {"levels": [7], "plans": [{"edits": [{"edit": "append"}], "inherit": settings}]}}


@pytest.mark.parametrize(
    ("changes", "path", "part"),
    [
        ({"training": {"group_size": 1}}, "training.group_size", "got 1; allowed is at least 2"),
        ({"training": {"steps": True}}, "training.steps", "got true; expected an integer"),
        ({"training": {"steps": 3.0}}, "training.steps", "expected an integer"),
        ({"training": None}, "training", "got null; expected a table"),
        (
            {"training": {"credit": "counterfactual", "estimator": "reinforce"}},
            "training",
            "estimator = 'reinforce' does not; those that do: 'rloo', 'grpo', 'dr_grpo'",
        ),
        ({"sampling": {"temperature": float("nan")}}, "sampling.temperature", "expected a finite number"),
        ({"sampling": {"temperature": 0.009}}, "sampling.temperature", "got 0.009; allowed is at least 0.01"),
        ({"topology": {"chain": 3, "temperature": 0.009}}, "topology.temperature", "allowed are 0.01 to 4"),
        ({"sampling": {"top_p": 0.9}}, "sampling.top_p", "set training.old_logprobs = 'trainer', or top_p = 1"),
        ({"engine": {"block_size": 40}}, "engine.block_size", "multiples of 16"),
        ({"adapter": {"type": "unilora"}}, "adapter.dimension", "is missing; it is an integer"),
        ({"adapter": {"tau": 0.5}}, "adapter.tau", "start = 'random' does nothing with it: leave it out"),
        ({"adapter": {"rho": 2.0}}, "adapter.rho", "got 2; start = 'random' does nothing with it: leave it out"),
        ({"adapter": {"start": "eva", "rho": 0.5}}, "adapter.rho", "got 0.5; allowed is at least 1"),
        ({"adapter": {"start": "eva", "rho": 1.5}}, "adapter.rho", "got 1.5; with rank 1 allowed is 1, or at least 2"),
        ({"adapter": {"type": "adamss", "budget": 0.0}}, "adapter.budget", "got 0.0; allowed is above 0"),
        ({"adapter": {"batches": 2}}, "adapter.batches", "start = 'random' looks at no rollouts"),
        (
            {"adapter": {"type": "loft", "support": "gradient", "tau": 0.5}},
            "adapter.tau",
            "support = 'gradient' does nothing with it",
        ),
        ({"adapter": {"type": "loft", "support": "gradient", "rank": 3}}, "adapter", "needs an even rank, got 3"),
        (
            pulled({"new": "eva"}) | {"adapter": {"type": "loft", "support": "eva"}},
            "growth.plans[0].inherit.new",
            "adapters of type 'loft' allow copy, fresh, interpolate, zero",
        ),
        ({"adapter": {"targets": "q_proj"}}, "adapter.targets", "got 'q_proj'; expected a list"),
        ({"training": {"importance_sampling": "token_mask"}}, "training", "needs old_logprobs = 'trainer'"),
        ({"engine": {"type": "transformers", "kv_cache_gib": 2.0}}, "engine", "kv_cache_gib need type = 'vllm'"),
        ({"runtime": {"type": "local", "rollout_workers": 2}}, "runtime", "rollout_workers need type = 'ray'"),
        ({"topology": 3}, "topology", "got 3"),
        ({"topology": {"chain": 3, "max_tokens": 128}}, "topology.nodes[2].max_tokens", "engine.max_model_len = 128"),
        ({"sampling": {"max_tokens": 128}}, "sampling.max_tokens", "below engine.max_model_len = 128"),
        ({"growth": {"levels": [3, 9]}}, "growth.levels", "the target, task.hops = 7"),
        ({"growth": {"levels": [3, 5]}}, "growth.levels", "end at 5; the last must be the target, task.hops = 7"),
        ({"growth": {"levels": [5, 3]}}, "growth", "levels must increase"),
        ({"growth": {"trigger": {"patience": 2}}}, "growth.trigger", "patience needs type = 'plateau' or 'collapse'"),
        (
            {"growth": {"trigger": {"type": "collapse", "min_improvement": 0.1}}},
            "growth.trigger",
            "min_improvement needs type = 'plateau'",
        ),
        (
            {"growth": {"trigger": {"type": "plateau", "sampled_accuracy": 0.5}}},
            "growth.trigger",
            "sampled_accuracy needs type = 'threshold'",
        ),
        (pulled({"pull_selective": True}), "growth.plans[0].inherit", "pull_selective need old = 'pull'"),
        (
            pulled({"old": "pull", "pull_weight": 1.0, "pull_to": "base"}),
            "growth.plans[0].inherit",
            "pull_by = 'update'",
        ),
        (
            {"growth": {"levels": [1, 2]}, "task": {"type": "file", "train": "a", "test": "b"}},
            "growth.levels",
            "only with task.level_key",
        ),
    ],
)
def test_one_fault_with_its_path(changes: Mapping[str, object], path: str, part: str) -> None:
    assert part in faults(**changes)[path]


def test_a_look_that_growth_takes_may_be_set() -> None:
    spec = parse_run_spec({**SMALLEST, "adapter": {"tau": 0.5}, **pulled({"new": "eva"})})
    assert spec.adapters.usual.model_dump()["tau"] == 0.5


def test_one_section_alone() -> None:
    plan = parse_section(PlanSpec, {"edits": [{"edit": "connect", "edges": [["a", "b"]]}]})
    assert parse_section(PlanSpec, plan.model_dump()) == plan
    with pytest.raises(SpecError, match=r"edits\[0\]\.width: got 0; allowed is at least 1"):
        parse_section(PlanSpec, {"edits": [{"edit": "before_output", "width": 0}]})


def test_a_document_that_is_no_table() -> None:
    with pytest.raises(SpecError, match=r"got a list of 30|got \[1\]"):
        parse_run_spec([1])  # type: ignore[arg-type]


def test_a_section_of_adapters_without_a_type_is_a_lora_and_earlier_runs_are_read() -> None:
    document = {"topology": {"chain": 2}, "task": {"type": "chain"}}
    bare = parse_run_spec({**document, "adapter": {"rank": 4}})
    recorded = {"type": "lora", "rank": 4, "alpha": None, "dimension": None, "targets": list(bare.adapter.targets)}
    assert bare.adapter.type == "lora"
    assert bare.adapter.served_rank == 4
    assert parse_run_spec({**document, "adapter": recorded}) == bare


def test_a_nucleus_may_be_sampled_where_the_trainer_corrects_for_it() -> None:
    changes = {"sampling": {"top_p": 0.9, "temperature": 0.01}, "training": {"old_logprobs": "trainer"}}
    assert parse_run_spec({**SMALLEST, **changes}).sampling.top_p == 0.9


FLAT = {"topology": {"chain": 2}, "task": {"type": "chain", "hops": 1}}
EVA = {"plans": [{"edits": [{"edit": "append"}], "inherit": {"new": "eva"}}]}


@pytest.mark.parametrize(
    ("sections", "path", "told"),
    [
        ({"runtime": {"shard_base": True}}, "runtime.shard_base", "raise runtime.learner_workers"),
        ({"adapter": {"type": "lora", "start": "eva"}}, "adapter.start", "got 'eva'"),
        ({"adapter": {"type": "loft", "support": "gradient"}}, "adapter.support", "got 'gradient'"),
        ({"growth": EVA}, "growth.plans[0].inherit.new", "got 'eva'"),
    ],
    ids=["one learner", "lora", "loft", "growth"],
)
def test_a_base_in_shares_is_refused_where_one_learner_would_compute_alone(
    sections: dict[str, object], path: str, told: str
) -> None:
    of_two = {"learner_workers": 2, "shard_base": True}
    assert parse_run_spec({**FLAT, "runtime": of_two}).runtime.shard_base
    with pytest.raises(SpecError) as caught:
        parse_run_spec({**FLAT, "runtime": of_two, **sections})
    (fault,) = caught.value.faults
    assert fault.path == path
    assert told in fault.message
    assert "runtime.shard_base to false" in fault.message


def test_a_spec_of_a_cluster_runs_in_one_process() -> None:
    runtime = {
        "rollout_workers": 3,
        "learner_workers": 2,
        "shard_base": True,
        "gpus_per_learner": 0.5,
        "address": "10.0.0.1:6379",
    }
    document = {"topology": {"chain": 1}, "task": {"type": "chain", "hops": 1}}
    local = parse_run_spec(document | {"runtime": runtime | {"max_restarts": 7}}).on_machine(runtime="local")
    assert parse_run_spec(local.model_dump(mode="json")) == local
    assert local.runtime == RuntimeSpec(type="local", max_restarts=7)
