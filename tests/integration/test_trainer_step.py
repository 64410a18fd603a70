"""Steps of the trainer: who moves, what is dropped, what stops it, what is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from trainer_world import DigitTask, World, make_world, one_step_gradients

from neuromas.errors import AdapterError, ParityError, RolloutError, TrainingError
from neuromas.losses.contract import Loss
from neuromas.losses.registry import LOSSES, sum_over_rollout
from neuromas.rollout.record import Group, NodeCall
from neuromas.spec.parts import SamplingSpec
from neuromas.spec.training import TrainingSpec
from neuromas.tasks.base import Example, Split
from neuromas.training.sampler import StepRollouts


def spec(**settings: Any) -> TrainingSpec:
    return TrainingSpec(**({"steps": 2, "prompts_per_step": 3, "group_size": 4} | settings))


@pytest.fixture
def world(small_base: Path, tmp_path: Path) -> World:
    return make_world(small_base, tmp_path)


class HalfReadable(DigitTask):
    """Every second question is no text."""

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        example = super().example(split, index, level)
        return replace(example, prompt="\ud800") if index % 2 else example


def test_a_question_that_no_tokenizer_reads_fails_alone(world: World) -> None:
    sampled = world.sampler(task=HalfReadable()).sample(0)
    reasons = [{rollout.failure for rollout in group.rollouts} for group in sampled.groups]
    why = "node 'a': its prompt cannot be written: TypeError: TextInputSequence must be str"
    assert reasons == [{None}, {why}, {None}]
    trainer = world.trainer(spec(steps=1), lambda step: sampled)
    trainer.train()
    assert trainer.metrics["rollout/failed_fraction"] == pytest.approx(1 / 3)
    assert trainer.metrics["train/grad_norm/a"] > 0


def edited(rollouts: StepRollouts, change: Any) -> StepRollouts:
    """The rollouts with ``change(call) -> call | None`` applied to every call."""
    groups = []
    for group in rollouts.groups:
        passes = []
        for rollout in group.rollouts:
            calls = tuple(found for call in rollout.calls if (found := change(call)) is not None)
            passes.append(replace(rollout, calls=calls))
        groups.append(Group(group.example, tuple(passes)))
    return replace(rollouts, groups=tuple(groups))


def test_only_the_adapter_whose_node_has_rows_moves_also_with_momentum(world: World) -> None:
    sampler = world.sampler()
    states = []

    def sample(step: int) -> StepRollouts:
        states.append(world.bank.state())
        found = sampler.sample(step)
        return found if step == 0 else edited(found, lambda call: call if call.node == "b" else None)

    world.trainer(spec(weight_decay=0.1), sample).train()
    after = world.bank.state()
    for key, value in states[1].items():
        moved_first = not torch.equal(value, states[0][key])
        assert moved_first
        assert torch.equal(after[key], value) == (not key.startswith("b/")), key


def solved(rollouts: StepRollouts, groups: int) -> StepRollouts:
    """The rollouts with the first groups solved by all of theirs, and the others by one."""
    found = [
        Group(group.example, tuple(replace(r, reward=float(number < groups or r.index == 1)) for r in group.rollouts))
        for number, group in enumerate(rollouts.groups)
    ]
    return replace(rollouts, groups=tuple(found))


@pytest.mark.parametrize("loss", LOSSES)
def test_dropping_groups_without_signal_changes_no_gradient(world: World, loss: str) -> None:
    rollouts = solved(world.sampler().sample(0), 1)
    kept = one_step_gradients(world, spec(steps=1, loss=loss, drop_zero_variance=False), rollouts)
    dropped = one_step_gradients(world, spec(steps=1, loss=loss), rollouts)
    assert_equal(kept, dropped)


def assert_equal(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> None:
    """Equal gradients, up to the order of sums."""
    largest = max(float(value.abs().max()) for value in first.values())
    assert largest > 1e-4
    assert max(float((first[key] - second[key]).abs().max()) for key in first) < 1e-5 * max(0.1, largest)


def test_an_adapter_of_dropped_groups_alone_moves_on_its_momentum_as_if_they_were_kept(world: World) -> None:
    sampler = world.sampler()
    before, sampled, ends = world.bank.state(), sampler.sample(0), []
    first = solved(sampled, 0)
    without = edited(first, lambda call: call if call.node != "b" else None)
    second = replace(first, groups=(solved(sampled, 1).groups[0], *without.groups[1:]))
    for keep in (True, False):
        for name in world.bank.names:
            world.bank.load(name, before)
        settings = spec(steps=2, drop_zero_variance=not keep, parity_tolerance=1e6)
        world.trainer(settings, lambda step: (first, second)[step]).train()
        ends.append(world.bank.state())
    assert max(float((ends[0][key] - ends[1][key]).abs().max()) for key in before) < 1e-6


def test_a_step_without_any_signal_is_an_ordinary_step(world: World) -> None:
    rollouts = world.sampler().sample(0)
    flat = replace(
        rollouts,
        groups=tuple(Group(g.example, tuple(replace(r, reward=0.0) for r in g.rollouts)) for g in rollouts.groups),
    )
    found = one_step_gradients(world, spec(steps=1), flat)
    assert all(float(value.abs().max()) == 0.0 for value in found.values())


def test_failed_calls_are_left_out(world: World) -> None:
    rollouts = world.sampler().sample(0)

    def fail(call: NodeCall) -> NodeCall:
        if call.node == "c" and call.completion_token_ids[0] % 2:
            return replace(call, completion_token_ids=(), logprobs=(), finish_reason="error", error="lost")
        return call

    found = one_step_gradients(world, spec(steps=1), edited(rollouts, fail))
    assert all(bool(torch.isfinite(value).all()) for value in found.values())


@pytest.mark.parametrize(
    "settings",
    [{"entropy": {"start": 0.5}}, {"old_logprobs": "trainer", "kl_weight": 0.2, "drop_zero_variance": False}],
    ids=["entropy", "kl_correction"],
)
@pytest.mark.parametrize("loss", LOSSES)
def test_buckets_add_up_to_the_loss_of_the_whole_step(world: World, loss: str, settings: dict[str, Any]) -> None:
    rollouts = world.sampler().sample(0)
    whole = one_step_gradients(world, spec(steps=1, loss=loss, forward="padded", **settings), rollouts)
    assert_equal(
        whole, one_step_gradients(world, spec(steps=1, loss=loss, tokens_per_forward=60, **settings), rollouts)
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_the_entropy_bonus_counts_tokens_as_the_loss_does(world: World, loss: str) -> None:
    """With all rewards equal only the bonus is left; its size is the share of a token, summed over all tokens."""
    rollouts = solved(world.sampler().sample(0), 3)
    seen: list[dict[str, float]] = []
    settings = spec(steps=1, loss=loss, entropy={"start": 0.1})
    world.trainer(settings, lambda step: rollouts, after_step=lambda step, found: seen.append(dict(found))).train()
    calls = [call for group in rollouts.groups for rollout in group.rollouts for call in rollout.calls]
    tokens = sum(len(call.completion_token_ids) for call in calls)
    share = {"rollout": 1 / 12, "dr_grpo": 1 / (36 * 5), "luspo": 1 / 36}.get(loss, 1 / tokens)
    entropy = sum(
        seen[0][f"train/entropy/{node}"] * sum(len(call.completion_token_ids) for call in calls if call.node == node)
        for node in "abc"
    )
    if loss in ("grpo", "sapo"):  # a mean over calls of means over tokens
        assert 0 < -seen[0]["train/loss"] < 0.1 * max(seen[0][f"train/entropy/{node}"] for node in "abc")
    else:
        assert seen[0]["train/loss"] == pytest.approx(-0.1 * share * entropy, rel=1e-5)


def test_a_loss_from_outside_trains(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Likelihood weighted by the advantage: at a ratio of 1 its gradient is that of the built-in loss."""
    likelihood = Loss(lambda tokens, ratio: -tokens.advantages * tokens.logprobs, sum_over_rollout, reads=())
    monkeypatch.setitem(LOSSES, "likelihood", likelihood)
    rollouts = world.sampler().sample(0)
    built_in = one_step_gradients(world, spec(steps=1), rollouts)
    assert_equal(built_in, one_step_gradients(world, spec(steps=1, loss="likelihood"), rollouts))


@pytest.mark.parametrize("seed", [18446634, 20261127, 2**31 - 1])
def test_every_seed_of_a_run_trains(world: World, seed: int) -> None:
    sampler = world.sampler()
    world.trainer(spec(steps=2), sampler.sample, seed=seed).train()


def test_a_wrong_logprob_from_the_engine_stops_the_run(world: World) -> None:
    rollouts = edited(
        world.sampler().sample(0), lambda call: replace(call, logprobs=tuple(value - 0.1 for value in call.logprobs))
    )
    with pytest.raises(ParityError, match="parity_tolerance"):
        world.trainer(spec(), lambda step: rollouts).train()


def test_stale_rows_are_measured_as_drift_and_do_not_stop_the_run(world: World) -> None:
    sampler = world.sampler()
    seen: list[dict[str, float]] = []
    world.trainer(
        spec(steps=3, learning_rate=3e-2),
        lambda step: sampler.sample(step, ahead=step < 2),
        after_step=lambda step, metrics: seen.append(dict(metrics)),
    ).train()
    assert [metrics["parity/stale_fraction"] for metrics in seen] == [0.0, 1.0, 1.0]
    assert seen[0]["parity/logprob_diff_mean"] < 1e-5
    assert "parity/logprob_diff_mean" not in seen[1]
    assert seen[1]["parity/drift_mean"] > 1e-3


def test_a_nucleus_is_no_disagreement(small_base: Path, tmp_path: Path) -> None:
    world = make_world(small_base, tmp_path, sampling=SamplingSpec(max_tokens=4, top_p=0.9))
    sampler = world.sampler()
    seen: list[dict[str, float]] = []
    world.trainer(spec(steps=1), sampler.sample, after_step=lambda step, metrics: seen.append(dict(metrics))).train()
    assert seen[0]["parity/logprob_diff_mean"] < 1e-5


def spoilt(world: World, spoil: Any) -> Any:
    """The world's own sampler, with ``spoil()`` called between the rollouts of step 0 and their update."""
    sampler = world.sampler()

    def sample(step: int) -> StepRollouts:
        found = sampler.sample(step)
        with torch.no_grad():
            spoil()
        return found

    return sample


def test_a_weight_that_is_no_number_is_named_with_its_node_and_tensor(world: World) -> None:
    key, tensor = next(iter(world.bank.node_parameters("b").items()))
    with pytest.raises(TrainingError) as caught:
        world.trainer(spec(), spoilt(world, lambda: tensor.fill_(float("nan")))).train()
    assert str(caught.value) == (
        "step 0: the loss is not finite: log-probabilities of node 'b' are not finite; adapter 'b', tensor "
        f"{key} is not finite, so an earlier step was too large: lower training.learning_rate"
    )


def test_a_base_that_holds_no_numbers_is_named_with_its_layer(world: World) -> None:
    path = "model.layers.1.mlp.down_proj.weight"
    inside = "model.layers.1.mlp.down_proj.base_layer.weight"
    weight = dict(world.model.get_base_model().named_parameters())[inside]
    with pytest.raises(TrainingError) as caught:
        world.trainer(spec(), spoilt(world, lambda: weight.fill_(float("inf")))).train()
    assert str(caught.value) == (
        "step 0: the loss is not finite: log-probabilities of nodes 'a', 'b', 'c' are not finite; the base's own "
        f"{path} is not finite: its files are damaged, take another base"
    )


def test_an_overflow_is_named_with_the_layer_where_it_begins(world: World) -> None:
    """The product of two large finite numbers; float32 ends at 3.4e38."""
    weight = dict(world.model.get_base_model().named_parameters())["model.layers.1.mlp.down_proj.base_layer.weight"]
    with pytest.raises(TrainingError) as caught:
        world.trainer(spec(), spoilt(world, lambda: weight.fill_(3e38))).train()
    assert str(caught.value) == (
        "step 0: the loss is not finite: log-probabilities of nodes 'a', 'b', 'c' are not finite; all weights are "
        "finite, the output of model.layers.1.mlp.down_proj is not: float32 overflows there; set engine.dtype = "
        "'float32', or 'bfloat16' in place of 'float16'"
    )


def test_a_ratio_that_overflows_is_named_with_its_node(world: World) -> None:
    def unlikely(call: NodeCall) -> NodeCall:
        return replace(call, logprobs=(-200.0, *call.logprobs[1:])) if call.node == "a" else call

    rollouts = edited(world.sampler().sample(0), unlikely)
    found = r"^step 0: the loss is not finite: all log-probabilities are finite, .* at node 'a' they differ by up to 19"
    with pytest.raises(TrainingError, match=found):
        world.trainer(spec(), lambda step: rollouts).train()


@pytest.mark.parametrize("bad", ["nan", "-inf"])
def test_a_logprob_of_the_engine_that_is_no_number_is_the_engines_fault(world: World, bad: str) -> None:
    def broken(call: NodeCall) -> NodeCall:
        return replace(call, logprobs=(*call.logprobs[:-1], float(bad))) if call.node == "b" else call

    rollouts = edited(world.sampler().sample(0), broken)
    found = rf"^step 0: the engine's log-probability of token 5 of 5 is {bad}, first in a call of node 'b' by .*b-v0"
    with pytest.raises(TrainingError, match=found):
        world.trainer(spec(), lambda step: rollouts).train()


def test_a_probed_version_that_the_trainer_cannot_score_is_the_trainers_fault(world: World) -> None:
    sampler = world.sampler()
    trainer = world.trainer(spec(steps=1), sampler.sample)
    trainer.train()
    sampler.publish(1)
    groups = sampler.rollouts([DigitTask().example("train", 0)], greedy=False, step=1, seed=0)
    with torch.no_grad():
        next(iter(world.bank.node_parameters("c").values())).fill_(float("nan"))
    with pytest.raises(TrainingError) as caught:
        trainer.check_published(groups, 1)
    assert "c-v1: the trainer's log-probabilities of a call of node 'c' are not finite, where the" in str(caught.value)
    assert "adapter 'c', tensor " in str(caught.value)


@pytest.mark.parametrize("limit", [1.0, None])
def test_a_gradient_that_is_no_number_is_named_with_its_tensor(world: World, limit: float | None) -> None:
    stack = world.bank.stacks()[0]
    place = world.bank.index("b")

    def spoil(gradient: torch.Tensor) -> torch.Tensor:
        gradient = gradient.clone()
        stack.rows(gradient)[place] = float("inf")
        return gradient

    hook = stack.tensor.register_hook(spoil)
    with pytest.raises(TrainingError) as caught:
        world.trainer(spec(max_node_grad_norm=limit), world.sampler().sample).train()
    hook.remove()
    assert str(caught.value) == (
        f"step 0: the gradient of adapter 'b', tensor {stack.key} is not finite, though the loss is: the backward pass "
        "overflows; lower training.learning_rate, in half precision set engine.dtype = 'float32', or 'bfloat16' in "
        "place of 'float16'"
    )


def test_a_reward_that_is_no_number_is_named_with_step_and_question(world: World) -> None:
    sampled = world.sampler().sample(0)
    groups = [Group(g.example, tuple(replace(r, reward=float("nan")) for r in g.rollouts)) for g in sampled.groups[1:]]
    rollouts = replace(sampled, groups=(sampled.groups[0], *groups))
    with pytest.raises(RolloutError) as caught:
        world.trainer(spec(), lambda step: rollouts).train()
    assert str(caught.value) == (
        "step 0: rollout 0 of question 'chain-3/0/train/1' has reward nan; the task's score() must return a number in "
        "[0, 1]"
    )


class Undecided(DigitTask):
    """Its reward function returns no number for the second question."""

    def score(self, example: Example, text: str) -> float:
        return float("nan") if example.id.endswith("/1") else super().score(example, text)


def test_a_reward_function_that_returns_no_number_is_named_with_step_and_question(world: World) -> None:
    with pytest.raises(RolloutError) as caught:
        world.sampler(task=Undecided(), max_failed_fraction=0.25).sample(0)
    assert str(caught.value) == (
        "step 0: 4 of 12 rollouts failed, allowed is a share of 0.25 (training.max_failed_fraction); the first reason: "
        f"question 'chain-3/0/train/1': {Undecided.__module__}.Undecided.score returned reward nan; expected a finite "
        "number"
    )


def test_an_adapter_that_is_no_number_is_not_published(world: World) -> None:
    sampler = world.sampler()
    key, tensor = next(iter(world.bank.node_parameters("b").items()))
    with torch.no_grad():
        tensor.fill_(float("nan"))
    path, factor = key.rsplit("/", 1)
    with pytest.raises(AdapterError, match=rf"/b-v0: {path}/{factor} holds NaN or infinite numbers; the training step"):
        sampler.sample(0)


def test_several_iterations_over_one_batch_clip_and_sample_once(world: World) -> None:
    sampler = world.sampler()
    sampled: list[int] = []
    seen: list[dict[str, float]] = []

    def sample(step: int) -> StepRollouts:
        sampled.append(step)
        return sampler.sample(step)

    settings = spec(steps=6, num_iterations=3, learning_rate=5e-2, warmup_steps=0)
    world.trainer(settings, sample, after_step=lambda step, metrics: seen.append(dict(metrics))).train()
    assert sampled == [0, 3]
    assert len(seen) == 6
    clipped = [max(metrics[f"train/clip_fraction/{node}"] for node in "abc") for metrics in seen]
    assert clipped[0] == clipped[3] == 0
    assert min(clipped[2], clipped[5]) > 0
    assert [metrics.get("rollout/rollouts", 0) for metrics in seen] == [12, 0, 0, 12, 0, 0]
    assert ["parity/logprob_diff_mean" in metrics for metrics in seen] == [True, False, False, True, False, False]


def test_training_raises_the_reward_and_prints_nothing(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    sampler = world.sampler(prompts=4, group_size=8)
    rewards: list[float] = []
    capfd.readouterr()
    world.trainer(
        spec(steps=25, prompts_per_step=4, group_size=8, learning_rate=3e-2),
        sampler.sample,
        after_step=lambda step, metrics: rewards.append(metrics["rollout/reward_mean"]),
    ).train()
    assert sum(rewards[-5:]) / 5 > sum(rewards[:5]) / 5 + 0.2
    assert capfd.readouterr() == ("", "")
