"""How updates are cut by memory: as many tokens as fit, layers computed anew only where a single call does not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from neuromas.base.resolve import resolve_base
from neuromas.base.sizes import Dimensions, read_sizes
from neuromas.spec.parse import parse_run_spec
from neuromas.spec.run import RunSpec
from neuromas.training.memory import UpdateMemory, plan_memory

SMALL = Dimensions(
    parameters=135_000_000, layer_weights=106_000_000, features=305_280, hidden=576, layers=30, vocabulary=49_152
)
LARGE = Dimensions(
    parameters=4_000_000_000,
    layer_weights=3_600_000_000,
    features=36 * 48_000,
    hidden=2560,
    layers=36,
    vocabulary=151_936,
)


def spec(**sections: Any) -> RunSpec:
    return parse_run_spec({"topology": {"chain": 2}, "task": {"type": "chain", "hops": 2}, **sections})


def test_the_sizes_of_the_tiny_base() -> None:
    sizes = read_sizes(resolve_base("tiny"), ("q_proj",))
    assert sizes is not None
    # Of each of 4 layers: q, k, v and o between 64 and 64 numbers, gate, up and down between 64 and 176.
    assert sizes.dimensions is not None
    assert sizes.dimensions.features == 4 * (4 * (64 + 64) + 3 * (64 + 176))
    assert (sizes.dimensions.hidden, sizes.dimensions.layers, sizes.dimensions.vocabulary) == (64, 4, 142)


def test_a_forward_pass_gets_the_tokens_that_fit() -> None:
    update = plan_memory(spec(), SMALL)
    assert update.tokens_per_forward == int((2 << 30) / (2.3 * 4 * 305_280))
    assert not update.gradient_checkpointing
    assert update.peak_bytes is not None
    assert update.peak_bytes < 4 << 30


def test_half_precision_and_gpus_hold_more() -> None:
    single = plan_memory(spec(), SMALL).tokens_per_forward
    half = spec(engine={"dtype": "bfloat16"})
    gpu = spec(runtime={"gpus_per_learner": 1.0}, engine={"type": "transformers"})
    assert plan_memory(half, SMALL).tokens_per_forward in (2 * single, 2 * single + 1)
    assert plan_memory(gpu, SMALL).tokens_per_forward // single == 4


@pytest.mark.parametrize(("length", "again"), [(128, False), (135, False), (136, True), (2048, True)])
def test_layers_are_computed_anew_where_one_call_does_not_fit(length: int, again: bool) -> None:
    update = plan_memory(spec(engine={"max_model_len": length}), LARGE)
    assert update.gradient_checkpointing is again
    assert update.tokens_per_forward >= length
    assert plan_memory(spec(training={"gradient_checkpointing": True}), SMALL).gradient_checkpointing
    never = spec(engine={"max_model_len": length}, training={"gradient_checkpointing": False})
    assert not plan_memory(never, LARGE).gradient_checkpointing


def test_a_base_in_shares_is_held_in_part() -> None:
    def peak(runtime: dict[str, object], base: Dimensions = LARGE) -> int:
        plan = plan_memory(spec(training={"tokens_per_forward": 300}, runtime={"learner_workers": 8, **runtime}), base)
        assert plan.tokens_per_forward == 300
        assert plan.peak_bytes is not None
        return plan.peak_bytes

    # An eighth, and twice what lies outside the layers and two of the 36 layers; numbers of 4 bytes.
    outside = 400_000_000
    held = 500_000_000 + 2 * (outside + 2 * 100_000_000)
    on_gpus = {"gpus_per_learner": 1.0}
    assert peak(on_gpus) - peak({**on_gpus, "shard_base": True}) == 4 * (4_000_000_000 - held)
    # On CPU each one has loaded all of it before.
    nothing = replace(LARGE, parameters=0, layer_weights=0)
    assert 4 * 4_000_000_000 < peak({"shard_base": True}) < peak({}) == 4 * 4_000_000_000 + peak({}, nothing)


def test_what_is_told_is_done() -> None:
    assert plan_memory(spec(training={"tokens_per_forward": 300}), LARGE).tokens_per_forward == 300
    assert plan_memory(spec(), None) == UpdateMemory(8192, gradient_checkpointing=False, peak_bytes=None)


def test_a_small_step_is_not_said_to_take_what_a_large_one_does() -> None:
    whole, small = plan_memory(spec(), SMALL), plan_memory(spec(), SMALL, step_tokens=100)
    assert whole.peak_bytes is not None
    assert small.peak_bytes is not None
    assert whole.peak_bytes - small.peak_bytes > (whole.tokens_per_forward - 100) * 2 * 4 * 305_280 - 1
