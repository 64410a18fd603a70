"""What a task is: an endless stream of examples, and a rule that scores an answer. Knows no model and no graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

from pydantic import JsonValue

Split = Literal["train", "test"]


@dataclass(frozen=True, slots=True)
class Example:
    """One question.

    Attributes:
        id: stable and unique within the task, split and level.
        prompt: the question as text; what a Node that reads the task sees.
        answer: the canonical right answer as text; never shown to a Node.
        level: difficulty the example was drawn at; None when the task has no levels.
        info: what else the task needs to score an answer, such as the choices; never shown to a Node.
    """

    id: str
    prompt: str
    answer: str
    level: int | None = None
    info: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Description:
    """What one message says about an example: a short ``label`` for reports and whether it is ``correct``."""

    label: str
    correct: bool


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth.

    Attributes:
        reward: the terminal reward, 0 to 1.
        parts: figures that are logged beside it as ``reward/<name>``, such as what the reward is made of.
    """

    reward: float
    parts: Mapping[str, float] = field(default_factory=dict, hash=False)


class Task(Protocol):
    """A family of verifiable questions. All methods are deterministic; instances are picklable.

    A task that derives from this class needs ``example`` and ``score`` alone.

    The splits of a level have no question text in common, whatever the seed.
    """

    @property
    def name(self) -> str:
        """Name of the family."""
        return type(self).__name__

    @property
    def levels(self) -> tuple[int, ...]:
        """Levels in order of difficulty up to the target level; empty when the task has none."""
        return ()

    @property
    def scoring_timeout_s(self) -> float | None:
        """Seconds that scoring one answer may take, in a process of its own, while the engine goes on.

        None scores in the engine's process: for rules that are quick and cannot crash.
        """
        return 10.0

    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        """Return example ``index`` (>= 0) of the split at ``level`` (None = the target level).

        Raises:
            TaskError: the level is not one of ``levels``, or the split has no such example.
        """

    def size(self, split: Split, level: int | None = None) -> int | None:
        """Number of examples of the split at ``level`` (None = the target level); None when the stream is endless."""
        return None

    def chance(self, level: int | None = None) -> float | None:
        """Mean reward at ``level`` (None = the target level) of guesses that need no work on the question.

        A stage that stays there is warned of. None where nobody knows.
        """
        return None

    def sample(self, split: Split, level: int | None, most: int) -> tuple[Example, ...]:
        """Return examples to look at before a run: all of a list, the first ``most`` of an endless stream."""
        size = self.size(split, level)
        return tuple(self.example(split, index, level) for index in range(most if size is None else size))

    def score(self, example: Example, text: str) -> float | Score:
        """Terminal reward in [0, 1] of the output Node's text."""

    def answer_in(self, example: Example, text: str) -> str | None:
        """Return the answer that a text gives, in a form that equal answers share; None where it gives none.

        Votes count it. It depends on what a Node could see alone, never on the right answer.
        """
        return " ".join(text.split()) or None

    def describe(self, example: Example, text: str) -> Description | None:
        """What a message states about the example, for reports; None when nothing can be read from it."""
        return None
