"""Judging one answer by a task whose code may be anybody's: what it returns is checked, what it raises is told."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

from neuromas.errors import TaskError
from neuromas.tasks.base import Example, Score, Task


def judge(task: Task, example: Example, text: str) -> Score:
    """Return the score of an answer.

    Raises:
        TaskError: the task raised, or what it returned is no reward in [0, 1]. The rollout has failed, the run has not.
    """
    try:
        returned = task.score(example, text)
    except Exception as error:
        raise TaskError(f"{_scorer(task)} raised {type(error).__name__}: {error}") from error
    score = returned if isinstance(returned, Score) else Score(returned)
    if not isinstance(score.parts, Mapping):
        raise TaskError(f"{_scorer(task)} returned parts {score.parts!r}; expected a table of names and numbers")
    parts = {name: _number(value, f"{_scorer(task)} returned part {name!r}") for name, value in score.parts.items()}
    reward = _number(score.reward, f"{_scorer(task)} returned reward")
    if not 0 <= reward <= 1:
        raise TaskError(f"{_scorer(task)} returned reward {reward}; allowed is 0 to 1")
    return replace(score, reward=reward, parts=parts)


def _scorer(task: Task) -> str:
    """Return the name of the reward function."""
    return f"{type(task).__module__}.{type(task).__qualname__}.score"


def _number(value: object, what: str) -> float:
    try:
        number = float(value) if not isinstance(value, str) else math.nan  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise TaskError(f"{what} {value!r}; expected a finite number")
    return number
