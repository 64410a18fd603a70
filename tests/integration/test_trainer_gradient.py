"""The trainer's gradient is that of separate passes, Node by Node, on stock PEFT."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from trainer_world import World, make_world, one_step_gradients
from transformers import AutoModelForCausalLM

from neuromas.adapters.export import write_peft_folder
from neuromas.spec.training import TrainingSpec
from neuromas.training.advantage import RunningBaseline, call_advantages
from neuromas.training.calls import rows_of
from neuromas.training.sampler import StepRollouts


def spec(**settings: Any) -> TrainingSpec:
    return TrainingSpec(**({"steps": 1, "prompts_per_step": 3, "group_size": 4} | settings))


@pytest.fixture(scope="module")
def world(small_base: Path, tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(small_base, tmp_path_factory.mktemp("trainer"))


@pytest.fixture(scope="module")
def rollouts(world: World) -> StepRollouts:
    return world.sampler().sample(0)


def separate_gradients(
    world: World, base: Path, folder: Path, rollouts: StepRollouts, training: TrainingSpec
) -> dict[str, torch.Tensor]:
    """Gradients of the documented loss, call by call and without padding, on one stock PEFT model per Node."""
    rows = rows_of(rollouts.groups, world.topology.order, training)
    advantages = rows.per_row(call_advantages(rows.rewards, rows.present_by_place, "rloo", RunningBaseline(0.9)))
    found: dict[str, torch.Tensor] = {}
    reference = AutoModelForCausalLM.from_pretrained(base)
    for index, node in enumerate(world.topology.order):
        target = folder / node
        write_peft_folder(world.bank.export(node), "base", target)
        model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(base), target, is_trainable=True)
        temperature = world.topology.node(node).temperature or 1.0
        loss = torch.zeros(())
        for row in range(len(rows.calls)):
            call = rows.calls[row]
            if call is None or rows.node_of_row[row] != index:
                continue
            ids = torch.tensor([[*call.prompt_token_ids, *call.completion_token_ids]])
            start = len(call.prompt_token_ids) - 1
            logprobs = (model(input_ids=ids).logits[0, start:-1] / temperature).log_softmax(-1)
            chosen = logprobs.gather(1, ids[0, start + 1 :, None])[:, 0]
            ratio = (chosen - torch.tensor(call.logprobs)).exp()
            gain = float(advantages[row])
            loss = loss - torch.minimum(ratio * gain, ratio.clamp(0.8, 1.2) * gain).sum()
            if training.kl_weight:
                with torch.no_grad():
                    base_logprobs = (reference(input_ids=ids).logits[0, start:-1] / temperature).log_softmax(-1)
                away = base_logprobs.gather(1, ids[0, start + 1 :, None])[:, 0] - chosen
                # k3 estimator times the ratio: the unbiased reverse-KL gradient, TRL's default
                loss = loss + training.kl_weight * ((away.exp() - away - 1) * ratio).sum()
            entropy = -(logprobs.exp() * logprobs).sum()
            loss = loss - training.entropy.start * entropy
        (loss / (rows.num_groups * rows.group_size)).backward()
        for name, value in model.named_parameters():
            if "lora_" in name:
                path = name.removeprefix("base_model.model.").split(".lora_")[0]
                letter = "A" if "lora_A" in name else "B"
                found[f"{node}/{path}/{letter}"] = value.grad
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"forward": "padded"},
        {"forward": "padded", "tokens_per_forward": 100},
        {"tokens_per_forward": 60, "gradient_checkpointing": True, "kl_weight": 0.05, "entropy": {"start": 0.02}},
        {"drop_zero_variance": False, "old_logprobs": "trainer"},
        {"credit": "counterfactual"},
        {"credit": "counterfactual", "old_logprobs": "trainer", "kl_weight": 0.05},
    ],
    ids=[
        "packed",
        "padded",
        "padded_chunks",
        "packed_chunks_checkpointing_kl_entropy",
        "trainer_logprobs",
        "counterfactual",
        "counterfactual_trainer_logprobs_kl",
    ],
)
def test_gradient_equals_separate_passes_on_stock_peft(
    world: World, rollouts: StepRollouts, small_base: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    training = spec(**settings)
    if training.credit == "counterfactual":
        sampler = world.sampler(credit=training.credit)
        sampler.version = rollouts.version  # published already
        rollouts = sampler.sample(0)
    before = {name: value.clone() for name, value in world.model.state_dict().items()}
    joint = one_step_gradients(world, training, rollouts)
    separate = separate_gradients(world, small_base, tmp_path, rollouts, training)
    assert joint.keys() == separate.keys()
    largest = max(float(value.abs().max()) for value in separate.values())
    worst = max(float((joint[key] - separate[key]).abs().max()) for key in joint)
    assert largest > 1e-3
    assert worst < 5e-6 * max(1.0, largest)
    assert all(torch.equal(value, before[name]) for name, value in world.model.state_dict().items())
