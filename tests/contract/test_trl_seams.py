"""What the trainer assumes of TRL's private parts. A red test here means: read the new TRL before upgrading."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

from neuromas.training.trainer import JointTrainer, trl_imports


def parameters(name: str) -> list[str]:
    return list(inspect.signature(getattr(JointTrainer.__mro__[1], name)).parameters)


def source(name: str) -> str:
    return inspect.getsource(getattr(JointTrainer.__mro__[1], name))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("_generate_and_score_completions", ["self", "inputs"]),
        ("_send_telemetry", ["self"]),
        ("_generate", ["self", "prompts"]),
        ("_compute_loss", ["self", "model", "inputs"]),
        ("training_step", ["self", "model", "inputs", "num_items_in_batch"]),
        ("_get_grad_norm", ["self", "model", "grad_norm"]),
        ("log", ["self", "logs", "start_time"]),
        ("create_optimizer", ["self", "model"]),
        ("create_scheduler", ["self", "num_training_steps", "optimizer"]),
    ],
)
def test_signatures_of_overridden_methods(name: str, expected: list[str]) -> None:
    assert parameters(name) == expected


def test_signature_of_the_forward() -> None:
    first = ["self", "model", "input_ids", "attention_mask", "logits_to_keep", "batch_size", "compute_entropy"]
    assert parameters("_get_per_token_logps_and_entropies")[:7] == first


def test_the_batch_has_the_keys_that_are_read() -> None:
    text = source("_generate_and_score_completions")
    for key in ("old_per_token_logps", "importance_sampling_ratio", "ref_per_token_logps"):
        assert f'output["{key}"]' in text
    for attribute in ("beta", "use_vllm", "vllm_importance_sampling_correction"):
        assert f"self.{attribute}" in text


def test_the_calls_are_handed_over_as_eight_values() -> None:
    returned = "return prompt_ids, completion_ids, tool_mask, completions, logprobs, extra_fields, images, tool_images"
    assert returned in source("_generate")
    assert "self._generate(prompts)" in source("_generate_and_score_completions")
    assert "inp[key] = values[i]" in source("_generate_and_score_completions")


def test_the_batch_is_buffered_shuffled_and_split() -> None:
    text = source("_prepare_inputs")
    assert "self._step % generate_every == 0" in text
    assert "shuffle_sequence_dict" in text


def test_vllm_is_hidden_from_trl() -> None:
    assert trl_imports.is_vllm_available() is False


def test_importing_the_trainer_prints_nothing_and_loads_no_engine() -> None:
    code = "import sys, neuromas.training.trainer; print([name for name in ('vllm', 'ray') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)
