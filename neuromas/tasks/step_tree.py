"""Complete binary trees of named steps in plain English: what tasks for bases that read English share.

Steps are written children first and named A, B, C ... in that order, so that a tree is the first part of the next
deeper one under the same names: its answer is one of the larger one's intermediate facts.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from string import ascii_uppercase
from typing import ClassVar, Final

from pydantic import Field

from neuromas.errors import TaskError
from neuromas.tasks.base import Description, Example, Split, Task
from neuromas.tasks.spec import TaskSpec
from neuromas.tasks.split import draw_in_split

MAX_DEPTH: Final = 4
"""Of a tree; it has 15 steps then."""
_STATED: Final = re.compile(r"\b([A-O]) (?:is|=) (open|closed|-?\d+)\b")


@dataclass(slots=True)
class StepTree:
    """A tree while it is drawn.

    Attributes:
        values: what each step gives, by its name, in the order in which they are written.
        sentences: one or more for each step.
    """

    values: dict[str, str] = field(default_factory=dict)
    sentences: list[str] = field(default_factory=list)

    def next_name(self) -> str:
        """Return the name of the step to be added."""
        return ascii_uppercase[len(self.values)]

    def add(self, value: str, *sentences: str) -> str:
        """Add a step and return its name."""
        name = self.next_name()
        self.values[name] = value
        self.sentences += sentences
        return name


class StepTreeSpec(TaskSpec):
    """What the families' sections have in common."""

    target: ClassVar[str | None] = "depth"

    depth: int = Field(default=3, ge=1, le=MAX_DEPTH)
    """Target level: depth of the tree (3 = 7 steps). Levels are 1..depth."""

    def levels(self) -> tuple[int, ...]:
        """Depths, the shallowest first."""
        return tuple(range(1, self.depth + 1))


@dataclass(frozen=True, slots=True)
class StepTreeTask(Task):
    """Trees up to a depth, which are the levels. A quarter of all questions, by their text, is held out at every level.

    Attributes:
        depth: of the trees at the target level, 1 to ``MAX_DEPTH`` (1, 3, 7 or 15 steps).
        seed: selects one of many disjointly seeded streams of examples.
    """

    depth: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= MAX_DEPTH:
            raise TaskError(f"{self.name} task: got depth={self.depth}, allowed are 1 to {MAX_DEPTH}")

    @property
    def levels(self) -> tuple[int, ...]:
        """Depths, the shallowest first."""
        return tuple(range(1, self.depth + 1))

    @property
    def scoring_timeout_s(self) -> None:
        """Return None: scoring is quick."""
        return None

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return example ``index`` (>= 0) of the split at depth ``level`` (None = the target).

        ``info["values"]`` has what each step gives, by its name.

        Raises:
            TaskError: the level is not one of ``levels``.
        """
        depth = self.depth if level is None else level
        if depth not in self.levels:
            raise TaskError(f"{self.name} task: got level {level}, allowed are {self.levels}; raise depth= for more")
        rng = Random(f"{self.name}/{self.seed}/{split}/{depth}/{index}")
        tree = draw_in_split(split, lambda: self._drawn(rng, depth), lambda drawn: self._question(drawn).encode())
        answer = tree.values[self._asked(tree)]
        name = f"{self.name}-{depth}/{self.seed}/{split}/{index}"
        return Example(name, self._question(tree), answer, depth, {"values": dict(tree.values)})

    def score(self, example: Example, text: str) -> float:
        """Return 1.0 when the text's answer is right, else 0.0."""
        return float(self.answer_in(example, text) == example.answer)

    def describe(self, example: Example, text: str) -> Description | None:
        """Return which step a message states last, else that it gives an answer, and whether that is true."""
        values = example.info["values"]
        stated = [pair for pair in _STATED.findall(text) if isinstance(values, Mapping) and pair[0] in values]
        if isinstance(values, Mapping) and stated:
            name, value = stated[-1]
            return Description(name, value == values[name])
        said = self.answer_in(example, text)
        return None if said is None else Description("an answer", said == example.answer)

    @abstractmethod
    def leaf(self, rng: Random, tree: StepTree) -> str:
        """Add a step that needs no other one and return its name."""

    @abstractmethod
    def join(self, rng: Random, tree: StepTree, left: str, right: str) -> str:
        """Add a step that needs two others and return its name."""

    @abstractmethod
    def ask(self, name: str) -> str:
        """Return the question for a step."""

    def _drawn(self, rng: Random, depth: int) -> StepTree:
        tree = StepTree()
        self._grow(rng, tree, depth)
        return tree

    def _grow(self, rng: Random, tree: StepTree, depth: int) -> str:
        if depth == 1:
            return self.leaf(rng, tree)
        left = self._grow(rng, tree, depth - 1)
        return self.join(rng, tree, left, self._grow(rng, tree, depth - 1))

    def _question(self, tree: StepTree) -> str:
        return " ".join([*tree.sentences, self.ask(self._asked(tree))])

    def _asked(self, tree: StepTree) -> str:
        return list(tree.values)[-1]
