"""The ten systems: their formulas, what their parameters and first values are drawn from, and their paths.

Sources: the usual textbook forms, as in Strogatz, Nonlinear Dynamics and Chaos (oscillators, predator and prey,
FitzHugh-Nagumo, Lorenz, Rössler), Murray, Mathematical Biology (logistic, SIR), Michaelis and Menten (1913).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Final

from neuromas.tasks.dynamics.formula import Formula, parse_formula

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

VARIABLES: Final = ("x", "y", "z")
STEPS: Final = 42
"""Steps of a path from its first values to the horizon; with a third of them the steepest logistic path leaves the
numbers."""


@dataclass(frozen=True)
class System:
    """One family of equations.

    Attributes:
        name: of the family.
        tier: difficulty: 1 linear or of one variable, 2 of two variables, 3 of three.
        formulas: the rate of change of each variable, with the parameters by name.
        parameters: name -> the range it is drawn from.
        starts: the range of each variable's first value.
        horizon: time that a path takes.
    """

    name: str
    tier: int
    formulas: tuple[str, ...]
    parameters: Mapping[str, tuple[float, float]]
    starts: tuple[tuple[float, float], ...]
    horizon: float

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables."""
        return VARIABLES[: len(self.formulas)]

    def rates(self, parameters: Mapping[str, float]) -> tuple[Formula, ...]:
        """Return the rates of change with the values of all parameters in them."""
        return tuple(formula.bound(parameters) for formula in self._rates)

    @cached_property
    def _rates(self) -> tuple[Formula, ...]:
        return tuple(parse_formula(text, (*self.variables, *self.parameters)) for text in self.formulas)

    def draw_parameters(self, rng: Random) -> dict[str, float]:
        """Return parameters, to two decimals."""
        return {name: round(rng.uniform(*bounds), 2) for name, bounds in self.parameters.items()}

    def draw_starts(self, rng: Random, paths: int) -> Array:
        """Return first values, shape (variables, paths)."""
        import numpy as np

        return np.array([[rng.uniform(*bounds) for _ in range(paths)] for bounds in self.starts])


SYSTEMS: Final[Mapping[str, System]] = {
    system.name: system
    for system in (
        System("oscillator", 1, ("y", "-a*x - b*y"), {"a": (0.5, 4), "b": (0.05, 0.5)}, ((-2, 2), (-2, 2)), 4.0),
        System("logistic", 1, ("a*x*(1 - x/b)",), {"a": (0.5, 2), "b": (1, 5)}, ((0.1, 6),), 3.0),
        System("michaelis_menten", 1, ("-a*x/(b + x)",), {"a": (0.5, 3), "b": (0.3, 2)}, ((0.5, 5),), 2.0),
        System(
            "predator_prey",
            2,
            ("a*x - b*x*y", "d*x*y - e*y"),
            {"a": (0.5, 1.5), "b": (0.3, 1.2), "d": (0.2, 0.8), "e": (0.5, 1.5)},
            ((0.5, 3), (0.5, 3)),
            3.0,
        ),
        System("van_der_pol", 2, ("y", "a*(1 - x^2)*y - b*x"), {"a": (0.5, 2), "b": (0.6, 1.5)}, ((-2, 2),) * 2, 3.0),
        System(
            "duffing",
            2,
            ("y", "-a*y + b*x - d*x^3"),
            {"a": (0.1, 0.5), "b": (0.5, 1.5), "d": (0.5, 1.5)},
            ((-1.5, 1.5),) * 2,
            3.0,
        ),
        System(
            "fitzhugh_nagumo",
            2,
            ("x - x^3/3 - y + a", "b*(x + d - e*y)"),
            {"a": (0.2, 0.8), "b": (0.05, 0.3), "d": (0.5, 0.9), "e": (0.5, 1)},
            ((-2, 2), (-0.5, 1.5)),
            4.0,
        ),
        System(
            "sir",
            3,
            ("-a*x*y", "a*x*y - b*y", "b*y"),
            {"a": (1, 3), "b": (0.2, 0.8)},
            ((0.5, 0.95), (0.05, 0.4), (0.01, 0.1)),
            3.0,
        ),
        System(
            "lorenz",
            3,
            ("a*(y - x)", "x*(b - z) - y", "x*y - d*z"),
            {"a": (8, 12), "b": (24, 32), "d": (2, 3)},
            ((-12, 12), (-12, 12), (10, 35)),
            0.4,
        ),
        System(
            "roessler",
            3,
            ("-y - z", "x + a*y", "b + z*(x - d)"),
            {"a": (0.1, 0.3), "b": (0.1, 0.3), "d": (4, 7)},
            ((-5, 5), (-5, 5), (0, 5)),
            2.0,
        ),
    )
}
TIERS: Final = (1, 2, 3)


def of_tier(tier: int) -> list[System]:
    """Return the systems of a tier, in the order of their names."""
    return sorted((system for system in SYSTEMS.values() if system.tier == tier), key=lambda system: system.name)


def derivatives(rates: Sequence[Formula], variables: Sequence[str], state: Array) -> Array:
    """Return the rates of change at each state.

    Args:
        rates: one formula a variable, or of some of them.
        variables: names of all.
        state: shape (variables, ...).
    """
    import numpy as np

    values = dict(zip(variables, state, strict=True))
    return np.stack([np.broadcast_to(rate(values), state.shape[1:]) for rate in rates])


def paths(rates: Sequence[Formula], variables: Sequence[str], starts: Array, horizon: float) -> Array:
    """Return the paths from first values, by the classical Runge-Kutta method of fourth order.

    Args:
        rates: one formula a variable.
        variables: their names.
        starts: shape (variables, paths).
        horizon: time that they take.

    Returns:
        Shape (variables, paths, STEPS + 1); not finite from where a path left the numbers.
    """
    import numpy as np

    width, state, passed = horizon / STEPS, starts, [starts]
    with np.errstate(all="ignore"):
        for _ in range(STEPS):
            first = derivatives(rates, variables, state)
            second = derivatives(rates, variables, state + width / 2 * first)
            third = derivatives(rates, variables, state + width / 2 * second)
            fourth = derivatives(rates, variables, state + width * third)
            state = state + width / 6 * (first + 2 * second + 2 * third + fourth)
            passed.append(state)
    return np.stack(passed, axis=-1)
