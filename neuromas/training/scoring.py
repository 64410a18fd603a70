"""The forward pass of the update: log-probabilities and entropies of every completion token of a bucket.

The model's own forward is extended by ``scored``: given it, the model returns the logprob and entropy of the listed
(position, token) pairs instead of logits. Only those positions go through the LM head, each packed row at its own
temperature; for large vocabularies the head runs in chunks that are recomputed in the backward pass.
"""

from __future__ import annotations

import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from neuromas.errors import BaseModelError
from neuromas.training.packing import Bucket

MAX_LOGITS = 1 << 25
"""Logits held at once; beyond it the head runs in chunks."""
SCALED_LOGITS = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The targets of one forward pass.

    Attributes:
        sources: row * length + place of the position that predicts each target, shape (targets,).
        labels: token of each target, shape (targets,).
        inverse_temperatures: 1 / temperature of each target, shape (targets,).
    """

    sources: Tensor
    labels: Tensor
    inverse_temperatures: Tensor


class Scores(NamedTuple):
    """Natural log-probability and entropy (nats) of each target, float32, shape (targets,)."""

    logprobs: Tensor
    entropies: Tensor


def add_scoring(model: PreTrainedModel) -> None:
    """Let ``model(..., scored=Scored)`` return ``Scores``; without ``scored`` its forward is what it was.

    Raises:
        BaseModelError: the model multiplies its logits by a factor of its own, which the head here does not know.
    """
    config = model.config.get_text_config().to_dict()
    scaled = [key for key in SCALED_LOGITS if config.get(key) not in (None, 1, 1.0)]
    if scaled:
        raise BaseModelError(f"base: config.{scaled[0]} scales the logits, which training does not support")
    cap = config.get("final_logit_softcapping")
    original: Callable[..., Any] = model.forward

    def forward(self: PreTrainedModel, *args: Any, scored: Scored | None = None, **kwargs: Any) -> Any:
        if scored is None:
            return original(*args, **kwargs)
        hidden = self.base_model(*args, **kwargs, use_cache=False).last_hidden_state
        return score(hidden, self.get_output_embeddings(), scored, cap)

    model.forward = types.MethodType(forward, model)


def score(hidden: Tensor, head: nn.Module, scored: Scored, cap: float | None = None) -> Scores:
    """Return the scores of the targets from the last hidden states, shape (rows, length, width)."""
    weight: Tensor = head.weight  # type: ignore[assignment]
    bias: Tensor | None = head.bias  # type: ignore[assignment]
    states = hidden.flatten(0, 1).index_select(0, scored.sources)
    inputs = (states, scored.labels, scored.inverse_temperatures)
    chunk = max(1, MAX_LOGITS // weight.shape[0])
    if states.shape[0] <= chunk:
        return Scores(*_score_chunk(*inputs, weight, bias, cap))
    parts = [
        checkpoint(_score_chunk, *part, weight, bias, cap, use_reentrant=False)
        for part in zip(*(torch.split(tensor, chunk) for tensor in inputs), strict=True)
    ]
    return Scores(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _score_chunk(
    states: Tensor, labels: Tensor, inverse_temperatures: Tensor, weight: Tensor, bias: Tensor | None, cap: float | None
) -> tuple[Tensor, Tensor]:
    logits = nn.functional.linear(states, weight, bias).float()
    if cap is not None:
        logits = torch.tanh(logits / cap) * cap
    logprobs = torch.log_softmax(logits * inverse_temperatures[:, None], dim=-1)
    entropies = -(logprobs.exp() * logprobs).sum(-1)
    return logprobs.gather(1, labels[:, None])[:, 0], entropies


def score_bucket(
    model: nn.Module, bucket: Bucket, temperatures: Tensor, device: torch.device, dtype: torch.dtype
) -> Scores:
    """Run one bucket through the model; the routes of its rows must be set.

    Args:
        model: a model with ``add_scoring``, bare or wrapped (PEFT, data parallel).
        bucket: the packed rows.
        temperatures: sampling temperature of each packed row, shape (rows,).
        device: where the model is.
        dtype: number format of the attention mask, that of the model's activations.
    """
    length = bucket.input_ids.shape[1]
    sources = torch.from_numpy(bucket.sources)
    scored = Scored(
        sources=sources.to(device),
        labels=torch.from_numpy(bucket.labels).to(device),
        inverse_temperatures=(1 / temperatures)[sources // length].to(device),
    )
    scores: Scores = model(
        input_ids=torch.from_numpy(bucket.input_ids).to(device),
        # Without branches positions are 0, 1, 2 ...; given explicitly, transformers would look for packed sequences.
        position_ids=None if bucket.ends is None else torch.from_numpy(bucket.position_ids).to(device),
        attention_mask=attention_mask(bucket, device, dtype),
        scored=scored,
    )
    return scores


def attention_mask(bucket: Bucket, device: torch.device, dtype: torch.dtype) -> Tensor | None:
    """Return the additive mask that lets each place see its ancestors, shape (rows, 1, length, length).

    None where no row branches: rows are padded on the right, so the causal mask keeps padding from every real place.
    """
    if bucket.ends is None:
        return None
    ends = torch.from_numpy(bucket.ends).to(device)
    places = torch.arange(ends.shape[1], device=device)
    seen = (places[None, None, :] <= places[None, :, None]) & (places[None, :, None] < ends[:, None, :])
    blocked = torch.full((), torch.finfo(dtype).min, dtype=dtype, device=device)
    return torch.where(seen, torch.zeros((), dtype=dtype, device=device), blocked)[:, None]
