"""Answers to a question about a system: equations in a text, and what they are worth on paths that were not shown."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Final

from neuromas.tasks.dynamics.fit import fit
from neuromas.tasks.dynamics.formula import Formula, FormulaError, parse_formula
from neuromas.tasks.dynamics.systems import derivatives, paths

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float64]

CONSTANTS: Final = tuple(f"c{number}" for number in range(4))
FLOOR: Final = 1e-4
"""Normalised squared error that the rounding of what is shown may cause; it counts as none."""
HALF: Final = 0.01
"""Normalised squared error that is worth a half."""
NEAR: Final = 0.1
"""Distance from the true path, in standard deviations of the variable, within which a path is followed."""
PART: Final = 0.05
"""What each part of a formula costs that the true one does without: fitted constants would let a long formula pass for
any system, whatever the question."""
FOLLOWED: Final = 0.25
"""Share of the reward that depends on the paths."""
_EQUATION: Final = re.compile(r"(?:\b([xyz])\s?['′’]|\bd([xyz])\s?/\s?dt)\s{0,3}$")


@dataclass(frozen=True, slots=True)
class HiddenPaths:
    """Paths that were not shown.

    Attributes:
        states: shape (variables, paths, times).
        rates: rates of change there, of the same shape.
        horizon: time that a path takes.
    """

    states: Array
    rates: Array
    horizon: float


@dataclass(frozen=True, slots=True)
class FittedFormula:
    """A fitted formula, and how well it meets the rates that were not shown, 0 to 1."""

    formula: Formula
    agreement: float


@dataclass(frozen=True, slots=True)
class Worth:
    """What an answer is worth: each 0 to 1, and 1 for the truth.

    Attributes:
        rates: how well the rates of change are met, the geometric mean over the equations.
        followed: share of the times up to which the paths stay near the true ones.
        simple: 1 less ``PART`` for each part too many.
    """

    rates: float
    followed: float
    simple: float

    @property
    def reward(self) -> float:
        """``rates`` x (1 - ``FOLLOWED`` + ``FOLLOWED`` x ``followed``) x ``simple``: nothing pays without the rates."""
        return self.rates * (1 - FOLLOWED + FOLLOWED * self.followed) * self.simple


NOTHING: Final = Worth(0.0, 0.0, 0.0)


def read_equations(text: str, variables: Sequence[str]) -> dict[str, Formula]:
    """Return the last formula that a text gives for each variable; what is no formula is left out."""
    given: dict[str, str] = {}
    for part in re.split(r"[\n;,]", text):
        left, equals, right = part.partition("=")
        if equals and (match := _EQUATION.search(left[-40:])):
            given[match[1] or match[2]] = right.strip(" \t\r.$`*")
    found = {}
    for name in variables:
        with suppress(KeyError, FormulaError):
            found[name] = parse_formula(given[name], (*variables, *CONSTANTS))
    return found


def met(
    formulas: Mapping[str, Formula], variables: Sequence[str], shown: Array, held: HiddenPaths, floor: float
) -> list[FittedFormula]:
    """Return the formulas with their constants fitted to what was shown, and how well each meets what was not.

    Args:
        formulas: of the rates of change, by variable.
        variables: names of all variables.
        shown: rows of values and rates of change, shape (rows, 2 x variables).
        held: what was not shown.
        floor: normalised squared error that counts as none.
    """
    count = len(variables)
    rows = dict(zip(variables, shown[:, :count].T, strict=True))
    found = []
    for name, formula in formulas.items():
        number = variables.index(name)
        constants = fit(formula, rows, shown[:, count + number])
        fitted = formula.bound(constants or {})
        given = derivatives([fitted], variables, held.states)[0] if constants is not None else None
        found.append(FittedFormula(fitted, 0.0 if given is None else agreement(given, held.rates[number], floor)))
    return found


def worth(
    formulas: Mapping[str, Formula], true: Mapping[str, Formula], shown: Array, held: HiddenPaths, floor: float
) -> Worth:
    """Return what formulas for all variables are worth beside the true ones; see ``met``."""
    variables = list(true)
    each = met(formulas, variables, shown, held, floor)
    rates = prod(one.agreement for one in each) ** (1 / len(each))
    extra = sum(max(0, formula.complexity - true[name].complexity) for name, formula in formulas.items())
    followed = _followed([one.formula for one in each], variables, held) if rates else 0.0
    return Worth(rates, followed, max(0.0, 1 - PART * extra))


def agreement(given: Array, true: Array, floor: float) -> float:
    """Return 1 down to 0 for a normalised squared error of ``floor`` up to 1, which is that of a constant.

    It is 0 where a value is not finite.
    """
    import numpy as np

    with np.errstate(all="ignore"):
        error = float(np.mean((given - true) ** 2) / np.var(true))
    return 1 / (1 + max(0.0, error - floor) / HALF) if error < 1 else 0.0


def _followed(formulas: Sequence[Formula], variables: Sequence[str], held: HiddenPaths) -> float:
    """Return the share of all times up to which the paths stay within ``NEAR`` of the true ones."""
    import numpy as np

    gone = paths(formulas, variables, held.states[:, :, 0], held.horizon)
    spread = held.states.std(axis=(1, 2), keepdims=True)
    with np.errstate(all="ignore"):
        near = (np.abs(gone - held.states) <= NEAR * spread).all(axis=0)  # what is not finite is near to nothing
    return float(np.logical_and.accumulate(near, axis=-1).mean())
