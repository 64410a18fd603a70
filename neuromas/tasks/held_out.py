"""Held-out questions, divided by what they are for: decisions are made on some, figures are reported of the others.

A figure is an honest estimate only where nothing was chosen by it. So the held-out questions of a level fall in two
parts without a question in common: ``validation`` (a quarter) for the checks of triggers, evaluations inside a run,
``best`` checkpoints and trials of growth; ``test`` for what results, reports and comparisons state. A question's part
depends on its text alone, so runs with other settings, graphs or seeds divide alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from itertools import count, islice
from typing import Literal

from neuromas.errors import TaskError
from neuromas.tasks.base import Example, Task

HeldOutPart = Literal["validation", "test"]

_SHARE = 4  # one of so many held-out questions is for validation
_PATIENCE = 1000  # draws in a row without a question of the part before an endless stream counts as too small


def held_out(task: Task, level: int | None, examples: int, part: HeldOutPart) -> tuple[Example, ...]:
    """Return the first held-out examples of a level (None = the target) of a part; fewer where it has fewer.

    Raises:
        TaskError: the level is unknown, or has too few different held-out questions to be divided.
    """
    if task.size("test", level) is None:
        return tuple(islice(_stream(task, level, part), examples))
    return _divided(task, level)[part][:examples]


def part_sizes(task: Task, level: int | None) -> Mapping[HeldOutPart, int] | None:
    """Return how many examples each part of a level has; None where they have no end.

    Raises:
        TaskError: as ``held_out``.
    """
    if task.size("test", level) is None:
        return None
    return {part: len(examples) for part, examples in _divided(task, level).items()}


def _divided(task: Task, level: int | None) -> Mapping[HeldOutPart, tuple[Example, ...]]:
    """Divide a list: the quarter of its different questions whose digests are the smallest, at least one of them."""
    size = task.size("test", level)
    assert size is not None, "endless streams are divided question by question"
    examples = [task.example("test", index, level) for index in range(size)]
    prompts = sorted({example.prompt for example in examples}, key=_digest)
    if len(prompts) < 2:
        raise TaskError(
            f"got {len(prompts)} different held-out questions{'' if level is None else f' at level {level}'}, needed "
            "are at least 2: one to decide by and one to report; add questions to the test split"
        )
    chosen = frozenset(prompts[: max(1, len(prompts) // _SHARE)])
    return {
        "validation": tuple(example for example in examples if example.prompt in chosen),
        "test": tuple(example for example in examples if example.prompt not in chosen),
    }


def _stream(task: Task, level: int | None, part: HeldOutPart) -> Iterator[Example]:
    last = 0
    for index in count():
        example = task.example("test", index, level)
        if (_digest(example.prompt)[0] % _SHARE == 0) == (part == "validation"):
            yield example
            last = index
        elif index - last > _PATIENCE:
            raise TaskError(f"got no {part} question in {_PATIENCE} held-out ones; the task has too few different ones")


def _digest(prompt: str) -> bytes:
    # Salted: tasks choose what they hold out by the same hash of the same text.
    return blake2b(prompt.encode("utf-8", "surrogatepass"), salt=b"held-out").digest()
