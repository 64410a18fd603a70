"""When a stage ends: rules over the held-out checks made so far. Pure; knows no model and no graph.

The trainer checks a stage every ``every`` steps (greedy accuracy on validation questions of the stage's level, and
that of sampled answers where the rule wants it) and asks the rule after each check. Whether the graph then grows is the
controller's decision, not the rule's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from neuromas.errors import GrowthError
from neuromas.spec.growth import TriggerSpec

Reason = Literal["threshold", "steps", "plateau", "collapse", "budget", "interrupted"]
"""Why a stage ended: a rule fired, "budget": it used up its steps before one did, "interrupted": it was asked to."""


@dataclass(frozen=True, slots=True)
class Check:
    """One held-out check after ``step`` optimizer steps of the stage.

    Attributes:
        step: of the stage.
        accuracy: of greedy answers, 0 to 1.
        sampled_accuracy: of sampled answers to the same examples; None where the rule did not want it.
    """

    step: int
    accuracy: float
    sampled_accuracy: float | None = None


class Trigger(Protocol):
    """A rule that ends a stage. Implementations are frozen dataclasses, so they travel to the learner's process."""

    @property
    def every(self) -> int:
        """Steps between two checks; 0 = the rule needs none."""

    @property
    def examples(self) -> int:
        """Held-out examples per check."""

    def wants_sampled(self, check: Check) -> bool:
        """Whether a check that has looked at greedy answers shall look at sampled ones, too."""

    def fires(self, checks: Sequence[Check], step: int) -> Reason | None:
        """Return why the stage ends after ``step`` of its steps, or None to train on. ``checks`` are oldest first."""


class _GreedyOnly:
    """Rules that look at greedy answers alone, or at none."""

    __slots__ = ()

    def wants_sampled(self, check: Check) -> bool:
        """Return False."""
        return False


@dataclass(frozen=True, slots=True)
class Threshold:
    """Fires when the newest check reaches ``accuracy`` and ``sampled_accuracy``, from step ``min_steps`` on."""

    accuracy: float
    every: int
    examples: int
    min_steps: int = 0
    sampled_accuracy: float = 0.0

    def wants_sampled(self, check: Check) -> bool:
        """Return whether nothing but sampled answers can keep the rule from firing."""
        return self.sampled_accuracy > 0 and check.step >= self.min_steps and check.accuracy >= self.accuracy

    def fires(self, checks: Sequence[Check], step: int) -> Reason | None:
        """Return "threshold" once the stage's own level is solved."""
        return "threshold" if checks and step >= self.min_steps and self._is_solved(checks[-1]) else None

    def _is_solved(self, check: Check) -> bool:
        return check.accuracy >= self.accuracy and (check.sampled_accuracy or 0.0) >= self.sampled_accuracy


@dataclass(frozen=True, slots=True)
class Steps(_GreedyOnly):
    """Fires after a fixed number of steps; looks at no check."""

    steps: int
    every: int = 0
    examples: int = 0

    def fires(self, checks: Sequence[Check], step: int) -> Reason | None:
        """Return "steps" when the fixed length is reached."""
        return "steps" if step >= self.steps else None


@dataclass(frozen=True, slots=True)
class Plateau(_GreedyOnly):
    """Fires after ``patience`` checks in a row that did not beat the best before them by ``min_improvement``."""

    patience: int
    min_improvement: float
    every: int
    examples: int
    min_steps: int = 0

    def fires(self, checks: Sequence[Check], step: int) -> Reason | None:
        """Return "plateau" when the accuracy no longer improves."""
        best, stale = float("-inf"), 0
        for check in checks:
            improved = check.accuracy > best + self.min_improvement or best == float("-inf")
            best, stale = (check.accuracy, 0) if improved else (best, stale + 1)
        return "plateau" if stale >= self.patience and step >= self.min_steps else None


@dataclass(frozen=True, slots=True)
class Collapse(_GreedyOnly):
    """Fires after ``patience`` checks in a row below half of the best accuracy the stage had before them."""

    patience: int
    every: int
    examples: int
    min_steps: int = 0

    def fires(self, checks: Sequence[Check], step: int) -> Reason | None:
        """Return "collapse" when the stage has lost what it had learned."""
        recent, earlier = checks[-self.patience :], checks[: -self.patience]
        if not earlier or step < self.min_steps:
            return None
        half = max(check.accuracy for check in earlier) / 2
        return "collapse" if all(check.accuracy < half for check in recent) else None


def make_trigger(spec: TriggerSpec, steps: int | None = None) -> Trigger:
    """Return the rule that a spec describes.

    Args:
        spec: the section ``growth.trigger`` of a run spec.
        steps: length of the stage; read by type "steps" only.

    Raises:
        GrowthError: type "steps" without a length.
    """
    common = {"every": spec.every, "examples": spec.examples, "min_steps": spec.min_steps}
    if spec.type == "threshold":
        return Threshold(spec.accuracy, **common, sampled_accuracy=spec.sampled_accuracy)
    if spec.type == "plateau":
        return Plateau(spec.patience, spec.min_improvement, **common)
    if spec.type == "collapse":
        return Collapse(spec.patience, **common)
    if steps is None:
        raise GrowthError("trigger type 'steps': got no length for this stage; add it to growth.steps_per_level")
    return Steps(steps)
