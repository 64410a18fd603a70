"""Sampling with one generator per row, and the log-probabilities of the distribution sampled from."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

import torch
from torch import Tensor

from neuromas.rollout.engine import Sampling
from neuromas.rollout.record import Top


def sample_rows(
    logits: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]
) -> tuple[list[int], list[float], list[Top]]:
    """Return one sampled token per row, its log-probability, and the most probable tokens that its settings ask for.

    A row's token depends on its own logits, settings and generator only, not on its neighbours. At temperature 0 the
    token is the most probable one and its log-probability that of the unscaled distribution, as vLLM reports it. A row
    whose logits are no numbers gets token 0 and the log-probability NaN; the others are sampled all the same.

    Args:
        logits: (rows, vocabulary), float32, on any device; what is as long as the vocabulary stays there.
        samplings: settings per row.
        generators: random stream per row, on the same device.
    """
    device = logits.device
    temperatures = torch.tensor([sampling.temperature or 1.0 for sampling in samplings], device=device)
    logprobs = (logits / temperatures[:, None]).log_softmax(-1)
    masses = torch.tensor([sampling.top_p for sampling in samplings], device=device)
    if bool((masses < 1).any()):
        logprobs = _nucleus(logprobs, masses)
    is_broken = logprobs.isnan().any(-1)
    logprobs = logprobs.masked_fill(is_broken[:, None], 0.0)
    sampled = logprobs.argmax(-1)
    if any(sampling.temperature > 0 for sampling in samplings):
        raced = logprobs.exp() / _delays(logprobs, samplings, generators)
        drawn = torch.tensor([sampling.temperature > 0 for sampling in samplings], device=device)
        sampled = torch.where(drawn, raced.argmax(-1), sampled)
    sampled = sampled.masked_fill(is_broken, 0)
    chosen = logprobs.gather(-1, sampled[:, None])[:, 0].masked_fill(is_broken, torch.nan)
    return sampled.tolist(), chosen.tolist(), _tops(logprobs, [sampling.num_top for sampling in samplings])


def _tops(logprobs: Tensor, nums: Sequence[int]) -> list[Top]:
    """Return the most probable tokens of each row, as many as it asks for and as have any probability."""
    if not any(nums):
        return [()] * len(nums)
    values, token_ids = logprobs.topk(min(max(nums), logprobs.shape[-1]), dim=-1)
    return [
        tuple(entry for entry in zip(ids[:num], row[:num], strict=True) if entry[1] != -inf)
        for ids, row, num in zip(token_ids.tolist(), values.tolist(), nums, strict=True)
    ]


def _delays(logprobs: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]) -> Tensor:
    """Return exponential delays: the token whose probability over its delay is largest is a draw from the row.

    vLLM draws in this way too, on GPU from the same generators; on CPU its delays are a hash of a seed and the token.
    """
    delays = torch.ones_like(logprobs)
    for row, (sampling, generator) in enumerate(zip(samplings, generators, strict=True)):
        if sampling.temperature > 0:
            delays[row].exponential_(generator=generator)
    return delays


def _nucleus(logprobs: Tensor, masses: Tensor) -> Tensor:
    """Return the distributions cut to the fewest tokens that hold ``masses`` of probability, renormalised.

    Source: nucleus sampling, arXiv:1904.09751 section 3.1.
    """
    ordered, order = logprobs.sort(-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    ordered = ordered.masked_fill(before >= masses[:, None], -torch.inf)
    ordered = ordered.where((masses < 1)[:, None], logprobs.gather(-1, order)).log_softmax(-1)
    return torch.empty_like(logprobs).scatter_(-1, order, ordered)
