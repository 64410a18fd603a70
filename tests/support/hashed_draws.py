"""The draws of vLLM on CPU: delays that are a hash of a seed and of the token, where our engine has those of torch.

vLLM takes one seed from a call's generator for each token that it samples; the hash is SplitMix64 (Steele, Lea and
Flood 2014, doi:10.1145/2660193.2660195).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from neuromas.rollout.engine import Sampling


def hashed_delays(logprobs: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]) -> Tensor:
    """Return exponential delays, shape (rows, vocabulary); 1 in rows that are not drawn."""
    delays = torch.ones(logprobs.shape, dtype=torch.float64)
    places = torch.arange(1, logprobs.shape[1] + 1)
    for row, (sampling, generator) in enumerate(zip(samplings, generators, strict=True)):
        if sampling.temperature > 0:
            seed = torch.randint(0, 2**31, (1,), generator=generator)
            bits = _after(_mixed(_mixed(seed) + places * _signed(0x9E3779B97F4A7C15)), 11)
            delays[row] = -torch.log((bits.double() + 0.5) * 2.0**-53)
    return delays


def _mixed(numbers: Tensor) -> Tensor:
    """Return SplitMix64's output function of 64-bit numbers, which torch holds with a sign."""
    numbers = (numbers ^ _after(numbers, 30)) * _signed(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ _after(numbers, 27)) * _signed(0x94D049BB133111EB)
    return numbers ^ _after(numbers, 31)


def _after(numbers: Tensor, bits: int) -> Tensor:
    """Return what is left of 64-bit numbers without their last ``bits``."""
    return (numbers >> bits) & ((1 << (64 - bits)) - 1)


def _signed(number: int) -> int:
    return number - (1 << 64) if number >= 1 << 63 else number
