"""Facts: what a message of the rule tasks states (``A= 7``), and the rules by which one fact follows from others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from neuromas.tasks.base import Description

# One capital letter, "=", an integer; neither may be glued to other word characters ("BA= 7", "A= 7x", "A= 7.5").
_FACT = re.compile(r"(?<!\w)([A-Z])\s*=\s*(-?\d+)(?!\w|\.\d)")


@dataclass(frozen=True, slots=True)
class Fact:
    """A statement ``name= value``; ``name`` is one capital letter."""

    name: str
    value: int

    def __str__(self) -> str:
        return f"{self.name}= {self.value}"


@dataclass(frozen=True, slots=True)
class Rule:
    """How one fact follows from others in a single step.

    Attributes:
        name: name of the fact that follows.
        operands: names of the facts it needs; empty when it can be read off the question.
        apply: value of the fact from the values of the operands, in their order.
    """

    name: str
    operands: tuple[str, ...]
    apply: Callable[..., int]


def parse_fact(text: str) -> Fact | None:
    """Return the last well-formed fact in a text, or None. Words and punctuation around facts are ignored."""
    found = _FACT.findall(text)
    if not found:
        return None
    name, value = found[-1]
    return Fact(name, int(value))


def derive(rules: Sequence[Rule], stated: Mapping[str, int] | None = None) -> dict[str, int]:
    """Return the value every rule gives when stated values, even wrong ones, stand in for its operands.

    Args:
        rules: in an order in which operands come before what follows from them.
        stated: values that later rules must read instead of the derived ones; None states nothing.
    """
    derived: dict[str, int] = {}
    read = dict(stated or {})
    for rule in rules:
        derived[rule.name] = rule.apply(*(read[name] for name in rule.operands))
        read.setdefault(rule.name, derived[rule.name])
    return derived


def score_fact(answer: str, text: str) -> float:
    """Return 1.0 when a text states the same fact as the answer (name and value), else 0.0."""
    fact = parse_fact(text)
    return float(fact is not None and fact == parse_fact(answer))


def describe_fact(truth: Mapping[str, int], text: str) -> Description | None:
    """Return which fact a text states and whether it is one of the true ones; None when it states none."""
    fact = parse_fact(text)
    if fact is None:
        return None
    return Description(label=fact.name, correct=truth.get(fact.name) == fact.value)
