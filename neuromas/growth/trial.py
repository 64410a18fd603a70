"""Judging a growth: the grown graph against its parent, trained on for as many rollouts, on the same examples. Pure.

A growth looks bad right after insertion (an appended output starts near zero), so it is judged only after a trial. The
examples are paired: both graphs answer the same validation questions, and only those on which they differ count. Of
several candidate plans each is a chance to be kept by luck, so p-values are corrected for how many there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

from neuromas.errors import GrowthError
from neuromas.spec.growth import GraftSpec, PlanSpec, TrialSpec, WidenSpec

# Optimizer steps after which a growth that wins is ahead of its parent. In series: every winning stage was solved
# within 35 steps. Beside (a new subtree): it overtook the parent 150 to 180 steps after insertion.
SERIES_STEPS = 30
BESIDE_STEPS = 180


@dataclass(frozen=True, slots=True)
class TrialOutcome:
    """Outcome of a paired comparison.

    Attributes:
        grown: mean reward of the grown graph, its accuracy where answers are right or wrong.
        parent: mean reward of the parent, trained on.
        wins: examples that the grown graph answers better.
        losses: examples that the parent answers better.
        p_value: probability of at least ``wins`` wins if both were equally good (exact one-sided sign test), times the
            number of plans (Bonferroni); at most 1.
        kept: whether the growth stays.
    """

    grown: float
    parent: float
    wins: int
    losses: int
    p_value: float
    kept: bool

    @property
    def gain(self) -> float:
        """Difference of the mean rewards."""
        return self.grown - self.parent


def trial_steps(spec: TrialSpec, plan: PlanSpec) -> int:
    """Return how many steps each arm of a trial takes: as asked, else long enough for the plan's family."""
    if spec.steps is not None:
        return spec.steps
    return BESIDE_STEPS if any(_adds_beside(edit) for edit in plan.edits) else SERIES_STEPS


def judge(grown: Sequence[float], parent: Sequence[float], spec: TrialSpec, plans: int = 1) -> TrialOutcome:
    """Return whether a growth is better than its parent.

    Args:
        grown: per example, the reward of the grown graph's greedy answer.
        parent: the same for the parent, on the same examples in the same order.
        spec: what a growth must reach to stay.
        plans: candidates that are judged against this parent, the ones not yet tried included.

    Raises:
        GrowthError: the two were not asked the same number of examples, or none.
    """
    if len(grown) != len(parent) or not grown:
        raise GrowthError(f"trial: got {len(grown)} and {len(parent)} answers, expected the same examples for both")
    wins = sum(mine > theirs for mine, theirs in zip(grown, parent, strict=True))
    losses = sum(theirs > mine for mine, theirs in zip(grown, parent, strict=True))
    mean, parent_mean = sum(grown) / len(grown), sum(parent) / len(parent)
    p_value = min(1.0, plans * sign_test(wins, losses))
    kept = mean > parent_mean and p_value <= spec.max_p_value
    return TrialOutcome(mean, parent_mean, wins, losses, p_value, kept)


def sign_test(wins: int, losses: int) -> float:
    """Return P(at least ``wins`` heads in ``wins + losses`` fair tosses): the one-sided paired sign test.

    Source: McNemar's exact test, one-sided; ties carry no information and are left out.
    """
    tosses = wins + losses
    tail: int = sum(comb(tosses, heads) for heads in range(wins, tosses + 1))
    return tail / (1 << tosses)


def _adds_beside(edit: object) -> bool:
    """Whether an edit adds nodes that share the work of trained ones, and so pay late, instead of following them."""
    return isinstance(edit, WidenSpec) or (isinstance(edit, GraftSpec) and edit.arrange == "subtrees")
