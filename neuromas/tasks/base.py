"""What a task is: an endless stream of examples, and a rule that scores an answer. Knows no model and no graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Example:
    """One question.

    Attributes:
        id: stable and unique within the task, split and level.
        prompt: the question as text; what a Node that reads the task sees.
        answer: the canonical right answer as text; never shown to a Node.
        level: difficulty the example was drawn at; None when the task has no levels.
    """

    id: str
    prompt: str
    answer: str
    level: int | None = None


@dataclass(frozen=True, slots=True)
class Description:
    """What one message says about an example: a short ``label`` for reports and whether it is ``correct``."""

    label: str
    correct: bool


class Task(Protocol):
    """A family of verifiable questions. Implementations are frozen dataclasses; all methods are deterministic."""

    @property
    def name(self) -> str:
        """Registry name of the family."""

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels in order of difficulty up to the target level; empty when the task has none."""

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return example ``index`` (>= 0) of the split at ``level`` (None = the target level).

        Raises:
            TaskError: the level is not one of ``levels``, or the split has no such example.
        """

    def size(self, split: Split) -> int | None:
        """Number of examples in the split; None when the stream is endless."""

    def score(self, example: Example, text: str) -> float:
        """Terminal reward in [0, 1] of the output Node's text."""

    def describe(self, example: Example, text: str) -> Description | None:
        """What a message states about the example, for reports; None when nothing can be read from it."""
