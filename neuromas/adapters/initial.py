"""Random starts that depend only on (seed, name, module), never on how many adapters there are or in what order."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import Tensor


def stream(*key: str | int) -> np.random.Generator:
    """Return the random generator that belongs to ``key`` alone (sha256 of its parts; the same on every machine)."""
    digest = hashlib.sha256("\x1f".join(map(str, key)).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "little"))


def down_projection(seed: int, name: str, module: str, rank: int, in_features: int) -> Tensor:
    """Return a start for A: normal with standard deviation 1/sqrt(in_features), float32, shape (rank, in_features).

    With B = 0 the adapter starts as the base, and A's scale makes the first step of B independent of the width
    (LoRA, arXiv:2106.09685, section 4.1; normal as in the paper, 1/sqrt(in) as in its code's Kaiming bound).
    """
    values = stream(seed, name, module).standard_normal((rank, in_features), dtype=np.float32)
    return torch.from_numpy(values / np.float32(np.sqrt(in_features)))
