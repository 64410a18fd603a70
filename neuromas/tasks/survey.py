"""A look at a task's questions before a run: what the base does not know, what cannot fit, what repeats."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from neuromas.errors import TaskError
from neuromas.tasks.base import Example, Split, Task
from neuromas.tasks.judge import judge

SPLITS: Final[tuple[Split, Split]] = ("train", "test")
LOOKED_AT: Final = 2000
"""Examples of an endless split that are looked at."""
_SHOWN: Final = 60
_EASY: Final = 0.9
"""Chance from which on a task is pointed out: what a graph can gain is within the noise of its accuracy."""

CountTokens = Callable[[Sequence[str]], list[tuple[int, int]]]
"""From texts to (tokens, unknown tokens) of each, as the base reads them."""


@dataclass(frozen=True, slots=True)
class Look:
    """The questions of one level that were looked at, with their lengths in tokens.

    Attributes:
        level: None = the task's target.
        train: to train on; all of a list, the first ones of an endless stream.
        test: held out.
        tokens: length of each question, by its text.
        notes: what a person should know, a sentence each.
    """

    level: int | None
    train: tuple[Example, ...]
    test: tuple[Example, ...]
    tokens: dict[str, int]
    notes: tuple[str, ...]

    @property
    def longest(self) -> Example:
        """The question with most tokens."""
        return max((*self.train, *self.test), key=lambda example: self.tokens[example.prompt])

    def longer_than(self, split: Split, tokens: int) -> list[Example]:
        """Return the questions of a split that have more tokens."""
        examples = self.train if split == "train" else self.test
        return [example for example in examples if self.tokens[example.prompt] > tokens]


def look_at(task: Task, level: int | None, count: CountTokens, answer_budget: int, splits: Sequence[Split]) -> Look:
    """Return what is found in a level's questions.

    Args:
        task: the task.
        level: None = the target.
        count: tells lengths in tokens.
        answer_budget: tokens that the output Node may say.
        splits: which splits to look at.

    Raises:
        TaskError: a question cannot be made.
    """
    train, test = (task.sample(split, level, LOOKED_AT) if split in splits else () for split in SPLITS)
    examples = (*train, *test)
    counts = count([example.prompt for example in examples])
    tokens = {example.prompt: length for example, (length, _) in zip(examples, counts, strict=True)}
    unknown = [example for example, (_, strange) in zip(examples, counts, strict=True) if strange]
    notes = [
        *_note(unknown, examples, "hold words that the base does not know and reads as one unknown token"),
        *_note(
            _shared(train, test),
            train,
            "to train on are held out too, so accuracies show memory",
        ),
        *_note(_repeats(test) if task.size("test", level) is not None else (), test, "held out repeat another"),
        *_answer_notes(task, examples, count, answer_budget),
        *(_chance_notes(task, level) if train else ()),
    ]
    return Look(level, train, test, tokens, tuple(notes))


def _answer_notes(task: Task, examples: Sequence[Example], count: CountTokens, budget: int) -> list[str]:
    if task.scoring_timeout_s is not None:  # what such a task calls its answer need not be one that is given
        return []
    lengths = count([example.answer for example in examples])
    long = [example for example, (length, _) in zip(examples, lengths, strict=True) if length > budget]
    wrong = [example for example in examples if judge(task, example, example.answer).reward < 1]
    said = f"have an answer longer than the {budget} tokens that the output node may say"
    return [*_note(long, examples, said), *_note(wrong, examples, "have a right answer that does not score 1")]


def _chance_notes(task: Task, level: int | None) -> list[str]:
    """Return what is wrong with a task on which a guess earns nearly all.

    Raises:
        TaskError: the task's chance is no mean of rewards.
    """
    chance = task.chance(level)
    if chance is None or 0 <= chance < _EASY:
        return []
    if not _EASY <= chance <= 1:
        raise TaskError(f"got a chance of {chance!r}; a mean of rewards is 0 to 1, or None where nobody knows it")
    return [f"a guess that needs no work on the question earns {chance:.3f} of 1, so there is little to learn"]


def _shared(train: Sequence[Example], test: Sequence[Example]) -> list[Example]:
    held = {example.prompt for example in test}
    return [example for example in train if example.prompt in held]


def _repeats(examples: Sequence[Example]) -> list[Example]:
    first = {example.prompt: example.id for example in reversed(examples)}
    return [example for example in examples if first[example.prompt] != example.id]


def _note(found: Sequence[Example], of: Sequence[Example], said: str) -> list[str]:
    if not found:
        return []
    first = " ".join(found[0].prompt.split())
    shown = first if len(first) <= _SHOWN else f"{first[:_SHOWN]}..."
    return [f"{len(found)} of {len(of)} questions {said}: {shown!r}"]
