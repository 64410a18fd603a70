"""The free constants of a formula, fitted to rows by damped Gauss-Newton steps (Levenberg-Marquardt)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import TYPE_CHECKING, Final

from neuromas.tasks.dynamics.formula import Formula

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

STARTS: Final = 6
STEPS: Final = 60
_DAMPING: Final = 1e-3
_MOST_DAMPING: Final = 1e10
_CONVERGED: Final = 1e-12


def fit(formula: Formula, rows: Mapping[str, Array], target: Array) -> dict[str, float] | None:
    """Return the constants with the least squared error; None where no start gives finite values.

    Every start is fixed, so equal arguments give equal constants; a formula that is linear in its constants needs one.

    Args:
        formula: of the rows' variables and of constants.
        rows: value of each variable, shape (rows,).
        target: what the formula shall be, shape (rows,).
    """
    import numpy as np

    names = formula.constants
    scale = float(np.var(target)) * len(target) or 1.0
    rng = Random(0)
    best: tuple[float, Array] | None = None
    for number in range(STARTS if names else 1):
        start = [1.0 if number == 0 else rng.gauss(0.0, 2.0) for _ in names]
        error, constants = _descend(formula, names, rows, target, np.array(start))
        if np.isfinite(error) and (best is None or error < best[0]):
            best = error, constants
        if best is not None and best[0] <= 1e-9 * scale:
            break
    return None if best is None else dict(zip(names, map(float, best[1]), strict=True))


def _descend(
    formula: Formula, names: tuple[str, ...], rows: Mapping[str, Array], target: Array, constants: Array
) -> tuple[float, Array]:
    """Return the squared error and the constants that one start leads to."""
    import numpy as np

    def residual(at: Array) -> Array:
        return np.broadcast_to(formula({**rows, **dict(zip(names, at, strict=True))}), target.shape) - target

    found = residual(constants)
    error, damping = _squared(found), _DAMPING
    for _ in range(STEPS if names and np.isfinite(error) else 0):
        slope = _slope(residual, constants)
        if not np.isfinite(slope).all():
            break
        normal, gradient = slope.T @ slope, slope.T @ found
        before = error
        while damping < _MOST_DAMPING:
            step = np.linalg.lstsq(normal + damping * np.diag(np.diag(normal) + 1e-12), -gradient, rcond=None)[0]
            tried = residual(constants + step)
            if (trial := _squared(tried)) < error:
                constants, found, error, damping = constants + step, tried, trial, damping / 10
                break
            damping *= 10
        if damping >= _MOST_DAMPING or before - error <= _CONVERGED * before:
            break
    return error, constants


def _slope(residual: Callable[[Array], Array], at: Array) -> Array:
    """Return the derivatives of the residuals by the constants, by central differences: shape (rows, constants)."""
    import numpy as np

    columns = []
    for number, value in enumerate(at):
        width = 1e-6 * max(1.0, abs(float(value)))
        offset = np.zeros_like(at)
        offset[number] = width
        columns.append((residual(at + offset) - residual(at - offset)) / (2 * width))
    return np.stack(columns, axis=1)


def _squared(values: Array) -> float:
    import numpy as np

    with np.errstate(all="ignore"):
        total = float(np.sum(values**2))
    return total if np.isfinite(total) else float("inf")
