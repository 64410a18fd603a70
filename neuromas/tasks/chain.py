"""The chain task: follow a random permutation for several hops. Deep and narrow, no arithmetic.

A question reads ``0: 5 1: 3 2: 7 ... 7: 4 start 2 find E=``: a permutation of eight symbols, a start, and the name of
the fact asked for. Fact ``A=`` is the symbol after one hop, ``B=`` after two, and so on. The levels nest: the answer of
a shorter chain is an intermediate fact of a longer one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from random import Random
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from neuromas.errors import TaskError
from neuromas.tasks.base import Description, Example, Split, Task
from neuromas.tasks.facts import Fact, Rule, derive, describe_fact, score_fact
from neuromas.tasks.spec import TaskSpec
from neuromas.tasks.split import draw_in_split

NUM_SYMBOLS = 8
HOP_NAMES = "ABCDEFGHI"
MAX_HOPS = len(HOP_NAMES)

Cycles = Literal["one", "any"]
"""Whether a permutation is one cycle of all symbols, or any. In a random one k hops often end where fewer do: five end
where one does for 3 questions of 8, which pays for a guess. In one cycle all hops below eight end apart."""


class ChainSpec(TaskSpec):
    """Follow a random permutation of 8 symbols for ``hops`` steps."""

    target: ClassVar[str | None] = "hops"

    type: Literal["chain"]
    hops: int = Field(default=5, ge=1, le=MAX_HOPS)
    """Target level: number of hops asked for. Levels are 1..hops."""
    cycles: Cycles = "one"
    """"one": each permutation is a single cycle, so that no other number of hops ends at the same symbol and a guess is
    right for 1 question of 7; at most 7 hops, since the eighth is back at the start. "any": 5 hops end where 1 does for
    3 questions of 8, a shortcut that pays."""

    @model_validator(mode="after")
    def _asks_for_work(self) -> ChainSpec:
        if (fault := _fault(self.hops, self.cycles)) is not None:
            raise ValueError(fault)
        return self

    def make(self, seed: int) -> ChainTask:
        """Return the task."""
        return ChainTask(hops=self.hops, seed=seed, cycles=self.cycles)

    def levels(self) -> tuple[int, ...]:
        """Numbers of hops, the shortest first."""
        return tuple(range(1, self.hops + 1))

    def describe(self) -> str:
        """Return what is trained on."""
        return f"chains of {self.hops} hops"


def _fault(hops: int, cycles: Cycles) -> str | None:
    """Return why there is no such chain, or None."""
    if not 1 <= hops <= MAX_HOPS:
        return f"got hops={hops}, allowed are 1 to {MAX_HOPS}"
    if cycles == "one" and hops >= NUM_SYMBOLS:
        return (
            f"got hops={hops} in one cycle, allowed are 1 to {NUM_SYMBOLS - 1}: after {NUM_SYMBOLS} hops a cycle of "
            f"{NUM_SYMBOLS} symbols is back at its start, so who copies it is always right; or set cycles='any'"
        )
    return None


_PAIR = re.compile(r"(\d+): (\d+)")
_START = re.compile(r"start (\d+) find ([A-Z])=")


@dataclass(frozen=True, slots=True)
class ChainProblem:
    """One question: ``successor[k]`` follows symbol k; ``hops`` steps from ``start``, 1 <= hops <= MAX_HOPS."""

    successor: tuple[int, ...]
    start: int
    hops: int

    @classmethod
    def draw(cls, rng: Random, hops: int, cycles: Cycles = "any") -> ChainProblem:
        """Return a random problem with the given number of hops."""
        drawn = rng.sample(range(NUM_SYMBOLS), NUM_SYMBOLS)
        if cycles == "one":  # the drawn order is the way round
            follower = dict(zip(drawn, drawn[1:] + drawn[:1], strict=True))
            drawn = [follower[symbol] for symbol in range(NUM_SYMBOLS)]
        return cls(tuple(drawn), rng.randrange(NUM_SYMBOLS), hops)

    @classmethod
    def parse(cls, question: str) -> ChainProblem:
        """Return the problem that a question text poses.

        Raises:
            TaskError: the text is not a chain question.
        """
        pairs = {int(key): int(value) for key, value in _PAIR.findall(question)}
        asked = _START.search(question)
        if asked is None or set(pairs) != set(range(NUM_SYMBOLS)) or asked[2] not in HOP_NAMES:
            raise TaskError(f"got {question!r}, expected a chain question such as '0: 5 ... 7: 4 start 2 find E='")
        successor = tuple(pairs[key] for key in range(NUM_SYMBOLS))
        return cls(successor, int(asked[1]), HOP_NAMES.index(asked[2]) + 1)

    @property
    def question(self) -> str:
        """The question as text."""
        pairs = " ".join(f"{key}: {value}" for key, value in enumerate(self.successor))
        return f"{pairs} start {self.start} find {self.asked}="

    @property
    def split_key(self) -> bytes:
        """Permutation and start: what is held out is so at all levels."""
        return bytes((*self.successor, self.start))

    @property
    def asked(self) -> str:
        """Name of the fact asked for."""
        return HOP_NAMES[self.hops - 1]

    @property
    def rules(self) -> tuple[Rule, ...]:
        """One rule per hop: the first reads the start, each later one reads the hop before it."""
        first = Rule(HOP_NAMES[0], (), lambda: self.successor[self.start])
        later = (Rule(HOP_NAMES[k], (HOP_NAMES[k - 1],), self.successor.__getitem__) for k in range(1, self.hops))
        return (first, *later)


@dataclass(frozen=True, slots=True)
class ChainTask(Task):
    """Chains of up to ``hops`` hops. A level is a number of hops; the target level is ``hops``.

    Attributes:
        hops: hops at the target level, 1 to 9; in one cycle 1 to 7.
        seed: selects one of many disjointly seeded streams of examples.
        cycles: of the permutations.
    """

    hops: int = 5
    seed: int = 0
    cycles: Cycles = "one"

    def __post_init__(self) -> None:
        if (fault := _fault(self.hops, self.cycles)) is not None:
            raise TaskError(f"chain task: {fault}")

    @property
    def name(self) -> str:
        """Registry name of the family."""
        return "chain"

    @property
    def levels(self) -> tuple[int, ...]:
        """Numbers of hops, the shortest first."""
        return tuple(range(1, self.hops + 1))

    @property
    def scoring_timeout_s(self) -> None:
        """Return None: scoring is quick."""
        return None

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return example ``index`` (>= 0) of the split at ``level`` hops (None = the target).

        Raises:
            TaskError: the level is not one of ``levels``.
        """
        hops = self.hops if level is None else level
        if hops not in self.levels:
            raise TaskError(f"chain task: got level {level}, allowed are {self.levels}; raise hops= for longer chains")
        rng = Random(f"chain/{self.seed}/{split}/{hops}/{index}")
        problem = draw_in_split(split, lambda: ChainProblem.draw(rng, hops, self.cycles), lambda drawn: drawn.split_key)
        answer = Fact(problem.asked, derive(problem.rules)[problem.asked])
        return Example(f"chain-{hops}/{self.seed}/{split}/{index}", problem.question, str(answer), hops)

    def size(self, split: Split, level: int | None = None) -> int | None:
        """Return None: the streams are endless."""
        return None

    def chance(self, level: int | None = None) -> float:
        """Return how often a guess that follows no hop is right at ``level`` hops (None = the target).

        The chain is back at its start where the cycle's length divides the hops, else at one of seven others.
        """
        hops = self.hops if level is None else level
        lengths = (
            (NUM_SYMBOLS,) if self.cycles == "one" else range(1, NUM_SYMBOLS + 1)
        )  # of the start's, equally likely
        at_start = sum(hops % length == 0 for length in lengths) / len(lengths)
        return max(at_start, (1 - at_start) / (NUM_SYMBOLS - 1))

    def score(self, example: Example, text: str) -> float:
        """Return 1.0 when the last fact in the text is the one asked for, with the right value, else 0.0."""
        return score_fact(example.answer, text)

    def describe(self, example: Example, text: str) -> Description | None:
        """Return which hop a message states and whether that is true; None when it states nothing."""
        return describe_fact(derive(ChainProblem.parse(example.prompt).rules), text)
