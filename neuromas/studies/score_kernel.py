"""What training can still move in a trained graph: score kernels of its adapters, read as numbers.

Source of the numbers: arXiv:2602.08239 (kernel, conditioning, linearity) with the advantage in place of the label. They
are heuristics: whether layers or nodes that they prefer learn more is a question for measurements.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import permutations
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from neuromas.adapters.ref import PlainLora
from neuromas.studies.similarity import MAX_PAIRS

Floats = NDArray[np.float64]
FLOOR: Final = 1e-6
"""Share of the largest eigenvalue that is added to all of them before the condition number is taken."""
INERT: Final = 1e-3
"""An adapter that moves less than this share of what the best one moves is called inert."""
GROWN: Final = 0.5
"""Adapters that move at least this share of what the best one moves are those to grow from."""
TARGETED: Final = 0.9
"""Share of the push that the layers to target hold together."""
MAX_MODULES: Final = 32
"""Modules of an adapter that a document lists."""


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

    - ``suffixes`` of an adapter: its push summed over layers by the name of the linear layer, as ``adapter.targets``
      names them; ``targets``: the fewest of them that hold ``TARGETED`` of it; the same of all adapters together
    - ``modules``: those with the largest push, ``MAX_MODULES`` at most
    - ``grow_from``: adapters whose messages the reward can still move most
    - ``inert``: adapters that training hardly moves: what they say is settled, or stuck, and then they start anew
    - ``overlap``: see ``overlaps``
    """
    most = max((found.push for found in kernels), default=0.0)
    suffixes = [_by_suffix(found.modules) for found in kernels]
    return {
        "adapters": [
            {
                **asdict(found),
                "modules": [asdict(module) for module in found.modules[:MAX_MODULES]],
                "suffixes": by_name,
                "targets": to_target(by_name),
            }
            for found, by_name in zip(kernels, suffixes, strict=True)
        ],
        "targets": to_target(_by_suffix([module for found in kernels for module in found.modules])),
        "grow_from": [found.adapter for found in kernels if most > 0 and found.push >= GROWN * most],
        "inert": [found.adapter for found in kernels if most > 0 and found.push < INERT * most],
        "overlap": overlaps(loras),
    }


def to_target(suffixes: Mapping[str, float]) -> list[str]:
    """Return the fewest layer names that hold ``TARGETED`` of a push, the largest first; none where there is no push.

    Args:
        suffixes: push by the name of the linear layer, each at least 0.
    """
    wanted, held, names = TARGETED * sum(suffixes.values()), 0.0, list[str]()
    for name, push in sorted(suffixes.items(), key=_largest_first):
        if held >= wanted:
            break
        names.append(name)
        held += push
    return names


def overlaps(loras: Mapping[str, PlainLora]) -> list[dict[str, Any]]:
    """Return which share of an adapter's update lies in the span of another's, ``MAX_PAIRS`` pairs with the largest.

    The share is sum_m ||U Uᵀ W V Vᵀ||² / sum_m ||W||² with W the update of adapter ``of`` in a module, and U and V
    orthonormal bases of the columns and rows of adapter ``within``'s; 0 where there is no update. It is not symmetric.
    """
    spans = {
        name: {path: (_basis(b), _basis(a.T)) for path, (a, b) in lora.modules.items()} for name, lora in loras.items()
    }
    found: list[dict[str, Any]] = [
        {"of": of, "within": within, "share": _explained(loras[of], spans[within])}
        for of, within in permutations(loras, 2)
    ]
    return sorted(found, key=lambda pair: -float(pair["share"]))[:MAX_PAIRS]


def _explained(lora: PlainLora, span: Mapping[str, tuple[Floats, Floats]]) -> float:
    inside = whole = 0.0
    for path in sorted(lora.modules.keys() & span.keys()):
        a, b = (part.astype(np.float64) for part in lora.modules[path])
        left, right = span[path]
        whole += float(np.sum((b.T @ b) * (a @ a.T)))
        inside += float(np.sum(((left.T @ b) @ (a @ right)) ** 2))
    return inside / whole if whole else 0.0


def _basis(columns: NDArray[Any]) -> Floats:
    """Return an orthonormal basis of the span of some columns."""
    left, sizes, _ = np.linalg.svd(columns.astype(np.float64), full_matrices=False)
    basis: Floats = left[:, sizes > 1e-9 * sizes.max(initial=0.0)] if sizes.max(initial=0.0) > 0 else left[:, :0]
    return basis


def _by_suffix(modules: Sequence[Module]) -> dict[str, float]:
    sums: dict[str, float] = {}
    for module in modules:
        name = module.path.rpartition(".")[2]
        sums[name] = sums.get(name, 0.0) + module.push
    return dict(sorted(sums.items(), key=_largest_first))


def _largest_first(entry: tuple[str, float]) -> float:
    return -entry[1]


def _push(gram: Floats, advantages: Floats) -> float:
    return float(advantages @ gram @ advantages)


def _alignment(gram: Floats, advantages: Floats) -> float | None:
    return _ratio(_push(gram, advantages), float(advantages @ advantages) * float(np.trace(gram)))


def _ratio(part: float, whole: float) -> float | None:
    return part / whole if whole else None
