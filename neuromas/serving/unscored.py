"""The task of a served graph: questions come from outside and nobody knows the answer."""

from __future__ import annotations

from dataclasses import dataclass

from neuromas.tasks.base import Description, Example, Split, Task


@dataclass(frozen=True, slots=True)
class Unscored(Task):
    """Draws no examples and scores nothing."""

    name: str = "served"
    levels: tuple[int, ...] = ()
    scoring_timeout_s: float | None = None

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return nothing of use."""
        return Example(f"{split}-{index}", "", "", level)

    def size(self, split: Split, level: int | None = None) -> int | None:
        """Return 0: there are no examples."""
        return 0

    def score(self, example: Example, text: str) -> float:
        """Return 0."""
        return 0.0

    def describe(self, example: Example, text: str) -> Description | None:
        """Return None."""
        return None


UNSCORED = Unscored()
