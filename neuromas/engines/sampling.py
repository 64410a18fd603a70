"""Sampling with one generator per row, and the log-probabilities of the distribution sampled from."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from neuromas.rollout.engine import Sampling

_BLOCK = 128


def sample_rows(
    logits: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]
) -> tuple[list[int], list[float]]:
    """Return one sampled token per row and its log-probability.

    A row's token depends on its own logits, settings and generator only, not on its neighbours. At temperature 0 the
    token is the most probable one and its log-probability that of the unscaled distribution, as vLLM reports it. A row
    whose logits are no numbers gets token 0 and the log-probability NaN; the others are sampled all the same.

    Args:
        logits: (rows, vocabulary), float32, on any device; what is as long as the vocabulary stays there.
        samplings: settings per row.
        generators: random stream per row, on the CPU.
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
    drawn = torch.tensor([sampling.temperature > 0 for sampling in samplings], device=device)
    if bool(drawn.any()):
        uniform = [
            torch.rand((), generator=generator, dtype=torch.float64) if sampling.temperature > 0 else torch.zeros(())
            for sampling, generator in zip(samplings, generators, strict=True)
        ]
        sampled = torch.where(drawn, _inverse(logprobs, torch.stack(uniform).to(device, torch.float64)), sampled)
    sampled = sampled.masked_fill(is_broken, 0)
    chosen = logprobs.gather(-1, sampled[:, None])[:, 0].masked_fill(is_broken, torch.nan)
    return sampled.tolist(), chosen.tolist()


def _inverse(logprobs: Tensor, uniform: Tensor) -> Tensor:
    """Return the token at which each row's cumulative probability passes ``uniform``, shape (rows,).

    Sums are in float64, where they stay exact over a large vocabulary: first over blocks, then inside the one block
    that the point falls in. A token of probability 0 is never returned.
    """
    padded = nn.functional.pad(logprobs.exp(), (0, -logprobs.shape[1] % _BLOCK))
    probabilities = padded.view(len(padded), -1, _BLOCK)
    block_passed = probabilities.sum(-1, dtype=torch.float64).cumsum(-1)
    block, rest = _passing(block_passed, uniform * block_passed[:, -1])
    rows = torch.arange(len(block), device=block.device)
    token, _ = _passing(probabilities[rows, block].double().cumsum(-1), rest)
    return block * _BLOCK + token


def _passing(passed: Tensor, point: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each row of cumulative sums passes its point, and what of the point is left behind the place before.

    Rounding must not lift a point to the total, which nothing passes.
    """
    total = passed[:, -1]
    point = torch.minimum(point, torch.nextafter(total, torch.zeros_like(total)))
    place = torch.searchsorted(passed, point[:, None], right=True)
    before = nn.functional.pad(passed, (1, 0)).gather(1, place)
    return place[:, 0], point - before[:, 0]


def _nucleus(logprobs: Tensor, masses: Tensor) -> Tensor:
    """Return the distributions cut to the fewest tokens that hold ``masses`` of probability, renormalised.

    Source: nucleus sampling, arXiv:1904.09751 section 3.1.
    """
    ordered, order = logprobs.sort(-1, descending=True)
    before = ordered.exp().cumsum(-1) - ordered.exp()
    ordered = ordered.masked_fill(before >= masses[:, None], -torch.inf)
    ordered = ordered.where((masses < 1)[:, None], logprobs.gather(-1, order)).log_softmax(-1)
    return torch.empty_like(logprobs).scatter_(-1, order, ordered)
