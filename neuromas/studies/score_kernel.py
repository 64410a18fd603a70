"""What training can still move in a trained graph: score kernels of its adapters, read as numbers.

Source of the numbers: arXiv:2602.08239 (kernel, conditioning, linearity) with the advantage in place of the label. They
are heuristics: whether layers or nodes that they prefer learn more is a question for measurements.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from neuromas.adapters.ref import PlainLora

Floats = NDArray[np.float64]
FLOOR: Final = 1e-6
"""Share of the largest eigenvalue that is added to all of them before the condition number is taken."""
INERT: Final = 1e-3
"""An adapter that moves less than this share of what the best one moves is called inert."""


@dataclass(frozen=True, slots=True)
class Module:
    """A module's part of an adapter's kernel.

    Attributes:
        path: of the layer.
        trace_share: of the kernel's trace.
        push: aᵀ K a of this part: what one step of rate 1 along the advantages a adds to the expected reward.
        alignment: aᵀ K a / (||a||² tr K), in [0, 1]; 1/n where the kernel sees nothing of the advantages. None without
            advantages.
    """

    path: str
    trace_share: float
    push: float
    alignment: float | None


@dataclass(frozen=True, slots=True)
class Kernel:
    """An adapter's score kernel.

    Attributes:
        adapter: its name.
        calls: over how many messages.
        push: of all modules; see ``Module``.
        alignment: of the whole kernel.
        eigenvalues: the largest first.
        condition: largest over smallest eigenvalue, each plus ``FLOOR`` times the largest.
        effective_rank: exp of the entropy of the eigenvalues' shares.
        linearity_gap: see ``training.kernel.linearity_gap``.
        modules: the largest push first.
    """

    adapter: str
    calls: int
    push: float
    alignment: float | None
    eigenvalues: tuple[float, ...]
    condition: float
    effective_rank: float
    linearity_gap: float | None
    modules: tuple[Module, ...]


def kernel(adapter: str, grams: Mapping[str, Floats], advantages: Floats, linearity_gap: float | None) -> Kernel:
    """Return the numbers of an adapter's kernel.

    Args:
        adapter: its name.
        grams: part of each module, shape (calls, calls).
        advantages: of the calls, shape (calls,); all 0 where the rollouts had no signal.
        linearity_gap: of the adapter.
    """
    whole = np.sum(list(grams.values()), axis=0)
    total = float(np.trace(whole))
    modules = [
        Module(path, _ratio(float(np.trace(gram)), total) or 0.0, _push(gram, advantages), _alignment(gram, advantages))
        for path, gram in grams.items()
    ]
    eigenvalues = np.clip(np.linalg.eigvalsh(whole)[::-1], 0.0, None)
    floor = FLOOR * float(eigenvalues[0])
    shares = eigenvalues / total if total else np.ones_like(eigenvalues)
    shares = shares[shares > 0]
    return Kernel(
        adapter=adapter,
        calls=len(advantages),
        push=_push(whole, advantages),
        alignment=_alignment(whole, advantages),
        eigenvalues=tuple(eigenvalues.tolist()),
        condition=(float(eigenvalues[0]) + floor) / (float(eigenvalues[-1]) + floor) if floor else 1.0,
        effective_rank=float(np.exp(-np.sum(shares * np.log(shares)))) if total else 0.0,
        linearity_gap=linearity_gap,
        modules=tuple(sorted(modules, key=lambda module: -module.push)),
    )


def document(kernels: Sequence[Kernel], loras: Mapping[str, PlainLora]) -> dict[str, object]:
    """Return what is known about the adapters of a graph, as plain data.

    ``suffixes`` sums the push over layers by the name of the linear layer, as ``adapter.targets`` names them; ``inert``
    are adapters that training hardly moves: what they say is settled, or stuck.
    """
    most = max((found.push for found in kernels), default=0.0)
    return {
        "adapters": [{**asdict(found), "suffixes": dict(_by_suffix(found))} for found in kernels],
        "inert": [found.adapter for found in kernels if most > 0 and found.push < INERT * most],
        "overlap": overlaps(loras),
    }


def overlaps(loras: Mapping[str, PlainLora]) -> dict[str, dict[str, float]]:
    """Return for every two adapters which share of the second's update lies in the span of the first's.

    The share is sum_m ||U Uᵀ W V Vᵀ||² / sum_m ||W||² with W the second's update of a module, and U and V orthonormal
    bases of the columns and rows of the first's; 0 where there is no second update. It is not symmetric.
    """
    return {one: {other: _explained(loras[one], loras[other]) for other in loras} for one in loras}


def _explained(one: PlainLora, other: PlainLora) -> float:
    inside = whole = 0.0
    for path in sorted(one.modules.keys() & other.modules.keys()):
        (a1, b1), (a2, b2) = ([part.astype(np.float64) for part in lora.modules[path]] for lora in (one, other))
        whole += float(np.sum((b2.T @ b2) * (a2 @ a2.T)))
        left, right = _basis(b1), _basis(a1.T)
        inside += float(np.sum(((left.T @ b2) @ (a2 @ right)) ** 2))
    return inside / whole if whole else 0.0


def _basis(columns: Floats) -> Floats:
    """Return an orthonormal basis of the span of some columns."""
    left, sizes, _ = np.linalg.svd(columns, full_matrices=False)
    basis: Floats = left[:, sizes > 1e-9 * sizes.max(initial=0.0)] if sizes.max(initial=0.0) > 0 else left[:, :0]
    return basis


def _by_suffix(found: Kernel) -> Iterator[tuple[str, float]]:
    sums: dict[str, float] = {}
    for module in found.modules:
        name = module.path.rpartition(".")[2]
        sums[name] = sums.get(name, 0.0) + module.push
    yield from sorted(sums.items(), key=lambda item: -item[1])


def _push(gram: Floats, advantages: Floats) -> float:
    return float(advantages @ gram @ advantages)


def _alignment(gram: Floats, advantages: Floats) -> float | None:
    return _ratio(_push(gram, advantages), float(advantages @ advantages) * float(np.trace(gram)))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
