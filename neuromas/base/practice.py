"""The questions a base practises: those of the tasks, and smaller ones that teach one circuit at a time.

A two-layer lookup or a table over stated operands hardly forms inside a full question; alone, and from small to large,
each takes a few hundred optimizer steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Literal

from neuromas.tasks.chain import HOP_NAMES, MAX_HOPS, NUM_SYMBOLS, ChainProblem
from neuromas.tasks.facts import Rule
from neuromas.tasks.tree import MODULUS, TreeProblem

Kind = Literal["chain", "tree", "gates", "lookup", "combine"]
_LEAVES = "ABCDHIJK"
_INNER = {
    "E": ("A", "B"),
    "F": ("C", "D"),
    "L": ("H", "I"),
    "M": ("J", "K"),
    "G": ("E", "F"),
    "N": ("L", "M"),
    "O": ("G", "N"),
}


@dataclass(frozen=True, slots=True)
class Practice:
    """One question.

    Attributes:
        question: as text.
        rules: how its facts follow, operands before what follows from them.
        values: what a wrong message may state.
    """

    question: str
    rules: tuple[Rule, ...]
    values: tuple[int, ...]


def draw_practice(rng: Random, kind: Kind, level: int) -> Practice:
    """Return a random question.

    Args:
        rng: source of randomness.
        kind: ``chain`` and ``tree`` are the tasks; ``gates`` are literal gates alone, ``lookup`` a chain over a few
            symbols, ``combine`` one gate whose operands only messages can tell.
        level: hops of a chain, depth of a tree, number of gates, symbols of a lookup; without meaning for ``combine``.
    """
    return _DRAW[kind](rng, level)


def _chain(rng: Random, hops: int) -> Practice:
    problem = ChainProblem.draw(rng, hops)
    return Practice(problem.question, problem.rules, tuple(range(NUM_SYMBOLS)))


def _tree(rng: Random, depth: int) -> Practice:
    problem = TreeProblem.draw(rng, depth)
    return Practice(problem.question, problem.rules, tuple(range(MODULUS)))


def _gates(rng: Random, num_gates: int) -> Practice:
    names = sorted(rng.sample(_LEAVES, num_gates))
    problem = TreeProblem(tuple(gate for name in names for gate in TreeProblem.draw_gate(rng, name).gates))
    return Practice(problem.question, problem.rules, tuple(range(MODULUS)))


def _lookup(rng: Random, num_pairs: int) -> Practice:
    keys = sorted(rng.sample(range(NUM_SYMBOLS), num_pairs))
    successor = dict(zip(keys, rng.sample(keys, num_pairs), strict=True))
    start, hops = rng.choice(keys), rng.randint(2, MAX_HOPS)
    pairs = " ".join(f"{key}: {value}" for key, value in successor.items())
    first = Rule(HOP_NAMES[0], (), lambda: successor[start])
    later = (Rule(HOP_NAMES[k], (HOP_NAMES[k - 1],), successor.__getitem__) for k in range(1, hops))
    return Practice(f"{pairs} start {start} find {HOP_NAMES[hops - 1]}=", (first, *later), tuple(keys))


def _combine(rng: Random, _: int) -> Practice:
    name = rng.choice(list(_INNER))
    left, right = _INNER[name]
    sign = rng.choice((1, -1))
    a, b = rng.randrange(MODULUS), rng.randrange(MODULUS)
    rules = (
        Rule(left, (), lambda: a),
        Rule(right, (), lambda: b),
        Rule(name, (left, right), lambda x, y: (x + sign * y) % MODULUS),
    )
    question = f"{name}= {left} {'+' if sign > 0 else '-'}{right} find {name}="
    return Practice(question, rules, tuple(range(MODULUS)))


_DRAW: dict[Kind, Callable[[Random, int], Practice]] = {
    "chain": _chain,
    "tree": _tree,
    "gates": _gates,
    "lookup": _lookup,
    "combine": _combine,
}
