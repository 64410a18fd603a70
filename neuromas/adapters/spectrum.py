"""Singular vectors of base weights, each computed once per process: they depend on the base alone."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor

_FOUND: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}


@torch.no_grad()
def leading_directions(weight: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Return the leading left (out, count) and right (count, in) singular vectors of a weight (out, in), float32.

    Signs are fixed: the largest entry of each right vector is positive. The results are on the CPU and belong to the
    cache; nobody writes to them.
    """
    key = (hashlib.sha256(weight.to("cpu", torch.float32).contiguous().numpy().tobytes()).hexdigest(), count)
    if key not in _FOUND:
        _FOUND[key] = _decompose(weight.double(), count)
    return _FOUND[key]


def _decompose(weight: Tensor, count: int) -> tuple[Tensor, Tensor]:
    left, _, right = torch.linalg.svd(weight, full_matrices=False)
    left, right = left[:, :count], right[:count]
    peak = right.gather(1, right.abs().argmax(1, keepdim=True)).sign()
    return (left * peak.T).cpu().float(), (right * peak).cpu().float()
