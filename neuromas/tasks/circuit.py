"""The circuit task: a Boolean circuit in plain English, doors that depend on valves and on other doors.

Every step is "and", "or" or "exactly one", or its opposite, each equally likely, so that a door is open as often as it
is closed whatever stands before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Final, Literal

from neuromas.tasks.base import Example
from neuromas.tasks.step_tree import StepTree, StepTreeSpec, StepTreeTask
from neuromas.tasks.verify import read_label

COLOURS: Final = (
    "red", "blue", "green", "yellow", "white", "black", "grey", "brown",
    "pink", "orange", "purple", "golden", "silver", "violet", "copper", "ivory",
)  # fmt: skip
STATES: Final = ("closed", "open")
_Relation = tuple[str, Callable[[bool, bool], bool]]
_RELATIONS: Final[tuple[_Relation, ...]] = (
    ("{left} and {right} are both open", lambda left, right: left and right),
    ("{left} or {right} is open, or both are", lambda left, right: left or right),
    ("exactly one of {left} and {right} is open", lambda left, right: left != right),
)


class CircuitSpec(StepTreeSpec):
    """Say whether the last door of a Boolean circuit in plain English is open or closed."""

    type: Literal["circuit"]

    def make(self, seed: int) -> CircuitTask:
        """Return the task."""
        return CircuitTask(self.depth, seed)

    def describe(self) -> str:
        """Return what is trained on."""
        return f"circuits of depth {self.depth}"


@dataclass(frozen=True, slots=True)
class CircuitTask(StepTreeTask):
    """Circuits whose first doors depend on two valves each, and every later one on two doors."""

    @property
    def name(self) -> str:
        """Name of the family."""
        return "circuit"

    def chance(self, level: int | None = None) -> float:
        """Return 1/2: a circuit is as likely as the one whose last door does the opposite."""
        return 0.5

    def answer_in(self, example: Example, text: str) -> str | None:
        """Return "open" or "closed", as the text announces it or else says last."""
        return read_label(text, STATES)

    def leaf(self, rng: Random, tree: StepTree) -> str:
        """Add a door that depends on two valves."""
        used = {word for sentence in tree.sentences for word in sentence.split()}
        left, right = rng.sample([colour for colour in COLOURS if colour not in used], 2)
        values = {left: rng.random() < 0.5, right: rng.random() < 0.5}
        given = " and ".join(f"the {colour} valve is {STATES[value]}" for colour, value in values.items())
        return _add_door(
            rng, tree, {f"the {colour} valve": value for colour, value in values.items()}, f"T{given[1:]}."
        )

    def join(self, rng: Random, tree: StepTree, left: str, right: str) -> str:
        """Add a door that depends on two doors."""
        return _add_door(rng, tree, {f"door {name}": tree.values[name] == "open" for name in (left, right)})

    def ask(self, name: str) -> str:
        """Return the question for a door."""
        return f"Is door {name} open or closed?"


def _add_door(rng: Random, tree: StepTree, operands: Mapping[str, bool], *given: str) -> str:
    text, holds = rng.choice(_RELATIONS)
    (left, right), is_opposite = operands, rng.random() < 0.5
    relation = text.format(left=left, right=right)
    value = holds(operands[left], operands[right]) != is_opposite
    sentence = f"Door {tree.next_name()} is {STATES[not is_opposite]} exactly when {relation}."
    return tree.add(STATES[value], *given, sentence)
