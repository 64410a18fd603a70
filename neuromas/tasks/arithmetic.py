"""The arithmetic task, in plain English: sums, differences and products, then sums and differences of those."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random
from typing import Final, Literal

from neuromas.tasks.base import Example
from neuromas.tasks.step_tree import StepTree, StepTreeSpec, StepTreeTask
from neuromas.tasks.verify import read_number

_TERMS: Final = range(1, 21)
_FACTORS: Final = range(2, 10)
_OPERANDS: Final[Mapping[str, range]] = {"plus": _TERMS, "minus": _TERMS, "times": _FACTORS}
_JOINTS: Final = ("plus", "minus")


class ArithmeticSpec(StepTreeSpec):
    """Evaluate a tree of sums and differences over sums, differences and products, in plain English."""

    type: Literal["arithmetic"]

    def make(self, seed: int) -> ArithmeticTask:
        """Return the task."""
        return ArithmeticTask(self.depth, seed)

    def describe(self) -> str:
        """Return what is trained on."""
        return f"arithmetic of depth {self.depth}"


@dataclass(frozen=True, slots=True)
class ArithmeticTask(StepTreeTask):
    """Trees whose first steps take two numbers each, and every later one two results."""

    @property
    def name(self) -> str:
        """Name of the family."""
        return "arithmetic"

    def chance(self, level: int | None = None) -> float:
        """Return how often the most frequent result is right."""
        return max(_shares(self.depth if level is None else level).values())

    def answer_in(self, example: Example, text: str) -> str | None:
        """Return the number that the text announces, else its last one."""
        return read_number(text)

    def leaf(self, rng: Random, tree: StepTree) -> str:
        """Add a sum, a difference or a product of two numbers."""
        operator = rng.choice(list(_OPERANDS))
        left, right = rng.choices(_OPERANDS[operator], k=2)
        return _add_step(tree, str(left), operator, str(right), _result(left, operator, right))

    def join(self, rng: Random, tree: StepTree, left: str, right: str) -> str:
        """Add a sum or a difference of two results."""
        operator = rng.choice(_JOINTS)
        return _add_step(
            tree, left, operator, right, _result(int(tree.values[left]), operator, int(tree.values[right]))
        )

    def ask(self, name: str) -> str:
        """Return the question for a step."""
        return f"What is {name}?"


def _add_step(tree: StepTree, left: str, operator: str, right: str, value: int) -> str:
    return tree.add(str(value), f"{tree.next_name()} is {left} {operator} {right}.")


def _result(left: int, operator: str, right: int) -> int:
    return left * right if operator == "times" else left + right if operator == "plus" else left - right


@cache
def _shares(depth: int) -> Mapping[int, float]:
    """Return how often each result comes."""
    shares: dict[int, float] = defaultdict(float)
    if depth == 1:
        for operator, numbers in _OPERANDS.items():
            for left, right in product(numbers, repeat=2):
                shares[_result(left, operator, right)] += 1 / len(numbers) ** 2 / len(_OPERANDS)
        return shares
    parts = _shares(depth - 1).items()
    for operator, (left, often), (right, as_often) in product(_JOINTS, parts, parts):
        shares[_result(left, operator, right)] += often * as_often / len(_JOINTS)
    return shares
