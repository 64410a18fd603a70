"""A task or a reward that a Python program gives to ``neuromas.train`` as an object, for runs in its own process.

A spec can hold only its name: another process, such as ``neuromas eval``, cannot make it again, and says so.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import Field
from typing_extensions import override

from neuromas.errors import TaskError
from neuromas.schema.bounds import MAX_KEY
from neuromas.tasks.base import Description, Example, Score, Split, Task
from neuromas.tasks.spec import TaskSpec

Reward = Callable[[Example, str], float | Score]
"""From a question and an answer to a number in 0..1, or a ``Score``."""
GIVEN: Final = "given"
_TASKS: Final[dict[str, Task]] = {}


class GivenSpec(TaskSpec):
    """A Python object of the process that trains; specs of other processes cannot name it."""

    type: Literal["given"]
    name: str = Field(max_length=MAX_KEY)
    """Names of the classes and functions that were given."""

    def make(self, seed: int) -> Task:
        """Return the object.

        Raises:
            TaskError: it was given in another process.
        """
        if self.name not in _TASKS:
            raise TaskError(
                f"{self.name} was given to train() as a Python object and exists in no other process; give it to "
                'train(..., resume=True) here, or name the code in the spec: task = { type = "python", ... } or '
                "task.verifier (docs/extending.md)"
            )
        return _TASKS[self.name]

    def describe(self) -> str:
        """Return what is trained on."""
        return f"the task {self.name}"


def give(task: Task, reward: Reward | None) -> GivenSpec:
    """Return a section ``task`` that stands for an object, as long as this process lives.

    Args:
        task: what asks the questions.
        reward: what scores the answers; None = the task.
    """
    name = " with ".join(map(_name, (type(task), *([] if reward is None else [reward]))))
    _TASKS[name] = GivenTask(task, reward)
    return GivenSpec(type=GIVEN, name=name)


@dataclass(frozen=True)
class GivenTask(Task):
    """A task in whose process answers are scored, perhaps by another function.

    Attributes:
        task: what asks the questions.
        reward: what scores the answers; None = the task.
    """

    task: Task
    reward: Reward | None

    @property
    @override
    def name(self) -> str:
        return self.task.name

    @property
    @override
    def levels(self) -> tuple[int, ...]:
        return self.task.levels

    @property
    @override
    def scoring_timeout_s(self) -> None:
        """Return None: objects of this process are called in it."""
        return None

    @override
    def example(self, split: Split, index: int, level: int | None = None) -> Example:
        return self.task.example(split, index, level)

    @override
    def size(self, split: Split, level: int | None = None) -> int | None:
        return self.task.size(split, level)

    @override
    def chance(self, level: int | None = None) -> float | None:
        return self.task.chance(level) if self.reward is None else None

    @override
    def sample(self, split: Split, level: int | None, most: int) -> tuple[Example, ...]:
        return self.task.sample(split, level, most)

    @override
    def score(self, example: Example, text: str) -> float | Score:
        return self.task.score(example, text) if self.reward is None else self.reward(example, text)

    @override
    def answer_in(self, example: Example, text: str) -> str | None:
        return self.task.answer_in(example, text)

    @override
    def describe(self, example: Example, text: str) -> Description | None:
        return self.task.describe(example, text)


def _name(given: object) -> str:
    return f"{getattr(given, '__module__', '')}.{getattr(given, '__qualname__', type(given).__qualname__)}"
