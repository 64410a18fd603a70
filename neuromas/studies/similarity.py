"""How alike the updates of adapters are. Pure numpy; never forms an update."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations
from typing import Any, Final

import numpy as np

from neuromas.adapters.ref import PlainLora

MAX_PAIRS: Final = 64
"""Pairs of adapters that a document lists: a graph may have half a million."""


def most_alike(loras: Mapping[str, PlainLora]) -> list[dict[str, Any]]:
    """Return the pairs of adapters with the cosine between their updates, the most alike first, ``MAX_PAIRS`` at most.

    The cosine is 0 where one of them is no update at all. The inner product of two updates, summed over modules, is
    tr((B1 A1)ᵀ (B2 A2)) = Σ (B1ᵀ B2) * (A1 A2ᵀ): products of rank by rank, so that it does not depend on how an update
    is split into its factors.
    """
    norms = {name: float(np.sqrt(_inner(lora, lora))) for name, lora in loras.items()}
    pairs = [
        {"adapters": [one, other], "cosine": _cosine(_inner(loras[one], loras[other]), norms[one] * norms[other])}
        for one, other in combinations(loras, 2)
    ]
    return sorted(pairs, key=_least)[:MAX_PAIRS]


def _least(pair: Mapping[str, Any]) -> float:
    return -float(pair["cosine"])


def _cosine(inner: float, norms: float) -> float:
    return inner / norms if norms > 0 else 0.0


def _inner(one: PlainLora, other: PlainLora) -> float:
    shared = one.modules.keys() & other.modules.keys()
    total = 0.0
    for path in sorted(shared):
        (a1, b1), (a2, b2) = one.modules[path], other.modules[path]
        total += float(np.sum((b1.T.astype(np.float64) @ b2) * (a1.astype(np.float64) @ a2.T)))
    return total
