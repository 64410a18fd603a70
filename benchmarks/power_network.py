"""A network whose units are products of powers, as a numerical baseline of the dynamics task.

Of the family of Boddupalli, Matchen and Moehlis, Chaos 33, 083150 (2023), whose networks add, multiply and raise to
powers so that what they have learned can be read; the paper's layers were not at hand, so these are ours. A rate of
change is a constant, the variables and ``UNITS`` units with weights; a unit multiplies powers, of any exponent, of the
variables and of one sum of them. Exponents and the sum are trained by Adam with a penalty that leaves few exponents;
weights are least squares at every step. Of all starts, exponents as they are or rounded, and numbers of terms, the
Bayesian information criterion (Schwarz 1978) takes one. Functions beside powers are left out: no system has any.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]
UNITS: Final = 3
STARTS: Final = 24
STEPS: Final = 600
RATE: Final = 0.05
PENALTY: Final = 3e-4
"""Of the square root of each exponent, falling to 0 over the first two thirds of the steps."""
UNUSED: Final = 0.02
"""An exponent below this is none."""
RIDGE: Final = 1e-8
LEAST: Final = 1e-8  # square of the smallest value that a power is taken of
ERROR_FLOOR: Final = 1e-7  # normalised squared error that four digits leave: a better fit counts no more


def powers(values: Tensor, exponents: Tensor) -> Tensor:
    """Return products of powers, shape (..., units, rows).

    The real part of the complex power, which is differentiable in the exponent and exact for whole ones. Source: the
    neural power unit, arXiv:2006.01681, eq. 7.

    Args:
        values: shape (..., variables, rows).
        exponents: shape (..., units, variables).
    """
    size = (exponents @ (values**2 + LEAST).log() / 2).exp()
    return size * (exponents @ (values < 0).to(values.dtype) * math.pi).cos()


def features(states: Tensor, exponents: Tensor, sums: Tensor) -> Tensor:
    """Return what the read-out weighs: 1, the variables and the units; shape (..., rows, 1 + variables + units).

    Args:
        states: shape (variables, rows).
        exponents: of the variables and the sum, shape (..., units, variables + 1).
        sums: weights of the variables in the sum, whose constant is 1, shape (..., variables).
    """
    batch = sums.shape[:-1]
    spread = states.expand(*batch, *states.shape)
    summed = 1 + sums[..., None, :] @ spread
    units = powers(torch.cat([spread, summed], dim=-2), exponents)
    return torch.cat([torch.ones_like(summed), spread, units], dim=-2).transpose(-1, -2)


def by_network(states: Array, rates: Array, unseen: Array) -> Array:
    """Return the rates at unseen states, from those that are shown; all of shape (variables, rows)."""
    scale, size = states.std(axis=1, keepdims=True), rates.std(axis=1, keepdims=True)
    shown, targets = torch.from_numpy(states / scale), torch.from_numpy(rates / size)
    exponents, sums = _train(shown, targets)
    wanted = torch.from_numpy(unseen / scale)
    found = [_best(shown, target, wanted, *one) for target, *one in zip(targets, exponents, sums, strict=True)]
    rates_there: Array = np.stack(found) * size
    return rates_there


def _train(shown: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the exponents, shape (equations, starts, units, variables + 1), and the sums of all starts."""
    draw = torch.Generator().manual_seed(0)
    batch = (len(targets), STARTS)
    exponents = torch.randn(*batch, UNITS, len(shown) + 1, generator=draw, dtype=torch.float64)
    exponents *= torch.rand(exponents.shape, generator=draw) < 0.5  # few of them are easier to find
    exponents.requires_grad_()
    sums = torch.randn(*batch, len(shown), generator=draw, dtype=torch.float64).requires_grad_()
    optimizer = torch.optim.Adam([exponents, sums], lr=RATE)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for step in range(STEPS):
        optimizer.zero_grad()
        left = _residual(features(shown, exponents, sums), targets[:, None, :, None])
        few = PENALTY * max(0.0, 1 - 1.5 * step / STEPS) * (exponents.abs() + 1e-2).sqrt().sum((-1, -2))
        torch.autograd.backward(((left**2).mean((-1, -2)) + few).sum())
        torch.nn.utils.clip_grad_value_([exponents, sums], 1.0)
        optimizer.step()
        schedule.step()
    return exponents.detach(), sums.detach()


def _residual(terms: Tensor, target: Tensor) -> Tensor:
    """Return what the best weights leave, shape (..., rows, 1)."""
    unit = terms / (terms.square().mean(-2, keepdim=True) + LEAST).sqrt()
    square = unit.transpose(-1, -2) @ unit + RIDGE * torch.eye(unit.shape[-1], dtype=unit.dtype)
    left: Tensor = unit @ torch.linalg.solve(square, unit.transpose(-1, -2) @ target) - target
    return left


def _best(shown: Tensor, target: Tensor, wanted: Tensor, exponents: Tensor, sums: Tensor) -> Array:
    """Return the rates at the wanted states by the formula that the criterion takes."""
    chosen, lowest = torch.zeros(wanted.shape[1], dtype=wanted.dtype), math.inf
    for powered in (exponents, exponents.round()):
        terms, unseen = features(shown, powered, sums), features(wanted, powered, sums)
        for one, other, numbers in zip(terms.numpy(), unseen.numpy(), _numbers(powered), strict=True):
            criterion, kept, weights = select(one, target.numpy(), numbers)
            if criterion < lowest:
                lowest, chosen = criterion, torch.from_numpy(other[:, kept] @ weights)
    return chosen.numpy()


def _numbers(exponents: Tensor) -> Array:
    """Return how many numbers each term has, shape (starts, terms): its weight, its exponents, the sum's weights."""
    used = exponents.abs() > UNUSED
    variables = exponents.shape[-1] - 1
    units = 1 + used.sum(-1) + variables * used[..., -1]
    return np.concatenate([np.ones((len(units), 1 + variables)), units.numpy()], axis=1)


def select(terms: Array, target: Array, numbers: Array) -> tuple[float, list[int], Array]:
    """Return the least criterion, n log(error) + numbers log(n), with its terms and their weights by least squares.

    The term of the smallest contribution is left out in turn, until none is left.

    Args:
        terms: shape (rows, terms).
        target: of deviation 1, shape (rows,).
        numbers: that were fitted for each term, shape (terms,).
    """
    kept = [place for place in range(terms.shape[1]) if np.isfinite(terms[:, place]).all()]
    best: tuple[float, list[int], Array] = (math.inf, [], np.zeros(0))
    while kept:
        weights = np.asarray(np.linalg.lstsq(terms[:, kept], target, rcond=None)[0], dtype=np.float64)
        error = float(np.mean((terms[:, kept] @ weights - target) ** 2))
        criterion = len(target) * math.log(error + ERROR_FLOOR) + numbers[kept].sum() * math.log(len(target))
        if criterion < best[0]:
            best = criterion, list(kept), weights
        kept.pop(int(np.argmin(np.abs(weights) * terms[:, kept].std(axis=0))))
    return best
