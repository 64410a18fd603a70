"""The tree task: evaluate a complete binary expression modulo 10. Wide and shallow, an arithmetic table to know.

A question of depth 2 reads ``A= 4 +9 B= 3 -0 E= A +B find E=``: gates with literal operands first, then the gates that
combine them, and the name of the root. The levels nest: a tree is the left subtree of the next deeper one, under the
same names (depth 1 asks ``A``, depth 2 ``E``, depth 3 ``G``, depth 4 ``O``).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product
from random import Random
from typing import ClassVar, Literal

from pydantic import Field

from neuromas.errors import TaskError
from neuromas.tasks.base import Description, Example, Split, Task
from neuromas.tasks.facts import Fact, Rule, derive, describe_fact, score_fact
from neuromas.tasks.spec import TaskSpec
from neuromas.tasks.split import draw_in_split, is_held_out

MODULUS = 10
OPERATORS = "+-"
# Inner gates with their children, by depth. Depth d + 1 keeps every name of depth d, so that graphs can grow.
_CHILDREN = {"E": "AB", "F": "CD", "G": "EF", "L": "HI", "M": "JK", "N": "LM", "O": "GN"}
_GATES = {1: "A", 2: "ABE", 3: "ABCDEFG", 4: "ABCDHIJKEFLMGNO"}
MAX_DEPTH = max(_GATES)
GATE_NAMES = _GATES[MAX_DEPTH]


class TreeSpec(TaskSpec):
    """Evaluate a complete binary expression of + and - modulo 10."""

    target: ClassVar[str | None] = "depth"

    type: Literal["tree"]
    depth: int = Field(default=3, ge=1, le=MAX_DEPTH)
    """Target level: depth of the expression (3 = 7 gates). Levels are 1..depth."""

    def make(self, seed: int) -> TreeTask:
        """Return the task."""
        return TreeTask(depth=self.depth, seed=seed)

    def levels(self) -> tuple[int, ...]:
        """Depths, the shallowest first."""
        return tuple(range(1, self.depth + 1))

    def describe(self) -> str:
        """Return what is trained on."""
        return f"expression trees of depth {self.depth}"


_GATE = re.compile(r"([A-Z])= (\w) ([+-])(\w)")
_ASKED = re.compile(r"find ([A-Z])=")


@dataclass(frozen=True, slots=True)
class Gate:
    """``name= left operator right``; operands are digits or names of earlier gates."""

    name: str
    left: str
    operator: str
    right: str

    def __str__(self) -> str:
        return f"{self.name}= {self.left} {self.operator}{self.right}"

    def rule(self) -> Rule:
        """Return how the gate's value follows: from its literals, or from the facts about its children."""
        sign = 1 if self.operator == "+" else -1
        if self.left.isdigit():
            value = (int(self.left) + sign * int(self.right)) % MODULUS
            return Rule(self.name, (), lambda: value)
        return Rule(self.name, (self.left, self.right), _combine(sign))


@dataclass(frozen=True, slots=True)
class TreeProblem:
    """One question: gates in the order they are written, operands before their users; the last one is asked."""

    gates: tuple[Gate, ...]

    @classmethod
    def draw(cls, rng: Random, depth: int) -> TreeProblem:
        """Return a random problem of the given depth, 1 to MAX_DEPTH."""
        return cls(tuple(_draw_gate(rng, name) for name in _GATES[depth]))

    @classmethod
    def draw_gate(cls, rng: Random, name: str) -> TreeProblem:
        """Return a problem of one literal gate under any leaf name; for practising the arithmetic alone."""
        return cls((_draw_gate(rng, name),))

    @classmethod
    def parse(cls, question: str) -> TreeProblem:
        """Return the problem that a question text poses.

        Raises:
            TaskError: the text is not a tree question.
        """
        gates = tuple(Gate(*fields) for fields in _GATE.findall(question))
        asked = _ASKED.search(question)
        known: set[str] = set()
        for gate in gates:
            operands = {gate.left, gate.right}
            if not (operands <= known or all(operand.isdigit() for operand in operands)):
                break
            known.add(gate.name)
        if asked is None or not gates or len(known) != len(gates) or asked[1] != gates[-1].name:
            raise TaskError(f"got {question!r}, expected a tree question such as 'A= 4 +9 B= 3 -0 E= A +B find E='")
        return cls(gates)

    @property
    def question(self) -> str:
        """The question as text."""
        return f"{' '.join(map(str, self.gates))} find {self.asked}="

    @property
    def split_key(self) -> bytes:
        """The question's text, by which it is held out or not."""
        return self.question.encode()

    @property
    def asked(self) -> str:
        """Name of the root gate."""
        return self.gates[-1].name

    @property
    def rules(self) -> tuple[Rule, ...]:
        """One rule per gate."""
        return tuple(gate.rule() for gate in self.gates)


@dataclass(frozen=True, slots=True)
class TreeTask(Task):
    """Expression trees of up to ``depth`` layers of gates. A level is a depth; the target level is ``depth``.

    A quarter of the questions of each level, chosen by their text, is held out. Depth 1 has 200 questions in all, so
    its test split is a list of the 58 held-out ones; depth 2 has 80,000 and every deeper one at least 1e10.

    Attributes:
        depth: layers of gates at the target level, 1 to 4 (1, 3, 7 or 15 gates).
        seed: selects one of many disjointly seeded streams of examples.
    """

    depth: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if not 1 <= self.depth <= MAX_DEPTH:
            raise TaskError(f"tree task: got depth={self.depth}, allowed are 1 to {MAX_DEPTH}")

    @property
    def name(self) -> str:
        """Registry name of the family."""
        return "tree"

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

        Raises:
            TaskError: the level is not one of ``levels``, or its test split has no such example.
        """
        depth = self.depth if level is None else level
        if depth not in self.levels:
            raise TaskError(f"tree task: got level {level}, allowed are {self.levels}; raise depth= for deeper trees")
        problem = self._draw(split, index, depth)
        answer = Fact(problem.asked, derive(problem.rules)[problem.asked])
        return Example(f"tree-{depth}/{self.seed}/{split}/{index}", problem.question, str(answer), depth)

    def size(self, split: Split, level: int | None = None) -> int | None:
        """Return the number of held-out questions of depth 1; None for the other streams, which are endless."""
        depth = self.depth if level is None else level
        return len(_held_out_gates()) if split == "test" and depth == 1 else None

    def chance(self, level: int | None = None) -> float:
        """Return how often a guess is right: all values of the root are equally frequent."""
        return 1 / MODULUS

    def _draw(self, split: Split, index: int, depth: int) -> TreeProblem:
        size = self.size(split, depth)
        if size is not None:
            if index >= size:
                raise TaskError(f"tree task: got test example {index}, depth {depth} has {size} held-out questions")
            return Random(f"tree/{self.seed}/{split}/{depth}").sample(_held_out_gates(), size)[index]
        rng = Random(f"tree/{self.seed}/{split}/{depth}/{index}")
        return draw_in_split(split, lambda: TreeProblem.draw(rng, depth), lambda drawn: drawn.split_key)

    def score(self, example: Example, text: str) -> float:
        """Return 1.0 when the last fact in the text is the root's, with the right value, else 0.0."""
        return score_fact(example.answer, text)

    def describe(self, example: Example, text: str) -> Description | None:
        """Return which gate a message states and whether that is true; None when it states nothing."""
        return describe_fact(derive(TreeProblem.parse(example.prompt).rules), text)


@cache
def _held_out_gates() -> tuple[TreeProblem, ...]:
    """Return the held-out questions of depth 1."""
    digits, name = range(MODULUS), _GATES[1]
    gates = (Gate(name, str(left), sign, str(right)) for left, sign, right in product(digits, OPERATORS, digits))
    problems = (TreeProblem((gate,)) for gate in gates)
    return tuple(problem for problem in problems if is_held_out(problem.split_key))


def _combine(sign: int) -> Callable[[int, int], int]:
    return lambda left, right: (left + sign * right) % MODULUS


def _draw_gate(rng: Random, name: str) -> Gate:
    operator = rng.choice(OPERATORS)
    if name in _CHILDREN:
        children = _CHILDREN[name]
        return Gate(name, children[0], operator, children[1])
    return Gate(name, str(rng.randrange(MODULUS)), operator, str(rng.randrange(MODULUS)))
