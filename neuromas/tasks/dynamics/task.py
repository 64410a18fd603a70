"""The dynamics task: find the equations of a system from values and rates of change along some of its paths.

After the symbolic regression of Boddupalli, Matchen and Moehlis, Chaos 33, 083150 (2023); the systems are standard
ones, and the reward is ours: ``neuromas.tasks.dynamics.answer``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from pydantic import Field, JsonValue

from neuromas.errors import TaskError
from neuromas.tasks.base import Description, Example, Score, Split, Task
from neuromas.tasks.dynamics.answer import CONSTANTS, FLOOR, NOTHING, HiddenPaths, met, read_equations, worth
from neuromas.tasks.dynamics.formula import FUNCTIONS, Formula
from neuromas.tasks.dynamics.systems import STEPS, SYSTEMS, TIERS, System, derivatives, of_tier, paths
from neuromas.tasks.spec import TaskSpec
from neuromas.tasks.split import draw_in_split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_POINTS: Final = 4  # of a path that are shown
_HELD_PATHS: Final = 8
_WELL: Final = 0.5


class DynamicsSpec(TaskSpec):
    """Find the equations of a dynamical system from values and rates of change along some of its paths."""

    target: ClassVar[str | None] = "tier"

    type: Literal["dynamics"]
    tier: int = Field(default=TIERS[-1], ge=TIERS[0], le=TIERS[-1])
    """Target level: systems that are linear or of one variable (1), of two variables (2), of three (3). Levels are
    1..tier."""
    shown_paths: int = Field(default=5, ge=3, le=16)
    """Paths that a question shows, four rows of each; fewer fit a short context, and make the question harder."""
    noise: float = Field(default=0.0, ge=0.0, le=0.2)
    """Deviation of the rates of change that are shown, in standard deviations of each."""

    def make(self, seed: int) -> DynamicsTask:
        """Return the task."""
        return DynamicsTask(self.tier, self.shown_paths, self.noise, seed)

    def levels(self) -> tuple[int, ...]:
        """Tiers, the easiest first."""
        return TIERS[: self.tier]

    def describe(self) -> str:
        """Return what is trained on."""
        return f"equations of systems of tier {self.tier}"


@dataclass(frozen=True, slots=True)
class DynamicsTask(Task):
    """Systems up to a tier, with parameters of its own in each question. A quarter of all questions is held out.

    Attributes:
        tier: of the systems at the target level.
        shown_paths: that a question shows, four rows of each.
        noise: deviation of the rates that are shown, in standard deviations of each.
        seed: selects one of many disjointly seeded streams of examples.
    """

    tier: int = TIERS[-1]
    shown_paths: int = 5
    noise: float = 0.0
    seed: int = 0

    @property
    def name(self) -> str:
        """Registry name of the family."""
        return "dynamics"

    @property
    def levels(self) -> tuple[int, ...]:
        """Tiers, the easiest first."""
        return TIERS[: self.tier]

    @property
    def scoring_timeout_s(self) -> float:
        """Seconds for one answer: fits take some tenths of one, aside of the engine."""
        return 20.0

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return example ``index`` (>= 0) of the split at a tier (None = the target).

        Raises:
            TaskError: the level is not one of ``levels``.
        """
        tier = self.tier if level is None else level
        if tier not in self.levels:
            raise TaskError(f"dynamics task: got level {level}, allowed are {self.levels}; raise tier= for larger")
        rng = Random(f"dynamics/{self.seed}/{split}/{tier}/{index}")

        def draw() -> tuple[System, Mapping[str, float], NDArray[np.float64]]:
            system = rng.choice(of_tier(tier))
            return system, system.draw_parameters(rng), system.draw_starts(rng, self.shown_paths)

        # By the first path's first values, which the question shows: questions of both splits differ in them.
        system, parameters, starts = draw_in_split(split, draw, lambda drawn: _first_values(drawn[2]).encode())
        rows = self._rows(system, system.rates(parameters), starts, rng)
        info: dict[str, JsonValue] = {"system": system.name, "parameters": dict(parameters)}
        info |= {"rows": [list(row) for row in rows], "draw": rng.getrandbits(32)}
        name = f"dynamics-{tier}/{self.seed}/{split}/{index}"
        return Example(name, _question(system, rows), _answer(system, parameters), tier, info)

    def size(self, split: Split, level: int | None = None) -> int | None:
        """Return None: the streams are endless."""
        return None

    def chance(self, level: int | None = None) -> float:
        """Return the share of one system at the level: its form, with constants that are fitted, needs no reading."""
        return 1 / len(of_tier(self.tier if level is None else level))

    def score(self, example: Example, text: str) -> Score:
        """Return the reward of the last formula for each variable, between 0 and 1, with what it is made of.

        It is 0 when a formula lacks, is none or is not finite.
        """
        system = _system(example)
        formulas = read_equations(text, system.variables)
        is_whole = len(formulas) == len(system.variables)
        found = NOTHING
        if is_whole:
            true = read_equations(example.answer, system.variables)
            found = worth(formulas, true, _shown(example), held_paths(example), self._floor)
        parts = {"read": float(is_whole), "rates": found.rates, "followed": found.followed, "simple": found.simple}
        return Score(found.reward, parts)

    def answer_in(self, example: Example, text: str) -> str | None:
        """Return the formulas as they are computed; None where one lacks."""
        formulas = read_equations(text, _system(example).variables)
        written = [" ".join(map(str, formula.parts)) for formula in formulas.values()]
        return "; ".join(written) if len(written) == len(_system(example).variables) else None

    def describe(self, example: Example, text: str) -> Description | None:
        """Return which rates of change a message gives and whether it gives them well; None when it gives none."""
        variables = _system(example).variables
        formulas = read_equations(text, variables)
        if not formulas:
            return None
        each = met(formulas, variables, _shown(example), held_paths(example), self._floor)
        return Description(", ".join(f"{name}'" for name in formulas), all(one.agreement >= _WELL for one in each))

    @property
    def _floor(self) -> float:
        return FLOOR + self.noise**2

    def _rows(
        self, system: System, true: Sequence[Formula], starts: NDArray[np.float64], rng: Random
    ) -> list[list[float]]:
        """Return what a question shows: values and rates of change, to four digits."""
        import numpy as np

        gone = paths(true, system.variables, starts, system.horizon)
        states = gone[:, :, :: STEPS // (_POINTS - 1)].reshape(len(system.variables), -1)
        rates = derivatives(true, system.variables, states)
        spread = rates.std(axis=1)
        rows = np.concatenate([states, rates]).T.tolist()
        for row in rows:
            for number, deviation in enumerate(spread.tolist(), start=len(system.variables)):
                row[number] += rng.gauss(0.0, 1.0) * self.noise * deviation
        return [[float(f"{value:.4g}") for value in row] for row in rows]


def _first_values(starts: NDArray[np.float64]) -> str:
    return " ".join(f"{value:.4g}" for value in starts[:, 0])


def _answer(system: System, parameters: Mapping[str, float]) -> str:
    written = [re.sub(r"\b[abde]\b", lambda found: f"{parameters[found[0]]:g}", text) for text in system.formulas]
    return "; ".join(f"{name}' = {text}" for name, text in zip(system.variables, written, strict=True))


def _question(system: System, rows: list[list[float]]) -> str:
    names = system.variables
    rates = [f"{name}'" for name in names]
    head = " ".join((*names, *rates))
    table = "\n".join(" ".join(f"{value:g}" for value in row) for row in rows)
    return (
        f"Values of {', '.join(names)} and their rates of change {', '.join(rates)} on some paths of one system:\n"
        f"{head}\n{table}\n"
        f"Write {', '.join(rates)} as formulas of {', '.join(names)}, a line for each, such as x' = c0*x + c1*sin(x). "
        f"Allowed are + - * / ^, brackets, numbers, {', '.join(FUNCTIONS)}, and constants {CONSTANTS[0]} to "
        f"{CONSTANTS[-1]}, which are fitted to the rows, for each formula on its own. Short formulas count more."
    )


def _system(example: Example) -> System:
    return SYSTEMS[str(example.info["system"])]


def _shown(example: Example) -> NDArray[np.float64]:
    import numpy as np

    return np.array(example.info["rows"], dtype=float)


def held_paths(example: Example) -> HiddenPaths:
    """Return an example's paths from first values that no question shows: 8, of a draw of its own."""
    system, drawn = _system(example), example.info["parameters"]
    assert isinstance(drawn, Mapping), "examples are made by this task"
    parameters = {str(name): float(str(value)) for name, value in drawn.items()}
    starts = system.draw_starts(Random(int(str(example.info["draw"]))), _HELD_PATHS)
    true = system.rates(parameters)
    states = paths(true, system.variables, starts, system.horizon)
    return HiddenPaths(states, derivatives(true, system.variables, states), system.horizon)
