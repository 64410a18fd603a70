"""Directions that the start of an adapter is made of: those of a layer's inputs, and those of its gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from neuromas.adapters.initial import stream

_FLAT: Final = 1e-5
"""Share of the largest singular value below which a direction is noise."""
_EXTRA: Final = 8
_PASSES: Final = 2


@dataclass(frozen=True, slots=True)
class StartNeeds:
    """What the start of an adapter is made of, of every layer that it acts on.

    Attributes:
        directions: how many leading directions of the layer's inputs; 0 = none.
        tau: cosine from which on a direction is taken as found; see ``InputDirections``.
        gradient: whether the policy gradient by the layer's weight is looked at.
        batches: steps' worth of rollouts to look at, at most.
    """

    directions: int = 0
    tau: float = 1.0
    gradient: bool = False
    batches: int = 1


@dataclass(frozen=True, slots=True)
class LayerStatistics:
    """What was found of one layer.

    Attributes:
        directions: orthonormal leading directions of its inputs (count, in), float32; None where none were wanted.
        gradient: of the expected reward by its weight (out, in), float32; None where it was not wanted, or is zero.
        shares: of the squares of all inputs, what lies in each direction, (count,), float32; None without directions.
    """

    directions: Tensor | None = None
    gradient: Tensor | None = None
    shares: Tensor | None = None


class InputDirections:
    """Leading right singular vectors of rows that come in batches, not centred, by an incremental SVD.

    Source: EVA, arXiv:2410.07170, section 3, and Ross et al. 2008 without the mean: the leading ``count`` directions,
    scaled by their singular values, stand for all rows of earlier batches. Exact for one batch.

    Attributes:
        has_converged: whether the last batch turned no direction by more than ``tau`` allows.
    """

    def __init__(self, count: int, tau: float) -> None:
        """Begin without rows.

        Args:
            count: directions to find, at most as many as a row has entries.
            tau: cosine of a direction before and after a batch, from which on it counts as found; in (0, 1].
        """
        self._count, self._tau = count, tau
        self._scaled: Tensor | None = None
        self._directions: Tensor | None = None
        self._squares = 0.0
        self.has_converged = False

    @torch.no_grad()
    def add(self, rows: Tensor) -> None:
        """Take in a batch of rows, shape (n, in), n >= 1."""
        rows = rows.float()
        self._squares += float(rows.square().sum())
        stacked = rows if self._scaled is None else torch.cat([self._scaled, rows])
        _, sizes, right = torch.linalg.svd(stacked, full_matrices=False)
        sizes, right = sizes[: self._count], right[: self._count]
        right = right[sizes > _FLAT * sizes[0]]
        before = self._directions
        if before is not None and len(before) == len(right):
            self.has_converged = bool(((before * right).sum(1).abs() >= self._tau).all())
        else:
            self.has_converged = False
        self._directions, self._scaled = right, sizes[: len(right), None] * right

    def found(self, *key: str | int) -> Tensor:
        """Return the directions, (count, in); those that no row has are random by ``key``, orthogonal to the others."""
        assert self._directions is not None, "there are no rows yet"
        have, width = self._directions, self._directions.shape[1]
        if len(have) == self._count:
            return have
        drawn = stream(*key).standard_normal((width, self._count - len(have)))
        more = torch.from_numpy(drawn).to(have.device, torch.float32)
        free = torch.linalg.qr(more - have.mT @ (have @ more))[0]
        return torch.cat([have, free.mT])

    def shares(self) -> Tensor:
        """Return what share of the squares of all rows lies in each direction of ``found``, (count,), falling."""
        assert self._scaled is not None, "there are no rows yet"
        have = self._scaled.square().sum(1) / self._squares
        return torch.nn.functional.pad(have, (0, self._count - len(have)))


@torch.no_grad()
def leading_rotation_plane(weight: Tensor, gradient: Tensor, rank: int, *key: str | int) -> Tensor | None:
    """Return the leading invariant subspace of S = (W^T G - G^T W) / 2 as orthonormal rows (rank, in), float32.

    A rotation exp(K) of the inputs of W inside a subspace changes the objective by <S, K> to first order, so this is
    the subspace of the steepest rotations. The eigenvalues of the skew S come in pairs of equal size: ``rank`` is even.
    S, which is in x in, is never formed: randomized range finding (Halko et al. 2011, algorithm 4.4) with products
    S X = (W^T (G X) - G^T (W X)) / 2, then Rayleigh-Ritz for S^T S.

    Args:
        weight: W (out, in).
        gradient: G (out, in); its sign does not matter.
        rank: of the subspace.
        key: of the random start.

    Returns:
        None where S is zero: no rotation moves anything.
    """
    w, g = weight.float(), gradient.float()
    if not bool(g.any()):
        return None
    g = g / g.abs().max()

    def product(columns: Tensor) -> Tensor:
        return (w.mT @ (g @ columns) - g.mT @ (w @ columns)) / 2

    width = w.shape[1]
    drawn = stream(*key).standard_normal((width, min(width, rank + _EXTRA)))
    columns = product(torch.from_numpy(drawn).to(w.device, torch.float32))
    for _ in range(_PASSES):
        columns = product(torch.linalg.qr(columns)[0])
    basis = torch.linalg.qr(columns)[0]
    image = product(basis)
    if not bool(image.any()):
        return None
    _, vectors = torch.linalg.eigh(image.mT @ image)
    subspace: Tensor = basis @ vectors[:, -rank:].flip(1)
    return subspace.mT.contiguous()
