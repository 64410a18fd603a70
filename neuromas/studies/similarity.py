"""How alike the updates of adapters are. Pure numpy; never forms an update."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from neuromas.adapters.ref import PlainLora


def similarities(loras: Mapping[str, PlainLora]) -> dict[str, dict[str, float]]:
    """Return the cosine between the updates of every two adapters, 0 where one of them is no update at all.

    The inner product of two updates, summed over modules, is tr((B1 A1)ᵀ (B2 A2)) = Σ (B1ᵀ B2) * (A1 A2ᵀ): products of
    rank by rank, so that it does not depend on how an update is split into its factors.
    """
    names = list(loras)
    products = np.array([[_inner(loras[one], loras[other]) for other in names] for one in names])
    norms = np.sqrt(np.diag(products))
    scale = np.outer(norms, norms)
    cosines = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return {one: dict(zip(names, row, strict=True)) for one, row in zip(names, cosines.tolist(), strict=True)}


def closest(table: Mapping[str, Mapping[str, float]]) -> Sequence[tuple[str, str, float]]:
    """Return all pairs of different adapters with their cosine, the most alike first."""
    names = list(table)
    pairs = [(one, other, table[one][other]) for k, one in enumerate(names) for other in names[k + 1 :]]
    return sorted(pairs, key=lambda pair: -pair[2])


def _inner(one: PlainLora, other: PlainLora) -> float:
    shared = one.modules.keys() & other.modules.keys()
    total = 0.0
    for path in sorted(shared):
        (a1, b1), (a2, b2) = one.modules[path], other.modules[path]
        total += float(np.sum((b1.T.astype(np.float64) @ b2) * (a1.astype(np.float64) @ a2.T)))
    return total
