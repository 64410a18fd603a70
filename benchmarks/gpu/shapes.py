"""Models of real shapes with random weights, made where they are used, and the operations that a step on them takes."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from transformers import Qwen3Config, Qwen3ForCausalLM

from neuromas.training.packing import Bucket
from neuromas.training.scoring import add_scoring

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a Qwen3 model."""

    name: str
    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    mlp: int
    vocabulary: int

    @property
    def linear_weights(self) -> int:
        """Weights of all linear layers of all blocks."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return self.layers * (attention + 3 * self.hidden * self.mlp)

    def config(self) -> Qwen3Config:
        """Return the configuration transformers makes the model from."""
        return Qwen3Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.mlp,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            head_dim=self.head_dim,
            max_position_embeddings=4096,
            tie_word_embeddings=True,
            eos_token_id=0,
        )


SHAPES = {
    "tiny": Shape("tiny", 64, 2, 2, 2, 32, 168, 128),
    "0.6B": Shape("Qwen3-0.6B", 1024, 28, 16, 8, 128, 3072, 151_936),
    "4B": Shape("Qwen3-4B", 2560, 36, 32, 8, 128, 9728, 151_936),
}


def make_model(shape: Shape, device: torch.device, dtype: torch.dtype) -> Qwen3ForCausalLM:
    """Return a frozen model with random weights on ``device``, ready for ``score_bucket``."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = Qwen3ForCausalLM._from_config(shape.config(), attn_implementation="sdpa")
    finally:
        torch.set_default_dtype(before)
    add_scoring(model)
    return model.requires_grad_(False)


def twin(model: Qwen3ForCausalLM) -> Qwen3ForCausalLM:
    """Return a model of its own structure that shares all weights with ``model``; adapters go on one of them only."""
    shared = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    again = copy.deepcopy(model, shared)
    again.__dict__.pop("forward", None)
    add_scoring(again)
    return again


def step_flops(shape: Shape, buckets: Sequence[Bucket]) -> float:
    """Return the floating-point operations of one forward and backward pass that a perfect program would do.

    Per token and weight 2 operations forward and 2 for the gradient of the input; none for the gradient of the weight,
    as the base is frozen. Attention: 4 * width operations per pair of places forward, twice that backward, and half of
    all pairs, because it is causal. Adapters (1 to 2 percent) and everything elementwise are not counted.
    """
    width = shape.heads * shape.head_dim
    total = 0.0
    for bucket in buckets:
        rows, length = bucket.input_ids.shape
        total += 4.0 * rows * length * shape.linear_weights
        total += 3.0 * shape.layers * rows * length * length / 2 * 4 * width
        total += 4.0 * len(bucket.labels) * shape.hidden * shape.vocabulary
    return total


def peak_flops(device: torch.device) -> float:
    """Return the peak of the device's dense bf16 matrix units, operations per second; 0 where it is not known.

    Source: NVIDIA's data sheets of H100 SXM and H200 (989.4 TFLOP/s) and A100 (312 TFLOP/s).
    """
    if device.type != "cuda":
        return 0.0
    name = torch.cuda.get_device_name(device)
    known = {"H100": 989.4e12, "H200": 989.4e12, "A100": 312e12}
    return next((peak for key, peak in known.items() if key in name), 0.0)
