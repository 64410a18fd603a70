"""The forward pass of the update: log-probabilities and entropies of every completion token of a bucket.

The model's own forward is extended by ``scored``: given it, the model returns the logprob and entropy of the listed
(position, token) pairs instead of logits. Only those positions go through the LM head, each packed row at its own
temperature; for large vocabularies the head runs in chunks that are recomputed in the backward pass.
"""

from __future__ import annotations

import math
import types
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from neuromas.base.tree_mask import Tree, tree_attention
from neuromas.errors import BaseModelError
from neuromas.training.memory import MAX_LOGITS
from neuromas.training.packing import Bucket, pack

MULTIPLIERS: Final = ("logit_scale", "output_multiplier", "lm_head_multiplier")
DIVISOR: Final = "logits_scaling"
"""Entries of config.json by which models scale their logits."""


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """The targets of one forward pass.

    Attributes:
        sources: row * length + place of the position that predicts each target, shape (targets,).
        labels: token of each target, shape (targets,).
        inverse_temperatures: 1 / temperature of each target, shape (targets,).
        tree: of the packed rows; None where no row branches.
    """

    sources: Tensor
    labels: Tensor
    inverse_temperatures: Tensor
    tree: Tree | None = None


class Scores(NamedTuple):
    """Natural log-probability and entropy (nats) of each target, float32, shape (targets,)."""

    logprobs: Tensor
    entropies: Tensor


def add_scoring(model: PreTrainedModel) -> None:
    """Let ``model(..., scored=Scored)`` return ``Scores``; without ``scored`` its forward is what it was."""
    original: Callable[..., Any] = model.forward

    def forward(self: PreTrainedModel, *args: Any, scored: Scored | None = None, **kwargs: Any) -> Any:
        if scored is None:
            return original(*args, **kwargs)
        with nullcontext() if scored.tree is None else tree_attention(self.config, scored.tree):
            hidden = _decoder(self)(*args, **kwargs, use_cache=False).last_hidden_state
        return _score(hidden, _Head.of(self), scored)

    model.forward = types.MethodType(forward, model)


def _decoder(model: PreTrainedModel) -> nn.Module:
    """Return the part before the head; models of text and images call it past what is for images."""
    decoder: nn.Module = model.get_decoder()
    return cast(nn.Module, model.model) if decoder is model else decoder  # Llama 4 does not say which it is


@dataclass(frozen=True, slots=True)
class _Head:
    """From a last hidden state to logits: ``cap * tanh(factor * (W h + b) / cap)``.

    Source: the heads of transformers' models; ``check_scoring`` compares.
    """

    weight: Tensor
    bias: Tensor | None
    factor: float
    cap: float | None

    @classmethod
    def of(cls, model: PreTrainedModel) -> _Head:
        layer, config = model.get_output_embeddings(), model.config.get_text_config()
        factors = [getattr(config, key, None) or 1.0 for key in MULTIPLIERS]
        divisor = getattr(config, DIVISOR, None) or 1.0
        cap = getattr(config, "final_logit_softcapping", None)
        return cls(layer.weight, layer.bias, math.prod(factors) / divisor, cap)

    def logits(self, states: Tensor) -> Tensor:
        """Return logits of states (targets, width), float32, shape (targets, vocabulary)."""
        logits = nn.functional.linear(states, self.weight, self.bias).float()
        logits = logits if self.factor == 1 else logits * self.factor
        return logits if self.cap is None else torch.tanh(logits / self.cap) * self.cap


def _score(hidden: Tensor, head: _Head, scored: Scored) -> Scores:
    """Return the scores of the targets from the last hidden states, shape (rows, length, width)."""
    states = hidden.flatten(0, 1).index_select(0, scored.sources)
    inputs = (states, scored.labels, scored.inverse_temperatures)
    chunk = max(1, MAX_LOGITS // head.weight.shape[0])
    if states.shape[0] <= chunk:
        return Scores(*_score_chunk(*inputs, head))
    parts = [
        checkpoint(_score_chunk, *part, head, use_reentrant=False)
        for part in zip(*(torch.split(tensor, chunk) for tensor in inputs), strict=True)
    ]
    return Scores(*(torch.cat(column) for column in zip(*parts, strict=True)))


def _score_chunk(states: Tensor, labels: Tensor, inverse_temperatures: Tensor, head: _Head) -> tuple[Tensor, Tensor]:
    logprobs = torch.log_softmax(head.logits(states) * inverse_temperatures[:, None], dim=-1)
    entropies = -(logprobs.exp() * logprobs).sum(-1)
    # A sum over one number each: a view of the model's output would lose the hooks that gather a base in shares.
    return logprobs.gather(1, labels[:, None]).sum(1), entropies


def score_bucket(model: nn.Module, bucket: Bucket, temperatures: Tensor, device: torch.device) -> Scores:
    """Run one bucket through the model; the routes of its rows must be set.

    Args:
        model: a model with ``add_scoring``, bare or wrapped (PEFT, data parallel).
        bucket: the packed rows.
        temperatures: sampling temperature of each packed row, shape (rows,).
        device: where the model is.
    """
    input_ids = torch.from_numpy(bucket.input_ids).to(device)
    sources = torch.from_numpy(bucket.sources)
    tree = None
    if bucket.ends is not None:
        tree = Tree(torch.from_numpy(bucket.position_ids).to(device), torch.from_numpy(bucket.ends).to(device))
    scored = Scored(
        sources=sources.to(device),
        labels=torch.from_numpy(bucket.labels).to(device),
        inverse_temperatures=(1 / temperatures)[sources // input_ids.shape[1]].to(device),
        tree=tree,
    )
    # Without branches the model's own masks are right as they are: rows are padded on the right, and causal.
    scores: Scores = model(
        input_ids=input_ids,
        position_ids=None if tree is None else tree.depths,
        attention_mask=None if tree is None else torch.ones_like(input_ids),
        scored=scored,
    )
    return scores


@torch.no_grad()
def check_scoring(model: PreTrainedModel, allowed: float, *, packed: bool) -> None:
    """Refuse a base whose scores here are not those of its own forward, before a step is spent on it.

    Args:
        model: with ``add_scoring``; adapters off or fresh.
        allowed: largest mean difference of a logprob, nats.
        packed: whether call rows will be packed.

    Raises:
        BaseModelError: something lies between the base's last state and its logits; or ``packed``, and it does not
            compute a packed row as it computes the rows in it.
    """
    vocabulary, device = model.config.get_text_config().vocab_size, next(model.parameters()).device
    tokens = [(7 * place + 3) % vocabulary for place in range(24)]
    prompts, completions = [tokens[:16], tokens[:16], tokens[:12]], [tokens[16:20], tokens[20:], tokens[18:22]]

    def scores(*, share: bool) -> Tensor:
        (bucket,) = pack(prompts, completions, np.zeros(3, dtype=np.int64), share=share)
        found = score_bucket(model, bucket, torch.ones(len(bucket.groups)), device).logprobs
        return found[torch.from_numpy(np.lexsort((bucket.steps, bucket.call_rows))).to(device)]

    own = torch.cat([_own_scores(model, *row, device) for row in zip(prompts, completions, strict=True)])
    alone = scores(share=False)
    if not (apart := (alone - own).abs().mean().item()) <= allowed:
        raise BaseModelError(
            f"base: its own logprobs and those of training differ by {apart:.1e} nats, allowed is {allowed:.1e}; its "
            "output head does more than a product, a scale and a cap: take another base"
        )
    if packed and not (apart := (scores(share=True) - alone).abs().mean().item()) <= allowed:
        raise BaseModelError(
            f"base: a packed row and the rows in it differ by {apart:.1e} nats, allowed is {allowed:.1e}; its layers "
            "do not follow a tree's mask and positions: set training.forward = 'padded'"
        )


def _own_scores(model: PreTrainedModel, prompt: list[int], completion: list[int], device: torch.device) -> Tensor:
    """Return the logprobs of a completion by the model's own forward, shape (tokens,)."""
    inputs = torch.tensor([[*prompt, *completion]], device=device)
    logits: Tensor = model(input_ids=inputs, use_cache=False).logits[0, len(prompt) - 1 : -1]
    return logits.float().log_softmax(-1).gather(1, inputs[0, len(prompt) :, None])[:, 0]
